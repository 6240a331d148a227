"""What reading images whole tells of them; kept in the user's cache for as long as it holds."""

import hashlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data.copies import find_copies
from resnets.data.dataset import Dataset, Skipped
from resnets.data.depth import Depth, Extent, Range, RangeError, Scale, together, union
from resnets.data.headers import ImageError, told
from resnets.data.identity import LISTED, Digests
from resnets.data.images import printable
from resnets.data.listing import Listing, Names, pack
from resnets.data.photographs import Photographs
from resnets.data.pipeline import THREADS, read_ahead
from resnets.data.store import Store
from resnets.errors import DataError, ResourceError
from resnets.files import writing
from resnets.formatting import plural
from resnets.machine.downloads import cache_folder

Report = Callable[[int, int], None]  # how many are done, of how many

_VERSION = 1  # of what is kept
_SETTLED = 2 * 10**9  # nanoseconds: younger files may change without another time of change
_COLUMNS = ("files", "pixels", "sides", "sizes", "stamps")


@dataclass(frozen=True)
class Examined:
    """What came of reading the images of a listing: of the sound ones, in their order."""

    sound: NDArray[np.int64]  # their numbers in the listing
    digests: Digests
    depth: Depth | None  # of those of more than 8 bits, where there are any
    broken: tuple[Skipped, ...]  # the others
    store: Store  # with the range that was measured


def examine(
    listing: Listing,
    store: Store,
    *,
    measured: bool = True,
    anew: bool = False,
    see: Callable[[int, Image.Image], None] = lambda index, image: None,
    look: Callable[[int, BinaryIO], None] = lambda index, file: None,
    report: Report = lambda done, total: None,
) -> Examined:
    """Return what all images of a listing are, decoding those that are not known yet.

    Those are all of them when it is to be done ``anew``. ``look`` sees their files, ``see`` has
    each in 8 bits. What was found is kept in the user's cache, but of images that are broken, of
    more than 8 bits or only just written. Images of more than 8 bits are read a second time where
    it is to be ``measured`` what those of the training split span. ``report`` is told how many are
    read, of how many. Raises DataError where they have no range in common.
    """
    count = len(listing)
    digests = Digests.blank(count)
    known = np.zeros(count, bool) if anew else recall(listing, store, digests.columns)
    unknown = listing.fastest[~known[listing.fastest]].tolist()
    extents: dict[int, Extent] = {}  # of images of more than 8 bits

    def read(index: int) -> None:
        name = listing.shown(index)
        with told(name), listing.open(index) as file:
            digests.read(index, file)
            look(index, file)
            found = store.read(file, name, all_bits=measured)
        if extent := found.extent:
            extents[index] = extent
            if measured and store.scale == "container":
                return  # until the range is known
        image = found.image(store.channels, store.scale)
        digests.see(index, image)
        see(index, image)

    reasons = failures(read, unknown, report)
    deep = sorted(extents)
    if measured and deep:
        training = [i for i in deep if listing.parts[i] == 0]
        range = _measured_range(listing, {i: extents[i] for i in training or deep})
        store = replace(store, scale=range)
        reasons |= failures(read, deep)
    keep = ~known
    keep[[*reasons, *deep]] = False
    if keep.any():
        _remember(listing, store, digests.columns, known | keep)
    sound = np.array([i for i in np.arange(count).tolist() if i not in reasons], np.int64)
    return Examined(
        sound=sound,
        digests=digests.of(sound),
        depth=_depth_of([extents[i] for i in deep if i not in reasons], store.scale),
        broken=tuple(Skipped(listing.shown(i), reasons[i]) for i in sorted(reasons)),
        store=store,
    )


class Witness:
    """What training sees of images that were not read first, taken down as `examine` has it."""

    def __init__(self, listing: Listing, store: Store) -> None:
        count = len(listing)
        self.listing, self.store = listing, store
        self.digests = Digests.blank(count)
        self.known = recall(listing, store, self.digests.columns)
        self.broken = np.zeros(count, bool)
        self.told = True  # whether nothing is to be said once all have been seen
        self._new: list[int] = []  # seen since they were last gathered

    def wants(self, number: int) -> bool:
        """Whether an image has not been seen whole yet."""
        return not (self.known[number] or self.broken[number])

    def see(self, number: int, data: bytes, image: Image.Image) -> None:
        """Take down an image of 8 bits, and its file."""
        self.digests.read(number, io.BytesIO(data))
        self.digests.see(number, image)
        self.known[number] = True
        self._new.append(number)

    def fail(self, number: int) -> None:
        """Take an image down that cannot be read."""
        self.broken[number] = True

    def remember(
        self, gather: Callable[[Tensor], Tensor] = lambda rows: rows, *, write: bool = True
    ) -> list[str]:
        """Keep what has been seen for later runs, and return what is to be said of it, once.

        ``gather`` returns the rows of all processes that see the same images; one may ``write``.
        """
        new, self._new = self._new, []
        numbers = gather(torch.tensor(new, dtype=torch.int64))
        for column in self.digests.columns.values():
            column[numbers] = gather(torch.from_numpy(column[new])).numpy()
        self.known[numbers] = True
        self.told &= not len(numbers)  # a resumed run that sees nothing new has nothing to say
        broken = torch.from_numpy(np.flatnonzero(self.broken))
        self.broken[gather(broken)] = True
        if write and len(numbers):
            _remember(self.listing, self.store, self.digests.columns, self.known)
        if self.told or not (self.known | self.broken).all():
            return []
        self.told = True
        sound, count = np.flatnonzero(self.known), int(self.broken.sum())
        copies = find_copies(self.listing, sound, self.digests.pixels[sound])
        lost = f", {plural(count, 'broken one')} among them" if count else ""
        return [
            f"all {plural(len(self.known), 'image')} have been read{lost}: what they are is kept, "
            "so that the next run leaves out what is broken from the start and tears no copies",
            *copies.sentences(together=False),
        ]


