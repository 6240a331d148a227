"""Photographs, wherever their files lie, as squares to look at and random crops to learn from."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import call
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data.dataset import REPEAT
from resnets.data.decoders import Box
from resnets.data.headers import Header, ImageError, bare_pixels, read_header, told
from resnets.data.images import from_pixels, jpeg_part, pixels
from resnets.data.listing import Listing, Made
from resnets.data.pipeline import THREADS, read_ahead
from resnets.data.quiet import QUIET
from resnets.data.store import Store
from resnets.data.views import Crops, Cut, Part
from resnets.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 8  # images that a thread takes at a time
_HELD = 1 << 20  # bytes: of a larger file no more is held than where it is


@dataclass(frozen=True)
class Request:
    """Images that are wanted at once, int64 (N,), and what of them; None: the frame's squares.

    An id may be of a later draw of its image, REPEAT higher.
    """

    ids: Tensor
    crops: Crops | None = None


@dataclass(frozen=True)
class Answer:
    """The images of a request, uint8 (N, C, size, size), channels-last, and which they are."""

    images: Tensor
    sound: Tensor  # int64: their places in the request; the others cannot be read


class Kept:
    """Pixels by the number of their image, kept in memory up to so many bytes."""

    def __init__(self, budget: int) -> None:
        self._left, self._lock = budget, Lock()
        self._pixels: dict[int, NDArray[np.uint8]] = {}

    @property
    def room(self) -> bool:
        """Whether anything can still be kept."""
        return self._left > 0

    def __getitem__(self, index: int) -> NDArray[np.uint8] | None:
        return self._pixels.get(index)

    def __setitem__(self, index: int, image: Image.Image) -> None:
        size = image.width * image.height * len(image.getbands())
        with self._lock:
            if size > self._left or index in self._pixels:
                return
            self._left -= size
        self._pixels[index] = pixels(image).copy()


class Tolerance:
    """How many broken images may be left out, and those that were; None: not a single one."""

    def __init__(self, allowed: int | None) -> None:
        self._allowed, self._lock = allowed, Lock()
        self.found: dict[str, str] = {}  # why, by name

    def leave_out(self, name: str, error: ImageError) -> None:
        """Take an image down as broken. Raises the error, or DataError where they are too many."""
        if self._allowed is None:
            raise error
        with self._lock:
            self.found[name] = error.reason
            if len(self.found) > self._allowed:
                raise DataError(
                    f"{len(self.found):,} images cannot be read, more than the {self._allowed:,} "
                    f"that may be left out; the last: {error.message}",
                    hint="`resnets data check` lists them; mend or remove them, or raise "
                    "data.broken_limit",
                )


class Sees(Protocol):
    """Who is shown images that are read for the first time."""

    def wants(self, number: int) -> bool:
        """Whether an image, by its number in the listing, is to be shown."""

    def see(self, number: int, data: bytes, image: Image.Image) -> None:
        """Be shown a file and its image in 8 bits, before it is scaled."""

    def fail(self, number: int) -> None:
        """Be told of one that cannot be read."""


@dataclass(frozen=True)
class _Opened:
    """An image that is not decoded yet: its bytes, if they are few, or its pixels from before."""

    number: int  # in the listing
    name: str
    size: tuple[int, int]  # (width, height) of what is cut from
    pixels: NDArray[np.uint8] | None = None
    data: bytes | None = None
    header: Header | None = None  # of the data

    def check(self, image: Image.Image) -> None:
        """Raise ImageError where what is cut from turns out to have another size."""
        if image.size != self.size:
            raise ImageError(self.name, "its header states another size", hint="mend it")


class Photographs:
    """Images decoded when they are asked for, several at once, and kept as far as memory goes."""

    def __init__(
        self,
        listing: Listing,
        numbers: NDArray[np.int64],
        store: Store,
        *,
        kept: Kept | None = None,
        tolerance: Tolerance | None = None,
        threads: int = THREADS,
    ) -> None:
        self.listing, self.numbers, self.store, self.threads = listing, numbers, store, threads
        self.kept = Kept(0) if kept is None else kept
        self.tolerance = Tolerance(None) if tolerance is None else tolerance
        self.names, self.broken = Made(listing.shown, numbers), self.tolerance.found
        self.shape = (store.channels, store.frame.side, store.frame.side)
        self.witness: Sees | None = None  # to whom each is shown when it is first decoded

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, ids: Tensor) -> Tensor:
        """Return the squares of images as uint8 (N, C, H, W), channels-last in memory.

        Raises ImageError for one that cannot be read.
        """
        (answer,) = self.read([Request(ids)])
        if len(answer.sound) < len(ids):
            gone = next(i for i in range(len(ids)) if i not in answer.sound)
            name = self.names[int(ids[gone])]
            raise ImageError(name, self.tolerance.found[name], hint="it was left out")
        return answer.images

    def stream(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the squares of each of some batches of ids, and which of these they are."""
        for answer in self.read(map(Request, batches)):
            yield answer.images, answer.sound

    def read(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield the images of each request; those of the next ones are read meanwhile.

        In memory are the pixels of three requests, six times as many files as far as these have
        less than a megabyte, and one decoded image a thread. Raises ImageError for one that cannot
        be read and may not be left out, and DataError where too many have been.
        """
        asked: deque[Request] = deque()
        begun: deque[tuple[NDArray[np.uint8], list[int]]] = deque()

        def ids() -> Iterator[list[list[int]]]:
            for request in requests:
                asked.append(request)
                yield self._chunks((request.ids % REPEAT).tolist())

        def items() -> Iterator[list[list[Callable[[], bool]]]]:
            open_all = partial(_each, self._open)
            with closing(read_ahead(open_all, ids(), threads=self.threads)) as opened:
                for chunks in opened:
                    found = [*chain.from_iterable(chunks)]
                    request = asked.popleft()
                    places = [i for i, one in enumerate(found) if one is not None]
                    size = request.crops.size if request.crops else self.store.frame.side
                    out = np.empty((len(places), size, size, self.store.channels), np.uint8)
                    begun.append((out, places))
                    there = [one for one in found if one]
                    yield self._chunks(self._work(request, places, there, out))

        do_all = partial(_each, call)
        with closing(read_ahead(do_all, items(), threads=self.threads)) as filled:
            for chunks in filled:
                done = [*chain.from_iterable(chunks)]
                out, places = begun.popleft()
                images = torch.from_numpy(out)
                sound = torch.tensor(places, dtype=torch.int64)
                if not all(done):
                    there = torch.tensor(done)
                    images, sound = images[there], sound[there]
                yield Answer(images.permute(0, 3, 1, 2), sound)

    def _chunks(self, items: list[T]) -> list[list[T]]:
        """Return a batch's items by what a thread does in one go.

        Handing over one at a time takes a third of the time that reading one from a pack takes.
        """
        size = max(1, min(_AT_ONCE, len(items) // (2 * self.threads)))
        return [items[i : i + size] for i in range(0, len(items), size)]

    def _work(
        self,
        request: Request,
        places: list[int],
        opened: list[_Opened],
        out: NDArray[np.uint8],
    ) -> list[Callable[[], bool]]:
        """Return what fills each row of ``out``, and says whether it could."""
        ids = request.ids[places]
        cuts: Sequence[Cut | None] = [None] * len(ids)
        if request.crops and len(ids):
            width, height = torch.tensor([one.size for one in opened]).unbind(1)
            cuts = request.crops.of(ids, height, width)
        return [partial(self._fill, *row) for row in zip(opened, cuts, out, strict=True)]

    def _open(self, index: int) -> _Opened | None:
        """Return an image of which the size is known; None for one that is left out."""
        name, number = self.names[index], int(self.numbers[index])
        if (known := self.kept[number]) is not None and not self._is_new(number):
            height, width, _ = known.shape
            return _Opened(number, name, (width, height), known)
        try:
            with told(name), self.listing.open(number) as file:
                data = file.read() if self.listing.sizes[number] <= _HELD else None
                if data is not None and not self.store.scaled:
                    bare = bare_pixels(data, self.store.channels)
                    if bare is not None:
                        if self.witness and self._is_new(number):
                            self.witness.see(number, data, from_pixels(bare))
                        return _Opened(number, name, (bare.shape[1], bare.shape[0]), bare)
                header = read_header(file if data is None else io.BytesIO(data), name)
                size = self.store.prepared_size(*header.size)
                if data is None:  # nor the header, which would keep the file open
                    return _Opened(number, name, size)
                return _Opened(number, name, size, None, data, header)
        except ImageError as error:
            self._leave_out(number, name, error)
            return None

    def _fill(self, opened: _Opened, cut: Cut | None, row: NDArray[np.uint8]) -> bool:
        """Put what is cut of an image into a row; False for one that is left out."""
        if opened.pixels is not None:
            row[:] = self._cut(partial(_part, opened.pixels), opened, cut)
            return True
        name, number = opened.name, opened.number
        try:
            with told(name):
                data = opened.data
                if data is None:
                    with self.listing.open(number) as file:
                        data = file.read()
                partly = not (self.store.scaled or self.kept.room or self._is_new(number))
                if cut is not None and partly:
                    row[:] = pixels(cut(_Parts(opened, data, self.store)))
                    return True
                image = self._whole(number, name, data)
                opened.check(image)
        except ImageError as error:
            self._leave_out(number, name, error)
            return False
        self.kept[number] = image
        row[:] = pixels(self.store.square(image) if cut is None else cut(image.crop))
        return True

    def _whole(self, number: int, name: str, data: bytes) -> Image.Image:
        """Return what is cut of an image, which the witness is shown. Raises ImageError."""
        decoded = self.store.read(io.BytesIO(data), name)
        image = decoded.image(self.store.channels, self.store.scale)
        if self.witness and self._is_new(number) and not decoded.extent:
            self.witness.see(number, data, image)
        return self.store.prepared(image)

    def _is_new(self, number: int) -> bool:
        return self.witness is not None and self.witness.wants(number)

    def _leave_out(self, number: int, name: str, error: ImageError) -> None:
        if self.witness:
            self.witness.fail(number)
        self.tolerance.leave_out(name, error)

    def _cut(self, part: Part, opened: _Opened, cut: Cut | None) -> NDArray[np.uint8]:
        if cut is not None:
            return pixels(cut(part))
        return pixels(self.store.square(part((0, 0, *opened.size))))


class _Parts:
    """Parts of an image of which no more is decoded than has to be."""

    def __init__(self, opened: _Opened, data: bytes, store: Store) -> None:
        self._opened, self._data, self._store = opened, data, store
        self._header = opened.header or read_header(io.BytesIO(data), opened.name)

    def __call__(self, box: Box) -> Image.Image:
        """Return the pixels in a box. Raises ImageError."""
        name = self._opened.name
        part = jpeg_part(self._header, self._data, name, box, self._store.channels)
        if part is not None:
            return part
        whole = self._store.whole(io.BytesIO(self._data), name)
        self._opened.check(whole)
        return whole.crop(box)


def _each(do: Callable[[T], R], items: list[T]) -> list[R]:
    with QUIET:  # which sets filters of the process, for all of them once
        return [do(item) for item in items]


def _part(array: NDArray[np.uint8], box: Box) -> Image.Image:
    left, top, right, bottom = box
    return from_pixels(array[top:bottom, left:right])
