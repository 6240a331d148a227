// What the page that runs anywhere computes, beside what it shows: images become squares by
// Pillow's own arithmetic, onnxruntime-web answers them, logits become what `resnets predict` says.
//
// It is sent {kind: "open", script, wasm, model, facts} first and then {kind: "answer", blob}, each with
// an `id`, and replies {id, found} or {id, error}. `facts` is what `resnets.serving.demo.facts` returns.
"use strict";

// Pillow's scaling.

const BITS = 22; // of the fraction of a weight, which Pillow has as whole numbers
const LOBES = {
  bilinear: [1, (x) => (x < 1 ? 1 - x : 0)],
  bicubic: [
    2,
    (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0),
  ],
};

// For each of `count` pixels from `first` on, of a side of `length` that is scaled to `scaled`, the
// pixel that it begins with and its weights; null where nothing is scaled.
function weights(length, scaled, first, count, interpolation) {
  if (length === scaled) return null;
  const [lobe, filter] = LOBES[interpolation];
  const scale = length / scaled;
  const wide = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - lobe * wide + 0.5));
    const end = Math.min(length, Math.trunc(centre + lobe * wide + 0.5));
    const exact = [];
    for (let x = begin; x < end; x++) exact.push(filter(Math.abs((x - centre + 0.5) * (1 / wide))));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    const whole = exact.map((weight) => {
      const share = (sum === 0 ? weight : weight / sum) * 2 ** BITS;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    return { begin, whole: Int32Array.from(whole) };
  });
}

// Scale what lies `stride` apart: `out[to + i * step]` for each entry of a table of weights.
function scaleLine(table, first, count, from, start, stride, out, to, step) {
  for (let i = 0; i < count; i++, to += step) {
    if (table === null) {
      out[to] = from[start + (first + i) * stride];
      continue;
    }
    const { begin, whole } = table[i];
    let sum = 1 << (BITS - 1);
    let at = start + begin * stride;
    for (let k = 0; k < whole.length; k++, at += stride) sum += from[at] * whole[k];
    out[to] = sum >> BITS; // a Uint8ClampedArray, as Pillow clips
  }
}

// Which square a network sees.

const half = (length) => {
  const down = Math.floor(length / 2);
  return length % 2 === 0 ? down : down + (down % 2); // rounded to even as Python does
};

// Where a side of an image comes to lie in the middle `shown` pixels of what
// `resnets.data.framing.Frame` makes: the pixels cut off before, those kept, how many these are when
// they are scaled, which of them is the first to be seen, and how many black ones come before it.
function placed(length, other, { side, size, shown, fit, cuts }) {
  if (fit === "squash") return { before: 0, kept: length, scaled: side, first: 0, black: 0 };
  if (fit === "pad") {
    const longer = Math.max(length, other);
    const scaled = Math.max(1, Math.floor((2 * side * length + longer) / (2 * longer)));
    return { before: 0, kept: length, scaled, first: 0, black: Math.floor((side - scaled) / 2) };
  }
  const shorter = Math.min(length, other);
  const kept = Math.min(length, (cuts === 2 ? 8 : 64) * shorter);
  const scaled = Math.floor((side * kept) / shorter);
  const start = cuts === 2 ? half(scaled - side) : half(scaled - size) - half(side - size);
  const first = start + half(side - shown);
  return { before: half(length - kept), kept, scaled, first, black: 0 };
}

const ROWS = 256; // of an image that are read at a time

// The square of an image as uint8 (shown, shown, channels), white where it is transparent.
function square(bitmap, frame) {
  const { channels, shown } = frame;
  const across = placed(bitmap.width, bitmap.height, frame);
  const down = placed(bitmap.height, bitmap.width, frame);
  const [wide, high] = [across, down].map(({ scaled }) => Math.min(shown, scaled));
  const columns = weights(across.kept, across.scaled, across.first, wide, frame.interpolation);
  const rows = weights(down.kept, down.scaled, down.first, high, frame.interpolation);
  const top = rows ? rows[0].begin : down.first;
  const last = rows ? rows[high - 1] : null;
  const bottom = last ? last.begin + last.whole.length : down.first + high;

  // Each row first, as Pillow does, and no more of them than are needed.
  const narrow = new Uint8ClampedArray((bottom - top) * wide * channels);
  const canvas = new OffscreenCanvas(across.kept, Math.min(ROWS, bottom - top));
  // Halves of a level survive in floats, where a browser has them: transparency is then exact.
  const context = canvas.getContext("2d", { willReadFrequently: true, colorType: "float16" });
  for (let y = top; y < bottom; y += canvas.height) {
    const count = Math.min(canvas.height, bottom - y);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, -across.before, -down.before - y);
    const { data } = context.getImageData(0, 0, canvas.width, count);
    const pixels = flattened(data, channels);
    for (let row = 0; row < count; row++) {
      for (let c = 0; c < channels; c++) {
        const start = row * canvas.width * channels + c;
        const to = (y - top + row) * wide * channels + c;
        scaleLine(columns, across.first, wide, pixels, start, channels, narrow, to, channels);
      }
    }
  }
  const found = new Uint8ClampedArray(shown * shown * channels); // black
  for (let x = 0; x < wide * channels; x++) {
    const to = (down.black * shown + across.black) * channels + x;
    const stride = wide * channels;
    scaleLine(rows, down.first, high, narrow, x - top * stride, stride, found, to, shown * channels);
  }
  return found;
}

