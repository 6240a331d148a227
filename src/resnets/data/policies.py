"""Which operations each image gets: RandAugment, TrivialAugment and colour jitter.

They are equal in distribution to torchvision's and timm's; what a sample gets is a function of
(seed, epoch, id) alone.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import atan, cos, degrees, radians, sin, tan

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from resnets.data import counter
from resnets.data.operations import Drawn, Operation, apply

_TIMM = (  # timm's "increasing" operations, in its order
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness"),
    *("ShearX", "ShearY", "TranslateX", "TranslateY"),
)
_MOST = 10  # timm's largest magnitude
_LARGE = 64  # pixels, from which on several threads are faster than one
_JITTERED = ("Brightness", "Contrast", "Color", "Hue")


@dataclass(frozen=True)
class RandAugment:
    """``count`` operations of one strength in a row (Cubuk et al. 2019); torchvision's.

    ``magnitude`` is one of ``bins`` steps from nothing (0) to the most (bins - 1).
    """

    count: int = 2
    magnitude: int = 9
    bins: int = 31
    resampling: tuple[Resampling, ...] = (Resampling.BILINEAR,)  # one of them for each operation

    def draw(self, seed: int, epoch: int, ids: Tensor, size: int) -> list[Drawn]:
        """Return what each sample id gets; its image has ``size`` x ``size`` pixels."""
        space = _space(self.bins, 0.3, 150 / 331 * size, 30, 0.9, 4)
        places = len(ids) * [self.magnitude]
        operations = (
            _torchvisions(space, places, number, self.resampling, seed, epoch, ids)
            for number in range(self.count)
        )
        return list(zip(*operations, strict=True))


@dataclass(frozen=True)
class TrivialAugment:
    """One operation of any strength (Müller & Hutter 2021, "wide"); torchvision's."""

    bins: int = 31
    resampling: tuple[Resampling, ...] = (Resampling.BILINEAR,)

    def draw(self, seed: int, epoch: int, ids: Tensor, size: int) -> list[Drawn]:
        """Return what each sample id gets; its image has ``size`` x ``size`` pixels."""
        space = _space(self.bins, 0.99, 32, 135, 0.99, 6)
        places = _choices(self.bins, seed, "policy place", epoch, ids)
        return list(zip(_torchvisions(space, places, 0, self.resampling, seed, epoch, ids)))


@dataclass(frozen=True)
class TimmRandAugment:
    """timm's RandAugment, "rand-m10-n2-mstd0.5-inc1" as it stands here.

    Each of ``count`` operations happens with ``probability``, and its magnitude of 0 to 10 is
    normal with the deviation ``noise``.
    """

    count: int = 2
    magnitude: int = _MOST
    noise: float = 0.5
    probability: float = 0.5
    resampling: tuple[Resampling, ...] = (Resampling.BILINEAR, Resampling.BICUBIC)

    def draw(self, seed: int, epoch: int, ids: Tensor, size: int) -> list[Drawn]:
        """Return what each sample id gets; its image has ``size`` x ``size`` pixels."""
        drawn: list[list[Operation]] = [[] for _ in ids]
        for number in range(self.count):
            chance = counter.uniform(seed, f"policy chance {number}", epoch, ids)
            noise = counter.normal(seed, f"policy noise {number}", epoch, ids)
            levels = (self.magnitude + self.noise * noise).clamp(0, _MOST)
            for operations, happens, kind, level, sign, chosen in zip(
                drawn,
                (chance < self.probability).tolist(),
                _choices(len(_TIMM), seed, f"policy operation {number}", epoch, ids),
                levels.tolist(),
                _choices(2, seed, f"policy sign {number}", epoch, ids),
                _choices(len(self.resampling), seed, f"policy resampling {number}", epoch, ids),
                strict=True,
            ):
                if happens:
                    amount = _timm_amount(_TIMM[kind], level / _MOST, 1 - 2 * sign, size)
                    operations.append(Operation(_TIMM[kind], amount, self.resampling[chosen]))
        return [tuple(operations) for operations in drawn]


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, in a random order; torchvision's.

    The first three are multiplied by a number up to its strength below or above 1, and not below
    0; the hue is turned by up to ``hue`` of the circle, at most half, either way.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def draw(self, seed: int, epoch: int, ids: Tensor, size: int) -> list[Drawn]:
        """Return what each sample id gets, whatever the ``size``."""
        strengths = torch.tensor(
            [self.brightness, self.contrast, self.saturation, self.hue], dtype=torch.float64
        )
        high = strengths + torch.tensor([1, 1, 1, 0])
        low = torch.cat([(1 - strengths[:3]).clamp(min=0), -strengths[3:]])
        shares, keys = (
            torch.stack([draw(seed, f"jitter {what} {name}", epoch, ids) for name in _JITTERED], 1)
            for what, draw in (("share", counter.uniform), ("order", counter.bits))
        )
        amounts = (low + (high - low) * shares).tolist()
        return [
            tuple(Operation(_JITTERED[i], amount[i]) for i in order if strengths[i])
            for order, amount in zip(keys.argsort(1).tolist(), amounts, strict=True)
        ]


