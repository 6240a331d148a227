"""How many threads a process has, and how it keeps its memory, settled before torch loads.

The command line calls `settle` first, a training and an evaluation `keep_large_blocks`, a service
`return_large_blocks`. They change nothing that the user's own environment says, and nothing in a
program that only imports the package.
"""

import ctypes
import os
import sys
from collections.abc import Iterator, MutableMapping
from math import ceil
from pathlib import Path
from typing import Any

LARGE_BLOCKS = "RESNETS_LARGE_BLOCKS"  # 0 leaves the allocator alone

large_blocks_kept = False  # whether `keep_large_blocks` has had its way

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # cgroups(7)
_ALLOCATOR = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 32 << 20  # bytes; glibc takes larger blocks from the system directly in any case
RETURNED = 8 << 20  # bytes; Pillow takes the pixels of photographs in blocks of 16 MiB


def settle(
    environment: MutableMapping[str, str] = os.environ, root: Path = _GROUPS, own: Path = _OWN
) -> None:
    """Use the cores that are ours.

    OpenMP reads its variables when torch loads it, so this must come first. Threads are limited to
    the quota of a container (cgroup), which torch does not see.
    """
    cores = quota(root, own)
    if cores is not None and "OMP_NUM_THREADS" not in environment:
        threads = max(1, ceil(cores))
        if threads < len(os.sched_getaffinity(0)):
            environment["OMP_NUM_THREADS"] = str(threads)


def keep_large_blocks(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let glibc keep what is freed; return whether it does.

    Otherwise it gives the memory of activations back after every step and takes it again, zeroed,
    page by page. A process that takes no steps has only the cost, some tens of megabytes.
    """
    global large_blocks_kept
    library = _glibc(environment)
    kept = library is not None and library.mallopt(_M_MMAP_THRESHOLD, LARGEST)
    large_blocks_kept = bool(kept and library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    return large_blocks_kept


def return_large_blocks(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let glibc give large blocks back to the system when they are freed; return whether it does.

    By itself it learns from the first of them to keep such blocks: where threads decode photographs
    of any size, for months, what is kept grows to several times what is in use.
    """
    library = _glibc(environment)
    return bool(library is not None and library.mallopt(_M_MMAP_THRESHOLD, RETURNED))


def _glibc(environment: MutableMapping[str, str]) -> Any:
    """Return glibc where its allocator may be told something, else None."""
    wanted = environment.get(LARGE_BLOCKS, "1") != "0"
    if not wanted or any(name in environment for name in _ALLOCATOR):
        return None
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def settings(environment: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables in force that decide how threads wait and memory is kept."""
    prefixes = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", LARGE_BLOCKS)
    found = {name: value for name, value in environment.items() if name.startswith(prefixes)}
    return dict(sorted(found.items()))


def quota(root: Path = _GROUPS, own: Path = _OWN) -> float | None:
    """Return how many cores the control groups of this process allow; None without a limit."""
    return min(_quotas(root, own), default=None)


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """Yield the limits of the process's group and of all above it, of either version."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # no control groups here
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _limit(folder)
            if folder == top:
                break


def _limit(folder: Path) -> Iterator[float]:
    """Yield the cores that one group allows, where it says."""
    try:
        if (folder / "cpu.max").exists():  # version 2
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
    except (OSError, ValueError):
        return
