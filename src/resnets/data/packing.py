"""Packing labelled images into one file or several, in constant memory, resumed after any stop.

Until a pack is whole, it lies hidden beside its name; a journal beside it has a line for each
image: what it was made from, and what became of it. New images of a pack that is there are written
behind it: it stays as it was until they all are. Packs of a size at most are a folder, which is
hidden as long; new images come into further packs.
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from resnets.data.encoding import Encoding
from resnets.data.headers import ImageError
from resnets.data.indexed import LARGEST, Index, told_of
from resnets.data.listing import Listing
from resnets.data.pack_file import PackFile
from resnets.data.pack_folder import SHARDED, pack_at, packs_in, put
from resnets.data.pack_journal import Journal
from resnets.data.packs import FIRST, is_pack, read_pack
from resnets.data.pipeline import read_ahead
from resnets.errors import DataError, UsageError
from resnets.files import (
    alone,
    broken_list,
    check_free,
    followed,
    halted,
    partial_of,
    sync_folder,
    write_broken,
)
from resnets.formatting import plural, printable

Report = Callable[[int, int], None]  # how many are done, of how many

_AT_ONCE = 16  # images; as many more are encoded before their turn


@dataclass(frozen=True)
class Packed:
    """What `pack` made."""

    path: Path
    images: int
    size: int  # bytes
    kept: int  # images that an earlier call had put into it
    broken: tuple[tuple[str, str], ...]  # what was left out, and why
    broken_list: Path | None  # the file that lists them
    packs: int = 1  # files

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        listed = str(self.broken_list) if self.broken_list else None
        return {**vars(self), "path": str(self.path), "broken_list": listed}


def pack(
    listing: Listing,
    out: Path,
    encoding: Encoding,
    *,
    shard_size: int = 0,
    overwrite: bool = False,
    report: Report = lambda done, total: None,
    on_broken: Callable[[str, str], None] = lambda name, reason: None,
) -> Packed:
    """Pack the images of a listing; the same images and options give the same bytes.

    With ``shard_size``, in bytes, ``out`` is a folder of packs of at most that size each. Images
    that are not in a pack that is there are appended to it, or put into further packs. After a stop
    of any kind the same call resumes, and ends with the bytes of one that was not stopped. An image
    that cannot be read is left out, listed beside the pack, and told to ``on_broken``.

    Raises UsageError, unless ``overwrite`` gives it up, for a file that is no pack and for a pack
    of other options; also for an image that alone is larger than ``shard_size``, and for a folder
    of other files; DataError for a pack that has images which the listing has not; ResourceError
    where files cannot be written, and while another process writes them.
    """
    out = followed(out)
    with alone(out), ExitStack() as stack:
        work = _Work(listing, out, encoding, overwrite, shard_size)
        try:
            work.begin(stack)
            work.resume(report)
            kept = len(work.names)
            work.write(report, on_broken)
            files = work.finish()
            size = sum(path.stat().st_size for path in files)
        except OSError as error:
            raise halted(out, error) from error
    write_broken(out, work.broken)
    broken = tuple(work.broken)
    listed = broken_list(out) if broken else None
    return Packed(out, len(work.names), size, kept, broken, listed, len(files))


class _Work:
    """A pack, or a folder of them, that is being written."""

    file: PackFile
    journal: Journal

    def __init__(
        self, listing: Listing, out: Path, encoding: Encoding, overwrite: bool, limit: int
    ) -> None:
        self.listing, self.out, self.encoding = listing, out, encoding
        self.overwrite, self.limit = overwrite, limit
        self.todo = {listing.names[image]: image for image in listing.fastest.tolist()}
        self.more: dict[str, Any] = {"made": asdict(encoding)} | ({SHARDED: True} if limit else {})
        self.names: set[str] = set()  # of members
        self.broken: list[tuple[str, str]] = []
        self.done = 0  # images, of which some may be broken
        self.there: list[Path] = []  # packs of the folder from before
        self.number = 0  # of the pack that is being written, in a folder

    def begin(self, stack: ExitStack) -> None:
        """Open what there is of a pack, or begin it; raises DataError for one of other images."""
        path, base, old = partial_of(self.out), FIRST, None
        if self.limit:
            self.there = packs_in(self.out)
            self._take_folder()
            self.number = 0 if self.overwrite else len(self.there)
            path.mkdir(exist_ok=True)
            path = pack_at(path, self.number)
        elif self.out.exists() and not self.overwrite:
            if not self.out.is_file() or not is_pack(self.out):
                check_free(self.out, overwrite=False)
            found = read_pack(self.out)
            _check_made(self.out, found.made, self.encoding)
            path, base, old = self.out, found.end, found.index
        self.journal = Journal(self.out)
        stack.enter_context(self.journal.file)
        self.file = PackFile(path, self.listing, self.more, base, old)
        stack.callback(lambda: self.file.file.close())
        if old is not None:
            for row, image in enumerate(self._match(old, self.out)):
                digest = old.digests[row].tobytes()
                where = int(old.offsets[row]), int(old.sizes[row])
                self.file.keep(image, old.names[row], *where, digest)

    def _take_folder(self) -> None:
        """Find the packs of the folder, which stay; their images are done."""
        for path in [] if self.overwrite else self.there:
            found = read_pack(path)
            _check_made(path, found.made, self.encoding)
            images = self._match(found.index, path)
            told = {name: column[images] for name, column in told_of(self.listing).items()}
            if not found.index.tells(self.listing, told):
                raise DataError(
                    f"{printable(path)}: its images have other classes, splits, groups or weights "
                    f"in {printable(self.listing.root)} by now",
                    hint="--overwrite packs anew; another --out keeps it",
                )

    def _match(self, old: Index, path: Path) -> list[int]:
        """Return which images of the listing those of a pack are; raises DataError for others.

        Those that are younger than the pack are compared with what it holds.
        """
        packed = path.stat().st_mtime_ns
        where = {self.encoding.named(name): name for name in self.todo}
        images, gone = [], []
        for row, name in enumerate(old.names):
            own = name if name in self.todo else where.get(name, "")
            if own not in self.todo:
                gone.append(name)
                continue
            image, same = self.todo[own], True
            if self.listing.stamps[image] > packed:
                made = self._made(own)
                content = b"" if isinstance(made, str) else made[1]
                same = hashlib.sha256(content).digest() == old.digests[row].tobytes()
            del self.todo[own]
            if not same or old.sources[row] != self.listing.sizes[image]:
                raise DataError(
                    f"{printable(self.out)}: holds {printable(name)} as it was: it has changed",
                    hint="--overwrite packs anew",
                )
            self.names.add(name)
            images.append(image)
        if gone:
            raise DataError(
                f"{printable(self.out)}: holds {plural(len(gone), 'image')} that "
                f"{printable(self.listing.root)} has not: {printable(gone[0])}",
                hint="--overwrite packs anew; another --out keeps it",
            )
        return images

    def resume(self, report: Report) -> None:
        """Take over what an earlier call has done, and begin what there was not.

        Members are those of the journal, until one whose image is not what it was, or whose bytes
        are not what was written: that and all that follow are made anew.
        """
        base = self.number if self.limit else self.file.base
        head = {"base": base, "made": asdict(self.encoding)}
        if self.journal.head.get("base") == base and not self.overwrite:
            _check_made(self.out, self.journal.head.get("made"), self.encoding)
        if self.limit:
            head["limit"] = self.limit
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
        self.file.begin()

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
                if self._file_for(member, size).holds(image, member, size, digest):
                    self.names.add(member)
                    return True
        return False

    def _source(self, name: str, image: int) -> list[Any]:
        return [name, int(self.listing.sizes[image]), int(self.listing.stamps[image])]

    def _file_for(self, name: str, size: int) -> PackFile:
        """Return the pack that a member of this size goes to: the next where it does not fit."""
        length = self.file.length_with(name, size)
        if not self.limit or length <= self.limit:
            return self.file
        if not self.file.names:
            raise UsageError(
                f"{printable(name)}: takes {length:,} bytes as a pack, more than --shard-size",
                hint="give more, or --side, which scales",
            )
        self.file.finish()
        self.number += 1
        self.file = PackFile(pack_at(self.file.path.parent, self.number), self.listing, self.more)
        self.file.begin()
        return self._file_for(name, size)

    def write(self, report: Report, on_broken: Callable[[str, str], None]) -> None:
        """Write the members that are left, encoded by several threads, in order."""
        total = self.done + len(self.todo)
        left = [*self.todo]
        some = (left[start : start + _AT_ONCE] for start in range(0, len(left), _AT_ONCE))
        with closing(read_ahead(self._made, some)) as batches:
            for source, made in zip(left, chain.from_iterable(batches), strict=True):
                record = self._source(source, self.todo[source])
                if isinstance(made, str):
                    self.broken.append((printable(source), made))
                    on_broken(*self.broken[-1])
                    record += [None, made]
                else:
                    record += self._write_member(self.todo[source], *made)
                self.journal.add(record)
                self.done += 1
                report(self.done, total)

    def _write_member(self, image: int, name: str, content: bytes) -> list[Any]:
        """Write what stands for an image, and return what the journal says of it."""
        if name in self.names:
            raise DataError(
                f"{printable(self.out)}: two images would be called {printable(name)}",
                hint="rename one of them",
            )
        digest = self._file_for(name, len(content)).add(image, name, content)
        self.names.add(name)
        return [name, len(content), digest]

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

    def finish(self) -> list[Path]:
        """End the pack and give the whole its name; return its files."""
        if not self.names:
            raise DataError(
                f"{printable(self.listing.root)}: no image can be read; the first: "
                + " ".join(self.broken[0]),
                hint="see `resnets data check`",
            )
        draft = partial_of(self.out)
        if self.limit:
            files = self._finish_folder(draft)
        else:
            self.file.finish()
            if self.file.path != self.out:
                draft.replace(self.out)
            draft.unlink(missing_ok=True)  # of a call with --overwrite
            files = [self.out]
        sync_folder(self.out.parent)
        self.journal.file.close()
        self.journal.path.unlink()
        return files

    def _finish_folder(self, draft: Path) -> list[Path]:
        """End the last pack of a folder, and put those that were made in their place."""
        last = self.number + bool(self.file.names)  # none where all that was left is broken
        if self.file.names:
            self.file.finish()
        first = 0 if self.overwrite else len(self.there)
        return put(draft, self.out, range(first, last), overwrite=self.overwrite)


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
