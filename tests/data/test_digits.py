"""The digits: sizes, a fixed split, and a clear line without scikit-learn."""

import sys

import pytest
import torch

from resnets.data.digits import open_digits
from resnets.errors import ResourceError


@pytest.fixture(scope="module")
def digits():
    return open_digits()


def test_sizes(digits):
    assert (len(digits.train), len(digits.test), digits.validation) == (1437, 360, None)
    assert digits.train.images.shape == digits.test.images.shape == (1, 32, 32)
    assert digits.classes == tuple("0123456789")
    assert not digits.mirror


def test_the_split_is_stratified(digits):
    train, test = digits.train.labels.bincount(), digits.test.labels.bincount()
    assert (test / (train + test) - 0.2).abs().max() < 0.01


def test_every_digit_is_used_once(digits):
    from sklearn.datasets import load_digits

    labels = torch.cat([digits.train.labels, digits.test.labels])
    assert labels.bincount().tolist() == torch.tensor(load_digits().target).bincount().tolist()


def test_pixels_span_the_range_and_are_the_digits(digits):
    images, _ = digits.train.batch(torch.arange(1437))
    assert images.dtype == torch.uint8
    assert images.amin() == 0
    assert images.amax() == 255
    # A nearest-mean classifier knows about 90 % of them: images and labels belong together.
    means = torch.stack([images[digits.train.labels == k].float().mean(0) for k in range(10)])
    tests, labels = digits.test.batch(torch.arange(360))
    guess = torch.cdist(tests.float().flatten(1), means.flatten(1)).argmin(1)
    assert (guess == labels).float().mean() > 0.85


def test_golden_fingerprint(digits):
    assert digits.fingerprint == "0df270f68d5d3bb9d9d4d256f3357eecff3d93b0c904dc0f1ed192945591139d"


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ResourceError, match="scikit-learn") as caught:
        open_digits()
    assert caught.value.hint == 'pip install "resnets[digits]"'
