"""Order, batches and the held-out split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.dataset import MemoryImages, Split, whole
from resnets.data.holdout import hold_out
from resnets.data.order import batch_bounds, epoch_length, epoch_order
from resnets.errors import DataError


@given(st.integers(1, 300), st.integers(0, 9), st.integers(0, 9))
def test_each_sample_once_an_epoch(count, seed, epoch):
    order = epoch_order(count, seed, epoch)
    assert torch.equal(order.sort().values, torch.arange(count))
    assert torch.equal(order, epoch_order(count, seed, epoch))


def test_epochs_and_seeds_differ():
    orders = [tuple(epoch_order(50, s, e).tolist()) for s in range(3) for e in range(3)]
    assert len(set(orders)) == 9


def sampled(order: list[int], repeats: int, ranks: int) -> list[int]:
    """What the samplers of DeiT, timm and torchvision give ``ranks`` processes, in their order."""
    repeated = [position for position in order for _ in range(repeats)]
    each = -(-len(repeated) // ranks)
    repeated += repeated[: each * ranks - len(repeated)]
    chosen = len(order) // 256 * 256 // ranks
    shares = [repeated[rank::ranks][:chosen] for rank in range(ranks)]
    return [position for step in zip(*shares, strict=True) for position in step]


@pytest.mark.parametrize(("count", "repeats"), [(1000, 3), (1000, 4), (512, 2), (771, 5)])
def test_repeated_augmentation_draws_what_samplers_of_others_draw(count, repeats):
    """However many processes these are for: batches are divided later."""
    plain, order = epoch_order(count, 3, 7), epoch_order(count, 3, 7, repeats)
    for ranks in (1, 2, 8):
        assert (order % count).tolist() == sampled(plain.tolist(), repeats, ranks)
    assert len(order.unique()) == len(order) == epoch_length(count, repeats)
    assert order.max() < count * repeats
    assert batch_bounds(count, 64, repeats)[-1][1] == len(order)


def test_few_samples_repeat_without_being_cut():
    order = epoch_order(10, 0, 0, 3)
    assert (order % 10).bincount(minlength=10).sort().values.tolist() == [0] * 6 + [1, 3, 3, 3]


@given(st.integers(1, 400), st.integers(1, 64))
def test_batches_cover_the_epoch(count, size):
    bounds = batch_bounds(count, size)
    assert [i for a, b in bounds for i in range(a, b)] == list(range(count))
    assert all(b - a == size for a, b in bounds[:-1])
    if count > 1 and size > 1:
        assert min(b - a for a, b in bounds) > 1


def labelled(labels: list[int]) -> Split:
    images = MemoryImages(torch.zeros(len(labels), 2, 2, 1, dtype=torch.uint8))
    return whole(images, torch.tensor(labels))


@given(st.lists(st.integers(0, 3), min_size=40, max_size=120), st.integers(0, 5))
def test_holdout_is_stratified_and_exact(labels, seed):
    labels += [0, 1, 2, 3] * 5
    split = labelled(labels)
    kept, held = hold_out(split, 0.25, seed)
    assert len(held) == round(0.25 * len(split))
    assert sorted([*kept.ids.tolist(), *held.ids.tolist()]) == list(range(len(split)))
    for label in range(4):
        of_class = labels.count(label)
        assert abs((held.labels == label).sum().item() - 0.25 * of_class) < 1
    assert torch.equal(hold_out(split, 0.25, seed)[1].ids, held.ids)


def test_holdout_by_number_and_none():
    split = labelled([0, 1] * 50)
    assert len(hold_out(split, 10, 0)[1]) == 10
    kept, held = hold_out(split, 0, 0)
    assert len(kept) == 100
    assert len(held) == 0


def test_holdout_never_takes_a_whole_class():
    with pytest.raises(DataError, match="nothing to train on"):
        hold_out(labelled([0] * 8 + [1]), 8, 0)


def test_a_lone_picture_stays_in_training():
    kept, _ = hold_out(labelled([0] * 20 + [1]), 0.1, 0)
    assert 1 in kept.labels
