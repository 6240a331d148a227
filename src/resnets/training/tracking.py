"""Following a run for a tracker, in a process of its own that reads the run folder.

So a tracker can neither slow nor stop a run, whatever its library does: wait for a network, start
threads, take signals, end the process. It is told nothing: it looks into run.json and
metrics.jsonl, which are written when the state is, and so never has an epoch that a resumed run
computes again. What it has sent, and under which id, it keeps in the folder's ``tracking``.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

from resnets.files import write_json
from resnets.readers.documents import read_json
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Epoch, Record, from_plain, to_plain
from resnets.training.recipe import read_recipe
from resnets.training.trackers import SILENT, TRACKERS, Tracker, numbers_of

LOOK_SECONDS = 1.0  # between two looks into the folder
PATIENCE = 5.0  # seconds that a run which has ended waits for its trackers
LIMIT = 120.0  # seconds after that in which they may finish what they send


class Followers:
    """The processes that follow a run for its trackers; ``say`` tells a person what they say."""

    def __init__(self, names: Sequence[str], folder: RunFolder, say: Callable[[str], None]) -> None:
        self._processes = []
        for name in dict.fromkeys(names):
            found = find_spec(name)
            if found is None or found.origin is None:  # a folder that is called alike
                say(f'{name} is not installed, and not told: pip install "resnets[{name}]"')
                continue
            try:
                process = _start(name, folder)
            except OSError as error:
                say(f"{name}: cannot be started, and the run goes on without: {error.strerror}")
                continue
            thread = Thread(target=_repeat, args=(name, process, say), daemon=True)
            thread.start()
            self._processes.append((name, process, thread))
        self._say = say

    def end(self) -> None:
        """Let them end, for a short while; then they finish by themselves, or give up."""
        for _, process, _ in self._processes:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for name, _, thread in self._processes:
            thread.join(PATIENCE)
            if thread.is_alive():
                self._say(
                    f"{name}: is not done yet; it goes on for at most {LIMIT / 60:g} minutes, and "
                    "the run is complete without it"
                )


def _start(name: str, folder: RunFolder) -> "subprocess.Popen[str]":
    folder.tracking.mkdir(exist_ok=True)
    # Not what lies in the current folder, which may be called like a tracker; and in a session of
    # its own, where Ctrl-C does not reach it.
    words = [sys.executable, "-P", "-m", __name__, name, str(folder.path.resolve())]
    with (folder.tracking / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**SILENT, **os.environ},
        )


def _repeat(name: str, process: "subprocess.Popen[str]", say: Callable[[str], None]) -> None:
    """Say what the process says, and where it ends without a word."""
    said = ""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            said = line.strip()
            say(f"{name}: {said}")
    code = process.wait()
    if code and not said:
        say(f"{name}: has ended by itself (exit code {code}), and the run goes on without it")


def follow(
    tracker: Tracker, folder: RunFolder, kept: Path, ended: Event, say: Callable[[str], None]
) -> None:
    """Show a run to a tracker until ``ended`` is set or the record says that it has ended.

    ``kept`` is the file that remembers its id there, and the step of the last epoch it has.
    """
    memory: dict[str, Any] = read_json(kept) if kept.exists() else {}
    record = folder.read_record()
    memory["id"] = tracker.begin(folder.path, config_of(folder, record), memory.get("id", ""))
    write_json(kept, memory)
    say(f"tracked as {memory['id']}")
    while True:
        over = ended.wait(LOOK_SECONDS)
        record = folder.read_record()
        over = over or record.status != "running"
        for line in _epochs(folder):
            if line.step > memory.get("step", 0):
                tracker.epoch(line.step, numbers_of(line))
                memory["step"] = line.step
                write_json(kept, memory)
        if over:
            break
    results = {
        f"results/{part}/{key}": float(value)
        for part, score in to_plain(record.results).items()
        for key, value in (score or {}).items()
        if isinstance(value, int | float)
    }
    tracker.end(results, "killed" if record.status == "running" else record.status)


def config_of(folder: RunFolder, record: Record) -> dict[str, Any]:
    """Return the recipe, flat, and facts of model and data; nothing that says where they are."""
    model, data = record.model, record.data
    facts = {
        "model.name": model.name,
        "model.parameters": model.parameters,
        "model.macs": model.macs,
        "data.name": data.name,
        "data.classes.count": len(data.classes),
        "data.train.count": data.train,
        "data.validation.count": data.validation,
        "data.test.count": data.test,
        "data.fingerprint": data.fingerprint,
        "weights.digest": record.weights and record.weights.digest,
        "teacher.digest": record.teacher and record.teacher.digest,
        "version": record.environment.get("resnets"),
    }
    return read_recipe(folder.recipe).flat() | {k: v for k, v in facts.items() if v is not None}


def _epochs(folder: RunFolder) -> list[Epoch]:
    if not folder.metrics.exists():
        return []
    return [from_plain(Epoch, row, where) for where, row in folder.rows(folder.metrics)]


def main(name: str, path: str) -> int:
    """Follow the run in a folder until standard input ends. Print one line where that fails."""
    folder, ended = RunFolder(Path(path)), Event()
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # what the library prints belongs into the log

        def say(line: str) -> None:
            print(" ".join(line.split())[:300], file=answer, flush=True)

        def wait() -> None:
            with suppress(OSError):
                while os.read(0, 1024):
                    pass
            ended.set()
            last = Timer(LIMIT, os._exit, (1,))
            last.daemon = True
            last.start()

        Thread(target=wait, daemon=True).start()
        kept = folder.tracking / f"{name}.json"
        try:
            follow(TRACKERS[name](), folder, kept, ended, say)
        except BaseException as error:
            say(f"failed, and the run goes on without it: {type(error).__name__}: {error}")
            os._exit(1)  # the library's own threads may wait for ever
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
