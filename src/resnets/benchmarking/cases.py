"""What of ours is measured: a training step, and inference."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.training.recipe import load_recipe
from resnets.training.step import build_optimizer, training_step

Work = Literal["training", "inference"]
Call = Callable[[], object]
GFLOP = 2 * 1.024**3  # of the yardstick
LR = 1e-4  # small enough that hundreds of steps on one batch of noise stay finite


@dataclass(frozen=True)
class Job:
    """What one row of cases has in common: a model, and what is done with it."""

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
        """Return the network with the weights that every case of this job has."""
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


def plain(network: nn.Module, job: Job) -> Call:
    """Return what a plain PyTorch program does with a network: NCHW, SGD with momentum."""
    images, labels = job.images(), job.labels()
    if job.work == "inference":
        return inference(network, images)
    optimizer = torch.optim.SGD(network.train().parameters(), LR, momentum=0.9, weight_decay=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()  # as training scripts print it

    return step


def inference(network: nn.Module, images: Tensor) -> Call:
    """Return the forward pass of a network on a batch."""
    network.eval()

    def forward() -> Tensor:
        with torch.inference_mode():
            return network(images)  # type: ignore[no-any-return]

    return forward


def matrix_product() -> Call:
    """Return the yardstick: a product of two matrices, GFLOP of arithmetic."""
    a = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    return lambda: a @ a
