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
from resnets.evaluation.scores import Evaluation
from resnets.evaluation.several import scored
from resnets.formatting import plural
from resnets.inference.prediction import finite, read_batches
from resnets.inference.runtimes import Runtime
from resnets.weights.outputs import alternatives, of_alternatives, probabilities

BATCH = 32
Broken = tuple[int, str]  # the place of an image that cannot be read, and why


def answer(
    runtime: Runtime,
    images: Iterable[Path | Stored | Image.Image],
    truth: NDArray[np.int64] | NDArray[np.bool_],
    on_progress: Callable[[int, int], None],
) -> tuple[Evaluation, list[Broken]]:
    """Return what a model answers to images with these outputs as labels, each counted once.

    ``truth`` are these (N,), or where an image may have several classes all of them (N, outputs).
    With the scores of the images that can be read come the others. Raises DataError when none
    can be read, and NonFiniteError when an answer is NaN or infinite.
    """
    broken: list[Broken] = []
    tables: list[NDArray[Any]] = []
    done = 0
    for batch in read_batches(runtime, images, BATCH):
        good, places = [], []
        for place, (_, read) in enumerate(batch, done):
            if isinstance(read, DataError):
                broken.append((place, read.reason if isinstance(read, ImageError) else str(read)))
            else:
                good.append(read)
                places.append(place)
        if good:
            logits = finite(runtime.logits(np.concatenate(good)))
            tables.append(
                (_several if truth.ndim == 2 else _scored)(runtime, logits, truth[places])
            )
        done += len(batch)
        on_progress(done, len(truth))
    if not tables:
        raise DataError(
            f"none of {plural(done, 'image')} can be read; the first {broken[0][1]}",
            hint="`resnets predict DIR` says what is wrong with each",
        )
    table = np.concatenate(tables, axis=1)
    if truth.ndim == 2:
        targets, logits = np.split(table[1:].T, 2, axis=1)
        several = scored(targets > 0, logits, runtime.thresholds)
        return Evaluation.of_several(several, fsum(table[0]) / len(targets)), broken
    label, predicted, confidence, losses, top5 = table
    scores = Evaluation(
        labels=label.astype(np.int64),
        predicted=predicted.astype(np.int64),
        confidence=confidence.astype(np.float32),
        loss=fsum(losses) / len(losses),
        top5=int(top5.sum()),
        classes=alternatives(runtime.classes, runtime.spec.num_classes, runtime.outputs)[1],
    )
    return scores, broken


def _several(
    runtime: Runtime, logits: NDArray[np.float32], targets: NDArray[Any]
) -> NDArray[np.float64]:
    """Return (1 + 2 classes, N): the loss, what is true, and logits."""
    return np.concatenate([_binary(logits, targets)[None], targets.T, logits.T])


def _scored(
    runtime: Runtime, logits: NDArray[np.float32], labels: NDArray[Any]
) -> NDArray[np.float64]:
    """Return (5, N) of logits (N, outputs): label, predicted, confidence, loss, among the top 5.

    The loss is the cross-entropy; of outputs that each stand alone the mean of theirs.
    """
    rows, logits = np.arange(len(labels)), of_alternatives(logits, runtime.outputs)
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    predicted = logits.argmax(1)
    better = (logits > logits[rows, labels][:, None]).sum(1)
    losses = -logarithms[rows, labels]
    confidence = np.exp(logarithms[rows, predicted])
    if runtime.outputs == "sigmoid" and runtime.spec.num_classes > 1:
        losses = _binary(logits, np.arange(logits.shape[1]) == labels[:, None])
        confidence = probabilities(logits, "sigmoid")[rows, predicted]
    return np.stack([labels, predicted, confidence, losses, better < 5])


def _binary(logits: NDArray[np.float32], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of each image's binary cross-entropies, (N,)."""
    losses: NDArray[np.float64] = np.logaddexp(0, np.where(true, -1.0, 1.0) * logits).mean(1)
    return losses
