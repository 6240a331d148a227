"""Degradation: with more layers a plain net gets worse even at what it is trained on.

He et al. 2015, Fig. 1 and 6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev

from resnets.errors import UsageError
from resnets.formatting import plural
from resnets.report.charts import lines_chart
from resnets.report.plots import Line, Plot
from resnets.run_folder.reading import RunRecord
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table, colours
from resnets.studies.trained_runs import (
    Training,
    called,
    cautions,
    data_facts,
    facts,
    machines,
    read_runs,
    train_small,
)
from resnets.weights.stated_spec import read_spec
from resnets.zoo import get_spec

MODELS = ("plain20", "plain56", "resnet20", "resnet56")
PAPER = (
    Claim(
        "On CIFAR-10 a plain net of 56 layers has a higher training error, and thus a higher test "
        "error, than one of 20: not overfitting, but an optimisation that fails with depth.",
        "He et al. 2015, Fig. 1",
    ),
    Claim(
        "Residual nets of 20, 32, 44, 56 and 110 layers have the lower errors the deeper they are.",
        "He et al. 2015, Fig. 6 and Table 6",
    ),
)
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curves:
    """What came of one model, its seeds averaged; errors are fractions by iteration."""

    model: str
    plain: bool
    depth: int
    training: Points
    held_out: Points
    finals: list[float]  # the training error of each seed in the last epoch
    test: list[float]  # the test, else held-out, error of each seed

    @property
    def final(self) -> float:
        """The mean training error in the last epoch."""
        return fmean(self.finals)


def study(
    runs: Sequence[str | Path] = (),
    *,
    out: Path = Path("runs/study-degradation"),
    training: Training | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Study:
    """Compare the errors of plain and residual runs by iteration.

    Without ``runs`` MODELS are trained into ``out``/runs as ``training`` says. Raises UsageError
    for one run alone, and what `read_run` and `train_small` raise.
    """
    training = training or Training()
    if runs:
        records = read_runs(runs)
        assumed = cautions(records)
    else:
        records = train_small([get_spec(name) for name in MODELS], out, training, report)
        assumed = [training.sentence]
    nets = curves(records)
    if len(nets) < 2:
        raise UsageError(
            "one model shows nothing of depth",
            hint="give runs of nets of two depths, such as plain20 and plain56",
        )
    return Study(
        name="degradation",
        title="What more layers do to plain nets, and to residual ones",
        question="Does a deeper net learn its training images better, as it could, since it can do "
        "all that a shallower one does? The errors on training and held-out images are followed "
        "through training, without shortcuts and with them.",
        figures=(_figure(nets),),
        found=tuple(found(nets)),
        paper=PAPER,
        numbers={"models": [vars(net) for net in nets]},
        tables=(_table(nets),),
        made_of=MadeOf(
            nets=tuple(map(facts, records)),
            data=data_facts(records),
            seed=training.seed,
            assumed=(
                *assumed,
                "A training error is the mean over an epoch's batches while the net still learns; "
                "there is one point an epoch.",
            ),
            environment=machines(records),
        ),
    )


def curves(records: Sequence[RunRecord]) -> list[Curves]:
    """Return the curves of each model, plain ones first, by depth. Raises UsageError without any.

    Of seeds that were measured at different iterations those count that all of them have.
    """
    read = [read_spec(run.model.spec) for run in records]
    names = called(records, [run.model.name for run in records], read)
    specs = dict(zip(names, read, strict=True))
    groups: dict[str, list[RunRecord]] = {}
    for name, run in zip(names, records, strict=True):
        groups.setdefault(name, []).append(run)
    found = []
    for name, group in groups.items():
        training = _averaged([_errors(run, "train_accuracy") for run in group])
        if not training:
            raise UsageError(
                f"{group[0].path}: has no finished epoch, so there is no curve",
                hint="leave it out, or let it run on",
            )
        finals = [_errors(run, "train_accuracy")[-1][1] for run in group]
        test = [
            1 - score.accuracy
            for run in group
            if (score := run.results.test or run.results.validation) and score.accuracy is not None
        ]
        held_out = _averaged([_errors(run, "validation_accuracy") for run in group])
        spec = specs[name]
        plain = spec.shortcut == "none"
        found.append(Curves(name, plain, spec.depth, training, held_out, finals, test))
    return sorted(found, key=lambda net: (not net.plain, net.depth))


def _errors(run: RunRecord, what: str) -> Points:
    values = ((epoch.step, getattr(epoch, what)) for epoch in run.epochs)
    return [(float(step), 1 - value) for step, value in values if value is not None]


def _averaged(seeds: Sequence[Points]) -> Points:
    common = set.intersection(*({step for step, _ in points} for points in seeds))
    rows = [[(step, value) for step, value in points if step in common] for points in seeds]
    return [(each[0][0], fmean(value for _, value in each)) for each in zip(*rows, strict=True)]


def found(nets: Sequence[Curves]) -> list[str]:
    """Say what depth does to plain nets and to residual ones, and what shortcuts do at a depth."""
    told = []
    for plain in (True, False):
        kind = [net for net in nets if net.plain == plain]
        told += [_deeper(*pair) for pair in pairwise(kind) if pair[0].depth < pair[1].depth]
    residual = [net for net in nets if not net.plain]
    for net in nets:
        told += [
            _beside(net, other) for other in residual if net.plain and net.depth == other.depth
        ]
    return told


def _deeper(shallow: Curves, deep: Curves) -> str:
    worse = deep.final > shallow.final
    seeds = _agreement(deep.finals, shallow.finals)
    told = (
        f"{deep.model} has a training error {abs(100 * (deep.final - shallow.final)):.1f} points "
        f"{'higher' if worse else 'lower'} than {shallow.model}, {_percent(deep.finals)} against "
        f"{_percent(shallow.finals)}{seeds}: "
    )
    if deep.plain:
        return told + (
            "more layers make a plain net worse at what it is trained on, the degradation that the "
            "paper found."
            if worse
            else "no degradation here, contrary to what the paper found."
        )
    return told + (
        "with shortcuts, too, depth costs here; the paper found the contrary, in longer training."
        if worse
        else "with shortcuts depth helps, as the paper found."
    )


def _beside(plain: Curves, residual: Curves) -> str:
    points = 100 * (plain.final - residual.final)
    less = "less" if points >= 0 else "more"
    return (
        f"With {plain.depth} layers, shortcuts make {abs(points):.1f} points of training error "
        f"{less}: {residual.model} {_percent(residual.finals)}, {plain.model} "
        f"{_percent(plain.finals)}{_agreement(plain.finals, residual.finals)}."
    )


def _agreement(one: Sequence[float], other: Sequence[float]) -> str:
    """Say whether all seeds of one model lie on the same side of all seeds of another."""
    if min(len(one), len(other)) < 2:
        return " (one seed)"
    apart = min(one) > max(other) or min(other) > max(one)
    return f" ({plural(min(len(one), len(other)), 'seed')}, " + (
        "all of them so)" if apart else "which overlap)"
    )


def _percent(errors: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(errors):.1f}" if len(errors) > 1 else ""
    return f"{100 * fmean(errors):.1f}{spread} %" if errors else "–"


def _figure(nets: Sequence[Curves]) -> Figure:
    top = 100 * max(error for net in nets for _, error in (*net.training, *net.held_out))
    coloured = list(zip(nets, colours([(net.depth, net.plain) for net in nets]), strict=True))
    plots = []
    for plain, title in ((True, "Plain nets"), (False, "Residual nets")):
        lines = []
        for net, colour in coloured:
            if net.plain != plain:
                continue
            for what, points, dash in (
                ("training", net.training, 1),
                ("held out", net.held_out, 0),
            ):
                percent = [(step, 100 * error) for step, error in points]
                if percent:
                    lines.append(Line(f"{net.model} {what}", percent, colour % 8, dash))
        if lines:
            plots.append(_plot(title, lines, top))
    return Figure(
        "Means of the seeds. Dashed: on training images, augmented, as the net learns; solid: on "
        "held-out images.",
        tuple(plots),
    )


def _plot(title: str, lines: list[Line], top: float) -> Plot:
    return lines_chart(
        title.replace(" ", "-").lower(),
        f"{title}, error in %",
        lines,
        across="iteration",
        begin=0,
        up=(0, min(100, 1.05 * top)),
        marked=max(len(line.points) for line in lines) <= 12,
    )


def _table(nets: Sequence[Curves]) -> Table:
    return Table(
        ("model", "seeds", "training error", "held-out error", "test error"),
        tuple(
            (
                net.model,
                len(net.finals),
                _percent(net.finals),
                f"{100 * net.held_out[-1][1]:.1f} %" if net.held_out else None,
                _percent(net.test),
            )
            for net in nets
        ),
        "After the last epoch, mean ± standard deviation of the seeds",
    )
