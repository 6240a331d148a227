"""From an image to the float batch that a model was trained on; travels with the weights.

Images become NumPy's arrays without torch, which is imported only where tensors are.
"""

import mmap
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.depth import Range, Scale
from resnets.data.framing import Frame
from resnets.data.images import Stored, decode, pixels
from resnets.errors import CheckpointError, UsageError
from resnets.machine import cpu

if TYPE_CHECKING:  # so that prediction by another runtime does without torch
    import torch
    from torch import Tensor

    from resnets.data.dataset import Split

ImageLike = Image.Image | Path | Stored | str  # or the name of its file

MEASURED = 2048  # photographs: the standard error of a mean is then about a grey level


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and normalise: (pixel / 255 - mean) / std.

    Images become squares of ``resize`` as data sets store them (`resnets.data.framing.Frame`), of
    which the middle ``size`` x ``size`` is seen. ``mean`` has a value for each channel, or for each
    pixel in the order (C, H, W): the mean image. Channels are red, green, blue; or grey.
    """

    channels: int
    resize: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"  # of the scaling; or "bicubic"
    fit: str = "crop"  # of what is not square; or "pad", "squash"
    range: Range | None = None  # of pixels of more than 8 bits: what becomes 0 and 255
    # 1, in files that do not say: cut twice, and more than 8 bits by each image's own range.
    version: int = 2
    # What nobody said, such as a fresh network's: it never travels with weights. What is changed
    # with `dataclasses.replace` is somebody's word.
    assumed: bool = field(default=False, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.version not in (1, 2):
            raise UsageError(f"preprocessing has version 1 or 2, not {self.version}")
        if self.range is not None and not -np.inf < self.range[0] < self.range[1] < np.inf:
            raise UsageError(
                f"a range is from a smaller to a larger value, not {self.range}",
                hint="for 12 bits it is 0, 4095",
            )
        _ = self.frame  # which looks at the rest

    def __call__(self, images: "Tensor | ImageLike | Sequence[Any]") -> "Tensor":
        """Return float32 (N, C, size, size), channels-last, of uint8 (N, C, H, W) or images.

        An image is a PIL image or the path of a file; one alone makes a batch of one. Raises
        DataError for an image that cannot be decoded and UsageError for another kind of batch.
        """
        import torch

        if isinstance(images, torch.Tensor):
            return self.normalize(self.fitted(images))
        return self.normalize(torch.from_numpy(self.squares(images)))

    def arrays(self, images: ImageLike | Sequence[Any]) -> NDArray[np.float32]:
        """Return float32 (N, C, size, size) of images, bit for bit what a call returns.

        Raises as a call does.
        """
        return self.normalized(self.squares(images))

    def normalized(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 of uint8 (N, C, size, size), bit for bit what `normalize` returns."""
        mean, scale = self.constants
        values = np.subtract(pixels, mean, dtype=np.float32, order="C")
        values *= scale
        return values

    def squares(self, images: ImageLike | Sequence[Any]) -> NDArray[np.uint8]:
        """Return uint8 (N, C, size, size) of images, channels-last: what is then normalised.

        Raises as a call does.
        """
        if isinstance(images, ImageLike):
            images = [images]
        if isinstance(images, bytes) or not isinstance(images, Sequence):
            raise no_image(images)
        if not images:
            raise UsageError("there are no images", hint="give PIL images or files' names")
        for image in images:
            if not isinstance(image, ImageLike):
                raise no_image(image)
        stored = np.stack([self._pixels(self.decoded(image)) for image in images])
        middle = self.frame.middle
        return stored[:, middle, middle].transpose(0, 3, 1, 2)

    def decoded(self, image: ImageLike) -> Image.Image:
        """Return an image, upright and of 8 bits, of its own size. Raises as `decode` does."""
        source = Path(image) if isinstance(image, str) else image
        return decode(source, self.channels, self.scale)

    def fitted(self, images: "Tensor") -> "Tensor":
        """Return raw images uint8 (N, C, H, W), scaled and cropped to (N, C, size, size)."""
        import torch

        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.channels:
            raise UsageError(
                f"a batch must be uint8 (N, {self.channels}, H, W), "
                f"not {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}",
                hint="give images or raw pixels; normalising them is what preprocess does",
            )
        if images.shape[2:] != (self.resize, self.resize):  # not as data sets store them
            # Channel by channel: there may be any number of them.
            planes = [Image.fromarray(plane.numpy()) for plane in images.cpu().flatten(0, 1)]
            squares = [torch.from_numpy(self._pixels(plane).copy()) for plane in planes]
            shape = (len(images), self.channels, self.resize, self.resize)
            images = torch.stack(squares).view(shape).to(images.device)
        return images[:, :, self.frame.middle, self.frame.middle]

    def normalize(self, images: "Tensor") -> "Tensor":
        """Return float32 of uint8 (N, C, size, size), already cropped."""
        mean, scale = _constants_on(self, images.device, images.shape[3])
        return _as_floats(images).sub_(mean).mul_(scale)

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        return pixels(self.frame(image))

    @cached_property
    def frame(self) -> Frame:
        """How an image becomes the square that data sets store."""
        cuts = 2 if self.version == 1 else 1
        return Frame(self.resize, self.size, self.fit, self.interpolation, cuts)

    @property
    def scale(self) -> Scale:
        """Which values of more than 8 bits become 0 and 255."""
        return self.range or ("own" if self.version == 1 else "container")

    @cached_property
    def constants(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean and 1 / std for pixels in 0..255, in shapes that broadcast over a batch."""
        mean, std = (np.asarray(array("d", values)) * 255 for values in (self.mean, self.std))
        side = self.size if len(self.mean) > self.channels else 1
        with np.errstate(all="ignore"):  # numbers that no float32 holds are infinite
            mean = mean.reshape(1, self.channels, side, side).astype(np.float32)
            return mean, (1 / std).reshape(1, self.channels, 1, 1).astype(np.float32)

    @property
    def channel_mean(self) -> tuple[float, ...]:
        """The mean of each channel, also where ``mean`` has a value for each pixel."""
        return tuple(np.reshape(self.mean, (self.channels, -1)).mean(1).tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values; of version 1 those that it had."""
        values = asdict(self)
        del values["assumed"]
        if self.version == 1:
            later = {"fit": "crop", "range": None, "version": 1}
            values = {k: v for k, v in values.items() if later.get(k, ...) != v}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from ``to_dict``'s values; raises CheckpointError when they do not fit together.

        Without "version" they are from before it was written, and mean what they meant then.
        """
        try:
            fields: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            preprocess = cls(**{"version": 1, **fields})
            _ = preprocess.constants
        except (TypeError, ValueError, ArithmeticError, UsageError) as error:
            what = getattr(error, "message", error)
            raise CheckpointError(f"the preprocessing in the file is damaged: {what}") from None
        return preprocess


_IMAGE_OF = {
    "bytes": "PIL.Image.open(io.BytesIO(data)) makes an image of a file's bytes",
    "ndarray": "PIL.Image.fromarray(array) makes an image of uint8 (H, W, C)",
    "Tensor": "a batch goes to model.preprocess, uint8 (N, C, H, W), and its result to the model",
}


def no_image(thing: object) -> UsageError:
    """Return the error for what is neither an image nor the name of its file."""
    kind = type(thing).__name__
    return UsageError(
        f"a {kind} is no image and no file", hint=_IMAGE_OF.get(kind, "give a file or a PIL image")
    )


def preprocess_of(model: Any) -> Preprocess:
    """Return a model's preprocessing. Raises CheckpointError where nothing says what it is.

    And UsageError where it is something else, such as a function.
    """
    if model.preprocess is None:
        raise unknown_preparation()
    if not isinstance(model.preprocess, Preprocess):
        raise UsageError(
            f"model.preprocess is a {type(model.preprocess).__name__}, not a Preprocess",
            hint="model.preprocess = resnets.data.preprocess.imagenet(channels=3, size=224)",
        )
    return model.preprocess


def unknown_preparation() -> CheckpointError:
    """Return the error for images that nobody said how to prepare."""
    return CheckpointError(
        "nothing says how images must be prepared for this model",
        hint="set model.preprocess; --preprocess imagenet stands for the usual constants",
    )


def identity(channels: int, size: int, *, assumed: bool = False) -> Preprocess:
    """Return the preprocessing of a model that has seen no data: crop, and pixels to 0..1."""
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    preprocess = Preprocess(channels, stored_side(size), size, zeros, ones)
    object.__setattr__(preprocess, "assumed", assumed)
    return preprocess


def known(preprocess: Any) -> Preprocess | None:
    """Return a model's preprocessing as far as somebody has said what it is, else None."""
    is_known = isinstance(preprocess, Preprocess) and not preprocess.assumed
    return preprocess if is_known else None


def imagenet(channels: int, size: int) -> Preprocess:
    """Return the preprocessing of torchvision's and most other people's ImageNet nets.

    Raises UsageError for images that are not red, green and blue.
    """
    if channels != 3:
        raise UsageError(
            f"ImageNet's constants are for 3 channels, not {channels}",
            hint="set model.preprocess; --preprocess 'mean=0.5 std=0.25' says it in numbers",
        )
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Preprocess(3, stored_side(size), size, mean, std)


def stored_side(size: int) -> int:
    """Return the side to which images are scaled before a crop of ``size``: 256 for 224.

    Small images, such as CIFAR's, are used whole. (He et al. 2015, sec. 3.4.)
    """
    return size if size <= 64 else round(size / 0.875)


def measure(
    split: "Split",
    size: int,
    kind: str,
    *,
    fit: str = "crop",
    range: Range | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Preprocess:
    """Return the preprocessing that normalises a training split, measured over its images.

    ``kind`` is "channel" (mean and standard deviation of each channel), "pixel_mean" (subtract
    the mean image, He et al. 2015, sec. 4.2) or "imagenet" (ImageNet's constants, nothing is
    measured). Values are rounded to 6 decimals, so that they are the same in the file as in the
    run. Of more than MEASURED photographs in files, so many are chosen, always the same.
    ``fit`` and ``range`` are how the split's images were stored; ``report`` is told how many are
    measured, of how many. Raises UsageError for "imagenet" with images that are not red, green and
    blue.
    """
    import torch

    from resnets.data import counter

    channels, side, _ = split.images.shape
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    stored = Preprocess(channels, side, size, zeros, ones, fit=fit, range=range)
    if kind == "imagenet":
        usual = imagenet(channels, size)
        return replace(stored, mean=usual.mean, std=usual.std)
    middle = stored.frame.middle
    if split.images.names and len(split) > MEASURED:
        order = torch.argsort(counter.bits(0, "measure", 0, split.ids), stable=True)
        split = split.subset(order[:MEASURED].sort().values)
    count, total = 0, torch.zeros(channels, size, size, dtype=torch.int64)
    levels = torch.zeros(channels, 256, dtype=torch.int64)
    for batch, (images, _) in enumerate(split.batches(256), 1):
        values = images[:, :, middle, middle]
        count += len(values)
        if kind == "pixel_mean":
            total += values.sum(0, dtype=torch.int32)
        for channel, plane in enumerate(values.unbind(1)):
            levels[channel] += torch.bincount(plane.flatten(), minlength=256)
        report(min(256 * batch, len(split)), len(split))  # also of those that cannot be read
    if kind == "pixel_mean":
        return replace(stored, mean=_rounded(total.double() / count / 255))
    pixels = count * size * size
    mean, square = ((levels * torch.arange(256) ** n).sum(1).double() / pixels for n in (1, 2))
    mean, variance = mean / 255, square / 255**2 - (mean / 255).square()
    # A channel without variation (a blank data set) is left as it is.
    std = variance.clamp(min=0).sqrt()
    std = torch.where(std > 0, std, torch.ones_like(std))
    return replace(stored, mean=_rounded(mean), std=_rounded(std))


@lru_cache(maxsize=8)
def _constants_on(
    preprocess: Preprocess, device: "torch.device", width: int
) -> "tuple[Tensor, Tensor]":
    """Return the mean and 1 / std on a device, where a copy would wait for what it computes.

    They are as wide as the images, since a CPU takes five times as long where its innermost loop
    goes over the channels alone.
    """
    import torch

    mean, scale = (
        torch.from_numpy(value)
        .expand(-1, -1, -1, width)
        .contiguous(memory_format=torch.channels_last)
        .to(device)
        for value in preprocess.constants
    )
    return mean, scale


def _as_floats(images: "Tensor") -> "Tensor":
    """Return images (N, C, H, W) as float32.

    A batch of photographs is more than the allocator keeps, and to take it from the system page by
    page costs a CPU more than all else here: large pages are asked for.
    """
    import torch

    size = images.numel() * torch.float32.itemsize
    if images.device.type != "cpu" or size <= cpu.LARGEST or not hasattr(mmap, "MADV_HUGEPAGE"):
        return images.float()
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # the system has none
        memory.madvise(mmap.MADV_HUGEPAGE)
    rows = images.permute(0, 2, 3, 1)  # channels-last, as images are in memory
    floats = torch.frombuffer(memory, dtype=torch.float32).view(rows.shape)
    return floats.copy_(rows).permute(0, 3, 1, 2)


def _rounded(values: "Tensor") -> tuple[float, ...]:
    return tuple(round(v, 6) for v in values.flatten().tolist())
