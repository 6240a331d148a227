"""From files to batches: a name or a folder of pictures becomes a ``Dataset``.

Rooms: ``dataset`` (what every data set looks like), ``digits``, ``cifar`` and ``folder`` (the data
sets), ``download`` (fetching them), ``images`` (how a picture becomes pixels).
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from resnets.errors import DataError, UsageError, nearest

if TYPE_CHECKING:  # the data sets, and torch with them, are imported when one is opened
    from resnets.data.dataset import Dataset

NAMES = ("digits", "cifar10", "cifar100")
_SIZES = {"digits": (32, 1), "cifar10": (32, 3), "cifar100": (32, 3)}  # side, channels

__all__ = ["NAMES", "open_dataset"]


def open_dataset(
    data: str | Path,
    *,
    root: Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    broken: str = "error",
) -> "Dataset":
    """Open a data set by name (digits, cifar10, cifar100) or a folder of pictures by path.

    A name comes before a folder of the same name; ``./digits`` and ``Path("digits")`` mean the
    folder. ``root`` is where CIFAR's files are; ``image_size`` (224), ``channels`` (3) and
    ``broken`` ("error" or "skip") are for folders. Raises DataError when there is no such data or
    it is unsound, UsageError for a size or number of channels that a named data set does not have.
    """
    if isinstance(data, str) and data in NAMES:
        return _named(data, root, image_size, channels)
    separators = {os.sep, os.altsep or os.sep}
    if isinstance(data, Path) or separators & set(data) or Path(data).exists():
        from resnets.data.folder import open_folder

        return open_folder(
            Path(data), image_size=image_size or 224, channels=channels or 3, broken=broken
        )
    close = nearest(data, list(NAMES))
    raise DataError(
        f'no data set is called "{data}", and no folder is',
        hint=f"{f'did you mean {close}?' if close else 'there are ' + ', '.join(NAMES)}, "
        "or a folder of pictures",
    )


def _named(name: str, root: Path | None, image_size: int | None, channels: int | None) -> "Dataset":
    size = _SIZES[name]
    if (image_size or size[0], channels or size[1]) != size:
        raise UsageError(
            f"{name} has pictures of {size[0]} x {size[0]} in {size[1]} channels",
            hint="leave image_size and channels out",
        )
    if name == "digits":
        from resnets.data.digits import open_digits

        return open_digits()
    from resnets.data.cifar import open_cifar

    return open_cifar(name, root)
