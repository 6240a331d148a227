"""The training step of a CUDA device, recorded once and replayed: the host only says go."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnets.machine.processes import ALONE, Processes
from resnets.spec import Spec
from resnets.training.feed import Batch
from resnets.training.recipe import Recipe
from resnets.training.step import backward

DEVICES = ("cuda",)
_WARM_UP = 3  # steps that choose algorithms and make the optimizer's buffers, before recording


class CapturedStep:
    """`training_step` without a word to the host: sums stay on the device until `collect`.

    Batches of one shape share a CUDA graph of everything that a step does: forward, backward, the
    optimizer. Nothing is checked on the way, so that a loss or gradient that is NaN or infinite
    has changed weights by the time `collect` tells. On a CPU the same operations run as they come.

    It is for one process, float32 or bfloat16, and a network that draws nothing at random.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe):
        self._network, self._optimizer, self._recipe = network, optimizer, recipe
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._sums = torch.zeros(3, dtype=torch.float64, device=self._device)
        self._samples = 0
        self._shapes: dict[torch.Size, _Recording] = {}
        for group in optimizer.param_groups:
            group["lr"] = self._parameters[0].new_zeros(())  # a graph reads tensors only
            if "fused" in group:  # torch's own optimizers, of which only this form reads it there
                group |= {"fused": True, "foreach": False}
            if "capturable" in group:
                group["capturable"] = self._device.type == "cuda"
        for memory in optimizer.state.values():
            if "step" in memory:
                memory["step"] = memory["step"].to(self._device)

    def __call__(self, batch: Batch, lr: float) -> None:
        """Update the model by a batch at the rate ``lr``."""
        shape = batch.images.shape
        if shape not in self._shapes:
            self._shapes[shape] = _Recording(self._compute, batch)
        for group in self._optimizer.param_groups:
            group["lr"].fill_(lr * group.get("rate", 1.0))
        self._shapes[shape](batch)
        self._samples += len(batch.images)

    def collect(self) -> tuple[int, float, int, bool]:
        """Return samples, their summed loss, right answers since the last call, and if all is well.

        This waits for the device.
        """
        loss, correct, broken = self._sums.tolist()
        self._sums.zero_()
        samples, self._samples = self._samples, 0
        return samples, loss, int(correct), not broken

    def _compute(self, images: Tensor, targets: Tensor, labels: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        sums = backward(self._network, images, targets, labels, self._recipe, None, ALONE)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        factor = self._recipe.batch_size / len(images)
        clip = self._recipe.optimizer.clip
        if clip is not None:
            scale = factor * (clip / (norm * factor + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, scale)
        elif factor != 1:
            torch._foreach_mul_(gradients, factor)
        self._optimizer.step()
        broken = ~(norm + sums[0]).isfinite()
        self._sums += torch.stack((*sums, broken))


def captured_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    spec: Spec,
    processes: Processes,
) -> CapturedStep | None:
    """Return the step of a run as a recording; None where the host must see or draw something."""
    device = next(network.parameters()).device.type
    asks = recipe.schedule.warmup_until_error is not None or recipe.precision == "float16"
    draws = spec.drop_path or spec.dropout or spec.shortcut_dropout
    if device not in DEVICES or processes.count > 1 or asks or draws:
        return None
    return CapturedStep(network, optimizer, recipe)


class _Recording:
    """A computation on batches of one shape: as it is a few times, then as a graph."""

    def __init__(self, compute: Callable[[Tensor, Tensor, Tensor], None], like: Batch) -> None:
        self._compute = compute
        self._inputs = tuple(torch.empty_like(t) for t in (like.images, like.targets, like.labels))
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> None:
        for target, source in zip(
            self._inputs, (batch.images, batch.targets, batch.labels), strict=True
        ):
            target.copy_(source)
        if self._graph is not None:
            self._graph.replay()
            return
        if self._calls < _WARM_UP or not self._inputs[0].is_cuda:
            self._calls += 1
            with warnings.catch_warnings():  # that it may be recorded, as it will be
                warnings.filterwarnings("ignore", "This instance was constructed with capturable")
                self._compute(*self._inputs)
            return
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()  # where the steps before have been
        # Another thread, such as TensorBoard's, may do as it likes meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._compute(*self._inputs)
        self._graph.replay()  # recording computes nothing
