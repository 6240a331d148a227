"""Batches of the training split: the same whoever makes how many of them at once."""

from dataclasses import replace

import pytest
import torch

from conftest import tiny_dataset
from resnets.data.dataset import MemoryImages
from resnets.data.preprocess import measure
from resnets.training.feed import Batch, Feed, build_feed
from resnets.training.recipe import AugmentRecipe, Recipe, ScheduleRecipe

CPU = torch.device("cpu")


def feed(**augment) -> Feed:
    recipe = Recipe(
        name="test",
        batch_size=5,
        schedule=ScheduleRecipe(epochs=1),
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
    tensors = ([t for batch in part for t in vars(batch).values()] for part in (some, others))
    return all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


@pytest.mark.parametrize("augment", [{"padding": 2}, {"padding": 2, "mixup": 0.2, "cutmix": 1.0}])
def test_batches_made_together_are_those_made_one_by_one(augment):
    """As a GPU makes them; a batch of another size is made apart."""
    made = feed(**augment)
    indices = made.indices(3)
    sizes = [8, 8, 8, 8, 6, 6, 8] + (len(indices) - 7) * [8]
    single = [made.batch(index, 3, size) for index, size in zip(indices, sizes, strict=True)]
    assert equal(single, list(made.batches(indices, 3, sizes)))
    images = Counted(made.split.images.pixels)
    together = replace(made, ahead=3, split=replace(made.split, images=images))
    assert equal(single, list(together.batches(indices, 3, sizes)))
    assert max(images.counts) == 15
    assert list(made.batches([], 3, [])) == []
