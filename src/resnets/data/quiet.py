"""Pillow and the libraries that it brings along, kept from writing to the terminal."""

import ctypes
import warnings
from functools import cache
from pathlib import Path
from threading import Lock

import PIL


class _Quiet:
    """Keeps Pillow's warnings, which are about metadata and name no file, from the terminal.

    The filters of warnings belong to the process, so the first of the threads that decode at a time
    sets them, and the last puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


QUIET = _Quiet()


@cache
def quieten_libtiff() -> None:
    """Keep libtiff, which Pillow brings along, from writing to the terminal by itself.

    Its lines name no file; what is damage comes from Pillow as an exception. It has one handler for
    a process, without which it says nothing. Where the library is not a file of its own, as on
    Windows, it goes on talking.
    """
    package = Path(PIL.__file__).parent
    for pattern in ("../pillow.libs/libtiff*", ".dylibs/libtiff*"):
        for path in package.glob(pattern):
            try:
                library = ctypes.CDLL(str(path))
                for kind in ("Warning", "Error"):
                    getattr(library, f"TIFFSet{kind}Handler")(None)
            except (OSError, AttributeError):
                continue
