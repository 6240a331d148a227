"""Packing labelled images into one file, in constant memory for pixels, resumed after any stop.

Until a pack is whole, it lies hidden beside its name; a journal beside it has a line for each
image: what it was made from, and what became of it. New images of a pack that is there are written
behind it: it stays as it was until they all are.
"""

import os
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.encoding import Encoding
from resnets.data.headers import ImageError
from resnets.data.indexed import LARGEST, Index, told_of
from resnets.data.listing import Listing, Names
from resnets.data.pack_journal import Journal, write
from resnets.data.packs import (
    BLOCK,
    FIRST,
    INDEX,
    header,
    is_pack,
    padding,
    pointer,
    read_pack,
)
from resnets.data.pipeline import read_ahead
from resnets.errors import DataError, UsageError, unwritable
from resnets.files import (
    FULL,
    alone,
    check_free,
    followed,
    open_own,
    partial_of,
    sync_folder,
    write_json,
)
from resnets.formatting import plural, printable

Report = Callable[[int, int], None]  # how many are done, of how many

_AT_ONCE = 16  # images; as many more are encoded before their turn
_END = bytes(2 * BLOCK)  # of a tar


@dataclass(frozen=True)
class Packed:
    """What `pack` made."""

    path: Path
    images: int
    size: int  # bytes
    kept: int  # images that an earlier call had put into it
    broken: tuple[tuple[str, str], ...]  # what was left out, and why
    broken_list: Path | None  # the file that lists them

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        listed = str(self.broken_list) if self.broken_list else None
        return {**vars(self), "path": str(self.path), "broken_list": listed}


def pack(
    listing: Listing,
    out: Path,
    encoding: Encoding,
    *,
    overwrite: bool = False,
    report: Report = lambda done, total: None,
    on_broken: Callable[[str, str], None] = lambda name, reason: None,
) -> Packed:
    """Pack the images of a listing; the same images and options give the same bytes.

    Images that are not in a pack that is there are appended to it. After a stop of any kind the
    same call resumes, and ends with the bytes of one that was not stopped. An image that cannot be
    read is left out, listed beside the pack, and told to ``on_broken``.

    Raises UsageError, unless ``overwrite`` gives it up, for a file that is no pack and for a pack
    of other options; DataError for a pack that has images which the listing has not; ResourceError
    where files cannot be written, and while another process writes them.
    """
    out = followed(out)
    with alone(out), ExitStack() as stack:
        try:
            work = _Work.begin(listing, out, encoding, overwrite, stack)
            work.resume(report)
            kept = len(work.names)
            work.write(report, on_broken)
            work.finish()
            size = out.stat().st_size
        except OSError as error:
            full = error.errno in FULL
            hint = "free some space; the same command resumes" if full else "choose another --out"
            raise unwritable(out, error, hint) from error
    broken_list = out.with_name(f"{out.name}.broken.json")
    if work.broken:
        write_json(broken_list, [{"path": n, "reason": reason} for n, reason in work.broken])
    else:
        broken_list.unlink(missing_ok=True)
    count = len(work.names)
    return Packed(out, count, size, kept, tuple(work.broken), broken_list if work.broken else None)


