"""The constants by which a file says that its images were normalised: a mean and a deviation.

Constants alone show neither whether pixels are in 0..1 or in 0..255 nor whether red or blue comes
first. Their size tells the one, where both agree; the averages of widely used sets the other.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from resnets.weights.beside import entries, parsed
from resnets.weights.dialects import Channels, Input

# Red, green and blue of the training images of widely used sets, in 0..1.
PUBLISHED: tuple[Channels, ...] = (
    (0.485, 0.456, 0.406),  # ImageNet
    (0.4815, 0.4547, 0.4038),  # ImageNet, as MSRA and Caffe2 have it
    (0.4815, 0.4578, 0.4082),  # CLIP's
    (0.4914, 0.4822, 0.4465),  # CIFAR-10
    (0.5071, 0.4867, 0.4408),  # CIFAR-100
    (0.4802, 0.4481, 0.3975),  # Tiny ImageNet
    (0.4467, 0.4398, 0.4066),  # STL-10
    (0.4377, 0.4438, 0.4728),  # SVHN
    (0.5063, 0.4258, 0.3832),  # CelebA
    (0.5141, 0.4074, 0.3588),  # VGGFace2
)
_SAME = 0.002  # between two people's means of one set

_MEAN = re.compile(
    r"_?(?:(?:new|pixel|img|image|input|rgb|bgr|data|dataset|norm|normali[sz]e|channel)_)?"
    r"(?P<mean>mean)s?_?",
    re.IGNORECASE,
)
# What holds constants of images: a module that normalises, a network as a whole, or settings.
_OF_IMAGES = re.compile(
    r"|\d+|norm|.*(normali[sz]|norm_cfg|standardi[sz]|preproc|transform|input|image|img|pixel).*|"
    r"module|model|net|network|backbone|encoder|"
    r"args|config|cfg|hparams|hyper_?parameters|data|dataset|pretrained_cfg"
)
_NAMED_SO = re.compile(r"pixel|img|image|rgb|bgr")
_OF_OTHERS = re.compile(r"target|label|output|latent|loss|feature|embed|text|audio|action|reward")

Values = tuple[float, ...]


def stated_input(tree: Mapping[str, Any], channels: int = 3) -> tuple[Input | None, list[str]]:
    """Return how a network's images were normalised, as constants in a tree say it, and notes.

    They are a mean and a standard deviation side by side, tensors such as ``normalizer.mean`` or
    lists of numbers, one for each channel or one for all. Constants of another kind, scale or
    order than can be told give a note with their keys, and no input; so do two that differ.
    """
    values = dict(entries(tree))
    found: dict[Input, str] = {}
    notes = []
    for key, other in _pairs(values):
        mean, std = (_numbers(values.get(name), channels) for name in (key, other))
        keys = f"{key} and {other}"
        if mean and std:
            known, note = _read(key, mean, std)
            notes += [f"{keys}: {note}"] if note else []
            if known:
                found.setdefault(known, keys)
        elif hasattr(values[key], "shape") and _is_of_images(key):
            notes.append(f"{key}: not used, as {_lacking(values, key, other, channels)}")
    if len(found) > 1:
        several = "; ".join(found.values())
        return None, [*notes, f"nothing says which of these its images have: {several}"]
    return next(iter(found), None), notes


def _pairs(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys of means, and those under which their deviations would be."""
    for key in values:
        last = re.split(r"[./]", key)[-1]
        if match := _MEAN.fullmatch(last):
            start, end = match.span("mean")
            before = key[: len(key) - len(last) + start]
            if not {f"{before}var", f"{before}variance"} & values.keys():  # which a norm has
                deviation = "STD" if match["mean"].isupper() else "std"
                yield key, before + deviation + last[end:]


def _lacking(values: Mapping[str, Any], key: str, other: str, channels: int) -> str:
    if other not in values:
        return f"there is no {other} beside it"
    shapes = f"{tuple(values[key].shape)} and {tuple(getattr(values[other], 'shape', ()))}"
    return (
        f"it and {other} are of the shapes {shapes}, not one number for each of {channels} channels"
    )