Part = RandAugment | TrivialAugment | TimmRandAugment | ColorJitter


@dataclass(frozen=True)
class Policy:
    """What a run does to each image besides cropping it: parts that are drawn one after another.

    ``fill`` is the colour (C,) that comes in where an image is moved. Raises ValueError for other
    than one channel or three.
    """

    seed: int
    fill: tuple[int, ...]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if len(self.fill) not in (1, 3):
            raise ValueError(f"a policy is for 1 channel or 3, not {len(self.fill)}")

    def draw(self, ids: Tensor, epoch: int, size: int) -> list[Drawn]:
        """Return what each of ``ids`` (N,) gets; its image has ``size`` x ``size`` pixels."""
        drawn = (part.draw(self.seed, epoch, ids, size) for part in self.parts)
        return [tuple(chain(*operations)) for operations in zip(*drawn, strict=True)]

    def apply(self, image: Image.Image, drawn: Drawn) -> Image.Image:
        """Return an image, of mode RGB or L, after the operations drawn for it."""
        for operation in drawn:
            image = apply(image, operation, self.fill)
        return image

    def __call__(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """Return uint8 (N, C, size, size), channels-last, as the policy changes it.

        The work is Pillow's: images of a GPU come to the CPU, and go back.
        """
        pixels = images.permute(0, 2, 3, 1).cpu().contiguous().numpy()
        drawn = self.draw(ids.cpu(), epoch, images.shape[3])
        changed, grey = np.empty_like(pixels), pixels.shape[3] == 1

        def change(rows: range) -> None:
            for row in rows:
                image = Image.fromarray(pixels[row].squeeze(2) if grey else pixels[row])
                changed[row] = np.asarray(self.apply(image, drawn[row])).reshape(pixels[row].shape)

        # Smaller images are done before another thread has the interpreter's lock.
        threads = torch.get_num_threads() if images.shape[3] >= _LARGE else 1
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(change, (range(n, len(pixels), threads) for n in range(threads))):
                pass
        return torch.from_numpy(changed).to(images.device).permute(0, 3, 1, 2)


def _choices(high: int, seed: int, stream: str, epoch: int, ids: Tensor) -> list[int]:
    numbers: list[int] = counter.integers(high, seed, stream, epoch, ids).tolist()
    return numbers


Space = dict[str, list[list[float]]]  # torchvision's operations: an amount by sign and magnitude


@lru_cache(maxsize=64)
def _space(
    bins: int, shear: float, pixels: float, angle: float, strength: float, bits: int
) -> Space:
    """Return torchvision's operations in its order, up to so much, in its arithmetic of 32 bits."""

    def signed(most: float, amount: Callable[[float], float]) -> list[list[float]]:
        levels = torch.linspace(0, most, bins).tolist()
        return [[amount(sign * level) for level in levels] for sign in (1, -1)]

    def angled(slope: Callable[[float], float]) -> list[list[float]]:
        """By way of degrees, after which a slope is not always the magnitude itself."""
        return signed(shear, lambda level: slope(radians(degrees(atan(level)))))

    nothing = 2 * [bins * [0.0]]
    enhanced = ("Brightness", "Color", "Contrast", "Sharpness")
    return {
        "Identity": nothing,
        "ShearX": angled(tan),
        "ShearY": angled(lambda angle: sin(angle) / cos(angle)),
        **{
            name: signed(pixels, lambda level: -int(level)) for name in ("TranslateX", "TranslateY")
        },
        "Rotate": signed(angle, float),
        **{name: signed(strength, lambda level: 1 + level) for name in enhanced},
        "Posterize": 2 * [(8 - (torch.arange(bins) / ((bins - 1) / bits)).round()).tolist()],
        "Solarize": 2 * [torch.linspace(255, 0, bins).ceil().tolist()],
        "AutoContrast": nothing,
        "Equalize": nothing,
    }


def _torchvisions(
    space: Space,
    places: list[int],
    number: int,
    resampling: tuple[Resampling, ...],
    seed: int,
    epoch: int,
    ids: Tensor,
) -> Iterator[Operation]:
    """Yield operation ``number`` of each sample, of the magnitude at its place of the space."""
    names = list(space)
    for kind, sign, place, chosen in zip(
        _choices(len(names), seed, f"policy operation {number}", epoch, ids),
        _choices(2, seed, f"policy sign {number}", epoch, ids),
        places,
        _choices(len(resampling), seed, f"policy resampling {number}", epoch, ids),
        strict=True,
    ):
        yield Operation(names[kind], space[names[kind]][sign][place], resampling[chosen])


def _timm_amount(name: str, level: float, sign: int, size: int) -> float:
    """Return what an operation of timm's does at a ``level`` from 0 to 1."""
    match name:
        case "Rotate":
            return sign * (level * 30)
        case "Posterize":
            return 4 - int(level * 4)
        case "Solarize":
            return 256 - int(level * 256)
        case "SolarizeAdd":
            return int(level * 110)
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            return max(0.1, 1 + sign * (level * 0.9))
        case "ShearX" | "ShearY":
            return sign * (level * 0.3)
        case "TranslateX" | "TranslateY":
            return sign * (level * 0.45) * size
        case _:
            return 0
