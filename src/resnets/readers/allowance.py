"""How much memory the reading of one file may take, and bytes that are read within that."""

from pathlib import Path

from resnets.errors import CheckpointError

_MIB = 1024**2


class Allowance:
    """How many bytes reading one file may take beside its own: three times the file, or 128 MiB.

    Whatever a file can make grow faster than itself is counted here, at the price of the most that
    it takes. Nothing is given back, so that this bounds the time as well.
    """

    def __init__(self, file_size: int) -> None:
        self.left = max(3 * file_size, 128 * _MIB)

    def take(self, count: int) -> None:
        """Count ``count`` bytes before they are allocated; raises CheckpointError."""
        self.left -= count
        if self.left < 0:
            raise CheckpointError(
                "it declares far more data than it holds",
                hint="no checkpoint does; it is damaged or made to exhaust memory",
            )


def read_whole(path: Path) -> tuple[bytes, Allowance]:
    """Return the bytes of a file, and what is left to make something of them."""
    data = path.read_bytes()
    allowance = Allowance(len(data))
    allowance.take(len(data))
    return data, allowance


class Cursor:
    """Bytes that are read one after the other."""

    def __init__(self, data: bytes | memoryview, allowance: Allowance) -> None:
        self.data, self.allowance, self.at = memoryview(data), allowance, 0

    def take(self, count: int) -> memoryview:
        """Return the next bytes as a view. Raises CheckpointError where the file ends before."""
        self.at += count
        if self.at > len(self.data):
            raise truncated(len(self.data), self.at)
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        """Return the next bytes as a little-endian number."""
        return int.from_bytes(self.take(size), "little")


def broken(what: str) -> CheckpointError:
    """Return the error for a file that is not as it was written."""
    return CheckpointError(what, hint="copy or download it again")


def truncated(size: int, expected: int | None = None) -> CheckpointError:
    """Return the error for a file that stops before its end."""
    of = f"{size:,} of {expected:,} bytes" if expected else f"it stops after {size:,} bytes"
    return broken(f"the file is truncated ({of})")
