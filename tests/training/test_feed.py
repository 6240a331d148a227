"""Batches of the training split: the same whoever makes how many of them at once."""

from dataclasses import replace

import pytest
import torch
from PIL.Image import Resampling

from conftest import tiny_dataset
from resnets.data import counter
from resnets.data.augment import lighting
from resnets.data.dataset import MemoryImages
from resnets.data.erasing import Erasing
from resnets.data.policies import ColorJitter, Policy, TimmRandAugment
from resnets.data.preprocess import measure
from resnets.training.feed import Batch, Feed, Step, build_feed
from resnets.training.recipe import AugmentRecipe, DataRecipe, Recipe, ScheduleRecipe

CPU = torch.device("cpu")


def feed(data: DataRecipe | None = None, **augment) -> Feed:
    recipe = Recipe(
        name="test",
        batch_size=5,
        schedule=ScheduleRecipe(epochs=1),
        data=data or DataRecipe(),
        augment=AugmentRecipe(**augment),
    )
    dataset = tiny_dataset()
    return build_feed(dataset, recipe, measure(dataset.train, 8, "channel"), CPU)


class Counted(MemoryImages):
    """Keeps how many images were asked for at once."""

    def __init__(self, pixels: torch.Tensor) -> None:
        super().__init__(pixels)
        self.counts: list[int] = []

    def batch(self, ids: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(ids))
        return super().batch(ids)


def equal(some: list[Batch], others: list[Batch]) -> bool:
    tensors = ([t for batch in part for t in batch] for part in (some, others))
    pairs = zip(*tensors, strict=True)
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "augment",
    [
        {"padding": 2},
        {"padding": 2, "mixup": 0.2, "cutmix": 1.0},
        {"padding": 2, "policy": "trivialaugment", "jitter": (0.4, 0.4, 0.4, 0.1)},
        {"padding": 0, "erasing": 0.5, "erasing_fill": "noise", "mixup": 0.2},
    ],
)
def test_batches_made_together_are_those_made_one_by_one(augment):
    """As a GPU makes them; a batch of another size is made apart."""
    made = feed(**augment)
    indices = made.indices(3)
    sizes = [8, 8, 8, 8, 6, 6, 8] + (len(indices) - 7) * [8]
    single = [made.batch(index, 3, size) for index, size in zip(indices, sizes, strict=True)]
    steps = [Step(3, *each) for each in zip(indices, sizes, strict=True)]
    assert equal(single, list(made.batches(steps)))
    images = Counted(made.split.images.pixels)
    together = replace(made, ahead=3, split=replace(made.split, images=images))
    assert equal(single, list(together.batches(steps)))
    assert max(images.counts) == (30 if "mixup" in augment else 15)  # partners come along
    assert list(made.batches([])) == []


def test_a_policy_changes_crops_before_lighting():
    """What a recipe asks for, in torchvision's order."""
    settings = {"padding": 2, "fill": "black", "interpolation": "random"}
    plain = feed(**settings)
    changed = feed(**settings, policy="timm", policy_magnitude=7, jitter=(0.4, 0.0, 0.0, 0.0))
    lit = feed(**settings, policy="timm", policy_interpolation="nearest", lighting=0.5)
    index, ids = torch.arange(20), plain.split.ids[:20]
    crops = plain.augment(plain.split.batch(index)[0], ids, 1)
    timm, jitter = TimmRandAugment(2, 7, 0.5, 0.5), ColorJitter(0.4)
    policy = Policy(0, (0, 0, 0), (timm, jitter))
    expected = plain.preprocess.normalize(policy(crops, ids, 1))
    assert torch.equal(changed.batch(index, 1).images, expected)
    assert not torch.equal(changed.batch(index, 1).images, plain.batch(index, 1).images)
    normals = [counter.normal(0, f"lighting {i}", 1, ids) for i in range(3)]
    nearest = TimmRandAugment(resampling=(Resampling.NEAREST,))
    crops = replace(policy, parts=(nearest,))(crops, ids, 1)
    expected = lighting(crops, 0.5 * torch.stack(normals, 1))
    assert torch.equal(lit.batch(index, 1).images, plain.preprocess.normalize(expected))


