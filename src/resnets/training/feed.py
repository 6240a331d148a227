"""The training split as batches: order, augmentation, normalisation, erasing, mixing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from PIL.Image import Resampling
from torch import Tensor

from resnets.data.augment import Augment
from resnets.data.dataset import Dataset, MemoryImages, Split
from resnets.data.erasing import Erasing
from resnets.data.mixing import Mix
from resnets.data.order import batch_bounds, epoch_order
from resnets.data.policies import (
    ColorJitter,
    Part,
    Policy,
    RandAugment,
    TimmRandAugment,
    TrivialAugment,
)
from resnets.data.preprocess import Preprocess
from resnets.training.recipe import AugmentRecipe, Recipe

_RESAMPLING = {
    "nearest": (Resampling.NEAREST,),
    "bilinear": (Resampling.BILINEAR,),
    "bicubic": (Resampling.BICUBIC,),
    "random": (Resampling.BILINEAR, Resampling.BICUBIC),
}
_AHEAD = 2**27  # bytes of images, at most, that are augmented before their steps


@dataclass(frozen=True)
class Batch:
    """What a step trains on; ``targets`` are the labels, or probabilities where samples mix."""

    images: Tensor  # float32 (N, C, H, W), channels-last
    targets: Tensor  # int64 (N,) or float32 (N, classes)
    labels: Tensor  # int64 (N,)


@dataclass(frozen=True)
class Feed:
    """The training split as augmented, mixed and normalised batches on a device."""

    split: Split
    augment: Augment
    mix: Mix
    preprocess: Preprocess
    erasing: Erasing | None
    batch_size: int
    seed: int
    device: torch.device
    ahead: int = 1  # batches that are made at once
    repeats: int = 1  # draws of an image in a row; ``split`` has it so many times

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._bounds)

    def indices(self, epoch: int) -> list[Tensor]:
        """Return, for each batch of an epoch, its samples' positions in the split, int64 (N,)."""
        order = epoch_order(self._count, self.seed, epoch, self.repeats)
        return [order[start:stop] for start, stop in self._bounds]

    @property
    def _count(self) -> int:
        return len(self.split) // self.repeats

    @property
    def _bounds(self) -> list[tuple[int, int]]:
        return batch_bounds(self._count, self.batch_size, self.repeats)

    def batch(self, index: Tensor, epoch: int, size: int | None = None) -> Batch:
        """Return the samples at positions ``index``; ``size`` is their side where it grows."""
        images, labels = self._prepared(index, epoch, size)
        if not self.mix.active:
            return Batch(images, labels, labels)
        ids = self.split.ids[index]
        others = self._prepared(self.mix.partners(ids, len(self.split), epoch), epoch, size)
        mixed, targets = self.mix(images, labels, *others, ids.to(self.device), epoch)
        return Batch(mixed, targets, labels)

    def batches(
        self, indices: Sequence[Tensor], epoch: int, sizes: Sequence[int]
    ) -> Iterator[Batch]:
        """Yield `batch` of each of ``indices`` at its size; a GPU makes many of them at once."""
        if not indices:
            return
        lengths = [len(index) for index in indices]
        ends = [0, *accumulate(lengths)]
        # All positions at once: each copy to a device waits for what it computes.
        order = torch.cat([*indices]).to(self.split.ids.device)
        start = 0
        while start < len(indices):
            stop = start + 1
            while stop < min(len(indices), start + self.ahead) and sizes[stop] == sizes[start]:
                stop += 1
            made = self.batch(order[ends[start] : ends[stop]], epoch, sizes[start])
            parts = (
                t.split(lengths[start:stop])  # type: ignore[no-untyped-call]
                for t in (made.images, made.targets, made.labels)
            )
            yield from (Batch(*part) for part in zip(*parts, strict=True))
            start = stop

    def _prepared(self, index: Tensor, epoch: int, size: int | None) -> tuple[Tensor, Tensor]:
        images, labels = (part.to(self.device) for part in self.split.batch(index))
        ids = self.split.ids[index].to(self.device)
        images = self.preprocess.normalize(self.augment(images, ids, epoch, size))
        return self.erasing(images, ids, epoch) if self.erasing else images, labels


def build_feed(
    dataset: Dataset, recipe: Recipe, preprocess: Preprocess, device: torch.device
) -> Feed:
    """Return the training split of a data set as a recipe augments, mixes and normalises it."""
    augment, seed = recipe.augment, recipe.seed
    black = (0,) * preprocess.channels
    mean = tuple(round(255 * value) for value in preprocess.channel_mean)
    fill = black if augment.fill == "black" else mean
    return Feed(
        split=dataset.train.repeated(recipe.data.repeats).to(device),
        augment=Augment(
            seed=seed,
            size=recipe.data.training_size(preprocess.size),
            padding=augment.padding,
            fill=fill,
            reflect=augment.fill == "reflect",
            area=augment.area,
            aspect=augment.aspect,
            scale=augment.scale,
            shift=augment.shift,
            mirror="alternate" if augment.mirror == "alternate" else augment.mirror is True,
            policy=build_policy(augment, seed, fill),
            lighting=augment.lighting,
            cutout=augment.cutout,
        ),
        mix=Mix(seed, augment.mixup, augment.cutmix, len(dataset.classes)),
        preprocess=preprocess,
        erasing=Erasing(
            seed,
            augment.erasing,
            augment.erasing_area,
            augment.erasing_aspect,
            augment.erasing_fill == "noise",
        )
        if augment.erasing
        else None,
        batch_size=recipe.batch_size,
        seed=seed,
        device=device,
        ahead=_ahead(dataset.train, recipe.batch_size, device),
        repeats=recipe.data.repeats,
    )


def build_policy(augment: AugmentRecipe, seed: int, fill: tuple[int, ...]) -> Policy | None:
    """Return what a recipe does to each crop; ``fill`` (C,) comes in where an image is moved."""
    parts: list[Part] = []
    usual = "random" if augment.policy == "timm" else "bilinear"
    resampling = _RESAMPLING[augment.policy_interpolation or usual]
    if augment.policy == "randaugment":
        count, bins = augment.policy_operations, augment.policy_bins
        parts.append(RandAugment(count, augment.magnitude, bins, resampling))
    elif augment.policy == "trivialaugment":
        parts.append(TrivialAugment(augment.policy_bins, resampling))
    elif augment.policy == "timm":
        parts.append(
            TimmRandAugment(
                augment.policy_operations,
                augment.magnitude,
                augment.policy_noise,
                augment.policy_probability,
                resampling,
            )
        )
    if augment.jitter:
        parts.append(ColorJitter(*augment.jitter))
    return Policy(seed, fill, tuple(parts)) if parts else None


def _ahead(split: Split, batch_size: int, device: torch.device) -> int:
    """How many batches are made at once: launching a kernel costs a GPU more than running it,
    a CPU has its caches, and images of a folder are decoded first."""
    if device.type != "cuda" or not isinstance(split.images, MemoryImages):
        return 1
    return max(1, min(32, _AHEAD // (batch_size * prod(split.images.shape))))
