"""Metrics against scikit-learn's, intervals and exact tests against SciPy's."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from resnets.evaluation import metrics
from resnets.evaluation.paired import Paired
from resnets.report.score import interval


@pytest.fixture(params=[2, 5, 40])
def answers(request):
    """Return probabilities (N, classes) and labels, of which the last class has none."""
    random = np.random.default_rng(request.param)
    p = random.dirichlet(np.ones(request.param), 600)
    return p, random.integers(0, max(1, request.param - 1), 600)


def test_probabilities(answers):
    p, labels = answers
    ours, classes = metrics.of_one(p, labels), range(p.shape[1])
    assert ours["log_loss"] == pytest.approx(log_loss(labels, p, labels=classes), abs=1e-12)
    one_hot = labels[:, None] == np.arange(p.shape[1])
    sums = ((p - one_hot) ** 2).sum(1).mean()
    assert ours["brier"] == pytest.approx(sums, abs=1e-12)
    theirs = brier_score_loss(labels, p, labels=classes, scale_by_half=False)
    assert ours["brier"] == pytest.approx(theirs, abs=1e-12)


def test_several_labels():
    random = np.random.default_rng(1)
    p, targets = random.random((400, 6)), random.random((400, 6)) < 0.3
    ours = metrics.of_several(p, targets)
    columns = zip(targets.T, p.T, strict=True)
    briers, losses = zip(
        *((brier_score_loss(true, q), log_loss(true, q)) for true, q in columns), strict=True
    )
    assert ours["labels"]["brier"] == pytest.approx(briers, abs=1e-12)
    assert ours["log_loss"] == pytest.approx(np.mean(losses), abs=1e-12)


def test_classes(answers):
    p, labels = answers
    predicted, there = p.argmax(1), np.unique(labels)
    counts = [
        np.bincount(each, minlength=p.shape[1])
        for each in (labels, predicted, labels[labels == predicted])
    ]
    ours = metrics.of_classes(*counts)
    for average in ("macro", "weighted"):
        theirs = f1_score(labels, predicted, labels=there, average=average, zero_division=0)
        assert ours[f"f1_{average}"] == pytest.approx(theirs, abs=1e-12)
    recalls = precision_recall_fscore_support(labels, predicted, labels=there, zero_division=0)[1]
    assert ours["balanced_accuracy"] == pytest.approx(recalls.mean(), abs=1e-12)
    if np.isin(predicted, there).all():
        theirs = balanced_accuracy_score(labels, predicted)
        assert ours["balanced_accuracy"] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("more", "fewer"), [(0, 0), (3, 0), (17, 9), (121, 59), (900, 1011)])
def test_mcnemars_exact_test(more, fewer):
    ours = Paired(5000, more, fewer).p_value
    theirs = binomtest(more, more + fewer).pvalue if more + fewer else 1.0
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("right", "samples"), [(0, 7), (7, 7), (36, 118), (9146, 10_000)])
def test_wilsons_interval(right, samples):
    theirs = binomtest(right, samples).proportion_ci(method="wilson")
    ours = interval(right / samples, samples)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-5)  # 1.96 for 1.95996
