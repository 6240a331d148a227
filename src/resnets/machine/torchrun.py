"""What the environment says of ``torchrun``, which may have started this process."""

import os
import platform

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")


def launched() -> bool:
    """Whether this process is one of those that ``torchrun`` started."""
    return all(name in os.environ for name in VARIABLES)


def restarts() -> int:
    """Return how often ``torchrun`` has started the processes anew after one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def launch() -> str:
    """Return what is the same for the processes of one ``torchrun``, also when it restarts them."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"{platform.node()}:{os.getppid()}" if name == "none" else name


def program() -> str:
    """Return how this program was called: by its name, or by ``torchrun``, in as many processes."""
    if not launched():
        return "resnets"
    count = os.environ.get("LOCAL_WORLD_SIZE")
    here = count == os.environ["WORLD_SIZE"]
    how = f"--standalone --nproc-per-node {count}" if here else "..."  # not known from here
    return f"torchrun {how} -m resnets"
