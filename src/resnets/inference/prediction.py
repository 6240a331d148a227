"""Labelled probabilities of images, decoded in threads while others are computed."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from resnets.data.images import printable
from resnets.data.pipeline import read_ahead
from resnets.data.preprocess import ImageLike, no_image, preprocess_of
from resnets.errors import DataError, NonFiniteError, UsageError
from resnets.inference.runtimes import Runtime, check_reading, open_runtime
from resnets.weights.conformal import DEFAULT
from resnets.weights.outputs import ASSUMED, meaning

if TYPE_CHECKING:  # torch is imported where a model needs it
    from resnets.models import ReadingOptions
    from resnets.nn import ResNet


TOP = 3  # classes that are answered, where each image has one of them


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, most probable first; ``error`` if it is broken.

    ``path`` is empty for an image that is in no file.
    Where an image may have several classes they are those from their thresholds on, or none.
    ``label_set`` are those among which its own is with the probability that was asked for.
    ``unknown`` is whether the image seems to be of none of the classes, by an ``unknown_score``
    that is higher the stranger it is; None of a model that does not tell.
    """

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: DataError | None = None
    label_set: tuple[str, ...] | None = None
    unknown: bool | None = None
    unknown_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record of the prediction."""
        if self.error is not None:
            return {"path": printable(self.path), "error": self.error.message}
        pairs = zip(self.classes, self.probabilities, strict=True)
        record: dict[str, Any] = {
            "path": printable(self.path),
            "predictions": [{"class": name, "probability": round(p, 6)} for name, p in pairs],
        }
        if self.label_set is not None:
            record["label_set"] = list(self.label_set)
        if self.unknown is not None and self.unknown_score is not None:
            record |= {"unknown": self.unknown, "unknown_score": round(self.unknown_score, 6)}
        return record


def predict(
    model: "ResNet | Runtime | str | Path",
    images: ImageLike | Iterable[ImageLike],
    *,
    top: int | None = None,
    batch_size: int = 1,
    coverage: float | None = None,
    sets: str = DEFAULT,
    **reading: Unpack["ReadingOptions"],
) -> Iterator[Prediction]:
    """Yield a Prediction for each image, in order; a broken one yields its error.

    ``images`` are files or PIL images, or one alone; `resnets predict` takes folders too.
    ``model`` is a network with its preprocessing, a run folder, weights file or exported file that
    holds one, or what `resnets.inference.runtimes.open_runtime` returns; without torch for an
    exported file. ``top`` is how many classes are answered at most: 3 unless it is said, but all
    that are from their thresholds on of a model that answers several. With
    ``coverage``, a share from 0.5 to 0.99, each has a ``label_set`` too, of the kind ``sets``: see
    `resnets.weights.conformal`. Of a file of weights ``container``, ``dialect`` and ``ema`` say
    what they say to `load_weights`. In memory are three batches at most: the next two are decoded
    while one is computed.

    Raises UsageError for what is no image, no network, or label sets that the model does not have,
    CheckpointError when there is no model, no preprocessing or one output that nothing explains,
    and NonFiniteError for answers that are NaN or infinite. Several outputs that nothing explains
    are taken as a softmax, which a UserWarning says; ``model.outputs`` says otherwise.
    """
    check_reading(model, reading, predict)
    if isinstance(images, bytes) or not isinstance(images, ImageLike | Iterable):
        raise no_image(images)
    if isinstance(images, str | Path) and os.path.isdir(images):
        raise UsageError(
            f"{printable(images)}: is a folder",
            hint=f'give its files: sorted(Path("{images}").rglob("*.jpg"))',
        )
    for name, number in (("top", top), ("batch_size", batch_size)):
        if number is not None and number < 1:
            raise UsageError(f"{name} is {number}", hint="a whole number from 1 on")
    images = [images] if isinstance(images, ImageLike) else images
    runtime = resolved(model, len(images) if isinstance(images, Sized) else None, **reading)
    warn_of_softmax(runtime)
    for batch in batches(runtime, images, top, batch_size, set_sizes(runtime, coverage, sets)):
        yield from batch


def resolved(
    model: "ResNet | Runtime | str | Path",
    count: int | None,
    **reading: Unpack["ReadingOptions"],
) -> Runtime:
    """Return what computes a model that will see so many images (None: nobody knows).

    Raises CheckpointError where nothing says how they are prepared, or what its output means.
    """
    if isinstance(model, str | Path):
        model = open_runtime(model, count=count, **reading)
    elif not isinstance(model, Runtime):
        from resnets.inference.runtimes.torch_runtime import network_of

        model = network_of(model)
    if model.input != "pictures":
        preprocess_of(model)
    meaning(model.outputs, model.spec.num_classes)
    return model


def warn_of_softmax(runtime: Runtime) -> None:
    """Warn the caller's caller where nothing says that outputs are a softmax."""
    if runtime.outputs is None:
        warnings.warn(f'{ASSUMED}; model.outputs = "softmax" or "sigmoid" says it', stacklevel=3)


