"""Proof from a run folder that each training image was used once per epoch, the test part once.

The sample ledger is a chain of digests of what the run really used; here it is computed again from
the recipe alone. The other files of the folder must tell the same story.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from resnets.data import NAMES, open_dataset
from resnets.data.identity import look_again, read_manifest
from resnets.data.images import printable
from resnets.data.order import batch_bounds, epoch_order
from resnets.errors import CheckpointError, DataError, ResnetsError, ResourceError
from resnets.evaluation.scores import MOST_CONFUSED
from resnets.formatting import plural
from resnets.readers.documents import lines_of, loads, read_json
from resnets.readers.fields import Count, Real, check
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.ledger import expected
from resnets.spec import Spec
from resnets.training.recipe import Recipe, read_recipe
from resnets.weights.native import understand
from resnets.weights.tensors import read_tensors


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, or where it is not as it should be."""

    name: str
    found: str
    differences: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return not self.differences


@dataclass(frozen=True)
class Audit:
    """What became of the checks of a run, or of a folder of runs that differ in their seed."""

    path: Path
    checks: tuple[Check, ...]
    seeds: tuple["Audit", ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check, of every seed, found what it should."""
        return not self.differences

    @property
    def differences(self) -> list[str]:
        """What is not as it should be, with the check that found it."""
        own = [f"{check.name}: {text}" for check in self.checks for text in check.differences]
        return own + [
            f"{seed.path.name}: {text}" for seed in self.seeds for text in seed.differences
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        checks = [{**asdict(check), "ok": check.ok} for check in self.checks]
        seeds = {"seeds": [seed.to_dict() for seed in self.seeds]} if self.seeds else {}
        return {"path": str(self.path), "ok": self.ok, "checks": checks, **seeds}


def audit(run: str | Path) -> Audit:
    """Check what a run folder says about itself against what its recipe makes it do.

    A run that is not finished is checked as far as its ledger goes. A folder that `train_seeds` has
    written is checked seed by seed. Raises CheckpointError when it is neither; what is damaged or
    different within a run is told by the checks.
    """
    path = Path(run)
    seeds = [file.parent for file in path.glob("seed-*/run.json")]
    if seeds and not (path / "run.json").exists():
        seeds.sort(key=lambda seed: (len(seed.name), seed.name))
        found = _look("seeds", _seeds, [_Evidence(seed) for seed in seeds])
        return Audit(path, (found,), tuple(audit(seed) for seed in seeds))
    evidence = _Evidence(path)
    looks = _CHECKS | (dict.fromkeys(_BY_LEDGER, _older) if evidence.is_older else {})
    return Audit(path, tuple(_look(name, look, evidence) for name, look in looks.items()))


class _Evidence:
    """The files of a run, and what follows from its recipe; each is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.record = self.folder.read()
        self.status: str = self.record["status"]
        self.finished = self.status == "finished"
        self.data: dict[str, Any] = self.record["data"]

    @property
    def is_older(self) -> bool:
        """Whether it is of the first versions, which kept neither ledger nor sittings."""
        return "sittings" not in self.record and not self.folder.ledger.exists()

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.folder.recipe)

    @property
    def images(self) -> int:
        return int(self.data["train"])

    @property
    def batches(self) -> int:
        """The steps of a whole epoch."""
        return len(batch_bounds(self.images, self.recipe.batch_size))

    @property
    def steps(self) -> int:
        """The steps that the recipe asks for."""
        schedule = self.recipe.schedule
        return schedule.iterations or (schedule.epochs or 0) * self.batches

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.batches)

    def steps_of(self, epoch: int) -> int:
        """The steps of an epoch, counted from 0; the last may be cut short by the recipe."""
        return min(self.batches, self.steps - epoch * self.batches)

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        return _read_lines(self.folder.ledger, _Ledger)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return _read_lines(self.folder.metrics, _Metrics)

    @property
    def ledger_steps(self) -> int:
        return sum(line["steps"] for line in self.ledger)


