"""Proof from a run folder that each training image was used once per epoch, the test split once.

The sample ledger is a chain of digests of what the run really used; here it is computed again from
the recipe alone. The other files of the folder must tell the same story.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from torch import Tensor

from resnets.data import NAMES, open_dataset
from resnets.data.given import GIVEN
from resnets.data.identity import look_again, read_manifest
from resnets.data.images import printable
from resnets.data.order import epoch_order
from resnets.errors import CheckpointError, DataError, ResnetsError, ResourceError
from resnets.evaluation.scores import MOST_CONFUSED
from resnets.formatting import plural
from resnets.readers.documents import damaged, read_json
from resnets.readers.fields import Count, check
from resnets.run_folder.directory import seeds_in
from resnets.run_folder.ledger import Ledger
from resnets.run_folder.record import IN_FILES, Results, from_plain
from resnets.spec import Spec
from resnets.training.evidence import Evidence
from resnets.training.recipe import Recipe, as_kept
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
    if seeds := seeds_in(path):
        found = _look("seeds", _seeds, [Evidence(seed) for seed in seeds])
        return Audit(path, (found,), tuple(audit(seed) for seed in seeds))
    evidence = Evidence(path)
    looks = _CHECKS | (dict.fromkeys(_BY_LEDGER, _older) if evidence.is_older else {})
    return Audit(path, tuple(_look(name, look, evidence) for name, look in looks.items()))


@dataclass(frozen=True)
class _Seed:
    run: str
    seed: Count
    accuracy: float | None
    map: float | None = None


@dataclass(frozen=True)
class _Summary:
    """What of seeds.json the runs say too."""

    part: Literal["test", "validation"] | None
    seeds: list[_Seed]


def _recipe(run: Evidence) -> Iterator[str]:
    recipe = run.recipe
    images = f"{plural(run.images, 'image')} of {run.data.name}"
    yield f"{recipe.name}, seed {recipe.seed}, on {images}"
    yield from _unequal("recipe", run.record.recipe, recipe.name)
    yield from _unequal("seed", run.record.seed, recipe.seed)


def _data(run: Evidence) -> Iterator[str]:
    source, root, fingerprint = run.data.source, run.data.root, run.data.fingerprint
    if source == "digits":
        yield "digits, which come with scikit-learn"
    elif source in NAMES:
        try:
            dataset = open_dataset(source, root=None if root is None else Path(root))
        except (DataError, ResourceError) as error:  # not downloaded here, or without its package
            yield f"not looked at: {error.message}"
            return
        yield f"{source}, its images and labels as they were"
        yield from _unequal(f"{source}: fingerprint", dataset.fingerprint, fingerprint)
    elif source == GIVEN:
        yield "not looked at: they were given in Python"
    elif not Path(source).exists():
        yield f"not looked at: {printable(source)} is not there any more"
    else:
        left_out = {skipped.path for skipped in run.folder.read_preparation().skipped}
        before = read_manifest(run.folder.manifest)
        yield from look_again(Path(source), fingerprint, before, left_out)


def _older(run: Evidence) -> Iterator[str]:
    yield "not looked at: the run is of an older version, which kept no ledger"


def _samples(run: Evidence) -> Iterator[str]:
    whole = sum(run.steps_of(epoch) == len(run.batches) for epoch in range(len(run.ledger)))
    repeats, found = run.recipe.data.repeats, plural(whole, "epoch")
    if run.recipe.data.sampling == "balanced":
        found += f", {run.batches[-1][1]:,} draws each, of any class alike"
    elif repeats == 1:
        found += f", {plural(run.images, 'image')} each, every one exactly once"
    else:
        found += f", {run.batches[-1][1]:,} draws each, an image at most {repeats} times"
    if len(run.ledger) > whole:
        found += f"; then {run.ledger[-1].samples:,} of them"
    yield found if run.ledger else f"no epoch is finished: the run is {run.status}"
    for epoch, line in enumerate(run.ledger[: run.epochs]):
        order = _order(run, epoch)
        if len(order) != run.batches[-1][1] or not order.sort().values.diff().all():
            yield f"epoch {epoch + 1}: its order does not have every image once"
        chain = Ledger()
        for start, stop in run.batches[: run.steps_of(epoch)]:
            chain.add(order[start:stop])
        yield from _unequal(f"epoch {epoch + 1}: samples", line.samples, chain.samples)
        if line.sha256 != chain.link:
            yield f"epoch {epoch + 1}: other samples were used than the recipe and its seed say"


def _order(run: Evidence, epoch: int) -> Tensor:
    data = run.recipe.data
    alike = run.data.train_classes if data.sampling == "balanced" else ()
    return epoch_order(run.images, run.recipe.seed, epoch, data.repeats, alike)


def _steps(run: Evidence) -> Iterator[str]:
    done, epochs, progress = (
        sum(line.steps for line in run.ledger),
        len(run.ledger),
        run.record.progress,
    )
    reached = done if progress.step is None else progress.step
    found = f"{done:,} of {run.steps:,}, in {plural(epochs, 'epoch')} without gap or overlap"
    if not run.record.finished and reached > done:
        found += f"; the run is {run.status}, {plural(reached - done, 'step')} later"
    yield found
    for epoch, line in enumerate(run.ledger[: run.epochs]):
        yield from _unequal(f"line {epoch + 1}: epoch", line.epoch, epoch + 1)
        yield from _unequal(f"epoch {epoch + 1}: steps", line.steps, run.steps_of(epoch))
    if epochs > run.epochs:
        yield f"{plural(epochs, 'epoch')} where the recipe asks for {run.epochs}"
    if run.record.finished:
        yield from _unequal("the run's length", progress.steps, run.planned)
        yield from _unequal("the last step", progress.step, run.steps)
        yield from _unequal("the ledger's last step", done, run.steps)
    elif run.status != "running" and reached < done:
        yield f"the ledger goes to step {done:,}, the run only to {reached:,}"


def _metrics(run: Evidence) -> Iterator[str]:
    metrics, ends = run.metrics, list(accumulate(line.steps for line in run.ledger))
    agree = "agrees" if len(metrics) == 1 else "agree"
    yield f"{plural(len(metrics), 'line')} that {agree} with the ledger"
    # Killed between the two files, a run leaves one line more in the first.
    if len(metrics) - len(ends) not in ((0,) if run.record.finished else (0, 1)):
        yield f"{plural(len(metrics), 'line')} for {plural(len(ends), 'epoch')} of the ledger"
    for line, entered, end in zip(metrics, run.ledger, ends, strict=False):
        where = f"epoch {entered.epoch}"
        yield from _unequal(f"{where}: step", line.step, end)
        fewer = run.found_broken  # each of them so many times as an image is drawn at most
        fewer = fewer and fewer * (1 + int(_order(run, entered.epoch - 1).max()) // run.images)
        yield from _unequal(f"{where}: samples", line.samples, entered.samples, fewer)
        yield from _unequal(f"{where}: epoch", line.epoch, round(end / len(run.batches), 4))


def _sessions(run: Evidence) -> Iterator[str]:
    sessions = run.record.sessions
    if not sessions:
        raise damaged(run.folder.record, f"{IN_FILES['sessions']}: is missing")
    until, killed = sessions[-1].to_step, sum(each.to_step is None for each in sessions[:-1])
    again, problems = 0, []
    reached: int | None = 0
    for number, session in enumerate(sessions, 1):
        start, end = session.from_step, session.to_step
        if reached is not None and start > reached:
            problems.append(f"session {number} begins at step {start:,}, {reached:,} was reached")
        if end is not None and end < start:
            problems.append(f"session {number} ends at step {end:,}, before it begins")
        again += max(0, (reached or 0) - start)
        reached = end  # unknown where it was killed
    found = f"{plural(len(sessions), 'session')}, from step {sessions[0].from_step:,} "
    found += "on" if until is None else f"to {until:,}"
    if killed:
        found += f"; {killed} killed"
    if again:
        found += f"; {plural(again, 'step')} done again from an earlier state"
    yield found
    yield from problems
    ended = [session.status for session in sessions]
    if "finished" in ended[:-1]:
        yield f"session {ended.index('finished') + 1} finished, and others follow"
    if run.status != "running":
        yield from _unequal("the last session", ended[-1], run.status)
        yield from _unequal("the last session's end", until, run.record.progress.step or 0)


def _weights(run: Evidence) -> Iterator[str]:
    if not run.record.finished:
        yield f"none to check: the run is {run.status}"
        return
    path = run.folder.weights
    try:
        tensors, texts = read_tensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: missing or damaged: {error}") from None
    _, metadata = understand(path, tensors, texts)
    count = plural(len(tensors), "tensor")
    yield f"{count}, each with its SHA-256; recipe, data and results are the run's"
    made = metadata.made
    if as_kept(Recipe.model_validate_json(json.dumps(made["recipe"]))) != run.recipe:
        yield "its recipe is not recipe.yaml"
    if metadata.spec != Spec.from_dict(run.record.model.spec):  # which may be an older version's
        yield "its network is not that of run.json"
    yield from _unequal("its data's fingerprint", made["data"]["fingerprint"], run.data.fingerprint)
    own, results = from_plain(Results, made["results"], path), run.record.results.summary
    for part in ("train", "validation", "test"):
        if getattr(own, part) != getattr(results, part):
            yield f"its results on the {part} split are not those of run.json"


def _test(run: Evidence) -> Iterator[str]:
    data, results, finished = run.data, run.record.results, run.record.finished
    if not finished:
        yield f"not evaluated: the run is {run.status}"
        if results.test:
            yield f"there are results on the test split, although the run is {run.status}"
    elif data.test:
        yield f"{plural(data.test, 'image')}, each counted once, in the last evaluation only"
    else:
        yield f"there is none; {plural(data.validation or 0, 'image')} held out"
    early = [row["step"] for _, row in run.rows if any("test" in key for key in row)]
    if early:
        yield f"metrics.jsonl has results on the test split, first after step {early[0]:,}"
    parts = {"validation": (results.validation, data.validation), "test": (results.test, data.test)}
    for part, (score, images) in parts.items() if finished else ():
        if not score:
            yield from _unequal(f"{part}: images without a result", images, 0)
            continue
        yield from _unequal(f"{part}: images", score.samples, images, run.found_broken)
        # Images that may have several classes have no confusion matrix.
        if not data.several and (score.confusion or len(data.classes) <= MOST_CONFUSED):
            counted = sum(map(sum, score.confusion))
            correct = sum(row[i] for i, row in enumerate(score.confusion))
            yield from _unequal(f"{part}: images in the confusion matrix", counted, score.samples)
            yield from _unequal(f"{part}: accuracy", score.accuracy, correct / max(1, counted))


def _seeds(runs: list[Evidence]) -> Iterator[str]:
    yield f"{plural(len(runs), 'run')} that differ in nothing but their seed"
    first = runs[0]
    for run in runs[1:]:
        if run.recipe.model_copy(update={"seed": first.recipe.seed}) != first.recipe:
            yield f"{run.name}: another recipe than {first.name}"
        if run.record.model.spec != first.record.model.spec:
            yield f"{run.name}: another network than {first.name}"
        if run.data.fingerprint != first.data.fingerprint:
            yield f"{run.name}: other data than {first.name}"
    if len({run.recipe.seed for run in runs}) < len(runs):
        yield "two runs have the same seed"
    summary = first.folder.path.parent / "seeds.json"
    if summary.exists():
        values = check(_Summary, read_json(summary), summary)
        by_name = {run.name: run for run in runs}
        for entry in values.seeds:
            where = f"seeds.json: {entry.run}"
            if entry.run not in by_name:
                yield f"{where}: there is no such run"
                continue
            run = by_name[entry.run]
            score = getattr(run.record.results, values.part) if values.part else None
            yield from _unequal(f"{where}: seed", entry.seed, run.recipe.seed)
            yield from _unequal(f"{where}: accuracy", entry.accuracy, score and score.accuracy)
            if entry.map is not None:
                yield from _unequal(f"{where}: map", entry.map, score and score.map)


_CHECKS = {
    "recipe": _recipe,
    "data": _data,
    "samples": _samples,
    "steps": _steps,
    "metrics": _metrics,
    "sessions": _sessions,
    "weights": _weights,
    "test": _test,
}


_BY_LEDGER = ("samples", "steps", "metrics", "sessions")


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


def _unequal(what: str, found: Any, right: Any, fewer: int = 0) -> Iterator[str]:
    """Yield that something is wrong; it may be up to so many ``fewer`` than is right."""
    if found not in (range(right - fewer, right + 1) if fewer else (right,)):
        yield f"{what} is {_text(found)}, not {_text(right)}"


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
