"""Parts of a table, each of which may be begun several times, on several machines.

They lie beside the table, in folders which are renamed when they are whole::

    .all.parquet.parts/03-of-64.5f1c22d0/   an attempt, whose journal the next one copies
    .all.parquet.parts/03-of-64/            the part

Each attempt has a folder of its own: neither a lock that outlives the machine that held it, nor a
machine that was given up and lives, is then in anybody's way. What the folder is on has to show a
renamed folder and a closed file to all machines, and needs no locks between them.
"""

import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from resnets.errors import UsageError
from resnets.files import partial_of
from resnets.inference.partition import record_of

_FOLDER = re.compile(r"\d+-of-(\d+)(\.[0-9a-f]{8})?")

T = TypeVar("T")


def parts_of(out: Path) -> Path:
    """Return the folder that the parts of a table lie in until it is whole."""
    return out.with_name(f".{out.name}.parts")


def begun(out: Path) -> int | None:
    """Return in how many parts a table was begun; None where it was not."""
    folder = parts_of(out)
    names = (each.name for each in folder.iterdir()) if folder.is_dir() else ()
    return next((int(found[1]) for name in names if (found := _FOLDER.fullmatch(name))), None)


@dataclass(frozen=True)
class Attempts:
    """The parts of the table ``out``, of which there are ``of``."""

    out: Path
    of: int

    def table(self, number: int) -> Path:
        """Return where the table of a part is, once it is whole."""
        return self._folder(number) / f"part{self.out.suffix}"

    def tables(self) -> list[Path]:
        """Return the tables of all parts."""
        return [self.table(number) for number in range(1, self.of + 1)]

    def make(self, number: int, write: Callable[[Path], T], *, overwrite: bool = False) -> T:
        """Make a part; return what ``write`` returns, which is told the name of the table.

        Where the part is whole, ``write`` has only to find out that it is its own; what it is not
        is a UsageError, or with ``overwrite`` is made anew.
        """
        table = self.table(number)
        if table.exists():
            try:
                return write(table)
            except UsageError:
                if not overwrite:
                    raise
                shutil.rmtree(table.parent)
        own = self._begin(number)
        if own is None:
            return self.make(number, write, overwrite=overwrite)
        made = write(own / table.name)
        self._settle(own, number)
        return made

    def _folder(self, number: int) -> Path:
        return parts_of(self.out) / f"{number:0{len(str(self.of))}d}-of-{self.of}"

    def _begin(self, number: int) -> Path | None:
        """Return the folder of a new attempt, with what the one before had done.

        None where that was whole, and had only not been renamed. Earlier ones are removed: if one
        of them still runs, it ends when it looks for its files.
        """
        whole = self._folder(number)
        name = self.table(number).name
        earlier = [*whole.parent.glob(f"{whole.name}.*")]
        for each in earlier:
            if record_of(each / name).is_file() and not partial_of(each / name).exists():
                self._settle(each, number)
                return None
        own = whole.with_name(f"{whole.name}.{secrets.token_hex(4)}")
        own.mkdir(parents=True)
        journals = [partial_of(each / name) for each in earlier]
        if kept := [journal for journal in journals if journal.is_file()]:
            longest = max(kept, key=lambda journal: journal.stat().st_size)
            shutil.copyfile(longest, partial_of(own / name))
        for each in earlier:
            shutil.rmtree(each, ignore_errors=True)
        return own

    def _settle(self, own: Path, number: int) -> None:
        """Make the folder of an attempt that of the part, unless another has been quicker."""
        try:
            own.rename(self._folder(number))
        except OSError:
            if not self.table(number).exists():
                raise
            shutil.rmtree(own, ignore_errors=True)