@dataclass(frozen=True)
class _Ledger:
    """A line of ledger.jsonl."""

    epoch: Count
    steps: Count
    samples: Count
    sha256: str


@dataclass(frozen=True)
class _Seed:
    run: str
    seed: Count
    accuracy: float | None


@dataclass(frozen=True)
class _Summary:
    """What of seeds.json the runs say too."""

    part: Literal["test", "validation"] | None
    seeds: list[_Seed]


@dataclass(frozen=True)
class _Metrics:
    """What of a line of metrics.jsonl the ledger says too."""

    epoch: Real
    step: Count
    samples: Count


def _read_lines(path: Path, kind: Any) -> list[dict[str, Any]]:
    lines = []
    try:
        for where, text in lines_of(path):
            lines.append(loads(text, where))
            check(kind, lines[-1], where)
    except OSError as error:
        raise CheckpointError(f"{path.name}: {error.strerror}") from None
    return lines


def _recipe(run: _Evidence) -> Iterator[str]:
    record, recipe = run.record, run.recipe
    images = f"{plural(run.images, 'image')} of {run.data['name']}"
    yield f"{recipe.name}, seed {recipe.seed}, on {images}"
    yield from _unequal("recipe", record["recipe"], recipe.name)
    yield from _unequal("seed", record["seed"], recipe.seed)


def _data(run: _Evidence) -> Iterator[str]:
    source, fingerprint = str(run.data.get("source", "")), run.data["fingerprint"]
    try:
        if source == "digits":
            yield "digits, which come with scikit-learn"
        elif source in NAMES:
            root = run.data.get("root")
            dataset = open_dataset(source, root=None if root is None else Path(root))
            yield f"{source}, its pictures and labels as they were"
            yield from _unequal(f"{source}: fingerprint", dataset.fingerprint, fingerprint)
        elif not source or not Path(source).exists():
            yield f"not looked at: {printable(source) or 'their place'} is not there any more"
        else:
            before = read_manifest(run.folder.pictures)
            yield from look_again(Path(source), fingerprint, before, _skipped(run.folder.data))
    except (DataError, ResourceError) as error:
        if source in NAMES:  # not downloaded here, or without the package that has them
            yield f"not looked at: {error.message}"
        else:
            raise


def _skipped(path: Path) -> set[str]:
    """Return the names of the files that a run has left out."""
    try:
        return {entry["path"] for entry in read_json(path)["skipped"]}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _older(run: _Evidence) -> Iterator[str]:
    yield "not looked at: the run is of an older version, which kept no ledger"


def _samples(run: _Evidence) -> Iterator[str]:
    whole = sum(run.steps_of(epoch) == run.batches for epoch in range(len(run.ledger)))
    found = f"{plural(whole, 'epoch')}, {plural(run.images, 'image')} each, every one exactly once"
    if len(run.ledger) > whole:
        found += f"; then {run.ledger[-1]['samples']:,} of them"
    yield found if run.ledger else f"no epoch is finished: the run is {run.status}"
    for epoch, line in enumerate(run.ledger[: run.epochs]):
        order = epoch_order(run.images, run.recipe.seed, epoch)
        if not torch.equal(order.sort().values, torch.arange(run.images)):
            yield f"epoch {epoch + 1}: its order does not have every image once"
        right = expected(order, run.recipe.batch_size, epoch, run.steps_of(epoch))
        yield from _unequal(f"epoch {epoch + 1}: samples", line["samples"], right["samples"])
        if line["sha256"] != right["sha256"]:
            yield f"epoch {epoch + 1}: other samples were used than the recipe and its seed say"


