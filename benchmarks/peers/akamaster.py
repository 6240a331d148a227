"""The loop of akamaster/pytorch_resnet_cifar10, rebuilt from its description.

PIL transforms in a DataLoader, batches of 128, SGD with momentum on the CPU's default layout; loss
and accuracy of every batch become Python numbers, as its meters want them.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from harness.libraries import import_library
from harness.workers import Window
from numpy.typing import NDArray
from peers.cifar import MEAN, STD
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset[Any]):
    """Images as torchvision's CIFAR10 gives them: a PIL image each time, then its transform."""

    def __init__(self, images: NDArray[Any], labels: NDArray[Any], transform: Any = None) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index])
        return (self.transform(image) if self.transform else image), self.labels[index]


class Block(nn.Module):
    """Two convolutions and a shortcut of option A: every second pixel, zeros for new channels."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.stride, self.more = (2, width - before) if before != width else (1, 0)
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            half = self.more // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return F.relu(y + x)


def resnet20() -> nn.Sequential:
    """Return ResNet-20 for CIFAR-10, plainly written, its weights by He et al. 2015b."""
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(a, b) for a, b in pairwise(widths)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    network = nn.Sequential(
        *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def train(window: Window, images: NDArray[Any], labels: NDArray[Any], workers: int) -> None:
    """Train until the window is closed."""
    transforms = import_library("torchvision").transforms
    transform = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(32, 4),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader: DataLoader[Any] = DataLoader(
        Pictures(images, labels, transform), 128, shuffle=True, num_workers=workers, pin_memory=True
    )
    network = resnet20().train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    while True:
        for batch, target in loader:
            output = network(batch)
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            (100 * (output.argmax(1) == target).float().mean()).item()
            window.tick(len(batch))
