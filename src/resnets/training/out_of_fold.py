"""What models say of images that they have not learnt: a run repeated without each fold of them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.dataset import Dataset
from resnets.data.folds import Pool, folds_of
from resnets.data.preprocess import preprocess_of
from resnets.errors import Stopped
from resnets.evaluation.network import evaluate
from resnets.models import open_model
from resnets.training.prepare import Plan
from resnets.training.train import train
from resnets.weights.calibration import calibrated
from resnets.weights.outputs import probabilities


@dataclass(frozen=True)
class OutOfFold:
    """The probabilities, (N, classes), that models without an image's fold give to it."""

    probabilities: NDArray[np.float32]
    judged: NDArray[np.bool_]  # (N,), whether that model has learnt other images of its label

    def accuracy(self, labels: NDArray[np.int64]) -> float:
        """Return on which share of the images that are judged the models agree with the labels."""
        right = self.probabilities.argmax(1) == labels
        return float(right[self.judged].mean())


def out_of_fold(
    plan: Plan,
    pool: Pool,
    together: NDArray[np.int64],
    count: int,
    out: Path,
    given: Mapping[str, Any],
    *,
    overwrite: bool,
    say: Callable[[str], None],
) -> OutOfFold:
    """Repeat a run without each of ``count`` folds, and return what the models say of that fold.

    Samples that are ``together`` are of one fold. The runs are fold-1 and so on in ``out``;
    ``given`` is what `train` is told of weights and teacher. Raises what `train` raises.
    """
    labels = pool.labels
    fold = folds_of(labels, together, pool.split.ids, count, plan.recipe.data.split_seed)
    found = np.zeros((len(labels), len(plan.dataset.classes)), np.float32)
    judged = np.zeros(len(labels), bool)
    recipe = plan.recipe.having("data", classes=None)  # they are merged already
    if recipe.data.seen_size is None:
        recipe = recipe.having("data", image_size=plan.spec.image_size)
    for number in range(count):
        title = f"fold {number + 1} of {count}"
        say(title)
        held = np.flatnonzero(fold == number)
        path = out / f"fold-{number + 1}"
        try:
            run = train(
                _without(plan.dataset, pool, together, held, number + 1),
                model=plan.spec,
                recipe=recipe,
                out=path,
                resume=None if overwrite else "auto",
                overwrite=overwrite,
                machine=plan.machine,
                **given,
            )
            if run.asked_to_stop is not None and number + 1 < count:
                raise Stopped("asked to stop", exit_code=run.asked_to_stop)
        except Stopped as stopped:
            stopped.message = f"{title}: {stopped.message}"
            stopped.hint = "the same command resumes" + ", without --overwrite" * overwrite
            raise
        places, rows = _probabilities(path, pool, held, plan.machine.where)
        found[held[places]] = rows
        judged[held[places]] = np.isin(labels[held[places]], labels[fold != number])
    return OutOfFold(found, judged)


def _without(
    dataset: Dataset,
    pool: Pool,
    together: NDArray[np.int64],
    held: NDArray[np.int64],
    number: int,
) -> Dataset:
    """Return a data set to train on whose test split are the samples at positions ``held``."""
    split = pool.split
    kept = np.setdiff1d(np.arange(len(split)), held)
    originals = torch.arange(int(split.ids.max()) + 1)
    originals[split.ids] = split.ids[torch.from_numpy(together)]
    digest = hashlib.sha256(f"{dataset.fingerprint} {split.ids[held].tolist()}".encode())
    return replace(
        dataset,
        name=f"{dataset.name} without fold {number}",
        train=split.subset(torch.from_numpy(kept)),
        validation=None,
        test=split.subset(torch.from_numpy(held)),
        fingerprint=digest.hexdigest(),
        former="",
        originals=originals,
        divided_groups=(),
        notes=(),
        copies=None,
        manifest=None,
    )


def _probabilities(
    run: Path, pool: Pool, held: NDArray[np.int64], device: torch.device
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return of which of the samples ``held`` a run's model can say something, and what it says."""
    model = open_model(run).to(device)
    split = pool.split.subset(torch.from_numpy(held))
    found = evaluate(model, split, preprocess_of(model), keep_logits=True)
    assert found.logits is not None  # as it was asked for
    assert found.positions is not None
    rows = probabilities(calibrated(found.logits, model.calibration), "softmax")
    return found.positions, rows.astype(np.float32)
