"""Gradients by depth, and along a line through input space, where they may shatter.

Balduzzi et al. 2017: the gradient of a deep plain net changes from one input to the next like white
noise, that of a shallow one like brown noise, and shortcuts keep it from shattering.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnets.errors import DataError, UsageError
from resnets.formatting import plural
from resnets.report.charts import lines_chart
from resnets.report.plots import Line
from resnets.studies.gradient_lines import NEAR, Curve, Measured, fresh, measure, noises
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table, colours
from resnets.studies.subjects import (
    Images,
    fresh_images,
    images_for,
    open_subjects,
    shown_facts,
    where_made,
)
from resnets.zoo import get_spec

DEPTHS = (8, 20, 56)
SCALE = 0.1  # of the residuals of one more net
FAR = 100  # times as large or small: a gradient that explodes or vanishes
NORM, BARE = "fresh, with batch norm", "fresh, without batch norm"
TRAINED, FRESH = "trained", "fresh weights"
PAPER = (
    Claim(
        "In plain nets with fresh weights the correlation between the gradients at two inputs "
        "decays exponentially with depth, so that they come to resemble white noise; with "
        "skip-connections and batch norm it decays sublinearly. Residuals times a small constant "
        "keep more of it.",
        "Balduzzi et al. 2017, The shattered gradients problem, abstract and sec. 3",
    ),
    Claim(
        "The degradation of plain nets is unlikely to be caused by vanishing gradients: they are "
        "trained with batch norm, and the gradients that go back have healthy norms.",
        "He et al. 2015, sec. 4.1",
    ),
)


def study(
    runs: Sequence[str | Path] = (),
    *,
    images: int = 64,
    data: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    draws: int = 4,
    points: int = 49,
    depths: Sequence[int] = DEPTHS,
) -> Study:
    """Measure the gradients of nets, and of the same nets with fresh weights.

    Without ``runs`` they are plain and residual nets of some ``depths`` with fresh weights, with
    and without batch norm, on digits unless ``data`` are named. ``draws`` pairs of images, and as
    many fresh nets, are averaged. Raises UsageError for fewer images than that takes, DataError
    where there are no more, and what `open_subjects` and `images_for` raise.
    """
    if images < 2 * draws:
        raise UsageError(
            f"{plural(draws, 'line')} between two images take {2 * draws} images, not {images}",
            hint=f"--images {2 * draws}, or fewer --draws",
        )
    seeds = range(seed, seed + draws)
    nets: list[Measured] = []
    shown: list[Images] = []
    if runs:
        subjects = open_subjects(runs, device)
        facts = tuple(subject.facts() for subject in subjects)
        for subject in subjects:
            seen = images_for(subject, images, data=data, root=root, seed=seed, parts=("train",))
            _check(seen, images)
            shown.append(seen)
            trained = [subject.network] * draws
            nets.append(measure(subject.name, TRAINED, trained, seen, points))
            spec = replace(subject.network.spec, drop_path=0.0, dropout=0.0)
            again = fresh(spec, seen.inputs, seeds)
            nets.append(measure(subject.name, FRESH, again, seen, points))
        network = subjects[0].network
    else:
        seen = fresh_images(data or "digits", images, root=root, seed=seed, device=device)
        _check(seen, images)
        shown.append(seen)
        specs = [get_spec(f"{kind}{depth}") for kind in ("plain", "resnet") for depth in depths]
        scaled = get_spec(f"resnet{max(depths)}")
        name = f"{scaled.name}, residuals x {SCALE:g}"
        specs.append(replace(scaled, residual_scale=SCALE, name=name))
        size = {"in_channels": seen.inputs.shape[1], "num_classes": seen.classes}
        for condition, norm in ((NORM, "batch"), (BARE, "frozen_batch")):
            for spec in specs:
                again = fresh(replace(spec, norm=norm, **size), seen.inputs, seeds)  # type: ignore[arg-type]
                nets.append(measure(spec.name, condition, again, seen, points))
        facts = ()
        network = again[0]
    reference = noises(points, seen.inputs[0].numel(), seed)
    return Study(
        name="gradients",
        title="What gradients look like, by depth and from one input to the next",
        question="Do gradients vanish on their way back through a deep net, or do they shatter: is "
        "the gradient at one input like that at the next? The gradient of one output is followed "
        "along straight lines between two images.",
        figures=(*_correlations(nets, reference), *_by_depth(nets), *_norms(nets)),
        found=tuple(found(nets)),
        paper=PAPER,
        numbers={
            "points": points,
            "draws": draws,
            "nets": [net.to_dict() for net in nets],
            "noises": reference,
        },
        tables=(_table(nets),),
        made_of=MadeOf(
            nets=facts,
            data={"nets": ", ".join(dict.fromkeys(net.name for net in nets)), **shown_facts(shown)},
            seed=seed,
            assumed=(
                "Along a line batch norm computes with fixed statistics: those that it keeps in a "
                "trained net, those of the images shown in a fresh one; without it, norms are the "
                "identity. The gradient's norms are in training mode, by the batch's statistics.",
                f"Each curve is the mean of {plural(draws, 'line')} of {points} places, and of as "
                f"many on its first {NEAR:g}; and of as many draws of fresh weights.",
                "A correlation is the mean cosine between gradients, with no mean subtracted: a "
                "linear net has 1 at any distance.",
            ),
            environment=where_made(network),
        ),
    )


def _check(seen: Images, asked: int) -> None:
    if len(seen.labels) < asked:
        raise DataError(
            f"{seen.data}: {plural(len(seen.labels), 'image')} where {asked} are to be shown",
            hint=f"--images {len(seen.labels)}",
        )


def found(nets: Sequence[Measured]) -> list[str]:
    """Say how far correlation goes, and which gradients vanish, in each condition."""
    told = []
    for condition in dict.fromkeys(net.condition for net in nets):
        ours = [net for net in nets if net.condition == condition]
        deepest = max(net.depth for net in ours)
        kinds = {
            "plain": [net for net in ours if net.plain],
            "residual": [net for net in ours if not net.plain and net.residual_scale == 1],
        }
        lead = condition[0].upper() + condition[1:]
        told += [
            _shattered(lead, plain, net)
            for plain in kinds["plain"]
            for net in kinds["residual"]
            if plain.depth == net.depth == deepest
        ]
        told += [_deeper(lead, kind, of) for kind, of in kinds.items() if len(of) > 1]
        told += [
            _scaled(lead, net, other)
            for net in ours
            for other in kinds["residual"]
            if net.residual_scale != 1 and net.depth == other.depth
        ]
        told.append(_vanishing(lead, [net for net in ours if net.depth == deepest]))
        if not kinds["plain"] or not kinds["residual"]:
            told += [f"{lead}: {net.name} loses half of it after {_way(net)}." for net in ours]
    return told


def _unseen(net: Measured) -> bool:
    """Whether half of the correlation is lost within the first step of the line."""
    return net.half <= net.correlation[1][0]


def _alike(one: Measured, other: Measured) -> str:
    """Say why the line does not tell two nets apart; empty where it does."""
    if _unseen(one) and _unseen(other):
        return "more --points would be needed to tell them apart"
    return "neither loses it between these images" if one.half >= 1 <= other.half else ""


def _way(net: Measured) -> str:
    if net.half >= 1:
        return "more than the whole line"
    least = "at most " if _unseen(net) else ""
    return f"{least}{net.half:.3g} of the line"


def _shattered(lead: str, plain: Measured, net: Measured) -> str:
    times = net.half / plain.half
    beside = "as the paper found", "contrary to what the paper found"
    if net.condition == TRAINED:  # the paper's nets are not
        beside = (
            "as the paper found of fresh weights",
            "unlike what the paper found of fresh weights",
        )
    verdict = _alike(plain, net) or (
        f"shortcuts keep it from shattering, {beside[0]}"
        if times > 1.05
        else f"shortcuts do not help here, {beside[1]}"
    )
    return (
        f"{lead}: the gradient of {plain.name} has lost half of its correlation after "
        f"{_way(plain)} between two images, that of {net.name} after {_way(net)}, {times:.1f} "
        f"times as far: {verdict}."
    )


def _deeper(lead: str, kind: str, nets: Sequence[Measured]) -> str:
    shallow = min(nets, key=lambda net: net.depth)
    deep = max(nets, key=lambda net: net.depth)
    change = deep.half / shallow.half
    how = "falls" if change < 0.95 else "rises" if change > 1.05 else "stays"
    return (
        f"{lead}, {kind} nets: from {shallow.depth} to {deep.depth} layers that distance {how}, "
        f"from {_way(shallow)} to {_way(deep)}."
    )


def _scaled(lead: str, net: Measured, whole: Measured) -> str:
    more = net.half > whole.half
    verdict = _alike(net, whole) or f"{'as' if more else 'contrary to what'} the paper found"
    return (
        f"{lead}: residuals times {net.residual_scale:g} {'raise' if more else 'do not raise'} it, "
        f"from {_way(whole)} to {_way(net)}, {verdict}."
    )


def _vanishing(lead: str, nets: Sequence[Measured]) -> str:
    def told(net: Measured) -> str:
        how = (
            "vanishes" if net.ratio < 1 / FAR else "explodes" if net.ratio > FAR else "does neither"
        )
        times = f"{net.ratio:,.0f}" if net.ratio >= 100 else f"{net.ratio:.2g}"
        return f"{times} times in {net.name} (it {how})"

    return (
        f"{lead}: does the loss's gradient vanish or explode on its way back from the last block "
        f"but one to the first? It becomes {', '.join(map(told, nets))}."
    )


def _lines(nets: Sequence[Measured], condition: str, what: Any) -> list[Line]:
    """Return a line for each net, a plain and a residual one of a depth in one colour."""
    shown = [net for net in nets if net.condition == condition]
    places = colours([((net.depth, net.residual_scale), net.plain) for net in shown])
    return [
        Line(net.name, what(net), place % 7, int(net.plain))
        for net, place in zip(shown, places, strict=True)
    ]


def _conditions(nets: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(net.condition for net in nets))


def _correlations(nets: Sequence[Measured], reference: Mapping[str, Curve]) -> list[Figure]:
    noise = [  # white in grey, brown in brown
        Line(name, [*curve], colour, 2)
        for (name, curve), colour in zip(reference.items(), (7, 5), strict=True)
    ]
    plots = tuple(
        lines_chart(
            f"correlation-{number}",
            f"Correlation, {condition}",
            [*_lines(nets, condition, lambda net: net.correlation), *noise],
            across="distance, as a share of the line",
        )
        for number, condition in enumerate(_conditions(nets))
    )
    caption = (
        "How alike the gradients at two inputs are that lie so far apart on a straight line "
        "between two images. Plain nets are dashed; dotted: noise without memory (white) and its "
        "running sum (brown)."
    )
    return [Figure(caption, plots)]


def _by_depth(nets: Sequence[Measured]) -> list[Figure]:
    """Draw over depth how far half of the correlation goes, where there are several depths."""
    lines = []
    for number, condition in enumerate(_conditions(nets)):
        for plain in (True, False):
            chosen = [
                (float(net.depth), net.half)
                for net in nets
                if (net.condition, net.plain, net.residual_scale) == (condition, plain, 1)
            ]
            if len({depth for depth, _ in chosen}) > 1:
                kind = "plain" if plain else "residual"
                lines.append(Line(f"{kind} {condition}", sorted(chosen), number, int(plain)))
    if not lines:
        return []
    plot = lines_chart(
        "half",
        "Half of the correlation is lost after",
        lines,
        across="layers",
        logarithmic=True,
        marked=True,
    )
    return [Figure("As a share of the line between two images, by depth.", (plot,))]


def _norms(nets: Sequence[Measured]) -> list[Figure]:
    def curve(net: Measured) -> list[tuple[float, float]]:
        values = list(net.outputs.values())
        return [(i / len(values), value) for i, value in enumerate(values, start=1)]

    plots = tuple(
        lines_chart(
            f"norms-{number}",
            f"Norm of the gradient, {condition}",
            _lines(nets, condition, curve),
            across="depth, as a share of the blocks",
            logarithmic=True,
        )
        for number, condition in enumerate(_conditions(nets))
    )
    caption = (
        "Of the loss, over each block's output, on a logarithmic scale; plain nets are dashed."
    )
    return [Figure(caption, plots)]


def _table(nets: Sequence[Measured]) -> Table:
    return Table(
        ("net", "", "half lost after", "correlation at 1/10", "first / last norm"),
        tuple(
            (
                net.name,
                net.condition,
                net.half,
                next(value for distance, value in net.correlation if distance >= 0.1),
                net.ratio,
            )
            for net in nets
        ),
        "Correlation of gradients along a line, and their norms",
    )