def _numbers(value: Any, channels: int) -> Values:
    """Return one number for each channel, of a tensor or a list; empty where it is none."""
    if hasattr(value, "shape"):
        if math.prod(value.shape) not in (1, channels) or value.is_meta or value.is_complex():
            return ()
        is_double = str(value.dtype) == "torch.float64"
        value = value.double().flatten().tolist()
        # As they were written: 0.4914 and not 0.4913999, the nearest float32.
        value = value if is_double else [float(str(np.float32(number))) for number in value]
    elif isinstance(value, str):
        value = parsed(value)
    values = value if isinstance(value, list | tuple) else [value]
    if len(values) not in (1, channels) or not all(map(_is_number, values)):
        return ()
    return tuple(map(float, values)) * (channels // len(values))


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that a float holds."""
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() <= 64
    return isinstance(value, float)


def _read(key: str, mean: Values, std: Values) -> tuple[Input | None, str]:
    """Return the input that constants say, and what is left open or why there is none."""
    scale = largest_pixel(mean, std)
    largest = 1 if isinstance(scale, str) else scale
    mean, std = (tuple(value / largest for value in values) for values in (mean, std))
    order = _published(mean)
    if not order and not _is_of_images(key):
        return None, "not used, as nothing says that they are of its images"
    if isinstance(scale, str):
        return None, f"not used: {scale}"
    if not order and "bgr" in key.lower():
        order = "bgr"
    if order == "bgr":
        return Input(mean[::-1], std[::-1], bgr=True), ""
    is_told = order or "rgb" in key.lower() or len(mean) != 3
    if is_told or (mean, std) == (mean[::-1], std[::-1]):
        return Input(mean, std), ""
    if scale == 1:  # as torch has images, which are red first wherever a file is opened for it
        return Input(mean, std), "nothing says whether red or blue comes first; taken as red first"
    said = " ".join(
        f"{name}={','.join(f'{value:.6g}' for value in values)}"
        for name, values in (("mean", mean), ("std", std))
    )
    return None, (
        "not used, as nothing says whether red or blue comes first; if it is red: "
        f'--preprocess "{said}"'
    )


def largest_pixel(mean: Values, std: Values) -> int | str:
    """Return 1 or 255, the largest pixel, as the size of constants tells it; else what is odd."""
    values = f"mean {_shown(mean)}, std {_shown(std)}"
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        return f"no images are divided by these ({values})"
    if min(mean) < 0 or max(mean) > 255 or max(std) > 256:
        return f"pixels are neither in 0..1 nor in 0..255 ({values})"
    if max(mean) > 1 or not any(mean):
        if min(std) >= 1 and (any(mean) or max(std) > 1):
            return 255
        if any(mean):
            return f"a mean of pixels in 0..255 and a deviation of some in 0..1 ({values})"
        return 1 if max(std) < 1 else f"they do not say where pixels are ({values})"
    if max(std) > 1:
        return f"a mean of pixels in 0..1 and a deviation of some in 0..255 ({values})"
    return 1


def _published(mean: Values) -> str:
    """Return "rgb" or "bgr" where a mean is that of a widely used set, else nothing."""
    if len(mean) != 3:
        return ""
    for order, values in (("rgb", mean), ("bgr", mean[::-1])):
        if any(
            all(abs(one - other) <= _SAME for one, other in zip(known, values, strict=True))
            for known in PUBLISHED
        ):
            return order
    return ""


def _is_of_images(key: str) -> bool:
    """Tell whether a mean under this key can only be that of the images."""
    *around, last = re.split(r"[./]", key.lower())
    of_images = _OF_IMAGES.fullmatch(around[-1] if around else "") or _NAMED_SO.search(last)
    return bool(of_images) and not _OF_OTHERS.search(key.lower())


def _shown(values: Values) -> str:
    return ", ".join(f"{value:g}" for value in values)
