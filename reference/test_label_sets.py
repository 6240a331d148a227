"""Label sets against MAPIE's: the same quantiles and the same sets.

MAPIE lets a coin decide on the last class of APS and RAPS. Ours is the case in which it always
stays, which `Stays` lets MAPIE's coin say.
"""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import RAPSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from resnets.weights.conformal import FREE, PENALTY, Conformal, ranks
from resnets.weights.outputs import probabilities

CLASSES = 12


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose images are their probabilities."""

    def __init__(self):
        self.classes_, self.n_features_in_ = np.arange(CLASSES), CLASSES

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(1)


class Stays(np.random.RandomState):
    def uniform(self, *limits, size=None):
        return np.ones(size)


def drawn(seed: int, count: int):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (count, CLASSES))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    labels[:CLASSES] = np.arange(CLASSES)  # MAPIE wants each class once
    return probabilities(logits, "softmax"), labels


def theirs(method: str, coverage: float, held_out, test, state=None) -> np.ndarray:
    """Return MAPIE's sets, bool (N, CLASSES)."""
    found = SplitConformalClassifier(
        Given(), confidence_level=coverage, prefit=True, conformity_score=method, random_state=state
    ).conformalize(*held_out)
    options = {} if method == "lac" else {"include_last_label": "randomized"}
    return found.predict_set(test, conformity_score_params=options)[1][:, :, 0]


def ours(method: str, coverage: float, held_out, test) -> np.ndarray:
    sizes = Conformal.fitted(*held_out).sizes(test, coverage, method)
    every = np.repeat(np.arange(CLASSES)[None], len(test), 0)
    return np.stack([ranks(test, label) for label in every.T], 1) < sizes[:, None]


@pytest.mark.parametrize("coverage", [0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [40, 333])
def test_lac(count, coverage):
    held_out, (test, _) = drawn(1, count), drawn(2, 2000)
    other = theirs("lac", coverage, held_out, test)
    assert other.any(1).all()  # or ours would have the most probable class where it has none
    assert np.array_equal(ours("lac", coverage, held_out, test), other)


@pytest.mark.parametrize("coverage", [0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [40, 333])
def test_aps(count, coverage):
    held_out, (test, _) = drawn(3, count), drawn(4, 2000)
    other = theirs("aps", coverage, held_out, test, Stays())
    assert np.array_equal(ours("aps", coverage, held_out, test), other)


def test_raps():
    """MAPIE chooses the penalty; with ours its scores are ours."""
    p, labels = drawn(5, 300)
    score = RAPSConformityScore()
    score.set_external_attributes(classes=np.arange(CLASSES), random_state=Stays())
    plain = super(RAPSConformityScore, score).get_conformity_scores(labels, p, y_enc=labels)
    regular = score._regularize_conformity_score(
        np.array([FREE]), np.array([PENALTY]), plain, score.cutoff
    )[:, 0, 0]
    found = Conformal.fitted(p, labels)
    for coverage in (0.6, 0.8, 0.9, 0.95):
        wanted = np.quantile(regular, np.ceil(301 * coverage) / 300, method="lower")
        assert found.quantile(coverage, "raps") == pytest.approx(wanted, abs=1e-12)
