"""Counter-based random numbers: pure functions of (seed, stream, epoch, sample id).

There is no generator state to save: what a sample draws depends on nothing but these four, not on
batches, workers, processes or interruptions. The numbers are the splitmix64 sequence (Steele et al.
2014, *Fast Splittable Pseudorandom Number Generators*), in int64 arithmetic that every device has.
"""

import zlib

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_MASK = 2**64 - 1


def bits(seed: int, stream: str, epoch: int, ids: Tensor) -> Tensor:
    """Return 64 random bits for each sample id, as int64 of the shape of ``ids``.

    Streams with different names are independent of each other.
    """
    key = 0
    for part in (seed, zlib.crc32(stream.encode()), epoch):
        key = _mix_int(key * _GOLDEN + part + 1)
    return _mix(ids * _signed(_GOLDEN) + _signed(key))


def integers(high: int, seed: int, stream: str, epoch: int, ids: Tensor) -> Tensor:
    """Return a uniform int64 in [0, high) for each sample id; high is at most 2**31."""
    upper = _shift(bits(seed, stream, epoch, ids), 32)
    return (upper * high) >> 32


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
