"""A small U-Net on a backbone: discs and crosses in noise, segmented after half a minute.

usage: python examples/segmentation.py [--model resnet14] [--steps 100]

Prints the loss and how large the gradient is that arrives at every level, then the intersection
over union of each class on pictures that it has not seen.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets import Backbone, create_backbone

CLASSES = ("background", "disc", "cross")


def scenes(count: int, seed: int, side: int = 40) -> tuple[Tensor, Tensor]:
    """Return noisy pictures (N, 3, side, side) of a disc and a cross, and their masks (N, H, W).

    The shapes have one colour: only their outline tells them apart.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    masks = torch.zeros(count, side, side, dtype=torch.long)
    for mask in masks:
        for label in (1, 2):
            radius = int(torch.randint(6, 10, (), generator=generator))
            y, x = torch.randint(radius, side - radius, (2,), generator=generator).tolist()
            dy, dx = (rows - y).abs(), (columns - x).abs()
            disc = dy**2 + dx**2 <= radius**2
            beside, along = torch.minimum(dy, dx), torch.maximum(dy, dx)
            cross = (beside <= radius / 4) & (along <= radius)
            mask[disc if label == 1 else cross] = label
    noise = torch.randn(count, 3, side, side, generator=generator)
    return 2.0 * (masks > 0)[:, None] + noise, masks


class UNet(nn.Module):
    """From the coarsest map up: enlarge, put the next finer map beside it, convolve.

    Ronneberger et al. 2015, Fig. 1, with a residual network on the way down.
    """

    def __init__(self, backbone: Backbone, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.backbone = backbone
        channels = list(reversed(backbone.channels))
        self.first = nn.Conv2d(channels[0], width, 1)
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width + finer, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for finer in channels[1:]
        )
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, H, W) for every pixel."""
        coarsest, *finer = reversed(self.backbone(x).values())
        y = self.first(coarsest)
        for features, step in zip(finer, self.steps, strict=True):
            y = F.interpolate(y, size=features.shape[-2:], mode="nearest")
            y = step(torch.cat([y, features], 1))
        return F.interpolate(self.classifier(y), size=x.shape[-2:], mode="bilinear")


def level_gradients(model: UNet) -> dict[str, float]:
    """Return the norm of the gradient of the weights that make each level."""
    norms = {}
    for name, level in model.backbone.levels.items():
        module = "conv1" if name == "c1" else level.module
        parameters = model.backbone.get_submodule(module).parameters()
        norms[name] = sum(float(p.grad.square().sum()) for p in parameters if p.grad is not None)
    return {name: square**0.5 for name, square in norms.items()}


def intersection_over_union(model: UNet, pictures: Tensor, masks: Tensor) -> dict[str, float]:
    """Return each class's intersection over union."""
    model.eval()
    with torch.no_grad():
        guess = model(pictures).argmax(1)
    result = {}
    for label, name in enumerate(CLASSES):
        both, either = (guess == label) & (masks == label), (guess == label) | (masks == label)
        result[name] = float(both.sum() / either.sum())
    return result


def train(name: str = "resnet14", steps: int = 100) -> tuple[UNet, list[dict[str, float]]]:
    """Return a trained net, and the gradients at every level after every step."""
    torch.manual_seed(0)
    model = UNet(create_backbone(name, levels=("c1", "c2", "c3", "c4")), len(CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.005, total_steps=steps)
    gradients = []
    for step in range(steps):
        pictures, masks = scenes(12, seed=step)
        loss = F.cross_entropy(model(pictures), masks)
        optimizer.zero_grad()
        loss.backward()
        gradients.append(level_gradients(model))
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            norms = "  ".join(f"{level} {norm:.2e}" for level, norm in gradients[-1].items())
            print(f"step {step:3}  loss {loss.item():.3f}  gradients {norms}")
    return model, gradients


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet14")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    model, _ = train(options.model, options.steps)
    for name, value in intersection_over_union(model, *scenes(64, seed=10**6)).items():
        print(f"{name:12} {value:.3f}")


if __name__ == "__main__":
    main()
