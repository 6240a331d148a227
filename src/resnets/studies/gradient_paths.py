"""Which paths through a net carry its gradient, by their length (Veit et al. 2016, sec. 5)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resnets.errors import UsageError
from resnets.formatting import percent, plural
from resnets.report.charts import lines_chart
from resnets.report.plots import Line, Plot
from resnets.studies.path_lengths import MASS, Measured, measure
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table
from resnets.studies.subjects import (
    counting,
    images_for,
    open_subjects,
    shown_facts,
    where_made,
)

PAPER = (
    Claim(
        "Of the 2^54 paths through a ResNet of 54 blocks most are about half as long, but what a "
        "path carries of the gradient falls off exponentially with its length: almost all of the "
        "gradient comes by paths through 5 to 17 blocks, which are 0.45 % of all.",
        "Veit et al. 2016, sec. 5 and Fig. 6 (a ResNet of 110 layers, CIFAR-10)",
    ),
)
BATCH = 16  # images at a time, whose whole pass is kept to be gone back through


def study(
    runs: Sequence[str | Path],
    *,
    images: int = 128,
    draws: int = 10,
    data: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Measure what paths of each length carry of the gradient at training images of some nets.

    ``draws`` paths of each length are drawn for every 16 images. Raises UsageError for a net
    without shortcuts, which has one path, and what `open_subjects` and `images_for` raise.
    """
    subjects, nets = open_subjects(runs, device), []
    for subject in subjects:
        if subject.network.spec.shortcut == "none":
            raise UsageError(
                f"{subject.name}: has no shortcuts, and so one path", hint="give residual nets"
            )
    seen = [
        images_for(each, images, data=data, root=root, seed=seed, parts=("train",))
        for each in subjects
    ]
    count = counting(seen, on_progress)
    for subject, shown in zip(subjects, seen, strict=True):
        batches = zip(shown.inputs.split(BATCH), shown.labels.split(BATCH), strict=True)  # type: ignore[no-untyped-call]
        measured = measure(subject.network, batches, draws, seed, count)
        nets.append(_plain({"name": subject.name, "model": subject.network.spec.name}, measured))
    return Study(
        name="paths",
        title="Which paths through a net carry its gradient",
        question="A net of n residual blocks is the sum of 2^n paths, each through the branch or "
        "the shortcut of every block. How long are those by which the gradient comes back to the "
        "image?",
        figures=_figures(nets),
        found=tuple(line for net in nets for line in found(net)),
        paper=PAPER,
        numbers={"draws": draws, "mass": MASS, "nets": nets},
        tables=(_summary(nets), *(_by_length(net) for net in nets)),
        made_of=MadeOf(
            nets=tuple(subject.facts() for subject in subjects),
            data=shown_facts(seen),
            seed=seed,
            assumed=(
                "The whole net computes the image forward, with the running statistics of batch "
                "norm; backward the gradient goes by the path alone. Activations after additions "
                "belong to every path.",
                "A path's gradient is measured at the image, as the Euclidean norm of the "
                "gradient of its cross-entropy; a length's contribution is the mean over the drawn "
                "paths times how many there are, as in the paper. That is as if all of a length "
                "pulled the same way.",
                "What all paths of a length come to together is computed exactly, without drawing: "
                "its share is along the whole gradient, so that shares add up to 1, and one below "
                "0 works against the others.",
            ),
            environment=where_made(subjects[0].network),
        ),
    )


def _plain(net: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """Return what was measured and what follows, as plain data."""
    first, last = measured.effective()
    n = len(measured.paths) - 1
    longest, shortest = measured.magnitude[n], measured.magnitude[0]
    return {
        **net,
        "blocks": n,
        "paths": list(measured.paths),
        "magnitude": list(measured.magnitude),
        "together": list(measured.together),
        "contribution": measured.contribution,
        "share": measured.share,
        "effective": [first, last],
        "effective_paths": measured.part_of_paths(first, last),
        "agreement": measured.agreement(first, last),
        "fall": float((longest / shortest) ** (1 / n)) if shortest else 0.0,
    }


def found(net: dict[str, Any]) -> list[str]:
    """Say which lengths carry a net's gradient, and what they come to without the others."""
    name, n, (first, last) = net["name"], net["blocks"], net["effective"]
    mean = sum(k * share for k, share in enumerate(net["contribution"]))
    shorter = mean < n / 2
    beside = "less, as the paper found" if shorter else "no less, unlike in the paper"
    return [
        f"{name}: {plural(n, 'block')} make{'s' * (n == 1)} {_paths(n)} paths, on average through "
        f"{n / 2:g} branches.",
        f"{name}: one more branch multiplies what a path carries by {net['fall']:.2f}. Weighted by "
        f"what they contribute, paths go through {mean:.1f} branches on average: {beside}.",
        f"{name}: {percent(MASS, 0)} of the contribution comes by paths of {first} to {last} "
        f"branches, {percent(net['effective_paths'], 2)} of all paths. The gradient that they make "
        f"without the others has a cosine of {net['agreement']:.3f} with the whole one.",
    ]


def _paths(blocks: int) -> str:
    return f"{2**blocks:,}" if blocks <= 30 else f"2^{blocks}"


def _figures(nets: Sequence[dict[str, Any]]) -> tuple[Figure, ...]:
    def chart(name: str, title: str, key: str, *, logarithmic: bool = False) -> Plot:
        lines = []
        for number, net in enumerate(nets):
            values = net[key]
            if key == "paths":
                values = [100 * paths / sum(values) for paths in values]
            elif not logarithmic:
                values = [100 * share for share in values]
            points = [(float(length), value) for length, value in enumerate(values)]
            lines.append(Line(net["name"], points, number % 8, 0))
        across = "branches on the path"
        return lines_chart(name, title, lines, across=across, logarithmic=logarithmic, marked=True)

    return (
        Figure(
            "By the number of branches on a path, its length: how many paths there are, and what "
            "one of them carries, on a logarithmic scale.",
            (
                chart("paths-count", "Paths of this length, %", "paths"),
                chart("paths-magnitude", "Gradient by one path", "magnitude", logarithmic=True),
            ),
        ),
        Figure(
            "The product of both, as shares of their sum (the paper’s Fig. 6), and what all paths "
            "of a length come to together, along the whole gradient.",
            (
                chart("paths-contribution", "Contribution, %", "contribution"),
                chart("paths-share", "Share along the whole gradient, %", "share"),
            ),
        ),
    )


def _summary(nets: Sequence[dict[str, Any]]) -> Table:
    heading = ("net", "blocks", "paths", "effective from", "to", "% of paths", "cosine", "factor")
    rows = tuple(
        (
            net["name"],
            net["blocks"],
            f"2^{net['blocks']}",
            *net["effective"],
            100 * net["effective_paths"],
            net["agreement"],
            net["fall"],
        )
        for net in nets
    )
    return Table(heading, rows, "Effective paths, and the factor by which one more branch counts")


def _by_length(net: dict[str, Any]) -> Table:
    heading = ("branches", "paths", "one path", "together", "contribution, %", "share, %")
    rows = tuple(
        (str(k), float(paths), one, together, 100 * contribution, 100 * share)
        for k, (paths, one, together, contribution, share) in enumerate(
            zip(
                *(net[key] for key in ("paths", "magnitude", "together", "contribution", "share")),
                strict=True,
            )
        )
    )
    return Table(heading, rows, f"{net['name']}, by the number of branches on a path")
