"""Metrics against counting by hand, in one process and in several."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from launching import launch
from resnets.data.dataset import MemoryImages, whole
from resnets.data.preprocess import identity
from resnets.errors import NonFiniteError
from resnets.evaluation.network import evaluate
from resnets.evaluation.scores import Evaluation


class Answers(nn.Module):
    """Answers with logits that depend on an image's first pixel alone."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, x):
        return self.table[(x[:, 0, 0, 0] * 255).round().long()]


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_each_sample_counts_once(batch_size):
    torch.manual_seed(0)
    logits = torch.randn(23, 8)
    labels = torch.randint(8, (23,))
    pixels = torch.arange(23).byte().view(23, 1, 1, 1).expand(23, 4, 4, 1)
    split = whole(MemoryImages(pixels), labels)
    model = Answers(logits).train()
    found = evaluate(model, split, identity(1, 4), batch_size=batch_size)
    assert model.training
    predicted = logits.argmax(1)
    values = found.to_dict()
    assert values["samples"] == 23
    assert values["accuracy"] == (predicted == labels).sum().item() / 23
    assert values["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    top5 = [labels[i] in logits[i].topk(5).indices for i in range(23)]
    assert values["top5_accuracy"] == sum(top5) / 23
    confusion = [[0] * 8 for _ in range(8)]
    for i, j in zip(labels, predicted, strict=True):
        confusion[i][j] += 1
    assert values["confusion"] == confusion
    mistakes = found.mistakes(3)
    confidence = logits.softmax(1).amax(1)
    wrong = [i for i in range(23) if predicted[i] != labels[i]]
    assert mistakes == sorted(wrong, key=lambda i: -confidence[i])[:3]


def test_an_empty_split_is_an_error():
    split = whole(MemoryImages(torch.zeros(0, 4, 4, 1, dtype=torch.uint8)), torch.zeros(0))
    with pytest.raises(ValueError, match="empty"):
        evaluate(Answers(torch.zeros(1, 2)), split, identity(1, 4))


BATCH_SIZES = (1, 2, 3, 4, 7, 100)


def photographed(model: nn.Module, processes) -> list[Evaluation]:
    """What a model answers on seven images; of the large batches not every process gets one."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (7, 6, 6, 3), generator=generator).byte()
    split = whole(MemoryImages(pixels), torch.arange(7) % 6)
    return [
        evaluate(model, split, identity(3, 6), batch_size=size, processes=processes)
        for size in BATCH_SIZES
    ]


def answers_of_all(processes) -> tuple[list[Evaluation], str]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 6))
    found = photographed(model, processes)
    logits = torch.zeros(2, 8)
    logits[0, 0] = torch.nan
    split = whole(MemoryImages(torch.tensor([1, 1, 0]).byte().view(3, 1, 1, 1)), torch.zeros(3))
    with pytest.raises(NonFiniteError) as caught:
        evaluate(Answers(logits), split, identity(1, 1), batch_size=1, processes=processes)
    return found, caught.value.message


@cache
def answered(count: int) -> list[tuple[list[Evaluation], str]]:
    return launch(count, answers_of_all)


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_answer_what_one_does(count):
    [(alone, _)] = answered(1)
    for found, _ in answered(count):
        for ours, expected in zip(found, alone, strict=True):
            assert ours.to_dict() == expected.to_dict()
            assert np.array_equal(ours.labels, expected.labels)
            assert np.array_equal(ours.predicted, expected.predicted)
            assert np.array_equal(ours.confidence, expected.confidence)
    assert alone[0].to_dict()["samples"] == 7
    assert len(set(alone[0].predicted.tolist())) > 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nan_ends_every_process_alike(count):
    assert {message for _, message in answered(count)} == {"the loss on 3 samples is nan"}
