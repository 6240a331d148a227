// The page: images come in, an engine answers them, cards show what it says.
//
// startPage(engine) is all that it offers. An engine is an object with
//   models    [{name, classes, explains}], or a function that promises them; with `explains`
//             it can say where the model looks
//   classify  async (blob, model, {signal, say}) => the JSON of a prediction and `ms`, or {error};
//             it throws where asking again may help; say("one line") tells why it takes long
//   explain   async (blob, model, className, {signal, say}) => an image as a Blob, or null
//   note      a line about what becomes of the images
//   useToken  (text) => void, where it throws errors with `tokenWanted`
//
// Names of files and classes are strangers' words: they become text, and never markup.
"use strict";

function startPage(engine) {
  const AT_ONCE = 2; // images that are asked at a time, however many were dropped
  const SIDE = 720; // pixels of the longer side that are kept of an image to show it
  const MANY = 24; // images from which on less is kept
  const SMALL = 96; // pixels; what is smaller is shown with its pixels as squares
  const KINDS = /\.(jpe?g|jfif|png|gif|bmp|webp|avif|heic|tiff?|ppm|pgm)$/i;

  const find = (id) => document.getElementById(id);
  const page = document.documentElement;
  const cards = []; // as they are shown
  let queue = [];
  let asking = 0;
  let photographs = 0;
  let models = [];
  let model = null;

  function made(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function button(text, act, properties) {
    const element = made("button", { type: "button", textContent: text, ...properties });
    element.addEventListener("click", act);
    return element;
  }

  function say(text) {
    find("said").textContent = text;
  }

  function warn(text) {
    find("problem").textContent = text;
    find("problem").hidden = !text;
  }

  function count(number, word, words) {
    return `${number.toLocaleString("en")} ${number === 1 ? word : words}`;
  }

  function percent(share) {
    if (share < 1 && share >= 0.9995) return "> 99.9\u00a0%";
    if (share < 0.0005) return "< 0.1\u00a0%";
    return `${(100 * share).toFixed(1)}\u00a0%`;
  }

  function lasted(ms) {
    return ms < 9950 ? `${Math.max(1, Math.round(ms)).toLocaleString("en")} ms` : `${Math.round(ms / 1000)} s`;
  }

  // One image.

  class Card {
    constructor(blob, name) {
      this.blob = blob;
      this.name = name;
      this.record = null;
      this.shown = null; // a promise that the image is drawn
      this.drawn = false;
      this.canvas = made("canvas", { hidden: true });
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", name);
      this.heat = made("canvas", { hidden: true });
      this.heat.setAttribute("role", "img");
      this.bare = made("span", { className: "bare" });
      this.time = made("span", { className: "time" });
      this.look = made("p", { className: "look", hidden: true });
      this.body = made("div", { className: "body" });
      const title = made("span", { className: "name", textContent: name, title: name });
      this.element = made(
        "li",
        { className: "card waiting" },
        made(
          "figure",
          {},
          made("div", { className: "frame" }, this.bare, this.canvas, this.heat, this.look),
          made("figcaption", {}, title, this.time),
        ),
        this.body,
      );
      this.pending("waiting for its turn");
    }

    get done() {
      return this.record !== null;
    }

    stop() {
      this.calls?.abort();
    }

    pending(text) {
      this.body.replaceChildren(made("p", { className: "verdict pending", textContent: text }));
    }

    async show() {
      const side = cards.length > MANY ? SIDE / 2 : SIDE;
      try {
        await draw(this.blob, this.canvas, side);
        this.drawn = true;
      } catch {
        this.bare.textContent = "This browser cannot show it."; // the model may still read it
      }
    }

    async ask() {
      this.calls = new AbortController();
      const { signal } = this.calls;
      this.record = null;
      this.unlook();
      this.pending("looking …");
      this.shown ??= this.show();
      const asked = model;
      let record;
      try {
        const options = { signal, say: (text) => signal.aborted || this.pending(text) };
        record = await granted(() => engine.classify(this.blob, asked.name, options), signal);
      } catch (error) {
        record = { error: error.message || String(error), again: true };
      }
      await this.shown; // so that no more images are decoded at a time than asked
      if (signal.aborted) return;
      this.model = asked;
      this.record = record;
      this.tell();
    }

    tell() {
      const { record } = this;
      this.element.classList.remove("waiting");
      this.time.textContent = record.ms === undefined ? "" : lasted(record.ms);
      const doings = made("div", { className: "doings" });
      if (record.error === undefined) {
        this.body.replaceChildren(...this.answers(), doings);
        doings.append(button("Copy as JSON", (event) => copy(this, event.target)));
      } else {
        this.body.replaceChildren(made("p", { className: "broken", textContent: record.error }), doings);
        if (record.again) doings.append(button("Try again", () => again([this])));
      }
      doings.append(button("Remove", () => remove(this), { ariaLabel: `Remove ${this.name}` }));
    }

    answers() {
      const { predictions, unknown } = this.record;
      const found = [];
      if (unknown) {
        const words = predictions.length ? `unknown: nearest ${predictions[0].class}` : "unknown";
        found.push(made("p", { className: "verdict strange", textContent: words }));
      } else if (!predictions.length) {
        found.push(made("p", { className: "verdict", textContent: "none of its classes" }));
      }
      const list = made("ol", { className: "answers" });
      for (const each of predictions) list.append(this.answer(each.class, each.probability));
      found.push(list);
      return found;
    }

    answer(name, probability) {
      const line = made("li", {}, made("span", { className: "class", textContent: name }));
      line.append(made("span", { className: "number", textContent: percent(probability) }));
      if (this.model.explains) {
        const where = button("where?", () => this.lookFor(name, where), {
          ariaLabel: `Where does it see ${name}?`,
          ariaPressed: "false",
        });
        line.append(where);
      }
      const bar = made("span");
      bar.style.setProperty("--share", probability.toFixed(4));
      line.append(made("span", { className: "bar", ariaHidden: "true" }, bar));
      return line;
    }

    unlook(text = "") {
      this.looking = null;
      this.heat.hidden = true;
      this.canvas.hidden = !this.drawn;
      for (const each of this.body.querySelectorAll("[aria-pressed]")) each.ariaPressed = "false";
      this.look.textContent = text;
      this.look.hidden = !text;
    }

    async lookFor(name, where) {
      const wasOn = where.ariaPressed === "true";
      this.unlook();
      if (wasOn) return;
      const own = (this.looking = {}); // another press may come before the answer
      where.ariaPressed = "true";
      const tell = (text) => {
        if (this.looking !== own) return;
        this.look.textContent = text;
        this.look.hidden = false;
      };
      tell("looking …");
      const { signal } = this.calls;
      try {
        const options = { signal, say: tell };
        const blob = await granted(
          () => engine.explain(this.blob, this.model.name, name, options),
          signal,
        );
        if (this.looking !== own) return;
        if (!blob) return this.unlook("This model cannot say where it looks.");
        await draw(blob, this.heat, SIDE);
        if (this.looking !== own) return;
        this.canvas.hidden = true;
        this.heat.setAttribute("aria-label", `${this.name}, glowing where the model sees ${name}`);
        const words = `It glows where the model sees ${name}.`;
        tell(words);
        say(words);
      } catch (error) {
        if (this.looking === own) this.unlook(error.message || String(error));
      }
    }

    toJSON() {
      const { again: _, ...record } = this.record;
      return { image: this.name, model: this.model?.name, ...record };
    }
  }

  // Draw an image that is at most so large; it raises what createImageBitmap raises.
  async function draw(blob, canvas, side) {
    const bitmap = await createImageBitmap(blob);
    const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.classList.toggle("small", Math.max(bitmap.width, bitmap.height) <= SMALL);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    canvas.hidden = false;
  }

  // Images in, answers out, few at a time.

  function add(files) {
    const coming = files.map(([blob, name]) => new Card(blob, name));
    if (!coming.length) return;
    warn("");
    cards.unshift(...coming); // what came last is seen first
    find("cards").prepend(...coming.map((card) => card.element));
    queue.push(...coming);
    next();
  }

  function next() {
    while (model && asking < AT_ONCE && queue.length) {
      asking += 1;
      queue.shift().ask().finally(() => {
        asking -= 1;
        next();
        if (!asking) finished();
      });
    }
    tellProgress();
  }

  function again(those) {
    const all = new Set(those);
    for (const card of those) {
      card.stop();
      card.record = null;
      card.element.classList.add("waiting");
      card.pending("waiting for its turn");
    }
    queue = queue.filter((card) => !all.has(card)).concat(those);
    next();
  }

  function remove(card) {
    card.stop();
    const place = cards.indexOf(card);
    cards.splice(place, 1);
    queue = queue.filter((each) => each !== card);
    card.element.remove();
    const neighbour = cards[Math.min(place, cards.length - 1)];
    (neighbour?.body.querySelector("button") ?? find("choose")).focus();
    tellProgress();
  }

  function clear() {
    for (const card of cards) card.stop();
    cards.length = 0;
    queue = [];
    find("cards").replaceChildren();
    tellProgress();
    find("choose").focus();
  }

  function summary() {
    const broken = cards.filter((card) => card.record?.error !== undefined).length;
    const unknown = cards.filter((card) => card.record?.unknown).length;
    const words = [count(cards.length, "image", "images")];
    if (unknown) words.push(`${unknown.toLocaleString("en")} unknown`);
    if (broken) words.push(`${broken.toLocaleString("en")} without an answer`);
    return words.join(", ");
  }

  function tellProgress() {
    const done = cards.filter((card) => card.done).length;
    page.classList.toggle("asked", cards.length > 0);
    find("results").hidden = !cards.length;
    find("progress").textContent =
      done === cards.length ? summary() : `${done.toLocaleString("en")} of ${count(cards.length, "image", "images")}`;
    find("copy").disabled = !done;
    find("bench").hidden = cards.length < 2; // one card says all of it itself
  }

  function finished() {
    const best = cards.length === 1 && cards[0].record?.predictions?.[0];
    if (best && !cards[0].record.unknown) say(`${best.class}, ${percent(best.probability)}`);
    else if (cards.length) say(summary());
  }

  async function copy(value, where) {
    const text = JSON.stringify(value, null, 2);
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = made("textarea", { value: text, className: "unseen" }); // not over plain http
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      where.focus();
    }
    const before = where.dataset.text ?? where.textContent;
    where.dataset.text = before;
    where.textContent = "Copied";
    say("Copied");
    setTimeout(() => (where.textContent = before), 1500);
  }

  // Ways in: a choice, a drop, a paste, the camera.

  const named = (file) => [file, file.name || "image"];

  async function inFolder(entry) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      const isImage = file.type.startsWith("image/") || KINDS.test(file.name);
      return isImage ? [[file, entry.fullPath.slice(1)]] : [];
    }
    const reader = entry.createReader();
    const inside = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) break;
      inside.push(...some);
    }
    inside.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    const found = [];
    for (const each of inside) found.push(...(await inFolder(each)));
    return found;
  }

  async function dropped(transfer) {
    const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.());
    const files = Array.from(transfer.files, named);
    if (!files.length && !entries.some(Boolean)) {
      return warn("That was no file. Save the image first, and drop the file.");
    }
    if (!entries.some((entry) => entry?.isDirectory)) return add(files);
    const found = [];
    try {
      for (const entry of entries.filter(Boolean)) found.push(...(await inFolder(entry)));
    } catch {
      // Chromium gives folders to no page that was opened from disk.
      return warn("The browser does not let this page read a folder. Choose the images in it.");
    }
    if (!found.length) return warn("There is no image in that folder.");
    add(found);
  }

  const refused = {
    NotAllowedError: "The camera was refused. Allow it in the settings that the browser keeps for this page, then try again.",
    NotFoundError: "There is no camera on this machine.",
    NotReadableError: "The camera is in use by another program.",
  };

  async function openCamera() {
    if (!navigator.mediaDevices?.getUserMedia) {
      if (matchMedia("(pointer: coarse)").matches) return find("taken").click(); // the phone's own
      return warn("Browsers give the camera to pages over https and of this machine only; this is neither.");
    }
    warn("");
    find("use-camera").disabled = true; // until it is allowed or refused
    try {
      const video = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
      find("video").srcObject = await navigator.mediaDevices.getUserMedia({ video });
    } catch (error) {
      return warn(refused[error.name] ?? `The camera cannot be used: ${error.message}`);
    } finally {
      find("use-camera").disabled = false;
    }
    find("camera").hidden = false;
    find("use-camera").ariaExpanded = "true";
    await find("video").play();
    find("take").disabled = false;
    find("take").focus();
  }

  function closeCamera() {
    const stream = find("video").srcObject;
    if (!stream) return;
    for (const track of stream.getTracks()) track.stop();
    find("video").srcObject = null;
    find("camera").hidden = true;
    find("take").disabled = true;
    find("use-camera").ariaExpanded = "false";
    find("use-camera").focus();
  }

  function takePhotograph() {
    const video = find("video");
    const canvas = made("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    photographs += 1;
    const name = `photograph ${photographs}`;
    canvas.toBlob((blob) => add([[blob, name]]), "image/png"); // what is asked is what was seen
  }

  // The engine's models, and its token.

  let tokenGiven = null; // a promise while it is waited for

  async function granted(call, signal) {
    for (;;) {
      if (tokenGiven) await tokenGiven;
      if (signal?.aborted) throw new Error("it was stopped");
      try {
        return await call();
      } catch (error) {
        if (!error.tokenWanted) throw error;
        tokenGiven ??= askForToken(error.message);
      }
    }
  }

  function askForToken(problem) {
    const [form, field] = [find("token"), find("token-text")];
    form.hidden = false;
    field.value = "";
    field.focus();
    warn(problem);
    return new Promise((resolve) => {
      form.onsubmit = (event) => {
        event.preventDefault();
        engine.useToken(field.value);
        field.value = "";
        form.hidden = true;
        warn("");
        tokenGiven = null;
        resolve();
      };
    });
  }

  function use(chosen) {
    const isOther = model !== null;
    model = chosen;
    const { name, classes } = chosen;
    find("model").textContent = name;
    if (classes.length) {
      const words = count(classes.length, "class", "classes");
      find("model").append(" ", made("span", { textContent: words }));
      find("known-count").textContent = `The ${words} that it can tell apart`;
      find("known-names").replaceChildren(...classes.map((each) => made("li", { textContent: each })));
    }
    find("known").hidden = !classes.length;
    if (isOther) again([...cards]);
    else next();
  }

  async function open() {
    try {
      models = await (typeof engine.models === "function" ? granted(() => engine.models()) : engine.models);
    } catch (error) {
      warn(error.message || String(error));
      find("problem").append(" ", button("Try again", () => (warn(""), open())));
      return;
    }
    const choice = find("models");
    choice.replaceChildren(...models.map(({ name }) => made("option", { value: name, textContent: name })));
    find("chooser").hidden = models.length < 2;
    choice.addEventListener("change", () => use(models[choice.selectedIndex]));
    use(models[0]);
  }

  for (const id of ["files", "taken"]) {
    find(id).addEventListener("change", ({ target }) => {
      add(Array.from(target.files, named));
      target.value = ""; // so that the same file may be chosen again
    });
  }
  find("choose").addEventListener("click", () => find("files").click());
  find("use-camera").addEventListener("click", () =>
    find("video").srcObject ? closeCamera() : openCamera(),
  );
  find("close-camera").addEventListener("click", closeCamera);
  find("take").addEventListener("click", takePhotograph);
  find("copy").addEventListener("click", ({ target }) => copy(cards.filter((card) => card.done), target));
  find("clear").addEventListener("click", clear);
  find("note").textContent = engine.note ?? "";
  document.addEventListener("keydown", (event) => event.key === "Escape" && closeCamera());
  document.addEventListener("paste", (event) => {
    const files = Array.from(event.clipboardData.files, named);
    if (files.length) event.preventDefault();
    add(files);
  });
  let inside = 0; // elements that a drag has entered and not left
  const over = (change) => {
    inside = change ? Math.max(0, inside + change) : 0;
    find("drop").classList.toggle("over", inside > 0);
  };
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(0);
    dropped(event.dataTransfer);
  });
  open();
}
