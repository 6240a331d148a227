"""Images in, labelled probabilities out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnets.create import open_model
from resnets.data.preprocess import preprocess_of
from resnets.errors import DataError
from resnets.nn import ResNet


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one picture, most probable first; ``error`` if it is broken."""

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: DataError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record of the prediction."""
        if self.error is not None:
            return {"path": self.path, "error": self.error.message}
        pairs = zip(self.classes, self.probabilities, strict=True)
        return {
            "path": self.path,
            "predictions": [{"class": name, "probability": round(p, 6)} for name, p in pairs],
        }


def predict(
    model: ResNet | str | Path, images: str | Path | Iterable[str | Path], *, top: int = 3
) -> Iterator[Prediction]:
    """Yield a Prediction for each picture's file, in order; a broken one yields its error.

    ``model`` is a network with its preprocessing, or a run folder or weights file that holds one.
    Raises CheckpointError when there is none.
    """
    network = model if isinstance(model, ResNet) else open_model(model)
    preprocess = preprocess_of(network)
    names = network.classes or tuple(str(i) for i in range(network.spec.num_classes))
    images = [images] if isinstance(images, str | Path) else images
    network.eval()
    for path in images:
        try:
            if "://" in str(path):
                raise DataError(f"{path}: addresses are not fetched", hint="give a file")
            batch = preprocess(path)
        except DataError as error:
            yield Prediction(str(path), error=error)
            continue
        with torch.no_grad():
            probabilities = network(batch).softmax(1)[0]
        best = probabilities.topk(min(top, len(names)))
        yield Prediction(
            str(path),
            tuple(names[i] for i in best.indices.tolist()),
            tuple(best.values.tolist()),
        )
