"""A network as TensorBoard's module graph."""

import warnings
from pathlib import Path

import torch

from resnets.errors import lacking, unwritable
from resnets.nn import ResNet
from resnets.spec import Spec


def write_graph(spec: Spec, folder: Path) -> None:
    """Write the network's graph, traced on one image of its own size, as an event file.

    Raises ResourceError where the extra ``tensorboard`` is not installed or ``folder`` cannot be
    written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise lacking("TensorBoard's graph needs tensorboard", "tensorboard") from None
    try:
        writer = SummaryWriter(str(folder))
    except OSError as error:
        raise unwritable(folder, error, "choose another folder") from None
    image = torch.zeros(1, spec.in_channels, spec.image_size, spec.image_size)
    with writer, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorBoard traces by torch.jit
        writer.add_graph(ResNet(spec).eval(), image)
