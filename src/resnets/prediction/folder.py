"""From pictures to a table of predictions, in constant memory, going on after a stop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.data.scan import pictures_digest, pictures_in
from resnets.errors import DataError
from resnets.prediction.answers import batches, resolved
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
    that cannot be read has a row that says why.

    ``on_progress`` is called with how many pictures of how many are done, ``on_broken`` with the
    error of each broken picture when it is met. Raises what `predict` raises; UsageError for
    another ending, and when what was stopped had another model, other pictures or other options,
    unless ``overwrite`` lets it begin anew; DataError for a folder without pictures; ResourceError.
    """
    out = Path(out)
    check_table(out)
    names = pictures([images] if isinstance(images, str | Path) else images)
    runtime = resolved(model, len(names))
    top = min(top, len(runtime.labels))
    job = {
        "model": runtime.digest(),
        "pictures": pictures_digest(Path(), names),
        "number of classes": top,
        "batch size": batch_size,  # on both of these the last bits of a result may depend
        "runtime": f"{runtime.name} {runtime.version}",
    }
    partial = out.with_name(f".{out.name}.partial")
    journal = Journal.open(partial, job, names, batch_size, overwrite=overwrite)
    done = journal.done
    try:
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


def pictures(images: Iterable[str | Path]) -> list[str]:
    """Return the names of pictures, in place of folders those of the pictures in and below them.

    Raises DataError for a folder without pictures.
    """
    names: list[str] = []
    for image in images:
        folder = Path(image)
        if folder.is_dir():
            root = folder.resolve()
            names += [str(folder / file.relative_to(root)) for file in pictures_in(folder)]
        else:
            names.append(str(image))
    return names
