"""Which device to compute on."""

import torch

from resnets.errors import ResourceError, UsageError


def choose_device(name: str) -> torch.device:
    """Return the device of a name: cpu, cuda, or auto for CUDA where there is one.

    Raises UsageError for another name and ResourceError when there is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f'there is no device "{name}"', hint="choose from auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("CUDA is not available here", hint="use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
