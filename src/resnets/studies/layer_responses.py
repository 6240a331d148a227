"""How strong the layers' responses are (He et al. 2015, Fig. 7): residual functions near zero."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from resnets.analysis.responses import layer_responses
from resnets.report.charts import lines_chart
from resnets.report.plots import Line
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table
from resnets.studies.subjects import Subject, images_for, open_subjects, shown_facts, where_made

SMALL = 64  # pixels a side, up to which a thousand images are computed at once
PAPER = (
    Claim(
        "The standard deviations of layer responses show that ResNets have generally smaller "
        "responses than their plain counterparts, and that deeper ResNets have smaller ones: with "
        "more layers, an individual layer modifies the signal less.",
        "He et al. 2015, sec. 4.2 and Fig. 7 (20 and 56 plain, 20, 56 and 110 residual layers, "
        "CIFAR-10)",
    ),
)


def study(
    runs: Sequence[str | Path],
    *,
    images: int | None = None,
    data: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Study:
    """Measure each 3x3 layer's response in some nets, on images of their own data.

    They are 1,024 where no number is given, of large images 64, since all are shown at once.
    Raises what `open_subjects` and `images_for` raise.
    """
    nets: list[dict[str, Any]] = []
    shown = []
    subjects = open_subjects(runs, device)
    groups = _groups(subjects)
    for subject in subjects:
        spec = subject.network.spec
        count = images or (1024 if spec.image_size <= SMALL else 64)
        seen = images_for(subject, count, data=data, root=root, seed=seed)
        measured = layer_responses(subject.network, seen.inputs)
        shown.append(seen)
        responses = {each.name: each.value for each in measured}
        nets.append(
            {
                "name": subject.name,
                "model": groups[subject.name],
                "plain": spec.shortcut == "none",
                "depth": spec.depth,
                "normed": spec.activation_order not in ("preactivation", "bn_after_addition"),
                "mean": fmean(responses.values()),
                "layers": responses,
            }
        )
    return Study(
        name="responses",
        title="How much each layer changes the signal",
        question="Are the functions that residual blocks learn small, and smaller the deeper the "
        "net? The standard deviation of each 3x3 layer's response, after batch norm and before "
        "activation and addition, tells.",
        figures=(_figure(nets),),
        found=tuple(found(nets)),
        paper=PAPER,
        numbers={"nets": nets},
        tables=(_table(nets),),
        made_of=MadeOf(
            nets=tuple(subject.facts() for subject in subjects),
            data=shown_facts(shown),
            seed=seed,
            assumed=(
                "Batch norm computes with its running statistics, as in evaluation. Its scale is 1 "
                "before training: a response near 1 is one that training has changed little.",
                "Some images have responses several times those of most: of too few images a "
                "deviation is a matter of chance.",
                "Where no batch norm follows a convolution before the addition (pre-activation, "
                "and batch norm after it), the response is the convolution's own, whose scale no "
                "norm has set, and is not compared with others.",
            ),
            environment=where_made(subjects[0].network),
        ),
    )


def _groups(subjects: Sequence[Subject]) -> dict[str, str]:
    """Return by net what counts as one model: seeds of one recipe do, other trainings do not."""
    recipes: dict[str, list[Any]] = {}
    for subject in subjects:
        recipe = {**subject.metadata.made.get("recipe", {}), "seed": 0}
        recipes.setdefault(subject.network.spec.name, []).append(recipe)
    alike = {model: all(one == own[0] for one in own) for model, own in recipes.items()}
    models = {subject.name: subject.network.spec.name for subject in subjects}
    return {name: model if alike[model] else name for name, model in models.items()}


def found(nets: Sequence[dict[str, Any]]) -> list[str]:
    """Say how the mean responses of models stand to one another, over all seeds of each."""
    models = {net["model"]: net for net in nets}
    means = {name: fmean(net["mean"] for net in nets if net["model"] == name) for name in models}
    listed = ", ".join(f"{name} {mean:#.3g}" for name, mean in means.items())
    told = [f"Mean response over the layers: {listed}."]
    residual = sorted(
        (net["depth"], name) for name, net in models.items() if net["normed"] and not net["plain"]
    )
    for depth, name in residual:
        told += [
            _compared(name, other, means, "which has as many layers and no shortcuts")
            for other, net in models.items()
            if net["plain"] and net["depth"] == depth
        ]
    told += [
        _compared(deep, shallow, means, "which is shallower")
        for (few, shallow), (many, deep) in pairwise(residual)
        if few < many
    ]
    return told


def _compared(name: str, other: str, means: Mapping[str, float], which: str) -> str:
    ratio = means[name] / means[other]
    if abs(ratio - 1) < 0.005:
        return f"{name} has responses as large as {other}, {which}."
    side = "smaller" if ratio < 1 else "larger"
    beside = "as the paper found" if ratio < 1 else "contrary to what the paper found"
    return (
        f"{name} has {side} responses than {other}, {which}: {ratio:.2f} times as large on "
        f"average, {beside}."
    )


def _figure(nets: Sequence[dict[str, Any]]) -> Figure:
    def lines(ordered: bool) -> list[Line]:
        drawn = []
        for number, net in enumerate(nets):
            values = list(net["layers"].values())
            values = sorted(values, reverse=True) if ordered else values
            points = [(float(i), value) for i, value in enumerate(values, start=1)]
            drawn.append(Line(net["name"], points, number % 8, 1 if net["plain"] else 0))
        return drawn

    return Figure(
        "The layers in their order, and the same values sorted by size; plain nets are "
        "dashed. The paper's Fig. 7 draws both.",
        tuple(
            lines_chart(name, title, lines(ordered), across="layer, by " + how, up=(0, None))
            for name, title, how, ordered in (
                ("responses", "Standard deviation, original order", "depth", False),
                ("responses-sorted", "Sorted by size", "size", True),
            )
        ),
    )


def _table(nets: Sequence[dict[str, Any]]) -> Table:
    return Table(
        ("net", "layers", "mean", "largest", "smallest"),
        tuple(
            (
                net["name"],
                len(net["layers"]),
                net["mean"],
                max(net["layers"].values()),
                min(net["layers"].values()),
            )
            for net in nets
        ),
        "Standard deviations of responses",
    )
