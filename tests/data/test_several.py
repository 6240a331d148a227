"""Data in hand of which an image may have several classes."""

import numpy as np
import pytest
import torch

from resnets.data.dataset import REPEAT, Dataset
from resnets.data.given import as_dataset
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
    some = split.subset(torch.tensor([4, 1])).repeated(2).to(torch.device("cpu"))
    assert some.ids.tolist() == [4, 1, 4 + REPEAT, 1 + REPEAT]
    assert some.truth.tolist() == LABELS[[4, 1, 4, 1]].astype(bool).tolist()
    assert some.labels.tolist() == [0, 0, 0, 0]


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
