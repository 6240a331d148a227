"""Temperature and calibration error against netcal's."""

import numpy as np
import pytest
from netcal.metrics import ECE
from netcal.scaling import TemperatureScaling

from resnets.evaluation.metrics import BINS, reliability
from resnets.evaluation.temperature import fit_calibration
from resnets.weights.outputs import probabilities


@pytest.fixture(params=[0, 1, 2])
def answers(request):
    """Return logits that are twice too sure, and labels."""
    random = np.random.default_rng(request.param)
    true = random.normal(0, 1.5, (3000, 10))
    labels = np.array([random.choice(10, p=p) for p in probabilities(true, "softmax")])
    return 2 * true, labels


def test_the_temperature_is_netcals(answers):
    logits, labels = answers
    theirs = TemperatureScaling(method="mle")
    theirs.fit(probabilities(logits, "softmax"), labels)
    ours = fit_calibration(logits, labels)
    assert ours.scale[0] == pytest.approx(float(np.ravel(theirs.weights)[0]), abs=1e-4)
    expected = theirs.transform(probabilities(logits, "softmax"))
    np.testing.assert_allclose(probabilities(ours(logits), "softmax"), expected, atol=1e-4)


def test_the_calibration_error_is_netcals(answers):
    logits, labels = answers
    p = probabilities(logits, "softmax")
    ours = reliability(p.max(1), p.argmax(1) == labels).error
    assert ours == pytest.approx(ECE(BINS).measure(p, labels), abs=1e-12)
