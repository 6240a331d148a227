"""The exponential moving average of a model's weights, and the model with it in place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An average over the steps of every floating tensor of a model; others are the last ones.

    ``tensors`` are the averages, under the keys of the model's state dict.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.tensors = _copy(model)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after ``step`` steps.

        The decay starts low, at (1 + step) / (10 + step), so that the first weights are forgotten.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
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


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


@torch.no_grad()
def _fill(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    for key, target in targets.items():
        target.copy_(sources[key])
