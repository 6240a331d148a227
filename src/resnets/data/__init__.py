"""From files to batches: a name or a folder of images becomes a ``Dataset``.

Modules: ``dataset`` (what every data set looks like), ``digits``, ``cifar`` with
``cifar_download``, ``given`` and ``folder`` (the data sets); ``sources`` (which images a path
means) with ``scan``, ``label_table`` (over ``tables``, ``label_columns`` and ``table_files``),
``packs``, ``tars`` and ``parquet``, each of which makes a ``listing``, and
``packing`` (which writes one); ``folds``, ``neighbours`` and ``corrections`` (for labels that may
be wrong); ``examined``, ``identity``, ``copies``, ``near``, ``cut_copies`` and ``check`` (what
reading images tells); ``headers``, ``images``, ``decoders``, ``streams`` and ``depth`` (how a file
becomes pixels); ``framing`` (which square is seen), ``windows`` and ``views`` (which crop),
``photographs`` over ``pipeline`` (reading ahead); ``order``, ``augment``, ``policies``,
``erasing``, ``mixing`` and ``preprocess`` (from data set to batch).
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnets.errors import DataError, nearest
from resnets.formatting import plural

if TYPE_CHECKING:  # the data sets, and torch with them, are imported when one is opened
    from resnets.data.dataset import Dataset
    from resnets.data.depth import Scale
    from resnets.data.framing import Frame
    from resnets.data.listing import Listing
    from resnets.data.preprocess import Preprocess

NAMES = ("digits", "cifar10", "cifar100")

__all__ = ["NAMES", "folder_of", "open_as_trained", "open_dataset"]


def open_dataset(
    data: str | Path,
    *,
    root: Path | None = None,
    side: int = 256,
    channels: int = 3,
    broken: str = "error",
    broken_limit: float = 0.01,
    frame: "Frame | None" = None,
    scale: "Scale | Literal['measured']" = "measured",
    scaled: bool = True,
    content: bool | None = None,
    memory: int | None = None,
    listing: "Listing | None" = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> "Dataset":
    """Open a data set by name (digits, cifar10, cifar100) or a folder of images by path.

    A name comes before a folder of the same name; ``./digits`` and ``Path("digits")`` mean the
    folder. ``root`` is where CIFAR's files are. The images of a folder become ``side`` x
    ``side``, or what ``frame`` makes of them, with ``channels``; ``scale`` says which values of
    more than 8 bits become black and white, or has it measured over the training split; ``broken``
    ("error", "skip" or "read") says what happens to those that cannot be read, ``broken_limit``
    which share of all may be left out. A model's own are ``preprocess.frame`` and
    ``preprocess.scale``. ``scaled``, ``content``, ``memory``, ``listing`` and ``report`` are those
    of `resnets.data.folder.open_folder`. Named data sets have their own size. Raises DataError when
    there is no such data or it is unsound.
    """
    match data:  # a name of NAMES; a Path is never one
        case "digits":
            from resnets.data.digits import open_digits

            return open_digits()
        case "cifar10" | "cifar100":
            from resnets.data.cifar import open_cifar

            return open_cifar(data, root)
    from resnets.data.folder import open_folder

    return open_folder(
        folder_of(data),
        side=side,
        channels=channels,
        broken=broken,
        broken_limit=broken_limit,
        frame=frame,
        scale=scale,
        scaled=scaled,
        content=content,
        memory=memory,
        listing=listing,
        report=report,
    )


def open_as_trained(
    data: str | Path,
    root: Path | None,
    made: Mapping[str, Any],
    *,
    channels: int,
    preprocess: "Preprocess | None",
    listing: "Listing | None" = None,
) -> "Dataset":
    """Open a data set with images and classes as a model was trained on them, as ``made`` has it.

    Raises what `open_dataset` does, and DataError where images have other channels than the model
    takes.
    """
    from resnets.data.classes import changes_in
    from resnets.data.identity import LISTED

    how = made.get("recipe", {}).get("data", {})
    fingerprint = made.get("data", {}).get("fingerprint", "")
    dataset = open_dataset(
        data,
        root=root,
        channels=channels,
        frame=preprocess.frame if preprocess else None,
        scale=preprocess.scale if preprocess else "container",
        broken=how.get("broken", "error"),
        broken_limit=how.get("broken_limit", 0.01),
        content=False if fingerprint.startswith(LISTED) else None,
        listing=listing,
    )
    if (found := dataset.train.images.shape[0]) != channels:
        raise DataError(
            f"{data}: its images have {plural(found, 'channel')}, the model takes {channels}",
            hint="give images like those that the model was trained on",
        )
    changes = changes_in(made, dataset.classes)
    return dataset.with_classes(changes) if changes else dataset


def folder_of(data: str | Path) -> Path:
    """Return the folder, archive or pattern that is meant by what is no name of a data set.

    Raises DataError for a word that is neither.
    """
    of_paths = {os.sep, os.altsep or os.sep, *"*?{"}
    if isinstance(data, Path) or of_paths & set(data) or Path(data).exists():
        return Path(data)
    close = nearest(data, list(NAMES))
    raise DataError(
        f'no data set is called "{data}", and no folder is',
        hint=f"did you mean {close}, or a folder of images?"
        if close
        else f"give a folder of images or one of {', '.join(NAMES)}",
    )
