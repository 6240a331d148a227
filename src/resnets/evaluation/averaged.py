"""A model that answers by a protocol: a runtime around a runtime, for whoever evaluates one."""

import hashlib
import json
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.framing import Frame, half
from resnets.data.images import pixels
from resnets.data.preprocess import ImageLike, Preprocess, preprocess_of
from resnets.errors import UsageError
from resnets.evaluation.protocols import OWN, Protocol
from resnets.inference.runtimes import Runtime
from resnets.inference.runtimes.runtime import Exported
from resnets.weights.calibration import calibrated
from resnets.weights.outputs import meaning

if TYPE_CHECKING:  # the protocols that are not dense do without torch
    from resnets.inference.runtimes.torch_runtime import Network


class Averaged(Runtime):
    """A model that is shown each image as a protocol says, and answers the average.

    A batch is an array (N,) of objects, for each image the views (V, C, H, W) of each scale. The
    logits of several views are those of the averaged probabilities, calibrated where the model is;
    of a single one they are the model's own.
    """

    def __init__(self, model: Runtime, protocol: Protocol) -> None:
        """Raise UsageError where a model cannot be shown what the protocol says."""
        own = preprocess_of(model)
        self.model, self.protocol = model, protocol.settled(own)
        _check(model, self.protocol)
        self.name, self.version = model.name, model.version
        self.input, self.preprocess = model.input, own
        self.classes, self.outputs, self.thresholds = model.classes, model.outputs, model.thresholds
        self.spec, self.made, self.views = model.spec, model.made, self.protocol.views
        self.calibration = model.calibration if self.views == 1 else None
        self._frames = _frames(self.protocol, own)
        self._shown, self._window = own, (0, 0)
        if self.protocol.dense or self.protocol.size != own.size:
            self._shown = replace(own, mean=own.channel_mean)  # its mean may be an image
        if self.protocol.dense:
            self._window = _network(model).map_size(self.protocol.size or own.size)

    @property
    def notes(self) -> list[str]:
        """What of the protocol is not as in training."""
        own = preprocess_of(self)
        if self._shown.mean == own.mean:
            return []
        return [
            f"the mean image that is subtracted is {own.size} x {own.size}; of images of another "
            "size it is its mean colour"
        ]

    def prepare(self, image: ImageLike) -> NDArray[Any]:
        """Return the views of an image as a batch of one. Raises ImageError."""
        decoded = preprocess_of(self).decoded(image)
        found = np.empty(1, dtype=object)
        found[0] = [self._prepared(self._cut(frame, decoded)) for frame in self._frames]
        return found

    def _cut(self, frame: Frame, image: Image.Image) -> NDArray[np.uint8]:
        """Return the views (V, H, W, C) of an image that are of one size, but those of ``tta``."""
        if self.protocol.dense:
            return pixels(frame.scaled(image))[None]
        area = pixels(frame.scaled(image) if self.protocol.whole else frame(image))
        side = self.protocol.size or frame.size
        down, right = area.shape[0] - side, area.shape[1] - side
        starts, areas = [(half(down), half(right))], [area]
        if self.protocol.crops == 10:
            starts += [(0, 0), (0, right), (down, 0), (down, right)]
            areas.append(area[:, ::-1])
        return np.stack(
            [area[top : top + side, left : left + side] for area in areas for top, left in starts]
        )

    def _prepared(self, views: NDArray[np.uint8]) -> NDArray[Any]:
        if self.protocol.tta:
            views = np.concatenate([views, views[:, :, ::-1]])
        planes = views.transpose(0, 3, 1, 2)
        return planes if self.input == "pixels" else self._shown.normalized(planes)

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits (N, classes) of each image's views. Raises what the model raises."""
        answers: list[list[NDArray[np.float32]]] = [[] for _ in images]
        for scale in range(len(self._frames)):
            alike = defaultdict(list)
            for number, views in enumerate(images):
                alike[views[scale].shape].append(number)
            for numbers in alike.values():
                batch = np.concatenate([images[number][scale] for number in numbers])
                for number, found in zip(
                    numbers, np.split(self._answer(batch), len(numbers)), strict=True
                ):
                    answers[number].append(found)
        found = np.stack([np.concatenate(each) for each in answers])
        if self.views == 1:
            return found[:, 0]
        known = calibrated(found.reshape(-1, found.shape[2]), self.model.calibration)
        return averaged(known.reshape(found.shape), self.outputs)

    def _answer(self, views: NDArray[Any]) -> NDArray[np.float32]:
        if self.protocol.dense:
            return _network(self.model).slid(views, self._window)
        return self.model.logits(views)

    def digest(self) -> str:
        """Return the SHA-256 of the model's own and the protocol."""
        settings = json.dumps(self.protocol.to_dict() | {"name": None, "sentence": None})
        return hashlib.sha256(f"{self.model.digest()} {settings}".encode()).hexdigest()


