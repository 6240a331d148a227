"""Stochastic depth: blocks that are dropped at random in training (Huang et al. 2016)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev

from resnets.errors import UsageError
from resnets.formatting import duration, percent, plural
from resnets.nn.places import places
from resnets.report.charts import lines_chart
from resnets.report.plots import Line
from resnets.run_folder.reading import RunRecord
from resnets.spec import Spec
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table
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

MODEL, SURVIVALS = "resnet20", (1.0, 0.8, 0.5)
PAPER = (
    Claim(
        "Nets whose blocks are dropped at random for a batch, the later ones more often, train in "
        "substantially less time and have lower test errors on almost all data sets; on CIFAR-10 "
        "even 1,202 layers still help (4.91 %).",
        "Huang et al. 2016, Deep networks with stochastic depth, abstract",
    ),
    Claim(
        "With survival falling linearly to one half, a quarter of the blocks is dropped on average "
        "and about a quarter of the training time saved.",
        "Huang et al. 2016, sec. 3",
    ),
)


@dataclass(frozen=True)
class Survival:
    """What came of a model with one survival probability of its last block, by seed."""

    model: str
    survival: float
    blocks: float  # the share of blocks that a sample passes through on average
    errors: list[float]  # on the test, else held-out split; fractions
    training: list[float]  # errors in the last epoch of training
    seconds: list[float]  # of training

    @property
    def error(self) -> float:
        """The mean error."""
        return fmean(self.errors)


def study(
    runs: Sequence[str | Path] = (),
    *,
    out: Path = Path("runs/study-depth"),
    training: Training | None = None,
    report: Callable[[str], None] = lambda line: None,
    model: str = MODEL,
    survivals: Sequence[float] = SURVIVALS,
) -> Study:
    """Compare runs of a model with several survival probabilities of its last block.

    Without ``runs`` the model is trained with each of ``survivals`` into ``out``/runs. Raises
    UsageError where there is nothing to compare, and what `read_run` and `train_small` raise.
    """
    training = training or Training()
    if runs:
        records = read_runs(runs)
        assumed = cautions(records)
    else:
        base = get_spec(model)
        specs = [_dropping(base, survival) for survival in dict.fromkeys(survivals)]
        if len(specs) < 2:
            raise UsageError(
                "one survival probability shows nothing", hint="--survival 1,0.8, or more of them"
            )
        records = train_small(specs, out, training, report)
        assumed = [training.sentence]
    measured = by_survival(records)
    if len({each.survival for each in measured}) < 2:
        raise UsageError(
            "one survival probability shows nothing",
            hint="give runs of a model with several, by --set drop_path=0.5 and drop_path=0",
        )
    return Study(
        name="depth",
        title="Training with blocks that are dropped at random",
        question="Does a net generalise better, and train in less time, when its later blocks are "
        "left out at random in training? The same net is trained with several probabilities that "
        "its last block survives; from 1 at the input it falls linearly to that.",
        figures=(_figure(measured),),
        found=tuple(found(measured)),
        paper=PAPER,
        numbers={"survivals": [vars(each) for each in measured]},
        tables=(_table(measured),),
        made_of=MadeOf(
            nets=tuple(map(facts, records)),
            data=data_facts(records),
            seed=training.seed,
            assumed=(
                *assumed,
                "A residual is dropped for each sample by itself and computed all the same, which "
                "keeps batch norm's batch whole: no time is saved here. Dropping a block for a "
                "whole batch, as the paper does, saves its share of the blocks.",
                "Times are those of the runs, on whatever else the machine did.",
            ),
            environment=machines(records),
        ),
    )


def _dropping(spec: Spec, survival: float) -> Spec:
    """Return a net whose last block survives with a probability. Raises UsageError."""
    if not 0 < survival <= 1:
        raise UsageError(
            f"a survival of {survival:g} is no probability above 0", hint="such as 1,0.8,0.5"
        )
    if spec.shortcut == "none":
        raise UsageError(
            f"{spec.name}: a plain net has nothing left where a block is dropped",
            hint="give a residual net, such as resnet20",
        )
    if survival == 1:
        return replace(spec, drop_path=0.0, name=spec.name)
    drop = round(1 - survival, 9)
    return replace(spec, drop_path=drop, name=f"{spec.name}-{survival:g}")


def by_survival(records: Sequence[RunRecord]) -> list[Survival]:
    """Return what came of each model and survival probability, surest first. Raises UsageError."""
    read = [read_spec(run.model.spec) for run in records]
    names = [spec.name.removesuffix(f"-{1 - spec.drop_path:g}") for spec in read]
    whole = [replace(spec, drop_path=0.0) for spec in read]
    groups: dict[tuple[str, Spec, float], list[RunRecord]] = {}
    for name, spec, run in zip(
        called(records, names, whole, ("drop_path",)), read, records, strict=True
    ):
        groups.setdefault((name, spec, 1 - spec.drop_path), []).append(run)
    measured = []
    for (name, spec, survival), group in groups.items():
        scores = [run.results.test or run.results.validation for run in group]
        errors = [1 - s.accuracy for s in scores if s is not None and s.accuracy is not None]
        trained = [run.epochs[-1].train_accuracy for run in group if run.epochs]
        if len(errors) < len(group):
            raise UsageError(
                f"{group[0].path}: has no test or held-out accuracy", hint="let it finish"
            )
        of_blocks = chain.from_iterable(places(spec))
        measured.append(
            Survival(
                model=name,
                survival=round(survival, 9),
                blocks=fmean(1 - place.drop_path for place in of_blocks),
                errors=errors,
                training=[1 - accuracy for accuracy in trained if accuracy is not None],
                seconds=[run.results.train.seconds or 0.0 for run in group],
            )
        )
    return sorted(measured, key=lambda each: (each.model, -each.survival))


def found(measured: Sequence[Survival]) -> list[str]:
    """Say of each survival probability what it does to error and time, beside the surest."""
    told = []
    for model in dict.fromkeys(each.model for each in measured):
        whole, *others = (each for each in measured if each.model == model)
        for each in others:
            points = 100 * (each.error - whole.error)
            told.append(
                f"{model}, survival {each.survival:g}: error {_percent(each.errors)} where "
                f"survival {whole.survival:g} has {_percent(whole.errors)} "
                f"({plural(len(each.errors), 'seed')}), {abs(points):.1f} points "
                f"{'lower' if points < 0 else 'higher'}: {_verdict(each.errors, whole.errors)}."
            )
            told.append(
                f"{model}, survival {each.survival:g}: a sample passes "
                f"{percent(each.blocks, 0)} of the blocks on average, so that "
                f"{percent(1 - each.blocks / whole.blocks, 0)} of their computing could be spared; "
                f"here it is done, and training took {duration(fmean(each.seconds))} against "
                f"{duration(fmean(whole.seconds))}."
            )
    return told


def _verdict(errors: Sequence[float], of_whole: Sequence[float]) -> str:
    if min(len(errors), len(of_whole)) < 2:
        return "one seed each cannot tell that from chance"
    if max(errors) < min(of_whole):
        return "as the paper found"
    if min(errors) > max(of_whole):
        return "contrary to what the paper found, in much longer training"
    return "no more than between seeds, which overlap"


def _percent(errors: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(errors):.2f}" if len(errors) > 1 else ""
    return f"{100 * fmean(errors):.2f}{spread} %"


def _figure(measured: Sequence[Survival]) -> Figure:
    models = list(dict.fromkeys(each.model for each in measured))

    def lines(across: Callable[[Survival], float]) -> list[Line]:
        drawn = []
        for number, model in enumerate(models):
            ours = [each for each in measured if each.model == model]
            prefix = f"{model} " if len(models) > 1 else ""
            for what, dash, errors in (("test", 0, "errors"), ("training", 1, "training")):
                seeds = [(across(each), getattr(each, errors)) for each in ours]
                points = [(place, 100 * fmean(values)) for place, values in seeds if values]
                if points:
                    drawn.append(Line(f"{prefix}{what}", sorted(points), number % 8, dash))
        return drawn

    plots = (
        lines_chart(
            "survival",
            "Error, %",
            lines(lambda each: each.survival),
            across="survival of the last block",
            up=(0, None),
            marked=True,
        ),
        lines_chart(
            "cost",
            "Error, %, over what has to be computed",
            lines(lambda each: 100 * each.blocks),
            across="blocks that a sample passes, %",
            up=(0, None),
            marked=True,
        ),
    )
    return Figure("Means of the seeds; dashed: in the last epoch of training.", plots)


def _table(measured: Sequence[Survival]) -> Table:
    return Table(
        ("model", "survival", "blocks", "seeds", "test error", "training error", "training took"),
        tuple(
            (
                each.model,
                f"{each.survival:g}",
                percent(each.blocks, 0),
                len(each.errors),
                _percent(each.errors),
                _percent(each.training) if each.training else None,
                duration(fmean(each.seconds)),
            )
            for each in measured
        ),
    )
