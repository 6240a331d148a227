"""Photographs from scratch and from weights: run it all, resumably, and write the table.

usage: python results/finetuning.py --weights RUN --data FOLDER [--sets clothing,trashnet]
       [--seeds 5] [--size 128] [--set KEY=VALUE ...] [--minutes M] [--runs DIR] [--results DIR]

FOLDER holds a folder of photographs for each of the sets, with class folders or a table of labels,
or the table itself (--sets clothing,grocery/labels.csv); RUN (or a file, or a name) is where every
way but the first starts. Each experiment is `resnets train ... --seeds N --resume auto`: one seed
of all of them, then the next, so that whatever has been trained makes a table. What is finished is
left alone, what was stopped goes on; with --minutes the work stops in time, saves, and exits with
75. Of each run its text is kept beside the table, finetuning.txt, and none of its weights.
Without --weights the table alone is written again.

The table of a third set, of github.com/marcusklasson/GroceryStoreDataset (MIT, 81 classes), is made
in its folder dataset/, copied, as a link is called what it leads to, and here FOLDER/grocery:

    (echo file,label,split; for split in train val test; do
      awk -F', ' -v s=$split '{n = split($1, p, "/"); print $1 "," p[n - 1] "," s}' $split.txt
    done) > labels.csv
"""

import argparse
import json
import statistics
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce import RESULTS, STOPPED, keep, run

from resnets.data.usual_tables import title
from resnets.formatting import plural
from resnets.training.recipe import load_recipe

# Everything but the first starts from the weights; "one rate" and "classifier" differ from
# "finetune" in nothing but which parts of the network learn how fast (the classifier alone bears
# a higher rate).
WAYS = {
    "scratch": (),
    "classifier": (
        "--recipe",
        "finetune",
        "--set",
        "finetune={freeze: all}",
        "--set",
        "optimizer.lr=0.2",
    ),
    "one_rate": ("--recipe", "finetune", "--set", "finetune={}"),
    "finetune": ("--recipe", "finetune"),
    "auto": (),
}
TITLES = {
    "scratch": "from scratch, recipe default",
    "classifier": "the classifier only",
    "one_rate": "everything at one rate",
    "finetune": "recipe finetune",
    "auto": "recipe auto",
}
# What others report, of ImageNet's weights and of larger networks and images than here.
PUBLISHED = {
    "trashnet": "published (ResNet-50, other sizes): about 75 from scratch, 91 to 92 fine-tuned "
    "from ImageNet",
}
HEAD = f"{'':31} {'n':>2} {'median':>7} {'lowest':>7} {'highest':>7} {'held out':>8} {'minutes':>8}"


@dataclass(frozen=True)
class Trial:
    """One way to train on one set."""

    data: Path
    way: str
    model: str
    weights: str
    seeds: int
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"finetuning/{Path(title(self.data)).stem}-{self.model}-{self.way}"

    def command(self, out: Path, device: str) -> list[str]:
        """Return the words that train it into ``out``."""
        words = ["train", str(self.data), "--model", self.model, *WAYS[self.way]]
        words += [] if self.way == "scratch" else ["--weights", self.weights]
        for setting in self.settings:
            words += ["--set", setting]
        words += ["--seeds", str(self.seeds), "--out", str(out), "--resume", "auto"]
        return [*words, "--device", device]


def finished(folder: Path) -> int:
    """Return how many seeds an experiment has."""
    path = folder / "seeds.json"
    return len(json.loads(path.read_text())["seeds"]) if path.exists() else 0


def without_places(folder: Path, places: dict[str, str]) -> None:
    """Write names instead of where this machine has data, weights and runs."""
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text()
            for place, name in places.items():
                text = text.replace(place, name)
            path.write_text(text)