@dataclass
class _Work:
    """A pack that is being written."""

    listing: Listing
    out: Path
    encoding: Encoding
    overwrite: bool
    path: Path  # where it lies meanwhile
    base: int  # from where on this work's own members lie
    old: Index | None  # of what is there already
    file: FileIO
    journal: Journal
    todo: dict[str, int] = field(default_factory=dict)  # images of the listing, by name
    done: int = 0  # images, of which some may be broken
    images: "array[int]" = field(default_factory=lambda: array("q"))  # those of the members
    names: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)
    broken: list[tuple[str, str]] = field(default_factory=list)
    at: int = 0  # where the next member goes

    @classmethod
    def begin(
        cls, listing: Listing, out: Path, encoding: Encoding, overwrite: bool, stack: ExitStack
    ) -> "_Work":
        """Open what there is of a pack, or begin it."""
        path, base, old = partial_of(out), FIRST, None
        if out.exists() and not overwrite:
            if not out.is_file() or not is_pack(out):
                check_free(out, overwrite=False)
            pack = read_pack(out)
            _check_made(out, pack.made, encoding)
            path, base, old = out, pack.end, pack.index
        journal = Journal(out)
        stack.enter_context(journal.file)
        open_own(path).close()
        file = stack.enter_context(FileIO(path, "r+"))
        work = cls(listing, out, encoding, overwrite, path, base, old, file, journal)
        work.todo = {listing.names[image]: image for image in listing.fastest.tolist()}
        work.at = base
        if old is not None:
            work.match(old)
        return work

    def match(self, old: Index) -> None:
        """Find the images of the listing that are in the pack; raises DataError for others."""
        where = {self.encoding.named(name): name for name in self.todo}
        gone = []
        for row, name in enumerate(old.names):
            source = name if name in self.todo else where.get(name, "")
            image = self.todo.pop(source, None)
            if image is None:
                gone.append(name)
                continue
            if old.sources[row] != self.listing.sizes[image]:
                raise DataError(
                    f"{printable(self.out)}: holds {printable(name)} as it was: it has changed",
                    hint="--overwrite packs anew",
                )
            digest = old.digests[row].tobytes()
            self._keep(image, name, int(old.offsets[row]), int(old.sizes[row]), digest)
        if gone:
            raise DataError(
                f"{printable(self.out)}: holds {plural(len(gone), 'image')} that "
                f"{printable(self.listing.root)} has not: {printable(gone[0])}",
                hint="--overwrite packs anew; another --out keeps it",
            )

    def _keep(self, image: int, name: str, offset: int, size: int, digest: bytes) -> None:
        self.images.append(image)
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.digests += digest

    def resume(self, report: Report) -> None:
        """Take over what an earlier call has done, and begin what there was not.

        Members are those of the journal, until one whose image is not what it was, or whose bytes
        are not what was written: that and all that follow are made anew.
        """
        head = {"base": self.base, "made": asdict(self.encoding)}
        if self.journal.head.get("base") == self.base and not self.overwrite:
            _check_made(self.out, self.journal.head.get("made"), self.encoding)
        total = len(self.todo)
        for record in self.journal.records() if self.journal.head == head else ():
            if not self._is_kept(record):
                if not (self.done or self.overwrite or record[0] in self.todo):
                    raise UsageError(
                        f"{printable(self.out)}: was begun with other images, such as "
                        f"{printable(str(record[0]))}",
                        hint="give the same, or another --out; --overwrite packs anew",
                    )
                break
            del self.todo[record[0]]
            self.done += 1
            report(self.done, total)
        self.journal.begin(head)
        if self.base == FIRST:
            self.file.seek(0)
            write(self.file, pointer())

    def _is_kept(self, record: list[Any]) -> bool:
        """Whether a line of the journal is of an image and still true; if so it is taken over."""
        name = record[0] if record and isinstance(record[0], str) else ""
        image = self.todo.get(name)
        if image is None or record[:3] != self._source(name, image):
            return False
        match record[3:]:
            case [None, str(reason)]:
                self.broken.append((printable(name), reason))
                return True
            case [str(member), int(size), str(digest)] if 0 <= size <= LARGEST:
                start = header(member, size)
                self.file.seek(self.at)
                found = self.file.read(len(start) + size) or b""
                content = found[len(start) :]
                if found[: len(start)] == start and sha256(content).hexdigest() == digest:
                    self._place(image, member, len(start), content)
                    return True
        return False

    def _place(self, image: int, name: str, start: int, content: bytes) -> str:
        """Take down where a member lies; return its digest."""
        digest = sha256(content)
        self._keep(image, name, self.at + start, len(content), digest.digest())
        self.at += start + len(content) + len(padding(len(content)))
        return digest.hexdigest()

    def _source(self, name: str, image: int) -> list[Any]:
        return [name, int(self.listing.sizes[image]), int(self.listing.stamps[image])]

    def write(self, report: Report, on_broken: Callable[[str, str], None]) -> None:
        """Write the members that are left, encoded by several threads, in order."""
        self.file.seek(self.at)
        known, total = set(self.names), self.done + len(self.todo)
        left = [*self.todo]
        some = (left[start : start + _AT_ONCE] for start in range(0, len(left), _AT_ONCE))
        found = chain.from_iterable(read_ahead(self._made, some))
        for source, made in zip(left, found, strict=True):
            image = self.todo[source]
            record = self._source(source, image)
            if isinstance(made, str):
                self.broken.append((printable(source), made))
                on_broken(*self.broken[-1])
                record += [None, made]
            else:
                name, content = made
                if name in known:
                    raise DataError(
                        f"{printable(self.out)}: two images would be called {printable(name)}",
                        hint="rename one of them",
                    )
                known.add(name)
                start = header(name, len(content))
                write(self.file, b"".join((start, content, padding(len(content)))))
                record += [name, len(content), self._place(image, name, len(start), content)]
            self.journal.add(record)
            self.done += 1
            report(self.done, total)

    def _made(self, name: str) -> tuple[str, bytes] | str:
        """Return what stands for an image in the pack, or why it cannot be read."""
        try:
            with self.listing.open(self.todo[name]) as file:
                data = file.read(LARGEST + 1)
            if len(data) > LARGEST:
                return f"is larger than {LARGEST >> 30} GB"
            return self.encoding(data, name)
        except ImageError as error:
            return error.reason
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"

    def finish(self) -> None:
        """Write the index, then the pointer to it, and give the whole its name."""
        if not self.names:
            raise DataError(
                f"{printable(self.listing.root)}: no image can be read; the first: "
                + " ".join(self.broken[0]),
                hint="see `resnets data check`",
            )
        images, listing, old = np.array(self.images), self.listing, self.old
        told = {name: column[images] for name, column in told_of(listing).items()}
        if old is None or not old.tells(listing, told):
            parts, names = told["parts"], self.names
            order = np.array(sorted(range(len(images)), key=lambda row: (parts[row], names[row])))
            index = Index(
                classes=listing.classes,
                splits=listing.splits,
                names=Names([names[row] for row in order]),
                offsets=np.array(self.offsets)[order],
                sizes=np.array(self.sizes)[order],
                sources=listing.sizes[images[order]],
                files=np.zeros(0, np.int32),
                digests=np.frombuffer(self.digests, np.uint8).reshape(-1, 32)[order],
                **{name: column[order] for name, column in told.items()},
                more={"made": asdict(self.encoding)},
            ).encoded()
            start = header(INDEX, len(index))
            self._end(b"".join((start, index, padding(len(index)))))
            self.file.seek(0)
            write(self.file, pointer(self.at + len(start), index))
            os.fsync(self.file.fileno())
            if self.path != self.out:
                self.file.close()
                self.path.replace(self.out)
        elif self.file.seek(0, os.SEEK_END) != self.base + len(_END):
            self.file.seek(self.base)
            self._end(b"")
        sync_folder(self.out.parent)
        partial_of(self.out).unlink(missing_ok=True)  # of a call with --overwrite
        self.journal.file.close()
        self.journal.path.unlink()

    def _end(self, data: bytes) -> None:
        """Write the last bytes of the file and cut off what may be behind them."""
        write(self.file, data + _END)
        self.file.truncate()
        os.fsync(self.file.fileno())


def _check_made(out: Path, made: Any, encoding: Encoding) -> None:
    """Raise UsageError for a pack whose images were made with other options."""
    if made != asdict(encoding):
        words = (
            " ".join(f"{k}={v}" for k, v in made.items()) if isinstance(made, dict) else "others"
        )
        raise UsageError(
            f"{printable(out)}: was begun with other options: {printable(words)}",
            hint="give the same, or another --out; --overwrite packs anew",
        )
