"""A model as a stage of a Ray Data pipeline: batches of images in, the columns of a table out.

    ds = ray.data.read_binary_files("photos/", include_paths=True)
    ds = ds.map_batches(
        Predictor,
        fn_constructor_args=("runs/photos-resnet18",),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=3),  # of four processors: one is left for reading
    )
    ds.write_parquet("answers/")

Nothing here imports ray: the class is what `map_batches` makes in every actor.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from PIL import Image

from resnets.data.images import Stored
from resnets.data.pipeline import read_ahead
from resnets.errors import DataError, UsageError
from resnets.inference.prediction import (
    Read,
    answered,
    at_most,
    prepared,
    resolved,
    set_sizes,
    warn_of_softmax,
)
from resnets.inference.prediction_table import arrow_table, columns_of
from resnets.inference.runtimes import open_runtime
from resnets.weights.conformal import DEFAULT

if TYPE_CHECKING:  # which would load torch, that an exported file does not need
    from resnets.models import ReadingOptions

COLUMNS = ("bytes", "image", "path")  # as Ray Data's own readers name what images are


class Predictor:
    """What answers batches of images: dicts of columns, each as long as the batch.

    ``model`` is a run folder, a file of weights or an exported file, under the same path on every
    node. ``column`` is what images are in, as bytes of files, pixels uint8 (H, W, C) or paths;
    without it the first of COLUMNS that there is. ``top``, ``coverage``, ``sets`` and what may
    follow are those of `resnets.predict`, ``runtime`` and ``threads`` of `open_runtime`; as many
    images as ``batch_size`` are computed at once, the next ones are decoded meanwhile.

    Raises what `resnets.predict` raises before its first answer.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        column: str | None = None,
        top: int | None = None,
        coverage: float | None = None,
        sets: str = DEFAULT,
        runtime: str = "auto",
        threads: int = 0,
        batch_size: int = 32,
        **reading: Unpack["ReadingOptions"],
    ) -> None:
        opened = open_runtime(model, runtime, threads=threads, **reading)
        self.runtime = resolved(opened, None)
        warn_of_softmax(self.runtime)
        self.column, self.top, self.batch_size = column, top, batch_size
        self.sizes = set_sizes(self.runtime, coverage, sets)
        most = at_most(self.runtime, top)
        _, *self.columns = columns_of(self.runtime, most, with_sets=coverage is not None)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a batch, but the images themselves, and those of a table.

        The row of an image that cannot be read says why in ``error``. Raises UsageError for a batch
        without images, and NonFiniteError.
        """
        column = self._column_of(batch)
        names = batch.get("path", [""] * len(batch[column]))
        rows = [*zip(map(str, names), batch[column], strict=True)]

        def read(row: tuple[str, Any]) -> Read:
            image = _image(*row)
            return row[0], image if isinstance(image, DataError) else prepared(self.runtime, image)

        size = 1 if self.runtime.input == "pictures" else self.batch_size
        found = chain.from_iterable(
            answered(self.runtime, some, self.top, self.sizes)
            for some in read_ahead(read, _batched(rows, size))
        )
        are_files = bool(rows) and isinstance(rows[0][1], str)
        kept = {n: v for n, v in batch.items() if n != column or are_files}
        answers = arrow_table([prediction.to_dict() for prediction in found], self.columns)
        return kept | dict(zip(self.columns, answers.columns, strict=True))

    def _column_of(self, batch: Mapping[str, Any]) -> str:
        wanted = (self.column,) if self.column else COLUMNS
        column = next((name for name in wanted if name in batch), None)
        if column is None:
            raise UsageError(
                f"the batch has no {' or '.join(wanted)}, but {', '.join(batch)}",
                hint="say with column=... what its images are in",
            )
        return column


def _image(name: str, value: Any) -> str | Stored | Image.Image | DataError:
    """Return what can be prepared of an image as Ray Data has it; ``name`` is for messages.

    Raises UsageError for what is no image.
    """
    if value is None:
        return DataError(f"{name or 'a row'}: there is no image")
    if isinstance(value, bytes):
        folder, _, last = name.rpartition("/")
        return Stored(folder or "batch", last or "image", lambda: BytesIO(value), len(value), 0)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        image = Image.fromarray(value[:, :, 0] if value.shape[2:] == (1,) else value)
        image.filename = name  # type: ignore[attr-defined]
        return image
    if isinstance(value, str):
        return value
    kind = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    raise UsageError(
        f"{name or 'a row'}: {kind} is no image",
        hint="give bytes of files, pixels as uint8 (H, W, C), or paths",
    )


def _batched(rows: Sequence[tuple[str, Any]], size: int) -> Iterator[Sequence[tuple[str, Any]]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