def witness_of(dataset: Dataset) -> Witness | None:
    """Return what is shown the images of a large set as they are read; None for other sets."""
    images = dataset.train.images
    if not (dataset.fingerprint.startswith(LISTED) and isinstance(images, Photographs)):
        return None
    witness = Witness(images.listing, images.store)
    for split in dataset.parts.values():
        if isinstance(split.images, Photographs):
            split.images.witness = witness
    return witness


def failures(
    read: Callable[[int], None], indices: Sequence[int], report: Report = lambda done, total: None
) -> dict[int, str]:
    """Return why images cannot be decoded, by their number, those that can left out.

    ``report`` is told after each how many are done, and how many there are.
    """

    def attempt(index: int) -> str | None:
        try:
            read(index)
        except ImageError as error:
            return error.reason
        return None

    found: dict[int, str] = {}
    each = ([index] for index in indices)
    for done, (reason,) in enumerate(read_ahead(attempt, each, ahead=4 * THREADS)):
        report(done + 1, len(indices))
        if reason is not None:
            found[indices[done]] = reason
    return found


def recall(
    listing: Listing, store: Store, columns: dict[str, NDArray[Any]] | None = None
) -> NDArray[np.bool_]:
    """Return which images are known from before, bool (N,), and write what is into ``columns``."""
    none = np.zeros(len(listing), bool)
    try:
        with np.load(_place(listing, store), allow_pickle=False) as kept:
            if int(kept["version"]) != _VERSION:
                return none
            names = Names(kept["names"].tobytes())
            there = {name: kept[name] for name in _COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, IndexError):  # none yet, or damaged
        return none
    if any(len(column) != len(names) for column in there.values()):
        return none
    rows = np.arange(len(names))
    if names.packed != listing.names.packed:
        places = {names.spelled(i): i for i in rows.tolist()}
        rows = np.array([places.get(name, -1) for name in _spelled(listing)], np.int64)
    known = rows >= 0
    for name, now in (("sizes", listing.sizes), ("stamps", listing.stamps)):
        known[known] &= there[name][rows[known]] == now[known]
    for name, column in (columns or {}).items():
        column[known] = there[name][rows[known]]
    return known


def _remember(
    listing: Listing, store: Store, columns: dict[str, NDArray[Any]], known: NDArray[np.bool_]
) -> None:
    """Keep what is known of images, but of those that have only just been written."""
    known = known & (listing.stamps < time.time_ns() - _SETTLED)
    spelled = _spelled(listing)
    names = pack([spelled[i] for i in np.flatnonzero(known).tolist()])
    file = io.BytesIO()
    now = {"sizes": listing.sizes, "stamps": listing.stamps}
    kept = {name: column[known] for name, column in (columns | now).items()}
    kept |= {"version": np.array(_VERSION), "names": np.frombuffer(names, np.uint8)}
    np.savez(file, **kept)  # type: ignore[arg-type]
    place = _place(listing, store)
    with suppress(OSError, ResourceError), writing(place) as out:  # there may be no place for it
        out.write(file.getbuffer())


def _spelled(listing: Listing) -> list[str]:
    return [listing.names.spelled(i) for i in range(len(listing))]


def _place(listing: Listing, store: Store) -> Path:
    """Return the file for a listing; what decodes, and how, belongs to what is known."""
    about = (str(listing.root.resolve()), store.channels, store.truncated, PIL.__version__)
    digest = hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder("examined") / f"{digest[:32]}.npz"


def _measured_range(listing: Listing, extents: Mapping[int, Extent]) -> Range:
    try:
        common = together(extents.values())
    except RangeError as error:
        one, other = (
            next(listing.shown(i) for i in extents if bool(extents[i].bits) == whole)
            for whole in (False, True)
        )
        raise DataError(
            f"{printable(listing.root)}: {error}, such as {one} and {other}",
            hint=f"scale them alike, or train with a range for all of them: {error.setting}",
        ) from None
    assert common is not None
    return common.range


def _depth_of(extents: Sequence[Extent], scale: Scale) -> Depth | None:
    whole = union(extents)
    if whole is None:
        return None
    beyond = isinstance(scale, tuple) and sum(extent.exceeds(scale) for extent in extents)
    return Depth(len(extents), whole, scale, int(beyond))
