"""Images in files as a data set: known by their content, decoded when they are asked for."""

import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from resnets.data.classes import sides
from resnets.data.copies import (
    find_copies,
    find_shared,
    originals,
    together,
)
from resnets.data.dataset import Dataset, Skipped, Split
from resnets.data.depth import Scale
from resnets.data.examined import Examined, Report, examine, recall
from resnets.data.framing import Frame, count_cropped
from resnets.data.headers import ImageError, is_deep, told
from resnets.data.identity import LISTED, Manifest, content_fingerprint, former_fingerprint
from resnets.data.images import printable
from resnets.data.listing import Listing, check_not_empty
from resnets.data.photographs import Kept, Photographs, Tolerance
from resnets.data.sources import open_listing
from resnets.data.store import Store
from resnets.data.usual_tables import title
from resnets.errors import DataError, UsageError
from resnets.formatting import plural
from resnets.machine.available import available_memory

# Bytes of files that are read whole before anything else, some 20 seconds of two cores. Where more
# of them are new, training reads them first.
READ_FIRST = 1 << 30
_OPENING = 1 << 14  # bytes that are decoded in the time that it takes to open another file

_LOOKED_AT = 256  # images of others, whether they have more than 8 bits
_RATIO = 12  # bytes of pixels to a byte of a photograph's file, about
_LONG = 1.5  # longer side to shorter, about


def open_folder(
    path: Path,
    *,
    side: int = 256,
    channels: int = 3,
    broken: str = "error",
    broken_limit: float = 0.01,
    memory: int | None = None,
    frame: Frame | None = None,
    scale: Scale | Literal["measured"] = "measured",
    scaled: bool = True,
    content: bool | None = None,
    listing: Listing | None = None,
    report: Report = lambda done, total: None,
) -> Dataset:
    """Open images in files as uint8 squares of (channels, side, side), or as ``frame`` has them.

    They are decoded when they are asked for, and kept if they fit into ``memory`` bytes (half of
    what is available): scaled as the frame has them, or, without ``scaled``, as they are.

    ``content`` says whether all are read first. They are then known by what is in their files,
    copies are found, and the fingerprint covers content, relative paths, splits and classes; what
    was found is remembered, so that it happens once. Otherwise the fingerprint is of names, sizes
    and classes, and training finds what is broken. None means to read first if less than
    READ_FIRST bytes of files are new, or some of the images seem to have more than 8 bits.

    ``listing`` is what `open_listing` has found there already. ``scale`` says which values of more
    than 8 bits become black and white; "measured" reads the images that have them a second time,
    when it is known what those of the training split span. Raises DataError for a folder in no
    known layout and for broken images; with ``broken`` "skip" these are left out and listed, as
    long as they are at most ``broken_limit`` of all (or a single one), and with "read" so are those
    of which not even a beginning can be read. ``report`` is told how many images are read, and of
    how many; before, how many are found, of 0.
    """
    if broken not in ("error", "skip", "read"):
        raise UsageError(f'broken is "{broken}"', hint="choose from error, skip, read")
    if listing is None:
        listing = open_listing(path, report=lambda found: report(found, 0))
    measured, frame = scale == "measured", frame or Frame(side, side)
    store = Store(
        frame,
        channels,
        "container" if scale == "measured" else scale,
        broken == "read",
        scaled,
    )
    kept = Kept(_budget(listing, store, memory))
    allowed = None if broken == "error" else max(1, int(len(listing) * broken_limit + 1e-9))
    if content is None:
        new = listing.sizes[~recall(listing, store)]
        content = int(new.sum()) + _OPENING * len(new) < READ_FIRST or (
            measured and _seems_deep(listing)
        )
    skipped = tuple(Skipped(*each) for each in listing.irregular)
    numbers, tolerance = np.arange(len(listing)), Tolerance(allowed)
    found: Examined | None = None
    first: NDArray[np.int64] | None = None
    if content:

        def see(index: int, image: Image.Image) -> None:
            kept[index] = store.prepared(image)

        found = examine(listing, store, measured=measured, see=see, report=report)
        _judge(path, found.broken, len(listing), allowed)
        check_not_empty(listing, found.sound.tolist())
        numbers, tolerance, skipped = found.sound, Tolerance(None), (*found.broken, *skipped)
        training = np.count_nonzero(listing.parts[numbers] == 0)
        first = originals(found.digests.pixels[:training])
    elif measured:
        store = replace(store, scale="unknown")
    splits = _splits(listing, numbers, found.store if found else store, kept, tolerance)
    former = former_fingerprint(listing, numbers)
    dataset = Dataset(
        name=printable(title(path)),
        classes=listing.classes,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        fingerprint=LISTED + former,
        mirror=sides(listing.classes) is None,
        skipped=skipped,
        **_told(listing, numbers, first),
    )
    if found is None:
        return dataset
    files = found.digests.files
    return replace(
        dataset,
        fingerprint=content_fingerprint(listing, numbers, files),
        depth=found.depth,
        cropped=count_cropped(found.digests.sides) if frame.fit == "crop" else 0,
        former=former,
        copies=find_copies(listing, numbers, found.digests.pixels),
        manifest=Manifest([listing.shown(i) for i in numbers.tolist()], files),
    )


