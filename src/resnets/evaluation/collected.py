"""The answers of any runtime to labelled images, decoded in threads while others are computed."""

from collections.abc import Callable, Iterable
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.headers import ImageError
from resnets.data.images import Stored
from resnets.errors import DataError
from resnets.evaluation.metrics import log_losses
from resnets.evaluation.scores import Evaluation
from resnets.evaluation.several import scored
from resnets.formatting import plural
from resnets.inference.prediction import finite, read_batches
from resnets.inference.runtimes import Runtime
from resnets.weights.calibration import calibrated
from resnets.weights.outputs import alternatives, of_alternatives, probabilities

BATCH = 32
# What a model answers, and of images that cannot be read their places, and why.
Scores = tuple[Evaluation, list[tuple[int, str]]]


def answer(
    runtime: Runtime,
    images: Iterable[Path | Stored | Image.Image],
    truth: NDArray[Any],
    on_progress: Callable[[int, int], None],
    keep_logits: bool = True,
) -> Scores:
    """Return what a model answers to images with these outputs as labels, each counted once.

    ``truth`` are these (N,), or where an image may have several classes bool (N, outputs).
    With the scores of the images that can be read come the others. ``keep_logits`` keeps them in
    the scores, as it is where an image may have several classes. Raises DataError when none
    can be read, and NonFiniteError when an answer is NaN or infinite.
    """
    several = truth.ndim == 2
    broken: list[tuple[int, str]] = []
    places: list[int] = []
    tables: list[NDArray[Any]] = []
    kept: list[NDArray[np.float32]] = []
    done = 0
    for batch in read_batches(runtime, images, max(1, BATCH // runtime.views)):
        good, first = [], len(places)
        for place, (_, read) in enumerate(batch, done):
            if isinstance(read, DataError):
                broken.append((place, read.reason if isinstance(read, ImageError) else str(read)))
            else:
                good.append(read)
                places.append(place)
        if good:
            logits = finite(runtime.logits(np.concatenate(good)))
            true = truth[places[first:]]
            tables.append(
                log_losses(logits.astype(np.float64), true)[None]
                if several
                else _scored(runtime, logits, true)
            )
            if keep_logits or several:
                kept.append(logits)
        done += len(batch)
        on_progress(done, len(truth))
    if not tables:
        raise DataError(
            f"none of {plural(done, 'image')} can be read; the first {broken[0][1]}",
            hint="`resnets predict DIR` says what is wrong with each",
        )
    loss, *columns = np.concatenate(tables, axis=1)
    mean, positions = fsum(loss) / len(loss), np.array(places)
    if several:
        logits = np.concatenate(kept)
        known = calibrated(logits, runtime.calibration)
        scores = scored(truth[places], known, runtime.thresholds)
        return Evaluation.of_several(scores, mean, positions, logits), broken
    predicted, confidence, top5 = columns
    found = Evaluation(
        labels=truth[places],
        predicted=predicted.astype(np.int64),
        confidence=confidence.astype(np.float32),
        loss=mean,
        top5=int(top5.sum()),
        classes=alternatives(runtime.classes, runtime.spec.num_classes, runtime.outputs)[1],
        positions=positions,
        logits=np.concatenate(kept) if keep_logits else None,
    )
    return found, broken


def _scored(
    runtime: Runtime, logits: NDArray[np.float32], labels: NDArray[Any]
) -> NDArray[np.float64]:
    """Return (4, N) of logits (N, outputs): loss, predicted, its probability, among the top 5.

    The loss, of logits as they are, is the cross-entropy; of outputs that each stand alone the mean
    of theirs.
    """
    rows, alone = np.arange(len(labels)), runtime.outputs == "sigmoid" and logits.shape[1] > 1
    known = of_alternatives(calibrated(logits, runtime.calibration), runtime.outputs)
    predicted = known.argmax(1)
    better = (known > known[rows, labels][:, None]).sum(1)
    confidence = probabilities(known, "sigmoid" if alone else "softmax")[rows, predicted]
    if alone:
        losses = log_losses(
            logits.astype(np.float64), np.arange(logits.shape[1]) == labels[:, None]
        )
    else:
        logits = of_alternatives(logits, runtime.outputs)
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[rows, labels]
    return np.stack([losses, predicted, confidence, better < 5])