def test_erasing_comes_after_normalisation_and_before_mixing():
    settings = {"padding": 0, "mixup": 0.3}
    plain, erased = feed(**settings), feed(**settings, erasing=0.7, erasing_area=(0.3, 0.4))
    index, ids = torch.arange(20), plain.split.ids[:20]
    erasing = Erasing(0, 0.7, (0.3, 0.4))

    def prepared(index: torch.Tensor) -> torch.Tensor:
        ids = plain.split.ids[index]
        images = plain.augment(plain.split.batch(index)[0], ids, 1)
        return erasing(plain.preprocess.normalize(images), ids, 1)

    partners = plain.mix.partners(ids, len(plain.split), 1)
    labels, others = plain.split.labels[index], plain.split.labels[partners]
    mixed, _, _ = plain.mix(prepared(index), labels, prepared(partners), others, ids, 1)
    assert torch.equal(erased.batch(index, 1).images, mixed)
    assert not torch.equal(mixed, plain.batch(index, 1).images)


def test_an_image_that_is_drawn_again_is_augmented_anew():
    """And mixed with another; its first draw is the one of an epoch without repeats."""
    alone, mixed = (feed(DataRecipe(repeats=3), padding=2, **mix) for mix in ({}, {"mixup": 0.2}))
    index = torch.cat(alone.indices(2))
    images = alone.batch(index, 2).images
    count = len(alone.split)
    assert len(index) == count
    assert torch.equal(index[:3] % count, index[[0, 0, 0]])
    assert alone.split.names(index[:3]) == alone.split.names(index[[0, 0, 0]])
    assert not any(images[0].equal(image) for image in images[1:3])
    assert not images[1].equal(images[2])
    assert alone.batch(index, 2).labels[:3].unique().numel() == 1
    assert feed(padding=2).batch(index[:1], 2).images.equal(images[:1])
    partners = mixed.mix.partners(mixed.split.draws(index[:3]), 3 * count, 2)
    assert partners.unique().numel() == 3


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4])
def test_an_image_may_mix_with_the_next_of_its_batch(repeats, ahead):
    """Which is then read once; whoever has which share of a batch, and however many at once."""
    data, mix = DataRecipe(repeats=repeats), {"mixup": 0.2, "cutmix": 1.0}
    plain = feed(data, padding=2)
    images = Counted(plain.split.images.pixels)
    made = feed(data, padding=2, partner="next", **mix)
    made = replace(made, ahead=ahead, split=replace(made.split, images=images))
    batches = made.indices(1)
    found = list(made.batches(made.step(1, batch, slice(None), 8) for batch in batches))
    assert sum(images.counts) == sum(map(len, batches))
    for batch, index in zip(found, batches, strict=True):
        own, partners = plain.batch(index, 1), plain.batch(index.roll(-repeats), 1)
        wanted, targets, _ = made.mix(
            own.images, own.labels, partners.images, partners.labels, made.split.draws(index), 1
        )
        assert batch.images.equal(wanted)
        assert batch.targets.equal(targets)
    share = slice(2, 4)
    (part,) = made.batches([made.step(1, batches[0], share, 8)])
    assert part.images.equal(found[0].images[share])


def test_training_and_evaluation_may_differ_in_size():
    dataset, data = tiny_dataset(side=12), DataRecipe(image_size=8, eval_size=12)
    recipe = Recipe(name="test", schedule=ScheduleRecipe(epochs=1), data=data)
    made = build_feed(dataset, recipe, measure(dataset.train, 12, "channel"), CPU)
    assert made.batch(torch.arange(3), 0).images.shape[2:] == (8, 8)
    assert made.preprocess(dataset.test.batch(torch.arange(3))[0]).shape[2:] == (12, 12)