SetSizes = Callable[[NDArray[np.float64]], NDArray[np.int64]]  # of probabilities (N, C), (N,)


def set_sizes(runtime: Runtime, coverage: float | None, method: str) -> SetSizes | None:
    """Return what tells the sizes of label sets; None where no ``coverage`` is asked for.

    Raises UsageError where the model has none, or none of such coverage.
    """
    if coverage is None:
        return None
    if runtime.outputs == "sigmoid" and runtime.spec.num_classes > 1:
        raise UsageError(
            "label sets hold the one class of an image, and the model's images may have several",
            hint="leave out --coverage: its answers are the classes from their thresholds on",
        )
    conformal = runtime.calibration.conformal if runtime.calibration else None
    if conformal is None:
        raise UsageError(
            "the model carries no label sets: they are fitted on held-out images when a run ends",
            hint="leave out --coverage, or train it again, with a held-out split and calibration",
        )
    conformal.quantile(coverage, method)  # which raises
    return partial(conformal.sizes, coverage=coverage, method=method)


def batches(
    runtime: Runtime,
    images: Iterable[ImageLike],
    top: int | None,
    batch_size: int,
    sizes: SetSizes | None = None,
) -> Iterator[list[Prediction]]:
    """Yield the predictions of each ``batch_size`` images, in order."""
    for batch in read_batches(runtime, images, batch_size):
        yield answered(runtime, batch, top, sizes)


Read = tuple[str, NDArray[Any] | DataError]  # an image's name, and what is read of it


def read_batches(
    runtime: Runtime, images: Iterable[ImageLike], batch_size: int
) -> Iterator[list[Read]]:
    """Yield each ``batch_size`` images, in order, as the model takes them.

    They are decoded in threads. In memory are three batches at most: the next two are decoded while
    one is used.
    """
    if runtime.input == "pictures":
        batch_size = 1  # each has a size of its own

    def read(image: ImageLike) -> Read:
        name = getattr(image, "filename", "") if isinstance(image, Image) else str(image)
        return name, prepared(runtime, image)

    coming = iter(images)
    return read_ahead(read, iter(lambda: list(islice(coming, batch_size)), []))


def prepared(runtime: Runtime, image: ImageLike) -> NDArray[Any] | DataError:
    """Return an image in the form that a model takes, or why it cannot be read.

    Raises UsageError for what is no image.
    """
    if not isinstance(image, ImageLike):
        raise no_image(image)
    try:
        if isinstance(image, str | Path) and "://" in str(image):
            raise DataError(f"{printable(image)}: addresses are not fetched", hint="give a file")
        return runtime.prepare(image)
    except DataError as error:
        return error


def answered(
    runtime: Runtime,
    batch: Sequence[Read],
    top: int | None = None,
    sizes: SetSizes | None = None,
) -> list[Prediction]:
    """Return the prediction of each image of a batch that was read.

    Raises NonFiniteError for answers that are NaN or infinite, and what `Runtime.logits` raises.
    """
    good = [(path, answer) for path, answer in batch if not isinstance(answer, DataError)]
    found: Iterator[Prediction] = iter(())
    if good:
        paths, images = zip(*good, strict=True)
        found = iter(labelled(runtime, paths, runtime.logits(np.concatenate(images)), top, sizes))
    return [
        Prediction(path, error=answer) if isinstance(answer, DataError) else next(found)
        for path, answer in batch
    ]


def labelled(
    runtime: Runtime,
    paths: Sequence[str],
    logits: NDArray[np.float32],
    top: int | None = None,
    sizes: SetSizes | None = None,
) -> list[Prediction]:
    """Return the prediction of each image by its logits (N, classes).

    Raises NonFiniteError where one is NaN or infinite.
    """
    unknown = runtime.calibration.unknown if runtime.calibration else None
    p = runtime.probabilities(finite(logits))
    nothing = [None] * len(p)
    scores = unknown.of(logits).tolist() if unknown else nothing
    counts = sizes(p).tolist() if sizes else nothing
    labels = runtime.labels
    found = []
    for path, row, size, score in zip(paths, p, counts, scores, strict=True):
        best = np.argsort(-row, kind="stable")
        label_set = None if size is None else tuple(labels[i] for i in best[:size])
        if runtime.thresholds:
            best = best[row[best] >= np.array(runtime.thresholds)[best]]
        best = best[: at_most(runtime, top)]
        found.append(
            Prediction(
                path,
                tuple(labels[i] for i in best),
                tuple(row[best].tolist()),
                label_set=label_set,
                unknown=score > unknown.threshold if unknown and score is not None else None,
                unknown_score=score,
            )
        )
    return found


def at_most(runtime: Runtime, top: int | None) -> int:
    """Return how many classes are answered at most, where ``top`` may not say it."""
    count = len(runtime.labels)
    return min(count, top or (count if runtime.thresholds else TOP))


def finite(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits as they are; raises NonFiniteError where one is NaN or infinite."""
    if not np.isfinite(logits).all():
        raise NonFiniteError(
            "an answer is NaN or infinite", hint="the model's weights have diverged"
        )
    return logits
