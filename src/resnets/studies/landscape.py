"""What the loss is like around trained nets, with and without shortcuts (Li et al. 2018)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.errors import Stopped, UsageError, check_name
from resnets.files import alone
from resnets.formatting import percent
from resnets.report.charts import lines_chart
from resnets.report.plots import Line
from resnets.report.surfaces import Scale, contours, perspective
from resnets.studies.loss_surface import Kept, Point, Surface, grid, shape
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table
from resnets.studies.subjects import (
    Images,
    Subject,
    beside_plain,
    images_for,
    open_subjects,
    shown_facts,
    where_made,
)
from resnets.studies.trained_runs import Training, train_small
from resnets.training.signals import StopRequest
from resnets.zoo import get_spec

PAPER = (
    Claim(
        "As nets without shortcuts get deeper, their loss surfaces turn from nearly convex (20 "
        "layers) to chaotic (56 and 110): steep, and not convex in large parts. Those with "
        "shortcuts stay smooth and nearly convex around what was trained, however deep.",
        "Li et al. 2018, sec. 5, Figs. 1 and 5 (CIFAR-10)",
    ),
)
NORMS = {
    "running": "Batch norm computes with the running statistics of the run at every point, as in "
    "the paper; in the middle the loss is the run's own, to the bit.",
    "precise": "Batch norm's statistics are measured anew at every point, over the same images.",
}
IGNORED = {
    "biasbn": "Biases and batch norms stay as they are, as in the commands that the paper's code "
    "comes with.",
    "nothing": "Biases and batch norms move along themselves, as the paper's code has it where it "
    "does not ignore them.",
}
SMALL = ("resnet20", "plain20")
MOST = 100  # lengths of a filter, beyond which losses soon are no numbers
_TOP = 10  # times the loss of guessing, where colours end


def study(
    runs: Sequence[str | Path] = (),
    *,
    out: Path = Path("runs/study-landscape"),
    images: int = 1024,
    steps: int = 21,
    span: float = 1.0,
    line: bool = False,
    ignore: str = "biasbn",
    batch_norm: str = "running",
    data: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Measure the loss on training images with weights moved along two random directions.

    Each filter moves by up to ``span`` times its own length; there are ``steps`` x ``steps``
    points, or with ``line`` ``steps`` along the first direction. Points are kept in ``out`` as they
    are computed: the same call resumes, to the same bits. ``ignore`` is one of IGNORED,
    ``batch_norm`` one of NORMS; ``on_progress`` is told of images, each counted at every point.
    Without ``runs`` SMALL are trained into ``out``/runs, on ``data`` or digits.

    Raises UsageError for what cannot be meant, Stopped on SIGTERM or Ctrl-C, ResourceError where
    another process writes ``out``, and what `open_subjects`, `images_for` and `train_small` raise.
    """
    check_name("ignore", ignore, tuple(IGNORED))
    check_name("batch_norm", batch_norm, tuple(NORMS))
    if steps < 5 or steps % 2 == 0:
        raise UsageError(
            f"steps is {steps}: the net itself stands in the middle of an odd number, 5 or more",
            hint=f"--steps {max(5, steps + 1)}",
        )
    if not 0 < span <= MOST:
        raise UsageError(f"a span of {span:g} is none", hint=f"--span 1, or another up to {MOST}")
    trained: list[str] = []
    if not runs:
        training = Training(str(data or "digits"), root, seeds=1, seed=seed, device=device)
        specs = [get_spec(name) for name in SMALL]
        runs = [run.path for run in train_small(specs, out, training, report)]
        trained = [training.sentence]
    subjects, points = open_subjects(runs, device), grid(steps, span, line=line)
    seen = [
        images_for(each, images, data=data, root=root, seed=seed, parts=("train",))
        for each in subjects
    ]
    computes = {"ignore": ignore, "batch_norm": batch_norm, "seed": seed}
    nets, done = [], 0
    total = len(points) * sum(len(each.labels) for each in seen)
    with alone(out / "points"), StopRequest() as stop:
        for subject, shown in zip(subjects, seen, strict=True):

            def count(computed: int, before: int = done, each: int = len(shown.labels)) -> None:
                on_progress(before + computed * each, total)
                if stop.requested:
                    raise Stopped(
                        "stopped: the points that are computed are kept",
                        hint="the same command resumes",
                        exit_code=stop.exit_code,
                    )

            losses = _losses(subject, shown, points, out, computes, count)
            done += len(points) * len(shown.labels)
            nets.append(_net(subject, losses, steps, span))
    return Study(
        name="landscape",
        title="The loss around trained nets",
        question="How does the loss rise when a net's weights are moved: in a smooth bowl, or "
        "over ridges? Every filter moves along two random directions of its own length, so that "
        "nets of any scale can be compared.",
        figures=_line_figures(nets, span) if line else _figures(nets, span),
        found=tuple(found(nets)),
        paper=PAPER,
        numbers={"span": span, "steps": steps, **computes, "nets": nets},
        tables=(_table(nets),),
        made_of=MadeOf(
            nets=tuple(subject.facts() for subject in subjects),
            data=shown_facts(seen),
            seed=seed,
            assumed=(
                *trained,
                "Directions are normal random numbers, scaled filter by filter, and row by row in "
                "the classifier, to the norm of the net's own; nets of equal shapes are given the "
                "same ones.",
                IGNORED[ignore],
                NORMS[batch_norm],
                "Images are shown as in evaluation, without augmentation.",
            ),
            environment=where_made(subjects[0].network),
        ),
    )


