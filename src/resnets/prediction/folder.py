"""From pictures to a table of predictions, in constant memory, going on after a stop."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.data.scan import pictures_digest, pictures_in
from resnets.errors import DataError
from resnets.files import check_free, partial_of
from resnets.prediction.answers import Prediction, batches, prepared, resolved
from resnets.prediction.journal import Journal
from resnets.prediction.table import check_table, write_table
from resnets.runtimes import Runtime

if TYPE_CHECKING:
    from resnets.nn import ResNet


@dataclass(frozen=True)
class Predicted:
    """What ``predict_table`` made: the table, and how many of its pictures are broken."""

    path: Path
    pictures: int  # rows of the table
    broken: int
    resumed: int  # pictures that an earlier call, which was stopped, had done

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {**vars(self), "path": str(self.path)}


def predict_table(
    model: "ResNet | Runtime | str | Path",
    images: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    top: int = 3,
    batch_size: int = 8,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_broken: Callable[[DataError], None] = lambda error: None,
) -> Predicted:
    """Write the predictions of pictures, and of those in and below folders, to a table.

    ``model`` is what `predict` takes; ``out`` ends in .csv, .jsonl or .parquet. In memory are the
    paths and three batches; what is done lies in a hidden file beside ``out`` until the table is
    whole. After a stop of any kind the same call goes on and ends with the same bytes. A picture
    that cannot be read has a row that says why; a call that goes on looks at it again.

    ``on_progress`` is called with how many pictures of how many are done, ``on_broken`` with the
    error of each broken picture when it is met. Raises what `predict` raises; UsageError for
    another ending, and, unless ``overwrite`` gives up what is there, for a file that this job has
    not written and when what was stopped had another model, other pictures or other options;
    DataError for a folder without pictures; ResourceError.
    """
    out = Path(out)
    check_table(out, overwrite=overwrite)
    names = pictures([images] if isinstance(images, str | Path) else images)
    runtime = resolved(model, len(names))
    top = min(top, len(runtime.labels))
    job: dict[str, Any] = {
        "model": runtime.digest(),
        "pictures": pictures_digest(Path(), names),
        "number of classes": top,
        "batch size": batch_size,  # on both of these the last bits of a result may depend
        "runtime": f"{runtime.name} {runtime.version}",
    }
    if runtime.outputs == "sigmoid":  # what was begun before they had a meaning is of a softmax
        job["meaning of outputs"] = "sigmoid"
    journal = Journal.open(partial_of(out), job, names, batch_size, overwrite=overwrite)
    done = journal.done
    try:
        # A stop after the table is written, and before the journal is removed, leaves both.
        check_free(out, overwrite=overwrite or done == len(names))
        mended = _first_mended(journal, runtime, names)
        if mended is not None:  # and its batch, on which the last bits of the others may depend
            journal.keep(mended // batch_size * batch_size)
        done = journal.done
        for batch in batches(runtime, names[done:], top, batch_size):
            journal.add(prediction.to_dict() for prediction in batch)
            for prediction in batch:
                if prediction.error is not None:
                    on_broken(prediction.error)
            done += len(batch)
            on_progress(done, len(names))
        write_table(out, journal.records(), top)
        broken = sum("error" in record for record in journal.records())
    except BaseException:
        (journal.close if done else journal.remove)()
        raise
    journal.remove()
    return Predicted(out, len(names), broken, journal.done)


class Pictures(list[str]):
    """Names of pictures, none of folders."""


def pictures(images: Iterable[str | Path]) -> Pictures:
    """Return the names of pictures, in place of folders those of the pictures in and below them.

    What it has returned before it returns as it is. Raises DataError for a folder without pictures.
    """
    if isinstance(images, Pictures):
        return images
    names = Pictures()
    for image in images:
        folder = Path(image)
        if os.path.isdir(folder):  # Path.is_dir() raises for names that no file system takes
            root = folder.resolve()
            names += [str(folder / file.relative_to(root)) for file in pictures_in(folder)]
        else:
            names.append(str(image))
    return names


def _first_mended(journal: Journal, runtime: Runtime, names: Sequence[str]) -> int | None:
    """Return the place of the first picture that is no longer broken as its record says."""
    for place, record in enumerate(journal.records()):
        if "error" in record:
            found = prepared(runtime, names[place])
            if not isinstance(found, DataError):
                return place
            if Prediction(names[place], error=found).to_dict() != record:
                return place
    return None
