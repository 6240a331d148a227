"""What a recipe leaves open as "auto" is chosen by what is there: images, and how far weights are.

How far is measured by a linear classifier on the features that the weights have, before anything
is trained: what it answers correctly, they know already (Kornblith et al. 2019).
results/finetuning-values.txt has the runs that the rule rests on.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnets.data.dataset import Dataset, Split
from resnets.data.preprocess import Preprocess
from resnets.errors import NonFiniteError, UsageError
from resnets.evaluation.network import computed, some
from resnets.formatting import percent, plural
from resnets.machine.device import Machine
from resnets.machine.processes import ALONE, Processes
from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.training.recipe import Recipe
from resnets.training.starting import Start

PROBED = 1000  # training images that are looked at, at most
FAR = 0.15  # Probe.gain, below which weights are hardly better than fresh ones
LARGEST_DECAY = 0.3  # of the rate from a block to the one before it, where weights know everything
STEPS, LEAST, MOST = 1600, 12, 30  # a run's length where half is known, within so many epochs
_PENALTIES = tuple(10.0**power for power in range(-6, 3))  # by the features' mean square


@dataclass(frozen=True)
class Probe:
    """What a linear classifier answers correctly by features that were trained on other images."""

    images: int
    accuracy: float  # of each image by a classifier that was fitted to all others
    largest: float  # share of the largest class among them

    @property
    def gain(self) -> float:
        """Of what naming the largest class gets wrong, the share that it gets right; at least 0."""
        return max(0.0, self.accuracy - self.largest) / max(1 - self.largest, 1e-9)

    def __str__(self) -> str:
        return (
            f"a linear classifier on the weights' features is right on "
            f"{percent(self.accuracy, 0)} of {self.images:,} training images "
            f"({percent(self.largest, 0)} are of one class)"
        )


Values = dict[str, dict[str, Any]]  # of settings, by section and key


def choose(found: Probe, images: int, classes: int, batch_size: int) -> tuple[Values, str]:
    """Return how so many training images are learned, given what the weights know, and why so."""
    steps = STEPS * (1.5 - found.gain)  # what the weights do not know takes longer
    epochs = min(max(round(steps * batch_size / images), LEAST), MOST)
    if found.gain < FAR:
        finetune = {"head_epochs": 0.0, "layer_decay": 1.0}
        why = f"{found}: the weights are of little use for these images"
    else:
        decay = round(1 - LARGEST_DECAY * found.gain**2, 2)
        finetune = {"head_epochs": 1.0, "layer_decay": decay}
        why = f"{found}, and there are about {plural(round(images / classes), 'image')} a class"
    return {"finetune": finetune, "schedule": {"epochs": epochs}}, why


def probe(
    network: ResNet, split: Split, preprocess: Preprocess, processes: Processes = ALONE
) -> Probe:
    """Measure what a linear classifier can tell by a network's pooled features.

    Of more than PROBED images so many are looked at, always the same, as evaluation sees them.
    Raises NonFiniteError where features are NaN or infinite.
    """
    split = some(split, PROBED)
    device = next(network.parameters()).device
    network.eval()
    positions, features = computed(lambda images: network.embed(preprocess(images)), split, device)
    split, known = split.subset(positions), features.double()
    if not known.isfinite().all():
        raise NonFiniteError(
            "the weights that training starts from make NaN or infinity of these images",
            hint="`resnets inspect` looks into their file; start from others",
        )
    targets = F.one_hot(split.labels) if split.targets is None else split.targets
    targets = targets.cpu().double()
    answers = left_out(known, targets).argmax(1)
    correct = targets[torch.arange(len(targets)), answers]
    # Rounding differs between machines, and all processes have to choose the same.
    found = processes.gather(torch.stack([correct.mean(), targets.mean(0).max()])[None])[0]
    return Probe(len(targets), *found.tolist())


def left_out(features: Tensor, targets: Tensor) -> Tensor:
    """Return what ridge regression answers for each sample when it is fitted to all others.

    ``features`` are float64 (N, D), ``targets`` float64 (N, K), as is what is returned. The penalty
    is the one of _PENALTIES whose answers have the least squared error. In closed form: a sample's
    error without it is its error with it, by 1 - its leverage (Allen 1974).
    """
    count = len(features)
    x, y = features - features.mean(0), targets - targets.mean(0)
    values, vectors = torch.linalg.eigh(x @ x.T)
    values = values.clamp(min=0)
    scale = values.sum() / count
    projected, best, least = vectors.T @ y, targets, float("inf")
    for penalty in _PENALTIES:
        kept = values / (values + penalty * scale + 1e-300)
        leverage = vectors.square() @ kept + 1 / count  # that of the mean is among it
        share = (1 - leverage).clamp(min=1e-9)[:, None]
        errors = (y - vectors @ (kept[:, None] * projected)) / share
        if (loss := float(errors.square().sum())) < least:
            best, least = targets - errors, loss
    return best


def settle(
    recipe: Recipe,
    kept: Recipe | None,
    start: Start | None,
    spec: Spec,
    dataset: Dataset,
    preprocess: Preprocess,
    machine: Machine,
) -> tuple[Recipe, str]:
    """Return the recipe without "auto", and in a sentence why these values were chosen.

    A run that has begun goes on with those that it has ``kept``.
    """
    if not any(recipe.open.values()):
        return recipe, ""
    if kept is not None:
        values, why, source = kept.model_dump(), "", kept.source
    else:
        found = _probed(recipe, start, spec, dataset, preprocess, machine)
        values, why = choose(found, len(dataset.train), len(dataset.classes), recipe.batch_size)
        source = f"{recipe.source}; chosen because {why}"
    for section, keys in recipe.open.items():
        recipe = recipe.having(section, **{key: values[section][key] for key in keys})
    return recipe.model_copy(update={"source": source}), why


def _probed(
    recipe: Recipe,
    start: Start | None,
    spec: Spec,
    dataset: Dataset,
    preprocess: Preprocess,
    machine: Machine,
) -> Probe:
    if start is None or start.tensors is None:
        keys = [f"{section}.{key}" for section, keys in recipe.open.items() for key in keys]
        raise UsageError(
            f"recipe {recipe.name} chooses by the weights that training starts from "
            f"({', '.join(keys)}), and there are none",
            hint="give --weights, or take --recipe default",
        )
    network = ResNet(spec)
    network.load_state_dict(start.tensors)
    network.to(machine.where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return probe(network, dataset.train, preprocess, machine.processes)
