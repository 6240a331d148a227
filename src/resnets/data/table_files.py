"""Which image of a folder a table means: by its path, or else by the end of its path."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from resnets.data.class_folders import Report, Walk
from resnets.data.listing import composed, for_people
from resnets.data.scan import STAMP, Disk
from resnets.formatting import printable


class Files:
    """The images in and below the folder of a table, by what it calls them; it is not ignored.

    Paths are from that folder, with slashes of either kind, in any Unicode form. Where not one of
    ``values``, which are all that the table has, is there, they are the ends of paths, and may lack
    the ending of the file: Kaggle's tables have such.
    """

    def __init__(
        self, folder: Path, tables: Iterable[str], values: list[str], report: Report
    ) -> None:
        self.root = os.path.abspath(folder)
        walk = Walk(folder, Disk(folder))
        found = walk.images("", report)
        self.names = [name for name, _, _ in found]
        self.facts = [(size, stamp) for _, size, stamp in found]
        self.places = {name: place for place, name in enumerate(self.names)}
        self.used = bytearray(len(found))
        own = {for_people(name) for name in tables}
        self.ignored = tuple(sorted(walk.ignored - own))
        self.irregular = tuple(sorted(each for each in walk.irregular if each[0] not in own))
        self._tails = lru_cache(None)(self._by_tail)
        self._whole = True
        self._whole = not found or any(map(self._is_there, values))
        ends = not self._whole and any(map(self._is_there, values))
        self.said = (
            "files are found by the ends of their paths, wherever in its folder" if ends else ""
        )

    def find(self, value: str) -> tuple[str, int, int]:
        """Return the path of an image, its size and stamp; zeros where it is not there.

        Raises ValueError for a path that leads out of the folder, could be that of two images, or
        is none.
        """
        place = self.places.get(value)
        if place is None:
            name = self._relative(value)
            place = self._place(name)
            if place is None:
                return name, *self._on_disk(name)
        self.used[place] = True
        return self.names[place], *self.facts[place]

    def unused(self) -> tuple[str, ...]:
        """Return the images that were not asked for, for people."""
        left = (name for name, used in zip(self.names, self.used, strict=True) if not used)
        return tuple(sorted(for_people(name) for name in left))

    def _is_there(self, value: str) -> bool:
        try:
            return value in self.places or self._place(self._relative(value)) is not None
        except ValueError:
            return False

    def _relative(self, value: str) -> str:
        name = value.replace("\\", "/")
        if name.startswith("/"):
            roots = (self.root, os.path.realpath(self.root))
            name = next((name[len(r) :].lstrip("/") for r in roots if name.startswith(f"{r}/")), "")
        name = posixpath.normpath(name)
        if name in (".", "..") or name.startswith("../"):
            raise ValueError("leads out of the folder of the table")
        return name

    def _place(self, name: str) -> int | None:
        if self._whole:
            place = self.places.get(name)
            if place is not None or name.isascii():
                return place
            kinds = [(-1, False)]  # whole paths, in one Unicode form
        else:
            depth = name.count("/")
            kinds = [(depth, False), (depth, True)]
        for kind in kinds:
            found = self._tails(*kind).get(composed(name), [])
            if len(found) > 1:
                two = " and ".join(sorted(printable(self.names[place]) for place in found)[:2])
                raise ValueError(f"could be {two}")
            if found:
                return found[0]
        return None

    def _by_tail(self, depth: int, bare: bool) -> dict[str, list[int]]:
        """Return images by the last components of their paths, with or without their endings."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(self.names):
            tail = composed("/".join(name.split("/")[-depth - 1 :]) if depth >= 0 else name)
            found[posixpath.splitext(tail)[0] if bare else tail].append(place)
        return found

    def _on_disk(self, name: str) -> tuple[int, int]:
        try:
            status = os.stat(os.path.join(self.root, name))
        except OSError:
            return 0, 0
        return status.st_size, max(status.st_mtime_ns, status.st_ctime_ns) & STAMP
