"""Where a run happened: versions, processor, threads."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from resnets import __version__
from resnets.machine import cpu, sharing
from resnets.machine.processes import Processes

_INSTRUCTIONS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "sve", "bf16"),
)


def environment(device: torch.device, processes: Processes, precision: str) -> dict[str, Any]:
    """Return what a reader needs to judge a run's speed and to repeat it."""
    return {
        "resnets": __version__,  # there is no other where the sources are on the path alone
        **{name: version(name) for name in ("torch", "numpy", "pillow")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(device),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "settings": cpu.settings(),
        "large_blocks_kept": cpu.large_blocks_kept,
        "waiting_adapts": sharing.adapts(),
        "device": device.type,
        "processes": processes.count,
        "precision": precision,
    }


def processor(device: torch.device) -> str:
    """Return the name of the device's chip, as far as the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpuinfo("model name") or platform.processor()


def instructions() -> str:
    """Return which of the processor's instructions decide its speed, as far as the system tells."""
    known = {*_cpuinfo("flags").split(), *_cpuinfo("Features").split()}  # of x86, of ARM
    return " ".join(name for name in _INSTRUCTIONS if name in known)


def _cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
