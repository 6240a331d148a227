"""Who computes: ONNX Runtime, OpenVINO or torch, alike from outside; only the last needs torch."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from resnets.errors import CheckpointError, UsageError, check_arguments, check_name
from resnets.inference.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from resnets.models import ReadingOptions

RUNTIMES = ("onnxruntime", "openvino", "torch")
_READING = ("container", "dialect", "ema")  # `models.ReadingOptions`, which would import torch
# Of an exported file, by the end of its name: who reads it, the first that is installed by itself.
_READERS = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".pt2": ("torch",)}

__all__ = ["RUNTIMES", "Runtime", "check_reading", "choose", "is_export", "open_runtime"]


def is_export(path: Path) -> bool:
    """Whether a name is that of an exported file, rather than a run folder or a checkpoint."""
    return path.suffix.lower() in _READERS and not path.is_dir()


def choose(path: Path, name: str = "auto") -> str:
    """Return who computes what is in a file or folder; raises UsageError where ``name`` cannot."""
    readers = _READERS[path.suffix.lower()] if is_export(path) else ("torch",)
    if name == "auto":
        return next((reader for reader in readers if find_spec(reader)), readers[0])
    check_name("runtime", name, ("auto", *RUNTIMES))
    if name not in readers:
        raise UsageError(
            f"{path}: {name} does not read it",
            hint=f"{' or '.join(readers)} does; resnets export writes files for each of them",
        )
    return name


def check_reading(model: Any, reading: "ReadingOptions", function: Callable[..., object]) -> None:
    """Raise UsageError where ``reading`` says something, and no file of weights is to be read.

    And where it has what is no argument of the ``function`` that was given it.
    """
    check_arguments(function, reading.keys(), _READING)
    given = " and ".join(name for name, value in reading.items() if value)
    if given and (not isinstance(model, str | Path) or is_export(Path(model))):
        what = model if isinstance(model, str | Path) else "the model"
        raise UsageError(f"{what}: holds one network: no {given}", hint=f"leave out {given}")


def open_runtime(
    path: str | Path,
    name: str = "auto",
    *,
    threads: int = 0,
    count: int | None = None,
    **reading: Unpack["ReadingOptions"],
) -> Runtime:
    """Return the model in an exported file, a run folder or a checkpoint, ready to answer.

    ``name`` says who computes: "onnxruntime" or "openvino" for .onnx, "openvino" for .xml, "torch"
    for all else; "auto" is the first of them that is installed. ``threads`` is how many it computes
    with (0: OMP_NUM_THREADS, or as many as it likes), ``count`` how many it will see, where that
    is known. Of a file of weights ``container``, ``dialect`` and ``ema`` say what they say to
    `load_weights`.

    Raises UsageError for another name, CheckpointError for a file that is missing, damaged or not
    of resnets, and ResourceError when the package is not installed.
    """
    path = Path(path)
    name = choose(path, name)
    check_reading(path, reading, open_runtime)
    if is_export(path) and not path.is_file():
        raise CheckpointError(f"{path}: no such file", hint="check the name")
    if name == "onnxruntime":
        from resnets.inference.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(path, threads or _threads(), count)
    if name == "openvino":
        from resnets.inference.runtimes.openvino_runtime import OpenVino

        return OpenVino(path, threads or _threads())
    from resnets.inference.runtimes.torch_runtime import Network, Program

    if is_export(path):
        return Program(path, threads)
    from resnets.models import restore

    network, metadata = restore(path, **reading)
    return Network(network, threads, metadata.made)


def _threads() -> int:
    """Return what the environment says for OpenMP, which these two do not read, or 0."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0
