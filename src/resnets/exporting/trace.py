"""A network as one program of torch: folded, with what its input needs before it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.export import Dim, ExportedProgram

from resnets.errors import ExportError
from resnets.exporting.answers import Answering
from resnets.exporting.folding import folded
from resnets.exporting.inputs import Prepared, preparation
from resnets.exporting.plan import ExportPlan
from resnets.nn import ResNet


def trace(network: ResNet, plan: ExportPlan) -> ExportedProgram:
    """Return the program, (N, C, H, W) or (N, H, W, C) to what `output_names` lists."""
    kind = Answering if network.calibration else Prepared
    module = kind(preparation(network, plan.form), folded(network)).eval()
    height, width = plan.size or plan.side
    if plan.size is None:  # unequal numbers, so that nothing is taken for the same as another
        height, width = height + 32, width + 48
    count, channels = plan.batch or 2, network.spec.in_channels
    last = plan.form == "pictures"
    shape = (count, height, width, channels) if last else (count, channels, height, width)
    images = torch.zeros(shape, dtype=torch.float32 if plan.form == "normalized" else torch.uint8)
    free = {0: Dim.DYNAMIC} if plan.batch is None else {}
    if plan.size is None:
        free |= {1: Dim.DYNAMIC, 2: Dim.DYNAMIC} if last else {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with torch.no_grad(), tracing():
        program = torch.export.export(module, (images,), dynamic_shapes=(free,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


@contextmanager
def tracing() -> Iterator[None]:
    """Let torch's exporters fail with ExportError, and not warn of their own ways."""
    # That torchvision, which is not needed, is missing.
    with errors_only("torch.onnx._internal.exporter._registration"), warnings.catch_warnings():
        # torch 2.13 uses what it deprecates.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        try:
            yield
        except RuntimeError as error:
            raise ExportError(
                f"torch cannot export the network: {str(error).strip().splitlines()[0]}",
                hint="a fixed --batch and --size may do",
            ) from error


@contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Let the logger of a library say nothing less than errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
