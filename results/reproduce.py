"""Run the experiments that results/ holds, resumably, and keep of each run what is text.

usage: python results/reproduce.py GROUP... [--again] [--minutes 9] [--runs DIR] [--device auto]
       [--list] [--keep FOLDER]

A group is a name below (fast, bfloat16, shape, table6, ...), or a name inside one. Each experiment
is `resnets train ... --seeds N --resume auto`: what is finished is left alone, what was stopped
goes on. With --minutes the work stops in time, saves, and exits with 75; the same command goes on.
Data are looked for in $RESNETS_DATA. What is in results/ already is passed over; with --again it
is trained once more, into a folder of its own, and what is found is printed beside what is kept.
Without a group only the tables of results/README.md are rewritten.

--keep FOLDER copies what is text of a table that `resnets reproduce` has made into results/, under
the folder's name: page, Markdown, JSON, and of each finished run what is kept of any other, without
the paths of this machine. Kept again, it takes the place of what was kept before.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.files import write_json
from resnets.papers.paper_tables import TABLES
from resnets.report.reproduced import write_reproduction
from resnets.run_folder.directory import seeds_in

RESULTS = Path(__file__).resolve().parent
KEPT = ("run.json", "recipe.yaml", "metrics.jsonl", "ledger.jsonl")
STOPPED = 75


@dataclass(frozen=True)
class Trial:
    """One model by one recipe, with several seeds."""

    model: str
    recipe: str
    seeds: int
    settings: tuple[str, ...] = ()
    suffix: str = ""

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.model}-{self.recipe}{self.suffix}"

    def command(self, out: Path, device: str) -> list[str]:
        """Return the words that train it into ``out``."""
        words = ["train", "cifar10", "--model", self.model, "--recipe", self.recipe]
        for setting in self.settings:
            words += ["--set", setting]
        words += ["--seeds", str(self.seeds), "--out", str(out), "--resume", "auto"]
        return [*words, "--device", device]


def short(*models: str) -> list[Trial]:
    """400 iterations of the paper's recipe: a hundred and sixtieth of its length."""
    settings = ("schedule.iterations=400",)
    return [Trial(model, "he2015_cifar", 3, settings, "-400") for model in models]


def small_steps(*models: str) -> list[Trial]:
    """As many images in batches of a quarter, at a quarter of the rate: four times the steps."""
    settings = ("schedule.iterations=1600", "batch_size=32", "optimizer.lr=0.025")
    return [Trial(model, "he2015_cifar", 3, settings, "-1600x32") for model in models]


def by_the_book(table: str, *left_out: str) -> list[Trial]:
    """The rows of a table at their whole length, ResNet-20 with five seeds."""
    return [
        Trial(row.key, row.recipe or row.figure.recipe, 5 if row.key == "resnet20" else 1)
        for row in TABLES[table].rows
        if row.key not in left_out
    ]


GROUPS = {
    "fast": [Trial("resnet20", "fast_cifar", 1)],
    "bfloat16": [Trial("resnet20", "fast_cifar", 1, ("precision=bfloat16",), "-bfloat16")],
    "depth": small_steps("resnet20", "plain20", "resnet56", "plain56", "resnet56_v2"),
    "options": short("resnet20", "resnet20_b", "resnet20_c", "resnet20_v2"),
    "large_steps": short("plain20", "resnet56", "plain56"),
    "table6": by_the_book("he2015.table6", "resnet1202", "plain32", "plain44"),
    "keras": by_the_book("keras.cifar10"),
}
SHAPE = ("depth", "options", "large_steps")
GPU = ("table6", "keras")


def run(trial: Trial, runs: Path, device: str, deadline: float) -> int:
    """Train until it is finished or the time is up; return the exit code."""
    (runs / trial.name).parent.mkdir(parents=True, exist_ok=True)
    command = trial.command(runs / trial.name, device)
    print(f"resnets {' '.join(command)}", flush=True)
    with (runs / f"{trial.name}.log").open("a") as log:
        print(f"$ resnets {' '.join(command)}", file=log, flush=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "resnets", *command], stdout=log, stderr=log
        )
        while process.poll() is None:
            time.sleep(0.5)
            if time.monotonic() > deadline:
                process.send_signal(signal.SIGTERM)  # it saves and ends; a second one is harmless
                process.wait()
                return process.returncode if process.returncode >= 0 else STOPPED
    return process.returncode


def keep(trial: Trial, runs: Path, results: Path) -> None:
    """Copy what is text of an experiment's finished seeds into ``results``."""
    source, target = runs / trial.name, results / trial.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy(runs / f"{trial.name}.log", target / "log.txt")
    for seed in read(source / "seeds.json")["seeds"]:
        (target / seed["run"]).mkdir()
        for name in KEPT:
            shutil.copy(source / seed["run"] / name, target / seed["run"])
    shutil.copy(source / "seeds.json", target)  # last: it says that the experiment is there


