"""Images a second: a training step and inference as commands make them, measured."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from statistics import quantiles
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.training.recipe import load_recipe
from resnets.training.step import build_optimizer, training_step

Work = Literal["training", "inference"]
Call = Callable[[], object]
Measure = Callable[[], float]  # one measurement: things a second
LR = 1e-4  # small enough that hundreds of steps on one batch of noise stay finite


@dataclass(frozen=True)
class Job:
    """A model, and what is done with it."""

    spec: Spec
    work: Work
    batch_size: int

    @property
    def title(self) -> str:
        """The job in words."""
        size = f"{self.spec.image_size}x{self.spec.image_size}"
        return f"{self.spec.name} {self.work}, batch {self.batch_size}, {size}"

    def images(self) -> Tensor:
        """Return a batch of noise, float32 (N, C, H, W)."""
        shape = self.batch_size, self.spec.in_channels, *2 * (self.spec.image_size,)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def labels(self) -> Tensor:
        """Return its classes, int64 (N,)."""
        return torch.arange(self.batch_size) % self.spec.num_classes

    def network(self) -> ResNet:
        """Return the network, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ResNet(self.spec)


def job(spec: Spec, work: Work, batch_size: int | None, image_size: int | None) -> Job:
    """Return a job, with a batch and a size that suit the model where none are given."""
    spec = replace(spec, image_size=image_size or spec.image_size)
    return Job(spec, work, batch_size or (128 if spec.image_size <= 64 else 16))


def ours(job: Job) -> Call:
    """Return our step or forward pass as commands make it: channels-last, full step."""
    network = job.network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = job.images().contiguous(memory_format=torch.channels_last)
    if job.work == "inference":
        return inference(network, images)
    recipe = load_recipe("default", [f"batch_size={job.batch_size}"])
    optimizer = build_optimizer(network.train(), recipe.optimizer)
    labels = job.labels()
    data: tuple[Any, ...] = (network, optimizer, images, labels, labels)
    return lambda: training_step(*data, lr=LR, recipe=recipe)


def inference(network: nn.Module, images: Tensor) -> Call:
    """Return the forward pass of a network on a batch."""
    network.eval()

    def forward() -> Tensor:
        with torch.inference_mode():
            return network(images)  # type: ignore[no-any-return]

    return forward


def timed(
    call: Call,
    count: float,
    *,
    seconds: float,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Measure:
    """Warm ``call`` up; return what repeats it for about ``seconds`` and gives its speed.

    ``count`` is how many things one call does, such as images. Every measurement makes the same
    number of calls.
    """
    for _ in range(warm_up):
        call()
    began = clock()
    call()
    calls = max(1, ceil(seconds / max(clock() - began, 1e-9)))

    def measure() -> float:
        began = clock()
        for _ in range(calls):
            call()
        return calls * count / (clock() - began)

    return measure


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the quartiles around it."""

    low: float
    median: float
    high: float


def spread(values: list[float]) -> Spread:
    """Return median and quartiles (between neighbours on a straight line) of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*quantiles(values, n=4, method="inclusive"))


def measured(job: Job, rounds: int, seconds: float) -> dict[str, Any]:
    """Return, JSON-able, a job and its images a second: each round's, median and quartiles."""
    measure = timed(ours(job), job.batch_size, seconds=seconds)
    rates = [measure() for _ in range(rounds)]
    return {
        "model": job.spec.name,
        "work": job.work,
        "batch_size": job.batch_size,
        "image_size": job.spec.image_size,
        "rates": rates,
        "rate": asdict(spread(rates)),
    }
