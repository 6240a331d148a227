"""The training step of a CUDA device as a graph, recorded once and replayed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnets.machine.processes import Processes
from resnets.spec import Spec
from resnets.training.prepare import Plan
from resnets.training.recipe import Recipe
from resnets.training.step import training_step

_WARM_UP = 3  # steps that choose algorithms and make the optimizer's buffers, before recording


class GraphStep:
    """`training_step` without a word to the host: sums stay on the device until `collect`.

    Batches of one shape share a CUDA graph of everything that a step does. Nothing is checked on
    the way, so that a loss or gradient that is NaN or infinite has changed weights by the time
    `collect` tells. On a CPU the same operations run as they come.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        teacher: nn.Module | None = None,
    ) -> None:
        self._network, self._optimizer, self._recipe = network, optimizer, recipe
        self._teacher = teacher
        first = next(p for p in network.parameters() if p.requires_grad)
        self._sums = torch.zeros(3, dtype=torch.float64, device=first.device)
        self._samples = 0
        self._shapes: dict[torch.Size, _Recording] = {}
        self._stream: torch.cuda.Stream | None = None  # the default one cannot be recorded
        if first.is_cuda:
            self._stream = torch.cuda.Stream(first.device)  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = first.new_zeros(())  # a graph reads tensors only
            if "fused" in group:  # torch's own optimizers, of which only this form reads it there
                group |= {"fused": True, "foreach": False}
            if "capturable" in group:
                group["capturable"] = first.is_cuda
        for memory in optimizer.state.values():
            if "step" in memory:
                memory["step"] = memory["step"].to(first.device)

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        *,
        lr: float,
    ) -> None:
        """Update the model by a batch at the rate ``lr``."""
        batch = (images, targets, labels, *(() if weights is None else (weights,)))
        if images.shape not in self._shapes:
            self._shapes[images.shape] = _Recording(self._step, batch)
        with self._apart():
            for group in self._optimizer.param_groups:
                group["lr"].fill_(lr * group.get("lr_scale", 1.0))
            self._shapes[images.shape](batch)
        self._samples += len(images)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Compute on a stream of its own, after what is under way and before what follows."""
        if self._stream is None:
            yield
            return
        around = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(around)
        with torch.cuda.stream(self._stream):
            yield
        around.wait_stream(self._stream)

    def collect(self) -> tuple[int, float, int, bool]:
        """Return samples, summed loss, correct samples since the last call, and if all is finite.

        This waits for the device.
        """
        loss, correct, broken = self._sums.tolist()
        self._sums.zero_()
        samples, self._samples = self._samples, 0
        return samples, loss, int(correct), not broken

    def _step(self, *batch: Tensor) -> None:
        training_step(
            self._network,
            self._optimizer,
            *batch,
            lr=0,
            recipe=self._recipe,
            sums=self._sums,
            teacher=self._teacher,
        )


def graph_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    teacher: nn.Module | None = None,
) -> tuple[GraphStep | None, str]:
    """Return the step that tells the host nothing, unless it must; and what there is to say."""
    machine = plan.machine
    why = why_no_graph(plan.recipe, plan.spec, machine.processes, machine.checkpointing)
    if why:
        return None, f"the step is not recorded as a CUDA graph: {why}"
    on_cpu = machine.where.type != "cuda"
    note = "no step is recorded on a CPU: each runs as it would be recorded" if on_cpu else ""
    return GraphStep(network, optimizer, plan.recipe, teacher), note


def why_no_graph(recipe: Recipe, spec: Spec, processes: Processes, checkpointing: bool) -> str:
    """Return why the host must see, or draw numbers for, every step; empty where it need not."""
    return next(
        (
            why
            for why, holds in {
                "several processes share it": processes.count > 1,
                "float16 looks at each gradient": recipe.precision == "float16",
                "its warm-up looks at each error": recipe.schedule.warmup_until_error is not None,
                "the network draws at random": spec.drop_path
                or spec.dropout
                or spec.shortcut_dropout,
                "checkpointing looks at the random numbers of blocks": checkpointing,
            }.items()
            if holds
        ),
        "",
    )


class _Recording:
    """A step on batches of one shape: as it is a few times, then as a graph."""

    def __init__(self, step: Callable[..., None], like: tuple[Tensor, ...]) -> None:
        self._step = step
        self._inputs = tuple(torch.empty_like(tensor) for tensor in like)
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: tuple[Tensor, ...]) -> None:
        for target, source in zip(self._inputs, batch, strict=True):
            target.copy_(source)
        if self._graph is not None:
            self._graph.replay()
            return
        if self._calls < _WARM_UP or not self._inputs[0].is_cuda:
            self._calls += 1
            with warnings.catch_warnings():  # that it may be recorded, as it will be
                warnings.filterwarnings("ignore", "This instance was constructed with capturable")
                self._step(*self._inputs)
            return
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()  # where the steps before have been
        # Another thread, such as TensorBoard's, may do as it likes meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._step(*self._inputs)
        self._graph.replay()  # recording computes nothing
