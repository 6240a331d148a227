"""Calibration: the temperature, or a scale and a bias a class, by which held-out images are likely.

Guo et al. 2017. What is fitted on few images may fit these alone: it is kept only where images that
it was not fitted on become more likely by it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.evaluation.metrics import log_losses
from resnets.weights.calibration import Calibration
from resnets.weights.outputs import probabilities

Floats = NDArray[np.float64]
KINDS = ("temperature", "vector")
FEWEST = 10  # wrong answers, below which nothing shows how much surer answers may be made
FOLDS = 5  # of the held-out images, to see whether it holds beyond those that it was fitted on
_WIDEST = 100.0  # the largest factor: beyond it the likeliest is infinite, as where all is correct


def fit_calibration(
    logits: NDArray[Any], truth: NDArray[Any], kind: str = "temperature"
) -> Calibration | None:
    """Return the calibration of logits (N, C), or None where none holds beyond its own images.

    Nor is one kept that makes answers surer where fewer than FEWEST of them are wrong: of a few
    mistakes that happen to be unsure ones, the likeliest answers are all but certain.

    ``truth`` are labels (N,), or bool (N, C) where an image may have several classes. ``kind`` is
    one of KINDS: one temperature, or a scale and a bias for each class.
    """
    logits = logits.astype(np.float64)
    if len(logits) < 2 * FOLDS:
        return None
    fitted = _temperature if kind == "temperature" else _vector
    folds = np.random.default_rng(0).permutation(len(logits)) % FOLDS
    before = after = 0.0
    for fold in range(FOLDS):
        seen, unseen = folds != fold, folds == fold
        found = fitted(logits[seen], truth[seen])
        if found is None:
            return None
        before += log_losses(logits[unseen], truth[unseen]).sum()
        after += log_losses(found(logits[unseen]), truth[unseen]).sum()
    found = fitted(logits, truth) if after < before else None
    if found and max(found.scale) > 1 and _wrong(logits, truth) < FEWEST:
        return None
    return found


def _wrong(logits: Floats, truth: NDArray[Any]) -> int:
    """Return how many answers are wrong, of several classes of all labels."""
    wrong = (logits > 0) != truth if truth.ndim == 2 else logits.argmax(1) != truth
    return int(wrong.sum())


def _temperature(logits: Floats, truth: NDArray[Any]) -> Calibration | None:
    """Return the likeliest temperature; None where that is none, as where every answer is correct.

    The loss is convex in the factor of the logits: its slope has one root, which bisection finds.
    """
    several = truth.ndim == 2
    answer, outputs = (truth, "sigmoid") if several else (np.eye(logits.shape[1])[truth], "softmax")

    def slope(factor: float) -> float:
        return float(((probabilities(logits * factor, outputs) - answer) * logits).mean())

    low, high = 1 / _WIDEST, _WIDEST
    if not slope(low) < 0 < slope(high):
        return None
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return Calibration(len(logits), (high,))


def _vector(logits: Floats, truth: NDArray[Any]) -> Calibration | None:
    """Return the likeliest scale and bias of each class, begun at those that change nothing."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    if _temperature(logits, truth) is None:
        return None
    x, y = torch.from_numpy(logits), torch.from_numpy(truth)
    scale = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)  # its logarithm
    bias = torch.zeros_like(scale, requires_grad=True)
    solver = torch.optim.LBFGS([scale, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        z = x * scale.exp() + bias
        if truth.ndim == 2:
            value = binary_cross_entropy_with_logits(z, y.double())
        else:
            value = cross_entropy(z, y)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    factors, offsets = scale.detach().exp(), bias.detach()
    if not torch.cat((factors, offsets)).isfinite().all() or factors.max() > _WIDEST:
        return None
    if truth.ndim == 1:  # a softmax does not see what all logits have in common
        offsets = offsets - offsets.mean()
    return Calibration(len(logits), tuple(factors.tolist()), tuple(offsets.tolist()))