def _losses(
    subject: Subject,
    shown: Images,
    points: Sequence[Point],
    out: Path,
    computes: dict[str, Any],
    on_progress: Callable[[int], None],
) -> list[float | None]:
    """Return a net's loss at each point, of which those that ``out`` has are not computed again."""
    own = hashlib.sha256(shown.inputs.contiguous().cpu().numpy().tobytes())
    own.update(shown.labels.cpu().numpy().tobytes())
    identity = {
        "spec": subject.network.spec.to_dict(),
        "weights_sha256": subject.sha256,
        "images_sha256": own.hexdigest(),
        **computes,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": str(shown.inputs.device.type),
    }
    surface = Surface(
        subject.network,
        shown.inputs,
        shown.labels,
        computes["seed"],
        ignore=computes["ignore"],
        norms=computes["batch_norm"],
    )
    return Kept(out, identity).losses(points, surface.at, on_progress)


def _net(
    subject: Subject, losses: Sequence[float | None], steps: int, span: float
) -> dict[str, Any]:
    spec = subject.network.spec
    surface = _array(losses).reshape(-1, steps)
    return {
        "name": subject.name,
        "model": spec.name,
        "plain": spec.shortcut == "none",
        "depth": spec.depth,
        "guessing": log(spec.num_classes),
        **asdict(shape(surface, span, spec.num_classes)),
        "losses": [[*losses[row : row + steps]] for row in range(0, len(losses), steps)],
    }


def _array(losses: Sequence[Any]) -> NDArray[np.float64]:
    """Return losses, of which None is NaN."""
    return np.array(losses, dtype=np.float64)


def found(nets: Sequence[dict[str, Any]]) -> list[str]:
    """Say what each surface is like, and residual nets beside plain ones as deep."""
    told = [
        f"{net['name']}: a loss of {net['centre']:.2f} in the middle, less than that of guessing "
        f"({net['guessing']:.3g}) at {percent(net['below_guessing'])} of the points; the surface "
        f"bends upward in every direction at {percent(net['convex'])} of the inner ones."
        for net in nets
    ]
    return told + [_compared(*pair) for pair in beside_plain(nets)]


def _compared(net: dict[str, Any], plain: dict[str, Any]) -> str:
    smoother = net["convex"] > plain["convex"]
    verdict = (
        "smoother with shortcuts, as the paper found"
        if smoother
        else "no smoother with shortcuts, contrary to what the paper found"
        if net["depth"] > 20
        else "no smoother with shortcuts, where the paper found little difference"
    )
    return (
        f"Of {net['depth']} layers, with shortcuts ({net['name']}) {percent(net['convex'])} of the "
        f"square bends upward in every direction, and without ({plain['name']}) "
        f"{percent(plain['convex'])}: {verdict} (of 20 layers less than of 56)."
    )


def _figures(nets: Sequence[dict[str, Any]], span: float) -> tuple[Figure, ...]:
    surfaces = [_array(net["losses"]) for net in nets]
    scale = Scale(surfaces, _TOP * max(net["guessing"] for net in nets))
    named = [*enumerate(zip([net["name"] for net in nets], surfaces, strict=True))]
    return (
        Figure(
            "The loss from above, the trained net in the middle (+). Levels and colours are the "
            "same for all nets, in equal steps of the logarithm; what is higher than the scale has "
            "its last colour. One unit moves every filter by its own length.",
            tuple(contours(f"above-{i}", name, s, span, scale) for i, (name, s) in named),
        ),
        Figure(
            "The same in perspective, the height being the logarithm of the loss.",
            tuple(perspective(f"side-{i}", name, s, span, scale) for i, (name, s) in named),
        ),
    )


def _line_figures(nets: Sequence[dict[str, Any]], span: float) -> tuple[Figure, ...]:
    lines = []
    for number, net in enumerate(nets):
        (row,) = net["losses"]
        along = np.linspace(-span, span, len(row)).tolist()
        points = [(x, loss) for x, loss in zip(along, row, strict=True) if loss is not None]
        lines.append(Line(net["name"], points, number % 8, 1 if net["plain"] else 0))
    chart = lines_chart(
        "landscape-line", "Loss", lines, across="along the direction", logarithmic=True
    )
    return (
        Figure(
            "The loss along one random direction, the trained net at 0, on a logarithmic scale. "
            "One unit moves every filter by its own length. Plain nets are dashed.",
            (chart,),
        ),
    )


def _table(nets: Sequence[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            net["name"],
            net["centre"],
            net["highest"],
            100 * net["below_guessing"],
            100 * net["convex"],
            net["curvature"],
        )
        for net in nets
    )
    heading = ("net", "loss", "highest", "below guessing, %", "convex, %", "curvature")
    return Table(
        heading, rows, "Shares of the points; curvature: the second derivative in the middle"
    )
