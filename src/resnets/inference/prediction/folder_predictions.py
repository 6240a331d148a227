"""From pictures to a table of predictions, in constant memory, going on after a stop."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.data.identity import digest_files
from resnets.data.scan import pictures_digest, pictures_in
from resnets.errors import DataError
from resnets.files import check_free, partial_of
from resnets.inference.prediction.answers import Prediction, batches, prepared, resolved
from resnets.inference.prediction.journal import Journal
from resnets.inference.prediction.prediction_table import Record, check_table, write_table
from resnets.inference.runtimes import Runtime

if TYPE_CHECKING:
    from resnets.nn import ResNet

_CONTENT = "content"  # of a record: the SHA-256 of what was in the file
_AT_ONCE = 512  # pictures that are read at a time to see whether they are the same


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
    that cannot be read has a row that says why; a call that goes on looks at it again, and at
    every picture whose content is another than it was.

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
        changed = _first_changed(journal, runtime, names)
        if changed is not None:  # and its batch, on which the last bits of the others may depend
            journal.keep(changed // batch_size * batch_size)
        done = journal.done
        for batch in batches(runtime, names[done:], top, batch_size):
            content = digest_files([Path(name) for name in names[done : done + len(batch)]])
            journal.add(
                prediction.to_dict() | {_CONTENT: digest.tobytes().hex()}
                for prediction, digest in zip(batch, content, strict=True)
            )
            for prediction in batch:
                if prediction.error is not None:
                    on_broken(prediction.error)
            done += len(batch)
            on_progress(done, len(names))
        write_table(out, (_told(record) for record in journal.records()), top)
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


def _first_changed(journal: Journal, runtime: Runtime, names: Sequence[str]) -> int | None:
    """Return the place of the first picture that is another, or no longer broken as it was."""
    records = enumerate(journal.records())
    while some := list(islice(records, _AT_ONCE)):
        content = digest_files([Path(names[place]) for place, _ in some])
        for (place, record), digest in zip(some, content, strict=True):
            # Earlier versions did not write down what was in the files.
            if record.get(_CONTENT, digest.tobytes().hex()) != digest.tobytes().hex():
                return place
            if "error" in record:
                found = prepared(runtime, names[place])
                if not isinstance(found, DataError):
                    return place
                if Prediction(names[place], error=found).to_dict() != _told(record):
                    return place
    return None


def _told(record: Record) -> Record:
    """Return what is told of a record: without what only the journal needs."""
    return {key: value for key, value in record.items() if key != _CONTENT}
