"""Batch norm's statistics as true averages over many samples, not the running ones of training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from resnets.machine.processes import ALONE, Processes

_ALL_BUT_CHANNELS = (0, 2, 3)


@torch.no_grad()
def measure_statistics(
    model: nn.Module, batches: Iterable[Tensor], processes: Processes = ALONE
) -> None:
    """Set every batch norm's mean and variance to those of all values that it sees of ``batches``.

    These are images (N, C, H, W), of each process its own, and perhaps none. The model runs in
    training mode, so that each layer's input is normalised as it was in training, and ends in the
    mode that it came in. Norms that do not train while the model does keep their statistics.

    He et al. 2015, in their released models; Wu & Johnson 2021, sec. 3 ("PreciseBN").
    """
    modes = {module: module.training for module in model.modules()}
    if not model.training:
        model.train()
    norms = {
        module: _Moments(module.num_features)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d) and module.training and module.track_running_stats
    }
    hooks = [norm.register_forward_pre_hook(moments.see) for norm, moments in norms.items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    for norm, moments in norms.items():
        whole = moments.over(processes)
        if whole.count > 1:
            norm.get_buffer("running_mean").copy_(whole.mean)
            norm.get_buffer("running_var").copy_(whole.squares / (whole.count - 1))


class _Moments:
    """The count of a norm's values, their means and sums of squared deviations, float64 (C,)."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean, self.squares = torch.zeros(2, channels, dtype=torch.float64)

    def see(self, norm: nn.Module, inputs: tuple[Tensor]) -> None:
        """Count a batch (N, C, H, W) on its way into the norm."""
        (x,) = inputs
        if not x.numel():
            return
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(x, dim=_ALL_BUT_CHANNELS, correction=0)
        count = x.numel() // x.shape[1]
        self.add(count, mean.cpu().double(), var.cpu().double() * count)

    def add(self, count: int, mean: Tensor, squares: Tensor) -> None:
        """Join the moments of other values (Chan, Golub & LeVeque 1979)."""
        if not count:
            return
        total, shift = self.count + count, mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.squares = self.squares + squares + shift.square() * (self.count * count / total)
        self.count = total

    def over(self, processes: Processes) -> "_Moments":
        """Return the moments of the values of all processes."""
        count = torch.tensor([self.count], dtype=torch.float64)
        rows = processes.gather(torch.cat([count, self.mean, self.squares])[None])
        channels = len(self.mean)
        whole = _Moments(channels)
        for count, mean, squares in (row.split([1, channels, channels]) for row in rows):
            whole.add(int(count), mean, squares)
        return whole