// Red, green, blue and alpha to the channels of a network: composited on white, and grey as Pillow
// has it (ITU-R 601-2).
function flattened(data, channels) {
  const count = data.length / 4;
  const found = new Uint8ClampedArray(count * channels);
  for (let i = 0, to = 0; i < count; i++, to += channels) {
    let [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    const alpha = data[4 * i + 3];
    if (alpha !== 255) [r, g, b] = [r, g, b].map((value) => onWhite(value, alpha));
    if (channels === 1) {
      found[to] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    } else {
      found[to] = r;
      found[to + 1] = g;
      found[to + 2] = b;
    }
  }
  return found;
}

// Pillow's alpha_composite, whose weights have 7 bits more.
function onWhite(value, alpha) {
  const sum = value * alpha * 128 + 255 * (255 * 128 - alpha * 128) + (0x80 << 7);
  return ((sum >> 8) + sum) >> 8 >> 7;
}

// The model.

let session = null;
let facts = null;
let Tensor = null;

async function open({ script, wasm, model, facts: told }) {
  // Its address is made here: in a page from a disk a worker may not read those of the page.
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.numThreads = 1; // more need headers that no file has
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(new Uint8Array(model));
  facts = told;
  Tensor = ort.Tensor;
}

// What the model takes of a square: uint8 (H, W, C) or (C, H, W), or normalised float32 (C, H, W).
function taken(pixels) {
  const { form, batch, frame, mean, scale } = facts;
  const { shown, channels } = frame;
  const area = shown * shown;
  let values = pixels;
  if (form !== "pictures") {
    values = new (form === "pixels" ? Uint8Array : Float32Array)(pixels.length);
    for (let c = 0; c < channels; c++) {
      for (let i = 0; i < area; i++) {
        const value = pixels[i * channels + c];
        const own = mean.length > channels ? mean[c * area + i] : mean[c];
        // Each step rounded to a float32, as NumPy does it.
        values[c * area + i] =
          form === "pixels" ? value : Math.fround(Math.fround(value - own) * scale[c]);
      }
    }
  }
  const many = new (form === "normalized" ? Float32Array : Uint8Array)(batch * values.length);
  for (let n = 0; n < batch; n++) many.set(values, n * values.length);
  const shape = form === "pictures" ? [shown, shown, channels] : [channels, shown, shown];
  return new Tensor(form === "normalized" ? "float32" : "uint8", many, [batch, ...shape]);
}

// Of logits the calibrated probability of each answer, in double precision.
function probabilities(logits) {
  const { scale, bias, meaning, both } = facts.answers;
  let values = logits.map((x, i) => x * (scale.length > 1 ? scale[i] : scale[0]) + (bias[i] ?? 0));
  if (both) values = [-values[0], values[0]];
  if (meaning === "sigmoid") {
    return values.map((x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x))));
  }
  const highest = values.reduce((a, b) => Math.max(a, b));
  const exps = values.map((x) => Math.exp(x - highest));
  const sum = exps.reduce((total, each) => total + each, 0);
  return exps.map((each) => each / sum);
}

// How strange an image is, of its raw logits.
function strangeness(logits, score) {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  if (score !== "energy") return -highest;
  return -(highest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - highest), 0)));
}

const rounded = (value) => Number(value.toFixed(6));

// The record that `resnets predict --json` prints, and all probabilities.
function record(logits) {
  const { labels, thresholds, unknown, top } = facts.answers;
  const all = probabilities(logits);
  let best = all.map((_, i) => i).sort((a, b) => all[b] - all[a] || a - b);
  if (thresholds.length) best = best.filter((i) => all[i] >= thresholds[i]);
  const predictions = best
    .slice(0, top)
    .map((i) => ({ class: labels[i], probability: rounded(all[i]) }));
  if (!unknown) return { record: { predictions }, all };
  const score = strangeness(logits, unknown.score);
  const told = { unknown: score > unknown.threshold, unknown_score: rounded(score) };
  return { record: { predictions, ...told }, all };
}

async function decoded(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("it is no image, or of a kind that this browser cannot read");
  }
  if (bitmap.width * bitmap.height <= facts.most) return bitmap;
  bitmap.close();
  throw new Error(`it has more than ${facts.most / 1e6} million pixels`);
}

async function answer({ blob }) {
  const begun = performance.now();
  const bitmap = await decoded(blob);
  let pixels;
  try {
    pixels = square(bitmap, facts.frame);
  } finally {
    bitmap.close();
  }
  const found = await session.run({ [session.inputNames[0]]: taken(pixels) });
  const output = found[session.outputNames[0]];
  const logits = Array.from(output.data.slice(0, output.dims[1]));
  if (!logits.every(Number.isFinite)) throw new Error("its answer is NaN or infinite");
  return { ...record(logits), ms: performance.now() - begun };
}

const doing = { open, answer };
let last = Promise.resolve(); // one thing at a time

self.onmessage = ({ data: { id, kind, ...asked } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, found: await doing[kind](asked) });
    } catch (error) {
      self.postMessage({ id, error: error.message || String(error) });
    }
  });
};