def _steps(run: _Evidence) -> Iterator[str]:
    done, epochs = run.ledger_steps, len(run.ledger)
    found = f"{done:,} of {run.steps:,}, in {plural(epochs, 'epoch')} without gap or overlap"
    progress = run.record.get("progress", {"step": done, "steps": run.steps})
    under_way = progress["step"] - done
    if not run.finished and under_way > 0:
        found += f"; the run is {run.status}, {plural(under_way, 'step')} later"
    yield found
    for epoch, line in enumerate(run.ledger[: run.epochs]):
        yield from _unequal(f"line {epoch + 1}: epoch", line["epoch"], epoch + 1)
        yield from _unequal(f"epoch {epoch + 1}: steps", line["steps"], run.steps_of(epoch))
    if epochs > run.epochs:
        yield f"{plural(epochs, 'epoch')} where the recipe asks for {run.epochs}"
    if run.finished:
        yield from _unequal("the run's length", progress["steps"], run.steps)
        yield from _unequal("the last step", progress["step"], run.steps)
        yield from _unequal("the ledger's last step", done, run.steps)
    elif run.status != "running" and under_way < 0:
        yield f"the ledger goes to step {done:,}, the run only to {progress['step']:,}"


def _metrics(run: _Evidence) -> Iterator[str]:
    ends = list(accumulate(line["steps"] for line in run.ledger))
    yield f"{plural(len(run.metrics), 'line')} that agree with the ledger"
    # Killed between the two files, a run leaves one line more in the first.
    if len(run.metrics) - len(ends) not in ((0,) if run.finished else (0, 1)):
        yield f"{plural(len(run.metrics), 'line')} for {plural(len(ends), 'epoch')} of the ledger"
    for line, entered, end in zip(run.metrics, run.ledger, ends, strict=False):
        where = f"epoch {entered['epoch']}"
        yield from _unequal(f"{where}: step", line["step"], end)
        yield from _unequal(f"{where}: samples", line["samples"], entered["samples"])
        yield from _unequal(f"{where}: epoch", line["epoch"], round(end / run.batches, 4))


def _sittings(run: _Evidence) -> Iterator[str]:
    sittings = run.record["sittings"]
    progress = run.record.get("progress", {}).get("step", 0)
    until = sittings[-1].get("to_step")
    again = 0
    problems = []
    for number, (before, sitting) in enumerate(zip([None, *sittings], sittings, strict=False), 1):
        reached = 0 if before is None else before.get("to_step")  # None: it was killed
        start, end = sitting["from_step"], sitting.get("to_step")
        if reached is not None and start > reached:
            problems.append(f"sitting {number} begins at step {start:,}, {reached:,} was reached")
        if end is not None and end < start:
            problems.append(f"sitting {number} ends at step {end:,}, before it begins")
        again += max(0, (reached or 0) - start)
    found = plural(len(sittings), "sitting")
    found += f", from step {sittings[0]['from_step']:,} "
    found += "on" if until is None else f"to {until:,}"
    killed = sum("to_step" not in sitting for sitting in sittings[:-1])
    if killed:
        found += f"; {killed} killed"
    if again:
        found += f"; {plural(again, 'step')} done again from an earlier state"
    yield found
    yield from problems
    ended = [sitting.get("status") for sitting in sittings]
    if "finished" in ended[:-1]:
        yield f"sitting {ended.index('finished') + 1} finished, and others follow"
    if run.status != "running":
        yield from _unequal("the last sitting", ended[-1], run.status)
        yield from _unequal("the last sitting's end", until, progress)


def _weights(run: _Evidence) -> Iterator[str]:
    if not run.finished:
        yield f"none to check: the run is {run.status}"
        return
    path, record = run.folder.weights, run.record
    try:
        tensors, texts = read_tensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: missing or damaged: {error}") from None
    _, metadata = understand(path, tensors, texts)
    count = plural(len(tensors), "tensor")
    yield f"{count}, each with its SHA-256; recipe, data and results are the run's"
    made = metadata.made
    if Recipe.model_validate_json(json.dumps(made["recipe"])) != run.recipe:
        yield "its recipe is not recipe.yaml"
    if metadata.spec != Spec.from_dict(record["model"]["spec"]):  # which may be an older version's
        yield "its network is not that of run.json"
    yield from _unequal(
        "its data's fingerprint", made["data"]["fingerprint"], run.data["fingerprint"]
    )
    for part, scores in record["results"].items():
        # Metadata have everything but the confusion matrix.
        own = made["results"][part]
        if own != (scores and {key: v for key, v in scores.items() if key != "confusion"}):
            yield f"its results on the {part} part are not those of run.json"


