"""Data in hand of which an image may have several classes."""

import numpy as np
import pytest
import torch

from resnets.data.dataset import Dataset, MemoryImages, whole
from resnets.data.given import as_dataset
from resnets.data.holdout import hold_out
from resnets.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
LABELS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]])


class Named(list[tuple[np.ndarray, list[int]]]):
    """Pairs, with names of their classes."""

    def __init__(self, *classes: str) -> None:
        super().__init__(zip(IMAGES, LABELS.tolist(), strict=True))
        self.classes = classes


def test_vectors_of_any_kind_are_the_same_labels() -> None:
    given = [LABELS, LABELS.astype(bool), LABELS.astype(np.float32), torch.tensor(LABELS)]
    found: list[Dataset] = [as_dataset((IMAGES, labels)) for labels in given]
    found.append(as_dataset(list(zip(IMAGES, torch.tensor(LABELS), strict=True))))
    for dataset in found:
        assert dataset.several
        assert dataset.classes == ("0", "1", "2")
        assert dataset.fingerprint == found[0].fingerprint
        assert dataset.train.targets is not None
        assert dataset.train.targets.dtype == torch.bool
        assert dataset.train.targets.tolist() == LABELS.astype(bool).tolist()
        assert dataset.train.labels.tolist() == [1, 0, 0, 2, 0, 1]  # the first; 0 without any
    assert as_dataset(Named("a", "b", "c")).classes == ("a", "b", "c")
    one = as_dataset((IMAGES, np.arange(6) % 3))
    assert not one.several
    assert one.train.targets is None
    assert one.train.truth is one.train.labels


def test_other_labels_are_other_data() -> None:
    other = LABELS.copy()
    other[2, 2] = 1
    before, after = as_dataset((IMAGES, LABELS)), as_dataset((IMAGES, other))
    assert before.fingerprint != after.fingerprint


def test_all_classes_go_with_their_sample() -> None:
    split = as_dataset((IMAGES, LABELS)).train
    some = split.subset(torch.tensor([4, 1])).to(torch.device("cpu"))
    assert some.ids.tolist() == [4, 1]
    assert some.truth.tolist() == LABELS[[4, 1]].astype(bool).tolist()
    assert some.labels.tolist() == [0, 0]
    assert split.counts(3) == [2, 3, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS * 2, r"label 0 is \[0 2 2\]"),
        (LABELS / 2, "label 0 is"),
        (LABELS[:, :1], r"label 0 is \[0\]"),
        (LABELS * 0 + 1, r"all labels are \(True, True, True\)"),
        (LABELS[:4], "differ in number"),
    ],
)
def test_what_is_no_vector_of_classes(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset((IMAGES, labels))


def test_labels_of_two_kinds_and_names_that_do_not_fit() -> None:
    pairs: list[tuple[np.ndarray, object]] = [(IMAGES[0], [0, 1]), (IMAGES[1], [1, 0, 1])]
    with pytest.raises(DataError, match="label 1 is a vector of 3, and label 0 is a vector of 2"):
        as_dataset(pairs)
    with pytest.raises(DataError, match="label 1 is one class, and label 0 is a vector of 2"):
        as_dataset([pairs[0], (IMAGES[1], 1)])
    with pytest.raises(DataError, match="it names 2 classes, and a label is a vector of 3"):
        as_dataset(Named("a", "b"))


@pytest.mark.parametrize("amount", [0.1, 0.25, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_are_the_shares_of_every_class(amount: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.random((400, 8)) < random.random(8) * 0.6
    split = whole(MemoryImages(torch.zeros(400, 1, 1, 3).byte()), torch.from_numpy(targets))
    kept, held = hold_out(split, amount, seed)
    assert kept.targets is not None
    assert held.targets is not None
    count = round(400 * amount) if amount < 1 else amount
    assert len(held) == count
    assert len(kept) + len(held) == 400
    share = count / 400
    off = held.targets.sum(0).numpy() - share * targets.sum(0)
    assert np.abs(off).max() < 1.5
    _sets, numbers, sizes = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    chosen = np.isin(split.ids.numpy(), held.ids.numpy())
    for number, size in enumerate(sizes):
        own = chosen[numbers == number].sum()
        assert np.floor(share * size) <= own <= np.ceil(share * size)
    again = hold_out(split, amount, seed)[1]
    assert held.ids.equal(again.ids)
    other = hold_out(split, amount, seed + 10)[1]
    assert not held.ids.equal(other.ids)


def test_copies_of_several_classes_stay_together() -> None:
    random = np.random.default_rng(0)
    targets = torch.from_numpy(random.random((300, 4)) < 0.4)
    split = whole(MemoryImages(torch.zeros(300, 1, 1, 3).byte()), targets)
    originals = torch.arange(300) // 3 * 3
    kept, held = hold_out(split, 0.2, 0, originals=originals)
    assert not set((kept.ids // 3).tolist()) & set((held.ids // 3).tolist())
    assert abs(len(held) - 60) <= 3
    assert held.targets is not None
    assert (held.targets.sum(0) - 0.2 * targets.sum(0)).abs().max() <= 3


def test_a_class_that_would_have_nothing_left_is_refused() -> None:
    targets = torch.tensor([[True, False], [False, True], [False, True]])
    split = whole(MemoryImages(torch.zeros(3, 1, 1, 3).byte()), targets)
    with pytest.raises(DataError, match="nothing to train on of class cat, which has 1"):
        hold_out(split, 2, 0, classes=("cat", "dog"))


def test_of_groups_that_are_all_too_large_one_is_held_out() -> None:
    targets = torch.tensor([[True, False], [False, True], [True, True]]).repeat_interleave(10, 0)
    split = whole(MemoryImages(torch.zeros(30, 1, 1, 3).byte()), targets)
    kept, held = hold_out(split, 3, 0, originals=torch.arange(30) // 10 * 10)
    assert len(held) == 10
    assert len(set((held.ids // 10).tolist())) == 1
    assert len(kept) == 20