def table(results: Path) -> Iterator[str]:
    """Yield the lines of finetuning.txt, of whatever is there."""
    yield "Photographs: test accuracy in percent, by where training starts and what learns how fast"
    yield ""
    yield "    python results/finetuning.py --weights RUN --data FOLDER"
    yield "    what is not here has not been measured"
    folders = sorted((results / "finetuning").glob("*-*/seeds.json"))
    trained = dict.fromkeys(path.parent.name.rpartition("-")[0] for path in folders)
    for both in trained:  # a set and a model
        found = {
            way: records(folder)
            for way in WAYS
            if (folder := results / "finetuning" / f"{both}-{way}").exists()
        }
        first = next(iter(found.values()))[0]
        data, where = first["data"], first["environment"]
        yield ""
        yield (
            f"{first['model']['name']} on {data['name']}: {len(data['classes'])} classes, "
            f"{data['train']:,} training, {data['validation']:,} held-out and {data['test']:,} "
            f"test images at {data['image_shape'][1]} pixels; {where['processor']}, "
            f"{plural(where['threads'], 'thread')}, "
            f"torch {where['torch']}, {where['precision']}"
        )
        started = [record.get("weights") for each in found.values() for record in each]
        if source := next((start for start in started if start), None):
            yield f"weights: {source['source']} (SHA-256 {source['digest'][:16]})"
        yield ""
        yield HEAD
        for way, runs in found.items():
            yield row(TITLES[way], runs)
        yield from beside_the_best(found)
        if note := PUBLISHED.get(data["name"]):
            yield note
        if chosen := next(iter(found.get("auto", [])), None):
            yield from textwrap.wrap(f"auto: {chosen['why']}", 100)


def records(folder: Path) -> list[dict[str, Any]]:
    """Return run.json of each seed of an experiment, with what its recipe says of its values."""
    return [
        json.loads(path.read_text()) | {"why": load_recipe(path.with_name("recipe.yaml")).source}
        for path in sorted(folder.glob("seed-*/run.json"))
    ]


def beside_the_best(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield what `auto` is worth beside the best of what was always the same, where seeds tell."""
    tests = {way: accuracies(runs, "test") for way, runs in found.items() if len(runs) > 1}
    if "auto" not in tests or len(tests) == 1:
        return
    medians = {way: statistics.median(test) for way, test in tests.items()}
    own = medians.pop("auto")
    best = max(medians, key=lambda way: medians[way])
    spreads = [f"{max(tests[way]) - min(tests[way]):.1f}" for way in ("auto", best)]
    yield (
        f"auto's median is {abs(own - medians[best]):.1f} points "
        f"{'above' if own >= medians[best] else 'below'} the best other ({TITLES[best]}); "
        f"their seeds spread over {' and '.join(spreads)}"
    )


def accuracies(runs: list[dict[str, Any]], part: str) -> list[float]:
    """Return the accuracy of each run on a split, in percent."""
    return [100 * run["results"][part]["accuracy"] for run in runs]


def row(title: str, runs: list[dict[str, Any]]) -> str:
    """Return a line of the table: accuracies of the runs, and the minutes of one of them."""
    test, held = accuracies(runs, "test"), accuracies(runs, "validation")
    minutes = statistics.median(run["progress"]["seconds"] for run in runs) / 60
    figures = f"{statistics.median(test):7.1f} {min(test):7.1f} {max(test):7.1f}"
    return f"{title:31} {len(runs):2} {figures} {statistics.median(held):8.1f} {minutes:8.1f}"


def main() -> int:
    """Run what is not there yet, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights")
    parser.add_argument("--data", type=Path, default=Path("photographs"))
    parser.add_argument("--sets", default="clothing,trashnet")
    parser.add_argument("--ways", default=",".join(WAYS), help="some of these")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    # Sets may be links to elsewhere; of two names that hold one another the longer comes first.
    named = {options.data / data: f"photographs/{data}" for data in options.sets.split(",")}
    named |= {options.data: "photographs", options.runs: "runs"}
    if options.weights and (start := Path(options.weights)).exists():
        named[start] = "/".join(start.resolve().parts[-2:])
    # As they are typed and as they are; what is relative tells nothing of the machine.
    places = {str(path.resolve()): name for path, name in named.items()}
    places |= {str(path): name for path, name in named.items() if path.is_absolute()}
    deadline = time.monotonic() + 60 * options.minutes
    rounds = range(1, options.seeds + 1) if options.weights else ()
    for seeds in rounds:
        for data in options.sets.split(","):
            for way in options.ways.split(","):
                settings = (f"data.image_size={options.size}", *options.settings)
                trial = Trial(
                    options.data / data, way, options.model, options.weights, seeds, settings
                )
                target = options.results / trial.name
                if finished(target) >= seeds:
                    continue
                if time.monotonic() > deadline:
                    return STOPPED
                if code := run(trial, options.runs, options.device, deadline):
                    print(f"see {options.runs / trial.name}.log", file=sys.stderr)
                    return code
                keep(trial, options.runs, options.results)
                without_places(target, places)
                write(options.results)
    write(options.results)
    return 0


def write(results: Path) -> None:
    """Write the table of whatever is there, and print it."""
    text = "\n".join(table(results)) + "\n"
    (results / "finetuning.txt").write_text(text)
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
