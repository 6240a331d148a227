"""What has come of an experiment: errors of its seeds, how sure they are, and what they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from resnets.errors import DataError, ResnetsError
from resnets.formatting import plural
from resnets.readers.documents import read_json
from resnets.report.score import headline, interval, mean_interval
from resnets.run_folder.directory import RunFolder, seeds_in
from resnets.run_folder.reading import read_run
from resnets.studies.experiments import Experiment
from resnets.training.recipe import read_recipe
from resnets.training.seeds import differences

VALIDATION = 50_000  # images of ImageNet


@dataclass(frozen=True)
class Measured:
    """Errors as fractions, one for each seed, and what is to be said of them."""

    errors: tuple[float, ...]
    images: int  # that each was measured on
    split: str
    differences: tuple[str, ...]  # from the paper's experiment, as far as it is known
    seeds: tuple[int, ...] = ()
    minutes: float | None = None  # of a seed
    top5: float | None = None  # mean top-5 error
    where: str = ""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval: of the mean over seeds, or by the images of a single one."""
        if len(self.errors) > 1:
            return mean_interval(self.errors)
        return interval(self.errors[0], self.images)

    @property
    def interval_of(self) -> str:
        """What the interval is of."""
        if len(self.errors) > 1:
            return f"the mean of {plural(len(self.errors), 'seed')} (Student's t)"
        return f"one run on {plural(self.images, 'image')} (Wilson)"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            **asdict(self),
            "n": len(self.errors),
            "median": median(self.errors),
            "mean": fmean(self.errors),
            "sd": stdev(self.errors) if len(self.errors) > 1 else None,
            "interval": list(self.interval),
            "interval_of": self.interval_of,
        }


def measured_runs(
    experiment: Experiment, runs: Sequence[Path], by_protocol: Mapping[Path, Path]
) -> Measured:
    """Return what finished runs of an experiment have come to.

    ``by_protocol`` has the evaluation of each where the table's protocol is not training's own.
    """
    records = [read_run(path) for path in runs]
    first, recipe = RunFolder(runs[0]).read_record(), read_recipe(RunFolder(runs[0]).recipe)
    figure = experiment.row.figure
    said = list(
        differences(
            figure, first, recipe, len(runs), shown=figure.protocol if by_protocol else "1-crop"
        )
    )
    if experiment.spec.name != figure.model:
        said.insert(0, f"{experiment.spec.name}, not {figure.model}")
    if experiment.dataset != figure.dataset:
        said.insert(1, f"{experiment.dataset}, not {figure.dataset}")
    found = [read_json(by_protocol[path]) for path in runs if by_protocol]
    scores = [best for record in records if (best := headline(record)) and best.score.samples]
    if not found and len(scores) < len(records):
        raise DataError(
            f"{runs[0].parent}: its runs have no test or held-out images to count errors on",
            hint="give data with a test split, or a recipe with data.holdout",
        )
    top5 = [each["top5_accuracy"] for each in found if "top5_accuracy" in each]
    images = found[0]["samples"] if found else scores[0].score.samples or 0
    return Measured(
        errors=tuple(1 - each["accuracy"] for each in found)
        or tuple(1 - score.accuracy for score in scores),
        images=images,
        split=found[0]["split"] if found else scores[0].part,
        differences=(*said, *_other_images(experiment, images)),
        seeds=tuple(record.seed or 0 for record in records),
        minutes=fmean(record.progress.seconds or 0 for record in records) / 60,
        top5=1 - fmean(top5) if top5 else None,
        where=str(runs[0].parent),
    )


def _other_images(experiment: Experiment, images: int) -> list[str]:
    """Say where ImageNet's errors are not of all its validation images."""
    if experiment.dataset != "imagenet" or images == VALIDATION:
        return []
    return [f"measured on {plural(images, 'image')}, not on ImageNet's {VALIDATION:,}"]


def measured_alone(experiment: Experiment, path: Path, files: Sequence[str]) -> Measured:
    """Return what weights came to that were evaluated and not trained."""
    found = read_json(path)
    return Measured(
        errors=(1 - found["accuracy"],),
        images=found["samples"],
        split=found["split"],
        differences=(
            f"not trained here: {', '.join(files)}",
            *_other_images(experiment, found["samples"]),
        ),
        top5=1 - found["top5_accuracy"] if "top5_accuracy" in found else None,
        where=str(path.parent),
    )


def same_experiment(experiment: Experiment, kept: str | Path) -> Measured | None:
    """Return the results of the same experiment in a folder of results, if there are any.

    It is the same when network, data and every setting but the seed are.
    """
    for file in sorted(Path(kept).rglob("seeds.json")):
        runs = seeds_in(file.parent)
        try:
            same = all(
                experiment.is_of(read_run(run), read_recipe(RunFolder(run).recipe)) for run in runs
            )
        except ResnetsError:
            continue  # what is damaged, or another version's, is no result to compare with
        if runs and same:
            return measured_runs(experiment, runs, {})
    return None
