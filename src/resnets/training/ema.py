"""Averages of a model's weights: over the steps, with the model as it then is; over epochs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from resnets.training.recipe import Recipe
from resnets.training.schedule import warmup_steps


def decays(recipe: Recipe, steps: int, batches: int) -> Callable[[int], float]:
    """Return the decay after each step, counted from 1, in a run with so many batches an epoch."""
    warmup, decay = warmup_steps(recipe.schedule, steps, batches), recipe.ema
    if recipe.ema_form == "torchvision":
        updates = recipe.batch_size * recipe.ema_every * batches / steps
        decay = 1 - min(1.0, (1 - decay) * updates)
    return partial(_decay, decay, recipe.ema_form, recipe.ema_every, warmup, batches)


def _decay(most: float, form: str, every: int, warmup: int, batches: int, step: int) -> float:
    """Return how much of the average is kept after a step: 1 for no update, 0 for a copy.

    It starts low, so that the first weights are forgotten.
    """
    if (step - 1) % batches % every:
        return 1.0
    if form == "torchvision":  # the first update after the warm-up is a copy as well
        return most if step - 1 > warmup else 0.0
    return min(most, (1 + step) / (10 + step) if form == "tensorflow" else 1 - step ** (-2 / 3))


def share_of_the_first(recipe: Recipe, steps: int, batches: int) -> float:
    """Return what the weights that an average began with are of it at the end of a run.

    A tenth stands for anything less.
    """
    share, decay = 1.0, decays(recipe, steps, batches)
    for step in range(1, steps + 1):
        share *= decay(step) or 1.0  # a copy is a beginning
        if share < 0.1:
            return 0.1
    return share


class Average:
    """An average over the steps of every floating tensor of a model; others are the last ones.

    ``tensors`` are the averages, under the keys of the model's state dict; ``decay`` is a function
    of the step, as `decays` makes it.
    """

    def __init__(self, model: nn.Module, decay: Callable[[int], float]) -> None:
        self._model, self._decay = model, decay
        self.tensors = _copy(model)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after ``step`` steps."""
        decay = self._decay(step)
        if decay == 1:
            return
        averages, values = [], []
        for key, value in self._model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.tensors[key])
                values.append(value)
            else:
                self.tensors[key].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the model; on leaving, put back what it had, bit for bit."""
        kept = _copy(self._model)
        _fill(self._model.state_dict(), self.tensors)
        try:
            yield
        finally:
            _fill(self._model.state_dict(), kept)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from averages that were saved."""
        _fill(self.tensors, tensors)


class Soup:
    """The mean of a model's weights at the ends of some epochs (Izmailov et al. 2018).

    ``tensors`` is empty before the first. Means are made step by step, so that what never changes
    stays the same to the bit.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, model: nn.Module, number: int) -> None:
        """Take in the weights as they are; ``number`` counts from 1 those that are taken in."""
        if number == 1 or not self.tensors:
            self.tensors = _copy(model)
            return
        for key, value in model.state_dict().items():
            mean = self.tensors[key]
            if value.is_floating_point():
                mean.lerp_(value, 1 / number)
            else:
                mean.copy_(value)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


@torch.no_grad()
def _fill(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    for key, target in targets.items():
        target.copy_(sources[key])
