"""Weights of classes against scikit-learn and the paper; draws against what chance allows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny_dataset
from resnets.data.class_balance import class_weights, draw, sample_factors
from resnets.data.dataset import Dataset
from resnets.data.order import batch_bounds, epoch_length, epoch_order
from resnets.errors import DataError

COUNTS = (300, 40, 0, 7)


def uneven(weights=None) -> Dataset:
    """With classes 0, 1 and 3, of COUNTS samples, in a random order."""
    data = tiny_dataset(sum(COUNTS))
    labels = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    train = replace(data.train, labels=labels, weights=weights)
    return replace(data, classes=tuple("abcd"), train=train)


def test_balanced_weights_are_scikit_learns():
    balanced = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    data = uneven()
    labels = data.train.labels.numpy()
    wanted = balanced("balanced", classes=np.unique(labels), y=labels)
    factors = sample_factors(data, "balanced", 0.9, drawn_alike=False)
    assert factors.dtype == torch.float32
    for label, weight in zip((0, 1, 3), wanted, strict=True):  # whose mean is 1 as it is
        assert factors[labels == label].numpy() == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999])
def test_effective_weights_are_those_of_the_paper(beta):
    """Cui et al. 2019, eq. 3, as a sum: each sample adds what the ones before left over."""
    data = uneven()
    effective = {label: sum(beta**i for i in range(COUNTS[label])) for label in (0, 1, 3)}
    factors = sample_factors(data, "effective", beta, drawn_alike=False).double()
    assert factors.mean().item() == pytest.approx(1, rel=1e-6)
    times = {label: factors[data.train.labels == label] * n for label, n in effective.items()}
    for found in times.values():
        assert found.numpy() == pytest.approx(times[0][0].item(), rel=1e-6)


def test_between_equal_images_and_equal_classes():
    counts = torch.tensor(COUNTS)
    assert class_weights(counts, 0.0).tolist() == [1, 1, 0, 1]
    assert class_weights(counts, 1 - 1e-12).tolist() == pytest.approx(
        class_weights(counts, None).tolist(), rel=1e-4
    )


@pytest.mark.parametrize("kind", ["none", "balanced"])
@pytest.mark.parametrize("alike", [False, True])
def test_weights_of_the_data_multiply_and_the_mean_stays_one(kind, alike):
    weights = torch.rand(sum(COUNTS), generator=torch.Generator().manual_seed(1))
    weights[:5] = 0
    data = uneven(weights)
    labels = data.train.labels
    factors = sample_factors(data, kind, 0.9, drawn_alike=alike).double()
    chances = 1 / (3 * torch.tensor(COUNTS)[labels]) if alike else 1 / len(labels)
    assert (chances * factors).sum().item() == pytest.approx(1, rel=1e-6)
    ratio = factors[5:] / weights[5:].double()
    if kind == "balanced":
        ratio *= torch.tensor(COUNTS)[labels[5:]]
    assert ratio.numpy() == pytest.approx(ratio[0].item(), rel=1e-5)
    assert not factors[:5].any()
    assert sample_factors(uneven(), "none", 0.9, drawn_alike=alike) is None


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), None])
def test_weights_that_are_none_are_refused(value):
    weights = torch.zeros(sum(COUNTS)) if value is None else torch.ones(sum(COUNTS))
    weights[3] = value or 0.0
    with pytest.raises(DataError, match="weights are not all finite"):
        sample_factors(uneven(weights), "none", 0.9, drawn_alike=False)


def test_any_class_is_drawn_alike_and_any_of_its_samples():
    """By chi-squared over 200 epochs; beyond these bounds once in a million."""
    count = sum(COUNTS)
    drawn = torch.cat(
        [epoch_order(count, 5, epoch, classes=COUNTS) % count for epoch in range(200)]
    )
    assert len(drawn) == 200 * count
    seen, first = drawn.bincount(minlength=count).double(), 0
    classes = []
    for size in filter(None, COUNTS):
        own = seen[first : first + size]
        classes.append(own.sum())
        expected = own.sum() / size
        assert ((own - expected) ** 2 / expected).sum() < bound(size - 1)
        first += size
    expected = torch.tensor(200 * count / 3)
    assert sum((found - expected) ** 2 / expected for found in classes) < bound(2)


def bound(freedom: int) -> float:
    """Where chi-squared is with a probability of 1e-6 or less (Laurent & Massart 2000, eq. 4.3)."""
    x = np.log(1e6)
    return freedom + 2 * np.sqrt(freedom * x) + 2 * x


def test_epochs_are_independent_of_each_other():
    """Pairs of an epoch's and the next one's class at the same place, by chi-squared."""
    count = sum(COUNTS)
    ends = torch.tensor(COUNTS).cumsum(0)
    orders = [epoch_order(count, 5, epoch, classes=COUNTS) % count for epoch in range(100)]
    classes = torch.stack([torch.searchsorted(ends, order, right=True) for order in orders])
    for pairs in (4 * classes[1:] + classes[:-1], 4 * classes[:, 1:] + classes[:, :-1]):
        seen = pairs.flatten().bincount(minlength=16).double()
        seen = seen[seen > 0]
        assert len(seen) == 9
        assert ((seen - seen.mean()) ** 2 / seen.mean()).sum() < bound(8)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_each_draw_of_an_epoch_is_another(counts, repeats, epoch):
    """And as many as without, in the same batches; an image's are numbered as they come."""
    classes, count = tuple(counts), sum(counts)
    order = epoch_order(count, 1, epoch, repeats, classes)
    assert len(order) == epoch_length(count, repeats)
    assert len(order.unique()) == len(order)
    assert batch_bounds(count, 8, repeats)[-1][1] == len(order)
    before: dict[int, int] = {}
    for position in order.tolist():
        sample = position % count
        assert position // count == before.get(sample, 0)
        before[sample] = position // count + 1
    rows = (order % count)[: len(order) // repeats * repeats].view(-1, repeats)
    assert (rows == rows[:, :1]).all()
    assert torch.equal(order, epoch_order(count, 1, epoch, repeats, classes))


def test_seed_epoch_and_stream_matter_and_batches_do_not():
    ids = torch.arange(1000) * 3
    first = draw(COUNTS, 1, "order", 2, ids)
    assert torch.equal(first[100:200], draw(COUNTS, 1, "order", 2, ids[100:200]))
    for other in ((2, "order", 2), (1, "partner", 2), (1, "order", 3)):
        assert (draw(COUNTS, *other, ids) != first).double().mean() > 0.9