def carried_out(model: Runtime, protocol: Protocol) -> Runtime:
    """Return a model that is shown images as a protocol says: as it is, where that is its own.

    Raises UsageError where it cannot be shown that.
    """
    own = model.preprocess
    if protocol == OWN or (own and protocol.settled(own) == OWN.settled(own)):
        return model
    return Averaged(model, protocol)


def averaged(logits: NDArray[np.floating], outputs: str | None) -> NDArray[np.float32]:
    """Return logits (N, classes) of the average of the probabilities of logits (N, V, classes).

    Of a softmax they are its logarithms.
    """
    values = logits.astype(np.float64)
    if meaning(outputs, values.shape[2]) == "sigmoid":
        # The logarithms of the averages of p and 1 - p, which have rounded to neither 0 nor 1.
        true, false = (
            np.logaddexp.reduce(-np.logaddexp(0, sign * values), axis=1) for sign in (-1, 1)
        )
        return (true - false).astype(np.float32)  # type: ignore[no-any-return]
    values -= np.logaddexp.reduce(values, axis=2, keepdims=True)
    found: NDArray[np.float32] = (
        np.logaddexp.reduce(values, axis=1) - np.log(values.shape[1])
    ).astype(np.float32)
    return found


def _check(model: Runtime, protocol: Protocol) -> None:
    """Raise UsageError where a model cannot be shown what a settled protocol says."""
    if model.input == "pictures":
        raise UsageError(
            "the file prepares images itself, and by its own protocol only",
            hint="give the run or the weights, or export with --input normalized",
        )
    if protocol.dense:
        _network(model)
    elif isinstance(model, Exported) and model.size not in (None, (protocol.size,) * 2):
        height, width = model.size or (0, 0)
        raise UsageError(
            f"{model.path}: takes images of {height} x {width}, the protocol's are "
            f"{protocol.size} x {protocol.size}",
            hint="give the run or the weights, or export with --size dynamic",
        )


def _network(model: Runtime) -> "Network":
    """Return a model as the network over whose last map its classifier can be slid.

    Raises UsageError for an exported file, and where that is not what its head would be.
    """
    if model.name != "torch" or isinstance(model, Exported):
        raise UsageError(
            "an exported file has no classifier that can be slid over a map",
            hint="give the run or the weights, which torch computes",
        )
    from torch import nn

    from resnets.inference.runtimes.torch_runtime import Network

    assert isinstance(model, Network)
    pool, last = model.network.avgpool, model.network.fc
    whole = isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size in (1, (1, 1))
    if not whole or not isinstance(last, nn.Linear):
        raise UsageError(
            f"a head of {type(pool).__name__} and {type(last).__name__} cannot be slid over a map",
            hint="global average pooling and a linear layer can; leave the scales out",
        )
    return model


def _frames(protocol: Protocol, own: Preprocess) -> list[Frame]:
    """Return how images are scaled: for each scale, or to what crops are cut from."""
    if protocol.dense:
        # Not more than eight times as long as wide (cuts): a strip would take all memory.
        return [Frame(side, side, "crop", own.interpolation, 2) for side in protocol.scales]
    size, fit = protocol.size or own.size, protocol.fit or own.fit
    whole = protocol.crops == 10 and fit != "crop"  # is shown, and crops are cut of it
    return [
        Frame(side, side if whole else size, fit, own.interpolation, own.frame.cuts)
        for side in protocol.scales or (protocol.resize or own.resize,)
    ]
