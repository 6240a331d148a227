"""Metrics against counting by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnets.data.dataset import MemoryImages, whole
from resnets.data.preprocess import identity
from resnets.evaluation import evaluate


class Answers(nn.Module):
    """Answers with logits that depend on a picture's first pixel alone."""

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
