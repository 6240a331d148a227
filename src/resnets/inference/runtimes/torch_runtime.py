"""torch: networks from checkpoints and run folders, and exported programs (.pt2)."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from resnets.data.preprocess import Preprocess, preprocess_of
from resnets.errors import ResourceError, UsageError
from resnets.inference.runtimes.runtime import Exported, Runtime, damaged, read_export
from resnets.nn import ResNet
from resnets.readers.paths import spelled
from resnets.spec import fields_told
from resnets.weights.load import unwrapped
from resnets.weights.metadata import KEY
from resnets.weights.save import check_classifier


class Network(Runtime):
    """A network that torch computes, in evaluation mode, where it is."""

    name = "torch"
    explains = True

    def __init__(
        self, network: ResNet, threads: int = 0, made: dict[str, Any] | None = None
    ) -> None:
        _use(threads)
        self.made = made or {}
        self.network, self.version = network.eval(), torch.__version__
        self.classes, self.input = network.classes or (), "normalized"
        self.outputs, self.thresholds = network.outputs, network.thresholds
        self.calibration = network.calibration
        self.preprocess, self.spec = preprocess_of(network), network.spec

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits (N, classes) of normalised images (N, C, H, W)."""
        return self._computed(self.network, images)

    def map_size(self, size: int) -> tuple[int, int]:
        """Return the height and width of the last map of images of size x size."""
        images = np.zeros((1, self.spec.in_channels, size, size), np.float32)
        return self._computed(self.network.forward_features, images).shape[2:]

    def slid(self, images: NDArray[Any], window: tuple[int, int]) -> NDArray[np.float32]:
        """Return the logits (N, classes), averaged, of the classifier slid over the last map.

        It sees ``window`` of the map at once, and every place of it. Pooling over all places, which
        is what the network does, and a last layer without activation make the average of the places
        the logits of their averaged features.
        """

        def forward(batch: torch.Tensor) -> torch.Tensor:
            features = self.network.forward_features(batch)
            return self.network.forward_head(F.avg_pool2d(features, window, stride=1))

        return self._computed(forward, images)

    def heat(self, images: NDArray[Any], answer: int) -> NDArray[np.float32]:
        """Return where normalised images (N, C, H, W) speak for an answer: maps (N, h, w) >= 0.

        Grad-CAM, of the last stage that tells places apart. No other thread may compute meanwhile.
        """
        from resnets.analysis.features.maps import grad_cam, telling  # with matplotlib

        own = next(self.network.parameters())
        batch = torch.from_numpy(images).to(own.device, own.dtype)
        classes = torch.full((len(batch), 1), answer, device=own.device)
        found = telling(grad_cam(self.network, batch, classes, len(self.labels)))
        maps: NDArray[np.float32] = found[:, 0].float().cpu().numpy()
        return maps

    def _computed(
        self, forward: Callable[[torch.Tensor], torch.Tensor], images: NDArray[Any]
    ) -> NDArray[np.float32]:
        own = next(self.network.parameters())
        try:
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                answers = forward(batch.to(own.device, own.dtype))
        except RuntimeError as error:  # torch has no kind of its own for it on a CPU
            if "alloc" not in str(error):
                raise
            raise ResourceError(
                f"there is not enough memory for images {' x '.join(map(str, images.shape))}",
                hint="make images, or batches of them, smaller",
            ) from error
        found: NDArray[np.float32] = answers.float().cpu().numpy()
        return found

    def digest(self) -> str:
        """Return the SHA-256 of architecture, weights, preprocessing, classes, calibration."""
        assert self.preprocess is not None
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        if self.thresholds:
            digest.update(json.dumps(self.thresholds).encode())
        if self.calibration:
            digest.update(json.dumps(self.calibration.to_dict()).encode())
        digest.update(network_digest(self.network, self.preprocess).encode())
        return digest.hexdigest()


def network_of(model: torch.nn.Module) -> Network:
    """Return what computes a network in hand, also one that DataParallel or torch.compile wraps.

    Raises UsageError for any other module, and for a network that was changed by hand into one that
    its spec and its names of classes are not about.
    """
    network = unwrapped(model, "the model")
    if not isinstance(network, ResNet) or not list(network.fc.parameters()):
        raise UsageError(
            "the network has no classifier, so that it answers nothing",
            hint="model.embed(images) has its features; create_model(...) has a classifier",
        )
    check_classifier(network)
    compiled: Any = model if hasattr(model, "_orig_mod") else network  # with all attributes
    return Network(compiled)


class Program(Exported):
    """A program that torch exported. It may hold code: as other programs, it has to be trusted."""

    name = "torch"

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Open a file; raises CheckpointError for a bad one."""
        _use(threads)
        metadata = read_export(path, _metadata(path))
        try:
            with spelled(path) as name:
                self._module = torch.export.load(name).module()
        except Exception as error:
            raise damaged(path, "exported program", error) from None
        super().__init__(path, metadata, torch.__version__)

    def _run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        # Torch takes nothing that it may not write, such as a PIL image's own pixels.
        batch = torch.from_numpy(np.require(images, requirements="W"))
        with torch.no_grad():
            found = self._module(batch)
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


def network_digest(network: ResNet, preprocess: Preprocess) -> str:
    """Return the SHA-256 of what a network computes: architecture, weights, preprocessing."""
    later = {*fields_told("later")} - network.spec.differences().keys()
    spec = {k: v for k, v in network.spec.to_dict().items() if k not in later}
    function = {**spec, "name": None, "preprocess": preprocess.to_dict()}
    digest = hashlib.sha256(json.dumps(function, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _use(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def _metadata(path: Path) -> str | None:
    """Return the metadata's text, before anything else of the program is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{KEY}")]
            return archive.read(names[0]).decode("utf-8") if names else None
    except (zipfile.BadZipFile, ValueError) as error:
        raise damaged(path, "exported program", error) from None
