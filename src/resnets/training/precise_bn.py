"""Batch norm's statistics as true averages over many samples, not the running ones of training."""

from collections.abc import Iterable, Mapping

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
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d) and module.training and module.track_running_stats
    ]
    try:
        found = _moments(model, norms, batches)
    finally:
        for module, mode in modes.items():
            module.training = mode
    for norm, moments in found.items():
        whole = moments.over(processes)
        if whole.count > 1:
            norm.get_buffer("running_mean").copy_(whole.mean)
            norm.get_buffer("running_var").copy_(whole.variance)


def without_statistics(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the batch norms of a state dict where they only scale and shift; else none.

    So are those of files whose convolutions have the statistics folded in. Norms that have learnt
    nothing yet are none of these.
    """
    end = ".running_var"
    norms = [key.removesuffix(end) for key in tensors if key.endswith(end)]
    folded = all(_is_even(tensors[f"{norm}{end}"]) for norm in norms)
    fresh = all(
        not tensors[f"{norm}.running_mean"].any()
        and not tensors[f"{norm}.bias"].any()
        and _is_even(tensors[f"{norm}.weight"])
        for norm in norms
    )
    return norms if folded and not fresh else []


@torch.no_grad()
def give_statistics(
    model: nn.Module,
    norms: Iterable[nn.BatchNorm2d],
    batches: Iterable[Tensor],
    processes: Processes = ALONE,
) -> None:
    """Give norms that only scale and shift the statistics of what they see of ``batches``.

    Their scales and biases are changed with them, so that ``model``, which is in evaluation mode,
    answers as before; and in training mode nearly so, where it would else normalise what it never
    did. All processes see the same images, (N, C, H, W), and take what the first has found.
    """
    for norm, moments in _moments(model, norms, batches).items():
        if moments.count < 2:  # no image can be read, which training tells
            continue
        mean, var = processes.gather(torch.stack([moments.mean, moments.variance])[None])[0]
        old = [norm.get_buffer(name).double().cpu() for name in ("running_mean", "running_var")]
        scale = norm.weight.double().cpu() / (old[1] + norm.eps).sqrt()
        norm.bias.copy_(norm.bias.double().cpu() + scale * (mean - old[0]))
        norm.weight.copy_(scale * (var + norm.eps).sqrt())
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(var)


def _is_even(values: Tensor) -> bool:
    return bool(values.eq(values[0]).all())


def _moments(
    model: nn.Module, norms: Iterable[nn.BatchNorm2d], batches: Iterable[Tensor]
) -> dict[nn.BatchNorm2d, "_Moments"]:
    """Return the moments of all that norms see of batches (N, C, H, W)."""
    found = {norm: _Moments(norm.num_features) for norm in norms}
    hooks = [norm.register_forward_pre_hook(moments.see) for norm, moments in found.items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


class _Moments:
    """The count of a norm's values, their means and sums of squared deviations, float64 (C,)."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(channels, dtype=torch.float64)
        self.squares: Tensor = torch.zeros_like(self.mean)

    @property
    def variance(self) -> Tensor:
        """The variance (C,), unbiased, of at least two values."""
        return self.squares / (self.count - 1)

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
