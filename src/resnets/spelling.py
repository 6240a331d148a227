"""Names of files for libraries that take no others than UTF-8, whatever bytes a name has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def is_plain(text: str | Path) -> bool:
    """Whether the bytes of a name are its letters in UTF-8, also where the locale has others."""
    try:
        return str(text).encode("utf-8") == os.fsencode(text)
    except UnicodeEncodeError:
        return False


@contextmanager
def spelled(path: Path, *beside: str) -> Iterator[Path]:
    """Yield a name that is UTF-8 for a file to be read or written: its own, or a link for a while.

    ``beside`` are the endings of files of the same name that a library opens by itself. A mapped
    file stays readable after its link has gone.
    """
    if is_plain(path):
        yield path
        return
    with TemporaryDirectory(prefix="resnets-") as folder:
        for ending in (path.suffix, *beside):
            link = Path(folder, f"file{ending if is_plain(ending) else ''}")
            link.symlink_to(path.with_suffix(ending).absolute())
        yield Path(folder, f"file{path.suffix if is_plain(path.suffix) else ''}")