def _told(
    listing: Listing, numbers: NDArray[np.int64], first: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Return what a listing tells of images ``numbers`` beyond their labels, for a `Dataset`.

    ``first`` has for each one to train on the first that is a copy of it.
    """
    notes = listing.table.said if listing.table else ()
    if listing.groups is None:
        return {"originals": None if first is None else torch.from_numpy(first), "notes": notes}
    groups = listing.groups[numbers]
    own = groups[listing.parts[numbers] == 0]
    return {
        "originals": torch.from_numpy(together(first, own)),
        "groups": torch.from_numpy(own),
        "divided_groups": tuple(find_shared(listing, numbers, groups)),
        "notes": notes,
    }


def _splits(
    listing: Listing,
    numbers: NDArray[np.int64],
    store: Store,
    kept: Kept,
    tolerance: Tolerance,
) -> dict[str, Split]:
    """Return each split with its own of the listing's images ``numbers``."""
    found = {}
    for part, name in enumerate(listing.splits):
        own = numbers[listing.parts[numbers] == part]
        images = Photographs(listing, own, store, kept=kept, tolerance=tolerance)
        labels = torch.from_numpy(listing.labels[own].astype(np.int64))
        targets, weights = (
            None if column is None else torch.from_numpy(column[own])
            for column in (listing.targets, listing.weights)
        )
        found[name] = Split(images, torch.arange(len(own)), labels, targets, weights)
    return found


def _budget(listing: Listing, store: Store, memory: int | None) -> int:
    """Return the bytes of memory for pixels: none where hardly all will fit."""
    budget = available_memory() // 2 if memory is None else memory
    each = _LONG * store.frame.side**2 * store.channels
    needed = each * len(listing) if store.scaled else _RATIO * int(listing.sizes.sum())
    return budget if needed <= budget else 0


def _seems_deep(listing: Listing) -> bool:
    """Whether some of a few images, evenly spread, have more than 8 bits."""
    for index in np.linspace(0, len(listing) - 1, _LOOKED_AT, dtype=np.int64).tolist():
        name = listing.shown(index)
        try:
            with told(name), listing.open(index) as file:
                if is_deep(file, name):
                    return True
        except ImageError:  # it will be told when its turn comes
            continue
    return False


def _judge(path: Path, skipped: tuple[Skipped, ...], count: int, allowed: int | None) -> None:
    """Raise DataError when images are broken and may not be left out."""
    if len(skipped) <= (allowed or 0):
        return
    what = f"{len(skipped)} of {plural(count, 'image')} cannot be read"
    listed = f"`resnets data check {shlex.quote(printable(path))}` lists them"
    hint = f"{listed}; `train --set data.broken=skip` leaves them out"
    if allowed is not None:
        what += f", more than the {allowed} that may be left out"
        share = math.ceil(1000 * len(skipped) / count) / 1000
        more = f", or --set data.broken_limit={share:g}" if share < 1 else ""
        hint = f"{listed}; mend or remove them{more}"
    first = f"{skipped[0].path} {skipped[0].reason}"
    raise DataError(f"{printable(path)}: {what}; the first: {first}", hint=hint)
