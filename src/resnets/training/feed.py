"""The training split as batches: order, augmentation, normalisation, erasing, mixing."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from math import prod
from typing import NamedTuple

import torch
from PIL.Image import Resampling
from torch import Tensor

from resnets.data.augment import Augment
from resnets.data.class_balance import draw, sample_factors
from resnets.data.dataset import Dataset, MemoryImages, Split
from resnets.data.erasing import Erasing
from resnets.data.mixing import Mix
from resnets.data.order import batch_bounds, epoch_order
from resnets.data.photographs import Photographs, Request
from resnets.data.policies import (
    ColorJitter,
    Part,
    Policy,
    RandAugment,
    TimmRandAugment,
    TrivialAugment,
)
from resnets.data.preprocess import Preprocess
from resnets.data.views import Crops
from resnets.training.recipe import AugmentRecipe, Recipe

_RESAMPLING = {
    "nearest": (Resampling.NEAREST,),
    "bilinear": (Resampling.BILINEAR,),
    "bicubic": (Resampling.BICUBIC,),
    "random": (Resampling.BILINEAR, Resampling.BICUBIC),
}
_AHEAD = 2**27  # bytes of images, at most, that are augmented before their steps


class Batch(NamedTuple):
    """What a step trains on; ``targets`` are the labels, or probabilities where samples mix."""

    images: Tensor  # float32 (N, C, H, W), channels-last
    targets: Tensor  # as the labels, or float32 (N, classes)
    labels: Tensor  # int64 (N,); bool (N, classes) where an image may have several
    weights: Tensor | None = None  # float32 (N,), the factor of each sample's loss; None: 1


@dataclass(frozen=True)
class Step:
    """What is asked of a step: samples by their positions in the split, and their size."""

    epoch: int
    index: Tensor  # int64 (N,)
    size: int  # pixels
    partners: Tensor | None = None  # what the samples mix with, int64 (N,); None: what is drawn


@dataclass(frozen=True)
class Asked:
    """Positions in the split that are read for some steps, each once, and which they become."""

    index: Tensor  # int64 (M,)
    mine: slice  # the places in these of the steps' own samples, N
    theirs: slice | Tensor  # and those of what they mix with, int64 (N,)


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
    repeats: int = 1  # draws of an image in a row
    classes: tuple[int, ...] = ()  # samples of each, where it is drawn alike and ``split`` by class
    next_partner: bool = False  # samples mix with the next image of the batch
    whole: bool = False  # crops are cut from whole images, not from their squares
    interpolation: str = "bilinear"  # of these; or "bicubic", or either at "random"

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._bounds)

    def indices(self, epoch: int) -> list[Tensor]:
        """Return, for each batch of an epoch, its samples' positions in the split, int64 (N,)."""
        order = epoch_order(len(self.split), self.seed, epoch, self.repeats, self.classes)
        return [order[start:stop] for start, stop in self._bounds]

    @property
    def _bounds(self) -> list[tuple[int, int]]:
        return batch_bounds(len(self.split), self.batch_size, self.repeats)

    def batch(self, index: Tensor, epoch: int, size: int | None = None) -> Batch:
        """Return the samples at positions ``index``; ``size`` is their side where it grows."""
        return next(self.batches([self.step(epoch, index, slice(None), size or self.augment.size)]))

    def step(self, epoch: int, batch: Tensor, share: slice, size: int) -> Step:
        """Return the step of a process that has a share of a batch, given by its positions."""
        partners = None
        if self.mix.active and self.next_partner:
            partners = batch.roll(-self.repeats)[share]  # of another image
        return Step(epoch, batch[share], size, partners)

    def batches(self, steps: Iterable[Step]) -> Generator[Batch, None, None]:
        """Yield the batch of each step, without images that cannot be read and may be left out.

        Images in files are read ahead, in threads; of those in memory a GPU makes many at once.
        """
        if not isinstance(self.split.images, Photographs):
            for some in self._together(steps):
                yield from self._divided(some)
            return
        begun: deque[tuple[Step, Asked]] = deque()

        def requests() -> Iterator[Request]:
            for step in steps:
                asked = self._asked([step])
                begun.append((step, asked))
                crops = Crops(self.augment, step.epoch, step.size, self.interpolation)
                yield Request(self.split.draws(asked.index), crops if self.whole else None)

        for answer in self.split.images.read(requests()):
            step, asked = begun.popleft()
            yield self._finished(step, asked, answer.images, answer.sound)

    def _together(self, steps: Iterable[Step]) -> Iterator[list[Step]]:
        """Yield as many steps as are made at once, of one epoch and size."""
        for _, alike in groupby(steps, key=lambda step: (step.epoch, step.size)):
            while some := list(islice(alike, self.ahead)):
                yield some

    def _divided(self, steps: Sequence[Step]) -> Iterator[Batch]:
        """Yield the batches of steps of one epoch and size, which are made at once."""
        asked = self._asked(steps)
        made = self._finished(steps[0], asked, self.split.batch(asked.index)[0])
        lengths = [len(step.index) for step in steps]
        parts = (
            t.split(lengths)  # type: ignore[no-untyped-call]
            for t in (made.images, made.targets, made.labels, made.weights)
            if t is not None
        )
        yield from (Batch(*part) for part in zip(*parts, strict=True))

    def _asked(self, steps: Sequence[Step]) -> Asked:
        """Return what is read for steps of one epoch."""
        # All positions at once: each copy to a device waits for what it computes.
        index = torch.cat([step.index for step in steps]).to(self.split.ids.device)
        mine = slice(len(index))
        if not self.mix.active:
            return Asked(index, mine, mine)
        if not self.next_partner:
            drawn = self._partners(self.split.draws(index), steps[0].epoch)
            return Asked(torch.cat([index, drawn]), mine, slice(len(index), None))
        given = [step.partners for step in steps if step.partners is not None]
        partners = torch.cat(given).to(index.device)
        read = torch.cat([index, partners[~torch.isin(partners, index)]])
        order = read.argsort()
        return Asked(read, mine, order[torch.searchsorted(read[order], partners)])

    def _partners(self, ids: Tensor, epoch: int) -> Tensor:
        """Return what samples mix with, drawn as samples are, int64 (N,)."""
        if self.classes:
            return draw(self.classes, self.seed, "mix partner", epoch, ids)
        return self.mix.partners(ids, len(self.split) * self.repeats, epoch)

    def _finished(
        self, step: Step, asked: Asked, images: Tensor, sound: Tensor | None = None
    ) -> Batch:
        """Return the batch that becomes of ``images``: crops if they are ``whole``, or squares.

        They are those that were asked for; only those at places ``sound`` of these, where some
        were left out.
        """
        found = asked.index if sound is None else asked.index[sound]
        ids, sample = self.split.draws(found).to(self.device), found % len(self.split)
        labels = self.split.truth[sample].to(self.device)
        weights = self.split.weights
        weights = None if weights is None else weights[sample].to(self.device)
        images = images.to(self.device)
        if not self.whole:
            images = self.augment.crop(images, ids, step.epoch, step.size)
            images = self.augment.change(images, ids, step.epoch)
        images = self.preprocess.normalize(self.augment.recolour(images, ids, step.epoch))
        if self.erasing:
            images = self.erasing(images, ids, step.epoch)
        if not self.mix.active:
            return Batch(images, labels, labels, weights)
        mine: slice | Tensor = asked.mine
        theirs: slice | Tensor = asked.theirs
        if sound is not None and len(found) < len(asked.index):
            mine, theirs = _pairs(asked, sound)
        own, other = (None, None) if weights is None else (weights[mine], weights[theirs])
        mixed, targets, weights = self.mix(
            images[mine],
            labels[mine],
            images[theirs],
            labels[theirs],
            ids[mine],
            step.epoch,
            own,
            other,
        )
        return Batch(mixed, targets, labels[mine], weights)


