"""The runs that a study compares: given ones, or small ones that it trains itself."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from resnets.errors import Stopped, UsageError
from resnets.formatting import plural, printable
from resnets.machine.device import Machine
from resnets.machine.downloads import digest_of
from resnets.report.comparison import differences, distinct
from resnets.run_folder.directory import RunFolder, seeds_in
from resnets.run_folder.reading import RunRecord, read_run
from resnets.spec import Spec
from resnets.training.train import train

RECIPE = "he2015_cifar"
PAPER_STEPS = 64_000  # of 128 images
DIGITS_STEPS = 200
_APART = {"seed", "name", "source"}


@dataclass(frozen=True)
class Training:
    """What small runs are trained on, and how long; ``scale`` None is that of the data."""

    data: str = "digits"
    root: str | Path | None = None
    scale: Fraction | None = None
    seeds: int = 3
    seed: int = 0
    device: str = "auto"

    @property
    def part(self) -> Fraction:
        """The part of the whole schedule that is trained, above 0 and at most 1."""
        usual = Fraction(1) if self.data == "digits" else Fraction(1, 160)
        return self.scale or usual

    @property
    def settings(self) -> list[str]:
        """What of the recipe is another than the paper's."""
        if self.data == "digits":
            steps = max(1, round(DIGITS_STEPS * self.part))
            words = "batch_size=64 optimizer.lr=0.02 data.holdout=200 augment.mirror=false"
        elif self.part == 1:
            return []
        else:  # with few steps of the paper's batch no deep net begins to learn (results/)
            steps = max(1, round(4 * PAPER_STEPS * self.part))
            words = "batch_size=32 optimizer.lr=0.025"
        return [f"schedule.iterations={steps}", *words.split()]

    @property
    def sentence(self) -> str:
        """Say what is trained, and of what it is a part."""
        settings = " ".join(self.settings)
        told = f"Trained here on {printable(self.data)} by {RECIPE}"
        if self.data == "digits":
            return (
                f"{told} {settings}, as small nets: a stem of 7x7 with stride 4, since digits are "
                "8x8 enlarged."
            )
        whole = "of the paper's schedule"
        return f"{told} {settings}, {self.part} {whole}." if settings else f"{told}, all {whole}."


def train_small(
    specs: Sequence[Spec],
    out: Path,
    training: Training,
    report: Callable[[str], None] = lambda line: None,
) -> list[RunRecord]:
    """Train each net with each seed into ``out``/runs, or resume where that was stopped.

    What is finished is left alone. Raises what `train` raises; Stopped says that the same call
    resumes.
    """
    seeds = range(training.seed, training.seed + training.seeds)
    todo = [(spec, seed) for spec in specs for seed in seeds]
    length = next((s.partition("=")[2] for s in training.settings), str(PAPER_STEPS))
    folders = []
    for number, (spec, seed) in enumerate(todo, start=1):
        name = spec.name.replace("/", "_")
        folder = out / "runs" / f"{Path(training.data).name}-{name}-{length}" / f"seed-{seed}"
        folders.append(folder)
        report(f"{spec.name}, seed {seed}: run {number} of {len(todo)}, {folder}")
        if training.data == "digits":
            spec = replace(spec, stem="7x7", stem_pool="max", name=spec.name)
        try:
            run = train(
                training.data,
                model=spec,
                recipe=RECIPE,
                settings=[*training.settings, f"seed={seed}"],
                out=folder,
                resume="auto",
                root=training.root,
                machine=Machine(device=training.device, quiet=True, calibrate=None, false_alarms=0),
            )
        except Stopped as stopped:
            stopped.hint = "the same command resumes"
            raise
        if run.asked_to_stop is not None and number < len(todo):
            raise Stopped(
                f"stopped after {plural(number, 'run')} of {len(todo)}",
                hint="the same command resumes",
                exit_code=run.asked_to_stop,
            )
    return [read_run(folder) for folder in folders]


def read_runs(runs: Sequence[str | Path]) -> list[RunRecord]:
    """Read run folders, each once; a folder of several seeds stands for its runs."""
    paths = [path for run in runs for path in seeds_in(Path(run)) or [Path(run)]]
    return [read_run(path) for path in {path.resolve(): path for path in paths}.values()]


def called(
    runs: Sequence[RunRecord],
    names: Sequence[str],
    specs: Sequence[Spec],
    without: Collection[str] = (),
) -> list[str]:
    """Return what a page calls each run: the name of its model, which seeds of one training share.

    Models of one name that differ in spec, data or settings are told apart by their folders, but
    for the settings ``without``.
    """
    left_out = {*_APART, *without}
    trainings = [
        (
            name,
            spec,
            run.data.fingerprint,
            repr(sorted(each for each in run.settings.items() if each[0] not in left_out)),
        )
        for run, name, spec in zip(runs, names, specs, strict=True)
    ]
    first = dict(zip(trainings[::-1], runs[::-1], strict=True))  # of each the first run
    folders = dict(zip(first, distinct([run.path for run in first.values()]), strict=True))
    alike = Counter(name for name, *_ in first)
    return [
        name if alike[name] == 1 else printable(f"{name} {folders[training]}")
        for training, name in zip(trainings, names, strict=True)
    ]


def facts(run: RunRecord) -> dict[str, Any]:
    """Return what a page says of a run; weights that are not kept have no digest."""
    weights = RunFolder(run.path).weights
    return {
        "name": f"{run.model.name}, seed {run.seed}",
        "folder": printable(run.path),
        "recipe": run.recipe,
        "status": run.status,
        "weights_sha256": digest_of(weights) if weights.exists() else "",
    }


def data_facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what a page says of the data of runs."""
    return {
        "data": ", ".join(dict.fromkeys(printable(run.data.name) for run in runs)),
        "fingerprint": ", ".join(dict.fromkeys(run.data.fingerprint for run in runs)),
    }


def machines(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return the versions and machines that runs were made on, as far as all of them say."""
    known = ("resnets", "torch", "processor", "threads", "device", "precision")
    return {
        key: ", ".join(dict.fromkeys(str(run.environment[key]) for run in runs))
        for key in known
        if all(key in run.environment for run in runs)
    }


def cautions(runs: Sequence[RunRecord]) -> list[str]:
    """Say in what runs differ that are compared, apart from model and seed.

    Raises UsageError where their errors are not of one kind.
    """
    if len({run.data.several for run in runs}) > 1:
        raise UsageError(
            "errors of runs with one class an image and with several cannot be compared",
            hint="give runs of one kind",
        )
    told = []
    if len({run.data.fingerprint for run in runs}) > 1:
        told.append("The runs are of different data.")
    names = [each.name for each in differences(runs) if each.name not in _APART]
    if names:
        told.append(f"Their recipes differ in {', '.join(names)}.")
    unfinished = [run.path.name for run in runs if run.status != "finished"]
    if unfinished:
        told.append(f"Not finished: {', '.join(map(printable, unfinished))}.")
    return told
