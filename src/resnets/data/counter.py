"""Counter-based random numbers: pure functions of (seed, stream, epoch, sample id).

There is no generator state to save: what a sample draws depends on nothing but these four, not on
batches, workers, processes or interruptions. The numbers are the splitmix64 sequence (Steele et al.
2014, *Fast Splittable Pseudorandom Number Generators*), in int64 arithmetic that every device has.
"""

import zlib
from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_MASK = 2**64 - 1
_ROUNDS = 64


def bits(seed: int, stream: str | Sequence[str], epoch: int, ids: Tensor) -> Tensor:
    """Return 64 random bits for each sample id, as int64 of the shape of ``ids``.

    Streams with different names are independent of each other; several at once, which costs hardly
    more than one, are stacked along a first dimension.
    """
    steps = ids * _signed(_GOLDEN)
    if isinstance(stream, str):
        return _mix(steps + _key(seed, stream, epoch))
    return _mix(torch.stack([steps + _key(seed, name, epoch) for name in stream]))


def _key(seed: int, stream: str, epoch: int) -> int:
    key = 0
    for part in (seed, zlib.crc32(stream.encode()), epoch):
        key = _mix_int(key * _GOLDEN + part + 1)
    return _signed(key)


def integers(high: int | Tensor, seed: int, stream: str, epoch: int, ids: Tensor) -> Tensor:
    """Return a uniform int64 in [0, high) for each sample id; high is at most 2**31.

    ``high`` may differ between samples, as int64 of the shape of ``ids``.
    """
    upper = _shift(bits(seed, stream, epoch, ids), 32)
    return (upper * high) >> 32


def uniform(seed: int, stream: str | Sequence[str], epoch: int, ids: Tensor) -> Tensor:
    """Return a uniform float64 in [0, 1) for each sample id, a multiple of 2**-53.

    Several streams are stacked, as those of `bits`.
    """
    return _shift(bits(seed, stream, epoch, ids), 11).double() * 2**-53


def normal(seed: int, stream: str, epoch: int, ids: Tensor) -> Tensor:
    """Return a standard normal float64 for each sample id (Box & Muller 1958)."""
    radius, angle = (uniform(seed, f"{stream} {part}", epoch, ids) for part in ("radius", "angle"))
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * pi * angle)


def beta(alpha: float, seed: int, stream: str, epoch: int, ids: Tensor) -> Tensor:
    """Return a float64 from Beta(alpha, alpha) for each sample id, by rejection (Jöhnk 1964).

    Raises ValueError for an alpha outside 0.05 .. 1, where numbers underflow or few are accepted.
    """
    if not 0.05 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0.05 and 1, not {alpha}")
    values = torch.full_like(ids, 0.5, dtype=torch.float64)
    found = torch.zeros_like(ids, dtype=torch.bool)
    for number in range(_ROUNDS):  # each accepts half of the samples or more
        x, y = (
            # Not a power: torch's differs in the last bit at the end of a batch.
            torch.exp(torch.log1p(-uniform(seed, f"{stream} {number} {part}", epoch, ids)) / alpha)
            for part in ("x", "y")
        )
        values = torch.where(~found & (x + y <= 1), x / (x + y), values)
        found |= x + y <= 1
        if found.all():  # note: this waits for the device
            break
    return values


def permutation(count: int, seed: int, stream: str, epoch: int) -> Tensor:
    """Return a random order of 0 .. count-1 as int64 (count,)."""
    return torch.argsort(bits(seed, stream, epoch, torch.arange(count)), stable=True)


def _mix(x: Tensor) -> Tensor:
    for shift, factor in _FACTORS:
        x = (x ^ _shift(x, shift)) * _signed(factor)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x &= _MASK
    for shift, factor in _FACTORS:
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return x ^ (x >> 31)


def _shift(x: Tensor, count: int) -> Tensor:
    """Shift right, filling with zeros: torch's own shift repeats the sign."""
    mask: int = 2 ** (64 - count) - 1
    return (x >> count) & mask


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x
