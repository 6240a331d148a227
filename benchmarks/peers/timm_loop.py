"""timm's loader and optimizer, and a step as its training script makes it.

timm has no ResNet-20 for CIFAR, so the network is the plainly written one. Of timm's augmentation
only what it does by itself: a random crop by area, and flips; its default colour jitter, which
would cost more, is left out.
"""

from typing import Any

import torch
from harness.libraries import import_library
from harness.workers import Window
from numpy.typing import NDArray
from peers.akamaster import Pictures, resnet20
from peers.cifar import MEAN, STD
from torch import nn


def train(
    window: Window, images: NDArray[Any], labels: NDArray[Any], workers: int, channels_last: bool
) -> None:
    """Train until the window is closed."""
    timm: Any = import_library("timm")
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2

    layout = torch.channels_last if channels_last else torch.contiguous_format
    loader = create_loader(
        Pictures(images, labels),
        (3, 32, 32),
        128,
        is_training=True,
        color_jitter=0.0,
        mean=MEAN,
        std=STD,
        num_workers=workers,
        device=torch.device("cpu"),
    )
    network = resnet20().to(memory_format=layout).train()
    optimizer = create_optimizer_v2(network, "sgd", 0.1, weight_decay=1e-4, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    meter = timm.utils.AverageMeter()
    while True:
        for batch, target in loader:
            output = network(batch.contiguous(memory_format=layout))
            loss = criterion(output, target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            meter.update(loss.item(), len(batch))
            window.tick(len(batch))