def _pairs(asked: Asked, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each image lies, and where its partner; its own place without one.

    ``sound`` are the places that are left of those that were asked for.
    """
    places = torch.full((len(asked.index),), -1)
    places[sound] = torch.arange(len(sound))
    mine, theirs = places[asked.mine], places[asked.theirs]
    there = mine >= 0
    return mine[there], torch.where(theirs < 0, mine, theirs)[there]


def build_feed(
    dataset: Dataset, recipe: Recipe, preprocess: Preprocess, device: torch.device
) -> Feed:
    """Return the training split of a data set as a recipe augments, mixes and normalises it."""
    augment, seed = recipe.augment, recipe.seed
    alike = recipe.data.sampling == "balanced"
    split = replace(dataset.train, weights=loss_factors(dataset, recipe))
    if alike:
        split = split.subset(split.labels.argsort(stable=True))
    black = (0,) * preprocess.channels
    mean = tuple(round(255 * value) for value in preprocess.channel_mean)
    fill = black if augment.fill == "black" else mean
    return Feed(
        split=split.to(device),
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
        mix=Mix(
            seed,
            augment.mixup,
            augment.cutmix,
            len(dataset.classes),
            whole=recipe.target_threshold is not None,
        ),
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
        classes=dataset.counts if alike else (),
        next_partner=augment.partner == "next",
        whole=isinstance(dataset.train.images, Photographs) and sees_whole(recipe),
        interpolation=augment.interpolation,
    )


def loss_factors(dataset: Dataset, recipe: Recipe) -> Tensor | None:
    """Return what the loss of each training sample is multiplied by; see `sample_factors`."""
    alike = recipe.data.sampling == "balanced"
    return sample_factors(dataset, recipe.class_weights, recipe.effective_beta, drawn_alike=alike)


def sees_whole(recipe: Recipe) -> bool:
    """Whether a recipe cuts its crops from whole photographs, not from their squares."""
    return recipe.data.view == "whole" and not recipe.augment.shift


def sees_originals(recipe: Recipe) -> bool:
    """Whether these are windows of the images as they are, not of images that were scaled."""
    windows = recipe.augment.area or recipe.augment.scale
    return sees_whole(recipe) and recipe.data.fit == "crop" and windows is not None


def build_policy(augment: AugmentRecipe, seed: int, fill: tuple[int, ...]) -> Policy | None:
    """Return what a recipe does to each crop; ``fill`` (C,) comes in where an image is moved."""
    parts: list[Part] = []
    resampling = _RESAMPLING[augment.policy_interpolation or augment.interpolation]
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
