"""Where and how to compute; none of it belongs to what is computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from resnets.errors import ResourceError, UsageError, check_name
from resnets.machine.processes import ALONE, Processes


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes."""

    device: str = "auto"  # or "cpu", "cuda"
    compile: bool = False  # run the network through `torch.compile`
    cuda_graph: bool = False  # record the step of a GPU as a graph, where the recipe allows it
    checkpointing: bool = False  # compute blocks twice instead of keeping what they compute
    save_minutes: float = 10  # between states within an epoch
    quiet: bool = False
    track: tuple[str, ...] = ()  # who is shown it: wandb, mlflow, trackio
    calibrate: str | None = "temperature"  # or "vector"; on the held-out split, in the end
    false_alarms: float = 0.05  # of known images that are called unknown; 0: none ever is
    remember: bool = True  # keep for later runs what images of a large set turn out to be
    test: bool = True  # whether the test split is looked at in the end
    # Called before an epoch with metrics.jsonl's lines of those before, and how many there will be;
    # what it raises ends the run, whose state is saved.
    watch: Callable[[Sequence[Any], int], None] | None = None
    processes: Processes = ALONE  # that share the run; `resnets.train` meets those of torchrun

    @property
    def where(self) -> torch.device:
        """The device; raises what `choose_device` raises."""
        return choose_device(self.device)


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of a name: cpu, cuda, or auto for CUDA where there is one.

    Raises UsageError for another name and ResourceError when there is no such device.
    """
    name, _, number = str(name).partition(":")
    if number:
        raise UsageError(
            f"of several devices one is chosen before Python starts, not by {name}:{number}",
            hint=f"CUDA_VISIBLE_DEVICES={number}, and the device cuda",
        )
    check_name("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("CUDA is not available here", hint="use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
