"""How much memory the reading of one file may take."""

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
