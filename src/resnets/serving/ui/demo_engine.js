// The engine of the page that runs anywhere: a worker answers, with what lies in the page itself.
"use strict";

startPage(
  (() => {
    const find = (id) => document.getElementById(id);
    const facts = JSON.parse(find("facts").textContent);

    // A block of the page, in base64, as bytes; it is let go, since it may be a hundred megabytes.
    async function unpacked(id) {
      const element = find(`packed-${id}`);
      const text = element.textContent;
      element.remove();
      const PIECE = 1 << 22; // characters, a multiple of 4
      let at = 0;
      const bytes = new ReadableStream({
        pull(controller) {
          const piece = atob(text.slice(at, at + PIECE));
          at += PIECE;
          controller.enqueue(Uint8Array.from(piece, (c) => c.charCodeAt(0)));
          if (at >= text.length) controller.close();
        },
      });
      const whole = new Response(bytes.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
      return whole.catch(() => {
        throw new Error("this file is damaged: copy it again from where it came from");
      });
    }

    // The worker, whose replies have the number of what was asked.

    const source = new Blob([find("worker").textContent], { type: "text/javascript" });
    const worker = new Worker(URL.createObjectURL(source));
    const waiting = new Map();
    let count = 0;

    function ask(kind, asked, transferred = []) {
      return new Promise((resolve, reject) => {
        count += 1;
        waiting.set(count, { resolve, reject });
        worker.postMessage({ id: count, kind, ...asked }, transferred);
      });
    }

    worker.onmessage = ({ data: { id, found, error } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) resolve(found);
      else reject(new Error(error));
    };
    worker.onerror = ({ message }) => {
      for (const { reject } of waiting.values()) reject(new Error(message || "it cannot compute"));
      waiting.clear();
    };

    async function open() {
      const [script, wasm, model] = await Promise.all(["script", "wasm", "model"].map(unpacked));
      await ask("open", { script, wasm, model, facts }, [script, wasm, model]);
    }

    // The page proves itself: images that lie in it, and what was answered when it was made.

    async function prove() {
      let most = 0;
      const shown = [];
      for (const { image, expected } of facts.examples) {
        const bytes = Uint8Array.from(atob(image), (c) => c.charCodeAt(0));
        const blob = new Blob([bytes], { type: "image/png" });
        const { all, record } = await ask("answer", { blob });
        const off = Math.max(...all.map((p, i) => Math.abs(p - expected[i])));
        most = off > most || Number.isNaN(off) ? off : most;
        shown.push({ blob, off, record });
      }
      for (const each of shown) await picture(each);
      const good = most <= facts.bound; // NaN is not
      const where = `${shown.length} images that lie in this page`;
      const digits = most < 1e-6 ? "0.000001" : most.toPrecision(2);
      tell(
        good
          ? `Proven in this browser: its probabilities for ${where} are at most ${digits} off ${facts.reference}.`
          : `Do not trust this page in this browser: its probabilities for ${where} are up to ${digits} off ` +
              `${facts.reference}, and may be ${facts.bound.toPrecision(2)}.`,
        good ? "good" : "bad",
      );
    }

    function tell(text, state) {
      const proof = find("proof");
      proof.dataset.state = state;
      find("proof-text").textContent = text;
    }

    async function picture({ blob, off, record }) {
      const bitmap = await createImageBitmap(blob);
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 96;
      const side = Math.min(bitmap.width, bitmap.height);
      const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
      canvas.getContext("2d").drawImage(bitmap, left, top, side, side, 0, 0, 96, 96);
      bitmap.close();
      const said = record.predictions[0]?.class ?? "none of its classes";
      canvas.title = `${said}; ${off.toPrecision(2)} off`;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `An image that was answered: ${said}`);
      find("proof-images").append(canvas);
    }

    const opened = open().then(prove);
    opened.catch((error) => tell(`This page cannot answer in this browser: ${error.message}`, "bad"));

    return {
      note: facts.note,
      async models() {
        await opened;
        return [{ name: facts.name, classes: facts.classes }];
      },
      async classify(blob, model, { signal } = {}) {
        await opened;
        signal?.throwIfAborted();
        try {
          const { record, ms } = await ask("answer", { blob });
          return { ...record, ms };
        } catch (error) {
          return { error: error.message };
        }
      },
      explain: async () => null,
    };
  })(),
);
