"""How much memory can be used: what the system has free, or less where a group limits it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes of memory that can be used: the system's or the container's, the smaller."""
    limits = list(_of_groups())
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail")]
    except OSError:  # not Linux: assume that half of the memory is taken
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" in names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return max(0, min(limits, default=4 << 30))


@contextmanager
def peak_growth() -> Iterator[list[int]]:
    """Put into a list by how many bytes this process grows meanwhile, at its peak.

    It stays empty where the system is not Linux.
    """
    found: list[int] = []
    status = Path("/proc/self/status")

    def kilobytes(name: str) -> int:
        return int(re.search(rf"{name}:\s*(\d+)", status.read_text())[1])  # type: ignore[index]

    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak until now
        before = kilobytes("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found.append(1024 * (kilobytes("VmHWM") - before))


def _of_groups() -> list[int]:
    """Return what is left in this process's control group and those around it, of either version.

    A batch system or a container sets a limit there.
    """
    places = [_GROUPS, _GROUPS / "memory"]
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            if kinds in ("", "memory") or "memory" in kinds.split(","):
                root = _GROUPS / "memory" if kinds else _GROUPS
                own = root / name.lstrip("/")
                places += [own, *(p for p in own.parents if p.is_relative_to(root))]
    except (OSError, ValueError):
        pass
    found = []
    for place in dict.fromkeys(places):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            try:
                found.append(int((place / limit).read_text()) - int((place / used).read_text()))
            except (OSError, ValueError):  # no group, or a group without a limit ("max")
                continue
    return found