def _test(run: _Evidence) -> Iterator[str]:
    results = run.record.get("results", {})
    if not run.finished:
        yield f"not evaluated: the run is {run.status}"
        if results.get("test"):
            yield f"there are results on the test part, although the run is {run.status}"
    elif run.data["test"]:
        yield f"{plural(run.data['test'], 'image')}, each counted once, in the last evaluation only"
    else:
        yield f"there is none; {plural(run.data['validation'], 'image')} held out"
    early = [line["step"] for line in run.metrics if any("test" in key for key in line)]
    if early:
        yield f"metrics.jsonl has results on the test part, first after step {early[0]:,}"
    for part in ("validation", "test") if run.finished else ():
        scores = results[part]
        if not scores:
            yield from _unequal(f"{part}: images without a result", run.data[part], 0)
            continue
        yield from _unequal(f"{part}: images", scores["samples"], run.data[part])
        if "confusion" not in scores and len(run.data["classes"]) > MOST_CONFUSED:
            continue
        confusion = scores["confusion"]
        counted, right = sum(map(sum, confusion)), sum(row[i] for i, row in enumerate(confusion))
        yield from _unequal(f"{part}: images in the confusion matrix", counted, run.data[part])
        yield from _unequal(f"{part}: accuracy", scores["accuracy"], right / counted)


def _seeds(runs: list[_Evidence]) -> Iterator[str]:
    yield f"{plural(len(runs), 'run')} that differ in nothing but their seed"
    first = runs[0]
    for run in runs[1:]:
        name = run.folder.path.name
        same = run.recipe.model_copy(update={"seed": first.recipe.seed})
        if same != first.recipe:
            yield f"{name}: another recipe than {first.folder.path.name}"
        if run.record["model"]["spec"] != first.record["model"]["spec"]:
            yield f"{name}: another network than {first.folder.path.name}"
        if run.data["fingerprint"] != first.data["fingerprint"]:
            yield f"{name}: other data than {first.folder.path.name}"
    if len({run.recipe.seed for run in runs}) < len(runs):
        yield "two runs have the same seed"
    summary = first.folder.path.parent / "seeds.json"
    if summary.exists():
        values = check(_Summary, read_json(summary), summary)
        by_name = {run.folder.path.name: run for run in runs}
        for entry in values.seeds:
            if entry.run not in by_name:
                yield f"seeds.json: {entry.run}: there is no such run"
                continue
            run = by_name[entry.run]
            scores = run.record["results"][values.part] if values.part else {}
            yield from _unequal(f"seeds.json: {entry.run}: seed", entry.seed, run.recipe.seed)
            yield from _unequal(
                f"seeds.json: {entry.run}: accuracy", entry.accuracy, scores.get("accuracy")
            )


_CHECKS = {
    "recipe": _recipe,
    "data": _data,
    "samples": _samples,
    "steps": _steps,
    "metrics": _metrics,
    "sittings": _sittings,
    "weights": _weights,
    "test": _test,
}


_BY_LEDGER = ("samples", "steps", "metrics", "sittings")


def _look(name: str, look: Callable[[Any], Iterator[str]], evidence: Any) -> Check:
    """Return what a check says: first what it found, then every difference."""
    said: list[str] = []
    try:
        said.extend(look(evidence))  # what came before an error stays
    except ResnetsError as error:
        said = ["", *said[1:], error.message]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        damage = f"a value is missing or damaged: {type(error).__name__}: {error}"
        said = ["", *said[1:], damage]
    return Check(name, said[0], tuple(said[1:]))


def _unequal(what: str, found: Any, right: Any) -> Iterator[str]:
    if found != right:
        yield f"{what} is {_text(found)}, not {_text(right)}"


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