def keep_table(folder: Path, results: Path) -> Path:
    """Copy what is text of a reproduced table into ``results``, and return where it is.

    Raises ValueError for another folder, and where something else is kept under its name.
    """
    if not (folder / "table.json").exists():
        raise ValueError(f"{folder}: has no table.json, so it is no table of `resnets reproduce`")
    target = results / folder.resolve().name
    if target.exists() and not (target / "table.json").exists():
        raise ValueError(f"{target}: is kept of something else")
    shutil.rmtree(target, ignore_errors=True)
    for seeds in sorted(folder.glob("*/seeds.json")):
        runs = [
            run for run in seeds_in(seeds.parent) if read(run / "run.json")["status"] == "finished"
        ]
        for run in runs:
            for name in KEPT:
                copy_text(run / name, target / seeds.parent.name / run.name / name)
        copy_text(seeds, target / seeds.parent.name / seeds.name)
    for record in sorted(folder.glob("*/evaluation.json")):
        copy_text(record, target / record.parent.name / record.name)
    copy_text(folder / "table.json", target / "table.json")
    write_reproduction(target / "table.json", read(target / "table.json"))
    return target


def copy_text(source: Path, target: Path) -> None:
    """Copy a text file; of JSON without what belongs to this machine."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".json":
        values = read(source)
        values.pop("launch", None)  # a torchrun's, by the name of its host
        write_json(target, without_places(values))
    else:
        shutil.copy(source, target)


def without_places(value: Any) -> Any:
    """Return plain data whose texts have the last names of absolute paths alone."""
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_places(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("resnets ", "torchrun ")):  # a command, whose words may have spaces
        words = [word.rpartition("=") for word in shlex.split(value)]
        return shlex.join(f"{name}{sign}{_name(path)}" for name, sign, path in words)
    if (name := _name(value)) != value:
        return name
    quoted = re.sub(r"(['\"])/[^'\"]*/([^'\"]*\1)", r"\1\2", value)  # as Python's calls have them
    return re.sub(r"(?<!\S)/\S*/", "", quoted)


def _name(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


def read(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


def compare(trial: Trial, runs: Path) -> None:
    """Print the test accuracy of a repetition, and the one in results/ where there is one."""
    words = []
    for folder, where in ((runs, "here"), (RESULTS, "in results")):
        if (path := folder / trial.name / "seeds.json").exists():
            found = read(path)
            spread = f" ± {100 * found['sd']:.2f}" if found["n"] > 1 else ""
            words.append(f"{100 * found['mean']:.2f}{spread} % {where}")
    print(f"{trial.name}: {', '.join(words)}", flush=True)


def table(trials: list[Trial]) -> Iterator[str]:
    """Yield the rows of a group: what is measured, and what is not."""
    titles = "model", "recipe", "seeds", "test error, mean ± sd (best)", "published"
    yield "| " + " | ".join((*titles, "minutes each", "img/s")) + " |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for trial in trials:
        path = RESULTS / trial.name
        recipe = f"`{trial.recipe}`" + "".join(f" `{setting}`" for setting in trial.settings)
        if not (path / "seeds.json").exists():
            yield f"| `{trial.model}` | {recipe} | | not measured | | | |"
            continue
        found = read(path / "seeds.json")
        error = f"{100 * (1 - found['mean']):.2f}"
        if found["n"] > 1:
            error += f" ± {100 * found['sd']:.2f} ({100 * (1 - found['best']):.2f})"
        published = ", ".join(
            f"{row['error_percent']:.2f} ({row['source']})" for row in found["published"]
        )
        records = [read(f) for f in sorted(path.glob("seed-*/run.json"))]
        speed = sum(r["results"]["train"]["images_per_second"] for r in records) / len(records)
        cells = f"`{trial.model}`", recipe, found["n"], error, published or "", "", ""
        minutes = found["minutes"] / found["n"]
        yield "| " + " | ".join(map(str, (*cells[:5], f"{minutes:.1f}", f"{speed:.0f}"))) + " |"


def write_tables() -> None:
    """Rewrite the tables of README.md between their marks."""
    page = RESULTS / "README.md"
    text = page.read_text()
    for group, trials in GROUPS.items():
        before, begin, rest = text.partition(f"<!-- {group}: begin -->\n")
        _, end, after = rest.partition(f"<!-- {group}: end -->")
        if begin and end:
            text = before + begin + "\n".join(table(trials)) + "\n" + end + after
    page.write_text(text)


def main() -> int:
    """Run what the words name, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.keep:
        try:
            print(f"kept in {os.path.relpath(keep_table(options.keep, RESULTS))}")
        except ValueError as error:
            parser.error(str(error))
        return 0
    every = {trial.name: [trial] for trials in GROUPS.values() for trial in trials}
    wholes = {"shape": SHAPE, "gpu": GPU}
    together = {
        name: [t for group in groups for t in GROUPS[group]] for name, groups in wholes.items()
    }
    known = GROUPS | together | every
    if options.list or not set(options.what) <= set(known):
        print("\n".join(known))
        return 0 if options.list else 2
    runs = options.runs or Path("runs/again" if options.again else "runs/results")
    deadline = time.monotonic() + 60 * options.minutes
    for trial in dict.fromkeys(trial for what in options.what for trial in known[what]):
        if (RESULTS / trial.name / "seeds.json").exists() and not options.again:
            print(f"{trial.name}: in {os.path.relpath(RESULTS / trial.name)} already (--again)")
            continue
        if time.monotonic() > deadline:
            return STOPPED
        code = run(trial, runs, options.device, deadline)
        if code:
            return code
        if options.again:
            compare(trial, runs)
            continue
        keep(trial, runs, RESULTS)
        write_tables()
    write_tables()
    print("all is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
