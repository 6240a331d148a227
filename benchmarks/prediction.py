"""What `resnets predict` costs beside the bare runtime: from nothing to an answer, and a folder.

usage: python benchmarks/prediction.py [ROW...] [--rounds 8] [--pictures 200] [--files DIR]

`cold-...` rows are whole processes with one image: their seconds (the table has answers a second)
and the most memory they have had. `bare` is the shortest script with PIL, NumPy and ONNX Runtime;
the others are `resnets predict` with an exported file, or with weights and torch.

`folder-MODEL` is `resnets predict FOLDER --out TABLE.csv` with an exported .onnx, less the time of
the same command with one batch of its images; `folder-MODEL-bare` is the runtime alone on the
same file, over the same images, decoded and prepared beforehand, in batches of the same size.

The order is reversed every round; ratios are taken to the first row of a table.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import files
import rows
from files import exported
from harness.workers import Window
from rows import Row

from resnets.errors import ResourceError

COLD = "resnet50"
FOLDERS = ("resnet50", "resnet20")
BATCH = 8  # what `resnets predict --out` takes at a time


def bare_folder(window: Window, options: argparse.Namespace, *, model: str) -> None:
    """The worker of `folder-MODEL-bare`."""
    import numpy as np

    call = files.bare(exported(options, model, "onnxruntime"))
    pictures = np.load(prepared(options, model))
    call(pictures[:BATCH])
    parts = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
    window.batches = len(parts)
    window.tick(0)  # warm; the rest is timed
    for part in parts:
        call(part)
        window.tick(len(part))


def prepared(options: argparse.Namespace, model: str) -> Path:
    """Return the file of the folder's images as the model takes them, float32 (N, C, H, W)."""
    path: Path = options.files / f"{model}-{options.pictures}.npy"
    if not path.exists():
        import numpy as np

        from resnets.inference.runtimes import open_runtime

        runtime = open_runtime(exported(options, model, "onnxruntime"))
        pictures = sorted(files.photographs(options).rglob("*.jpg"))
        np.save(path, np.concatenate([runtime.prepare(picture) for picture in pictures]))
    return path


# A process begins with the peak of the one that starts it, so a slim one does that.
STARTER = """
import json, os, resource, sys, time
answer = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
began = time.perf_counter()
code = os.spawnv(os.P_WAIT, sys.argv[1], sys.argv[1:])
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
os.write(answer, json.dumps([code, seconds, peak]).encode())
"""


class Command:
    """A process as a whole: how long it takes, and the most memory that it has had."""

    def __init__(self, *words: str | Path) -> None:
        self.words = [sys.executable, *map(str, words)]
        self.peaks: list[float] = []  # MB

    def seconds(self) -> float:
        """Run it. Raises ResourceError with the first line of what it says when it fails."""
        found = subprocess.run(
            [sys.executable, "-I", "-S", "-c", STARTER, *self.words],
            env=rows.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        code, seconds, peak = json.loads(found.stdout)
        if code:
            raise ResourceError((found.stderr.strip().splitlines() or ["it failed"])[0])
        self.peaks.append(peak * 1024 / 1e6)
        return float(seconds)


def predicting(*words: str | Path) -> Command:
    return Command("-m", "resnets", "predict", *words)


def cold(options: argparse.Namespace, picture: Path) -> dict[str, Command]:
    onnx, xml = (exported(options, COLD, runtime) for runtime in ("onnxruntime", "openvino"))
    script = Path(__file__).parent / "peers" / "bare_onnxruntime.py"
    int8 = exported(options, COLD, "onnxruntime-int8")
    return {
        "cold-bare": Command(script, onnx, picture),
        "cold-onnxruntime": predicting(onnx, picture),
        "cold-onnxruntime-int8": predicting(int8, picture),
        "cold-openvino": predicting(xml, picture),
        "cold-torch": predicting(files.weights(options, COLD), picture),
    }


def folder_rate(options: argparse.Namespace, model: str) -> float:
    """Return how many images a second the command gets through once it runs."""
    folder, onnx = files.photographs(options), exported(options, model, "onnxruntime")
    every = sorted(folder.rglob("*.jpg"))[: options.pictures]
    with TemporaryDirectory() as out:
        table = Path(out) / "table.csv"
        whole = predicting(onnx, *every, "--out", table).seconds()
        start = predicting(onnx, *every[:BATCH], "--out", table, "--overwrite").seconds()
    if whole <= start:
        raise ResourceError("the start took longer than the whole: give more --pictures")
    return (len(every) - BATCH) / (whole - start)


ROWS = {f"folder-{model}-bare": Row("own", partial(bare_folder, model=model)) for model in FOLDERS}
NAMES = [
    *("cold-bare", "cold-onnxruntime", "cold-onnxruntime-int8", "cold-openvino", "cold-torch"),
    *(f"folder-{model}{suffix}" for model in FOLDERS for suffix in ("-bare", "")),
]


def main() -> None:
    parser = rows.parser(__doc__, rounds=8)
    files.add_options(parser)
    options = parser.parse_args()
    if options.list:
        print("\n".join(NAMES))
        return
    if options.serve:
        rows.serve(ROWS[options.serve], Window(warm_up=1, batches=1), options)
        return
    from harness.comparison import timestamp

    started, results = timestamp(), []
    seen: dict[str, str] = {}
    wanted = rows.chosen(NAMES, options.rows)
    with files.folder(options):
        if any(name.startswith("cold") for name in wanted):
            results.append(cold_table(options, wanted))
        words = ["--files", str(options.files), "--pictures", str(options.pictures)]
        for model in FOLDERS:
            bare, name = f"folder-{model}-bare", f"folder-{model}"
            if not {bare, name} & set(wanted):
                continue
            files.export(options, model, ["onnxruntime"])
            prepared(options, model)
            cases: dict[str, Callable[[], Callable[[], float]]] = {
                bare: rows.case(bare, ROWS[bare], options, words, seen),
                name: lambda model=model: partial(folder_rate, options, model),  # type: ignore[misc]
            }
            title = f"{model}, {options.pictures} images, {options.rounds} rounds"
            chosen = {key: case for key, case in cases.items() if key in wanted}
            results.append(rows.table(title, chosen, options.rounds))
    rows.finish(results, options, started, seen)


def cold_table(options: argparse.Namespace, wanted: list[str]) -> dict[str, object]:
    """Print the table of whole processes, and what they took at most."""
    files.export(options, COLD, ["onnxruntime", "onnxruntime-int8", "openvino"])
    picture = next(files.photographs(options).rglob("*.jpg"))
    commands = {n: c for n, c in cold(options, picture).items() if n in wanted}

    def prepare(command: Command) -> Callable[[], float]:
        command.seconds()  # once before, so that the files are in memory for all
        return lambda: 1 / command.seconds()

    cases = {name: partial(prepare, command) for name, command in commands.items()}
    title = f"{COLD}, one image, whole processes a second, {options.rounds} rounds"
    result = rows.table(title, cases, options.rounds)
    peaks = {name: command.peaks for name, command in commands.items() if command.peaks}
    for case in result["cases"]:
        seconds, peak = 1 / case["rate"]["median"], statistics.median(peaks[case["name"]])
        print(f"{case['name']}: {seconds:.2f} s, {peak:.0f} MB at most")
    return {**result, "peaks": peaks}


if __name__ == "__main__":
    main()
