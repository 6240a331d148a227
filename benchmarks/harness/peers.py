"""The same model as other libraries and runtimes compute it, where they are installed.

The libraries are needed for nothing else, and are imported by name here and nowhere else: a broken
installation of theirs costs a line.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.libraries import LIBRARIES, import_library
from resnets.errors import CheckpointError, ResourceError
from resnets.exporting.export import export
from resnets.exporting.plan import Target
from resnets.inference.runtimes import open_runtime
from resnets.training.throughput import LR, Call, Job, inference
from resnets.weights.translate import to_dialect
from resnets.zoo import ALIASES

RUNTIMES = {"onnxruntime": "model.onnx", "openvino": "model.xml"}
TOLERANCE = 1e-3  # of the largest logit: float32 in another order, not another network


def installed(job: Job, folder: Path) -> dict[str, Callable[[], Call]]:
    """Return what prepares the case of each peer that is installed, by its name.

    Runtimes, for inference, compute what we export into ``folder``.
    """
    found = {name: partial(theirs, name, job) for name in LIBRARIES}
    if job.work == "inference":
        found |= {name: partial(exported, name, job, folder) for name in RUNTIMES}
    return {name: prepare for name, prepare in found.items() if find_spec(name)}


def exported(runtime: str, job: Job, folder: Path) -> Call:
    """Return a runtime's pass over the file that `resnets.exporting` makes for it and checks.

    Raises what the export raises: ResourceError where a package is missing.
    """
    path = folder / f"{job.spec.name}-{job.spec.image_size}" / RUNTIMES[runtime]
    if not path.exists():
        to: Target = "onnx" if runtime == "onnxruntime" else "openvino"
        export(job.network(), path, to=to)
    model = open_runtime(path, runtime, threads=torch.get_num_threads())
    images = job.images().numpy()
    return lambda: model.logits(images)


def theirs(library: str, job: Job) -> Call:
    """Return a library's own step or forward pass; raises what `counterpart` raises."""
    module = import_library(library)
    return counterpart(module.models if library == "torchvision" else module, job)


def counterpart(models: Any, job: Job) -> Call:
    """Return the step or forward pass of the same network, with the same weights, of ``models``.

    Raises ResourceError where there is no such network, by its names, its keys and its logits.
    """
    names = [job.spec.name, *(a for a, name in ALIASES.items() if name == job.spec.name)]
    known = [name for name in names if name in models.list_models()]
    for name in known:
        if network := _same(models, name, job):
            return plain(network, job)
    raise ResourceError(
        f"its {known[0]} is another network" if known else f"it has no {job.spec.name}"
    )


def plain(network: nn.Module, job: Job) -> Call:
    """Return what a plain PyTorch program does with a network: NCHW, SGD with momentum."""
    images, labels = job.images(), job.labels()
    if job.work == "inference":
        return inference(network, images)
    optimizer = torch.optim.SGD(network.train().parameters(), LR, momentum=0.9, weight_decay=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()  # as training scripts print it

    return step


def _same(models: Any, name: str, job: Job) -> nn.Module | None:
    """Return a library's network with our weights, if it computes what ours computes."""
    build: Callable[..., nn.Module] = getattr(models, "create_model", None) or models.get_model
    network, ours = build(name, num_classes=job.spec.num_classes).eval(), job.network().eval()
    for dialect in ("torchvision", "timm"):
        try:
            state = to_dialect(ours.state_dict(), job.spec, dialect)
        except CheckpointError:  # such a network has no place in it
            continue
        if state.keys() == network.state_dict().keys():
            network.load_state_dict(state)
            return network if _agree(network, ours, job) else None
    return None


def _agree(network: nn.Module, ours: nn.Module, job: Job) -> bool:
    with torch.inference_mode():
        image = job.images()[:1]
        expected: Tensor = ours(image)
        difference = (network(image) - expected).abs().max()
    return bool(difference <= TOLERANCE * expected.abs().max())
