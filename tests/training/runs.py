"""A small run that uses every option, what it must leave, and the moments of its life."""

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import tiny_dataset
from resnets import files
from resnets.data.dataset import Dataset
from resnets.files import write_text
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import to_plain
from resnets.spec import Spec
from resnets.training import run as running
from resnets.training import schedule
from resnets.training.recipe import load_recipe
from resnets.training.train import train
from resnets.zoo import get_spec

NARROW = replace(get_spec("resnet8"), widths=(4, 8, 16), stem_width=4)
EVERYTHING = (
    "batch_size=8",
    "label_smoothing=0.1",
    "class_weights=balanced",
    "ema=0.9",
    "precise_batch_norm=20",
    "selection=best",
    "data.holdout=10",
    "augment.padding=2",
    "augment.mirror=alternate",
    "augment.policy=timm",
    "augment.jitter=[0.4,0.4,0.4,0.1]",
    "augment.cutout=3",
    "augment.erasing=0.5",
    "augment.erasing_fill=noise",
    "augment.mixup=0.4",
    "augment.cutmix=1.0",
    "augment.first_size=8",
    "optimizer.lr=0.05",
    "optimizer.clip=1.0",
    "optimizer.accumulate=2",
    "schedule.epochs=2",
    "schedule.warmup=0",  # nor any steps of it
    "schedule.warmup_rate=0.1",
    "schedule.warmup_until_error=0.6",
    "schedule.plateau_factor=0.5",
    "schedule.plateau_patience=1",
)
STEPS, BATCHES = 10, 5  # in two epochs, whose last batch is shorter
TIMES = ("seconds", "train_seconds", "data_seconds", "images_per_second", "train")


def run(
    out: Path,
    *settings: str,
    model: Spec = NARROW,
    pictures: int = 48,
    window: int = 3,
    data: Dataset | None = None,
    **options,
) -> dict:
    """Train on the tiny data set, or ``data``, in this process, which must be a fork.

    Returns the results.

    ``window`` is the number of steps over which the warm-up by error measures it.
    """
    running.write_report = lambda runs: write_text(RunFolder(runs[0]).report, "in less time")
    sys.modules["torch.utils.tensorboard"] = None  # it writes its files as it likes
    torch.backends.mkldnn.enabled = False  # slower for so little
    schedule.WINDOW = window
    recipe = load_recipe("default", [*EVERYTHING, *settings])
    dataset = data or tiny_dataset(pictures, 21, side=12)
    return train(dataset, model=model, recipe=recipe, out=out, quiet=True, **options).results


def state(out: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Return the tensors and the values of the last state, by safetensors and json alone."""
    with safe_open(RunFolder(out).states()[0], framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["state"])


def left(out: Path) -> dict[str, object]:
    """Return all that a finished run leaves and that an interruption must not change."""
    folder = RunFolder(out)
    tensors, values = state(out)
    return {
        "weights": _digests(load_file(folder.weights)),
        "state": _digests(tensors),
        "values": timeless(values),
        "metrics": [timeless(json.loads(line)) for line in folder.metrics.read_text().splitlines()],
        "ledger": folder.ledger.read_text(),
        "results": timeless(to_plain(folder.read_record().results)),
        "status": folder.read_record().status,
        "report": folder.report.exists(),
        "files": sorted(p.name for p in out.rglob("*") if not p.name.startswith("step-")),
    }


def _digests(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    parts = {key: tensor.reshape(-1).view(torch.uint8) for key, tensor in tensors.items()}
    return {key: hashlib.sha256(part.numpy()).hexdigest() for key, part in parts.items()}


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def watch(out: Path, reached: Callable[[str], None]) -> None:
    """Call ``reached`` at every moment of this process's run into ``out``, for good.

    Moments are the beginning of each step, the middle of each write to a file that is
    written whole, and what lies before each change of a name, a length or a lock. A sync is none:
    what was written stays when the process is killed.
    """

    class HalfWritten(io.FileIO):
        def write(self, data):
            half = len(data) // 2
            count = super().write(data[:half])
            reached("write")
            return count + super().write(data[half:])

    def audit(event: str, arguments: tuple) -> None:
        if event == "fcntl.flock" or (event in _CHANGES and _changes(event, *arguments)):
            reached(event)

    def _changes(event: str, path, *arguments) -> bool:
        if not isinstance(path, str | os.PathLike) or not Path(path).is_relative_to(out):
            return False
        if event == "open":
            return bool(arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return Path(path).exists() != (event == "os.mkdir")

    zero_grad = torch.optim.Optimizer.zero_grad

    def beginning(*arguments, **options):
        reached("step")
        zero_grad(*arguments, **options)

    torch.optim.Optimizer.zero_grad = beginning
    files.io = _Overlaid(io, FileIO=HalfWritten)
    sys.addaudithook(audit)


_CHANGES = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")


class _Overlaid:
    def __init__(self, module, **names) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name):
        return getattr(self._module, name)
