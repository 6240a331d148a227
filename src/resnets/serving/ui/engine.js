// The engine of the service's page: every image is a request.
"use strict";

startPage(
  (() => {
    const PATIENCE = 300; // seconds in which a busy service is asked again
    let token = ""; // in this page's memory and nowhere else

    const pause = (seconds, signal) =>
      new Promise((resolve, reject) => {
        const stop = () => (clearTimeout(timer), reject(new Error("it was stopped")));
        const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve()), 1000 * seconds);
        signal?.addEventListener("abort", stop, { once: true });
      });

    async function sent(address, options) {
      const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
      try {
        return await fetch(address, { ...options, headers, cache: "no-store" });
      } catch (error) {
        throw options.signal?.aborted ? error : new Error("The service cannot be reached.");
      }
    }

    // The answer to a request, which waits and asks again while the service is full.
    async function asked(address, { say, ...options } = {}) {
      const first = performance.now();
      for (;;) {
        const begun = performance.now();
        const answer = await sent(address, options);
        if (answer.status === 401) {
          throw Object.assign(new Error(token && "That is not its token."), { tokenWanted: true });
        }
        const isBusy = answer.status === 429 || answer.status === 503;
        if (!isBusy || begun - first > 1000 * PATIENCE) return Object.assign(answer, { begun });
        const seconds = Math.min(60, Number(answer.headers.get("Retry-After")) || 1);
        say?.(`the service is busy; asking again in ${seconds} s`);
        await pause(seconds, options.signal);
        say?.("looking …");
      }
    }

    // What is wrong, in the one line that the service has for it.
    async function reason(answer) {
      try {
        return (await answer.json()).error;
      } catch {
        return `The service answers ${answer.status} ${answer.statusText}`;
      }
    }

    const posted = (blob, options) => ({
      method: "POST",
      body: blob,
      headers: { "Content-Type": blob.type || "application/octet-stream" },
      ...options,
    });

    return {
      note: "Images are sent to this service, answered and forgotten: nothing is stored.",
      useToken(text) {
        token = text;
      },
      async models() {
        const answer = await asked("models");
        if (!answer.ok) throw new Error(await reason(answer));
        return (await answer.json()).models;
      },
      async classify(blob, model, options) {
        const query = new URLSearchParams({ model, top: 5 });
        const answer = await asked(`predict?${query}`, posted(blob, options));
        if (answer.ok) return { ...(await answer.json()), ms: performance.now() - answer.begun };
        const error = await reason(answer);
        if (answer.status >= 500 || answer.status === 429) throw new Error(error);
        return { error };
      },
      async explain(blob, model, className, options) {
        const query = new URLSearchParams({ model, class: className });
        const answer = await asked(`explain?${query}`, posted(blob, options));
        if (answer.ok) return answer.blob();
        if (answer.status === 404 || answer.status === 501) return null;
        throw new Error(await reason(answer));
      },
    };
  })(),
);
