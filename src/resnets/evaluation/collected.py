"""The answers of any runtime to labelled images, decoded in threads while others are computed."""

from collections.abc import Callable, Iterable, Sequence
from math import fsum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.headers import ImageError
from resnets.data.images import Stored
from resnets.errors import DataError, NonFiniteError
from resnets.evaluation.scores import Evaluation
from resnets.formatting import plural
from resnets.inference.prediction import read_batches
from resnets.inference.runtimes import Runtime
from resnets.weights.outputs import of_alternatives, probabilities

BATCH = 32
Broken = tuple[int, str]  # the place of an image that cannot be read, and why


def answer(
    runtime: Runtime,
    images: Iterable[Path | Stored | Image.Image],
    labels: Sequence[int],
    on_progress: Callable[[int, int], None],
) -> tuple[Evaluation, list[Broken]]:
    """Return what a model answers to images with these outputs as labels, each counted once.

    With the scores of the images that can be read come the others. Raises DataError when none
    can be read, and NonFiniteError when an answer is NaN or infinite.
    """
    broken: list[Broken] = []
    tables: list[NDArray[np.float64]] = []
    classes = done = 0
    for batch in read_batches(runtime, images, BATCH):
        good, own = [], []
        for place, (_, read) in enumerate(batch, done):
            if isinstance(read, DataError):
                broken.append((place, read.reason if isinstance(read, ImageError) else str(read)))
            else:
                good.append(read)
                own.append(labels[place])
        if good:
            logits = of_alternatives(runtime.logits(np.concatenate(good)), runtime.outputs)
            classes = logits.shape[1]
            single = runtime.outputs == "sigmoid" and runtime.spec.num_classes > 1
            tables.append(_scored(logits, np.array(own), single))
        done += len(batch)
        on_progress(done, len(labels))
    if not tables:
        raise DataError(
            f"none of {plural(done, 'image')} can be read; the first {broken[0][1]}",
            hint="`resnets predict DIR` says what is wrong with each",
        )
    label, predicted, confidence, losses, top5 = np.concatenate(tables, axis=1)
    scores = Evaluation(
        labels=label.astype(np.int64),
        predicted=predicted.astype(np.int64),
        confidence=confidence.astype(np.float32),
        loss=fsum(losses) / len(losses),
        top5=int(top5.sum()),
        classes=classes,
    )
    return scores, broken


def _scored(
    logits: NDArray[np.float32], labels: NDArray[np.int64], single: bool
) -> NDArray[np.float64]:
    """Return (5, N) of logits (N, classes): label, predicted, confidence, loss, among the top 5.

    The loss is the cross-entropy; of outputs that each stand alone (``single``) the mean of theirs.
    """
    if not np.isfinite(logits).all():
        raise NonFiniteError(
            "an answer is NaN or infinite", hint="the model's weights have diverged"
        )
    rows = np.arange(len(labels))
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    predicted = logits.argmax(1)
    better = (logits > logits[rows, labels][:, None]).sum(1)
    losses = -logarithms[rows, labels]
    confidence = np.exp(logarithms[rows, predicted])
    if single:
        wanted = np.where(np.arange(logits.shape[1]) == labels[:, None], 1.0, -1.0)
        losses = np.logaddexp(0, -wanted * logits).mean(1)
        confidence = probabilities(logits, "sigmoid")[rows, predicted]
    return np.stack([labels, predicted, confidence, losses, better < 5])
