"""What comes back to an image by the paths through a net, by how many branches they take."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnets.nn import ResNet
from resnets.studies.block_parts import Parts, head, parts_of, stem

MASS = 0.95  # of the contribution, which makes lengths effective
Back = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Link:
    """A block in the backward pass: its input's gradient by each way, of its output's."""

    shortcut: Back
    branch: Back


def by_length(links: Sequence[Link], gradient: Tensor) -> list[Tensor]:
    """Return the gradient at the first link's input that comes by paths of length 0, 1, ..., n.

    A path takes the shortcut or the branch of every block; its length is how many branches. Each
    of the n + 1 tensors is the sum over all its C(n, k) paths, and their sum the whole gradient.
    The paths are never listed: what has come by k branches is carried from block to block.
    """
    carried = [gradient]
    for link in reversed(links):
        skipped = [link.shortcut(each) for each in carried]
        taken = [link.branch(each) for each in carried]
        carried = [
            skipped[0],
            *(a + b for a, b in zip(skipped[1:], taken[:-1], strict=True)),
            taken[-1],
        ]
    return carried


def along(links: Sequence[Link], gradient: Tensor, branches: Sequence[int]) -> Tensor:
    """Return the gradient at the first link's input by the path through these blocks' branches."""
    chosen = {*branches}
    for place, link in reversed([*enumerate(links)]):
        gradient = link.branch(gradient) if place in chosen else link.shortcut(gradient)
    return gradient


class Linked:
    """A net that has computed a batch (N, C, H, W), and can be walked back by any path.

    ``gradient`` is that of the loss, the sum of the images' cross-entropies, at the last block's
    output; ``at_input`` takes it from the first block's input to the images. In evaluation mode
    images do not touch each other: each row is its image's own gradient.
    """

    def __init__(self, model: ResNet, images: Tensor, labels: Tensor) -> None:
        assert not model.training
        self._images = images.detach().requires_grad_()
        self._first = stem(model, self._images)
        self.links: list[Link] = []
        x = self._first.detach()
        for parts in parts_of(model):
            x, link = _linked(parts, x)
            self.links.append(link)
        last = x.requires_grad_()
        # A copy, since an activation may write into what it reads.
        loss = F.cross_entropy(head(model, last.clone()), labels, reduction="sum")
        (self.gradient,) = torch.autograd.grad(loss, last)

    def at_input(self, gradient: Tensor) -> Tensor:
        """Return the gradient (N, C, H, W) at the images of one at the first block's input."""
        return _back(self._first, self._images)(gradient)


def _linked(parts: Parts, x: Tensor) -> tuple[Tensor, Link]:
    """Return a block's output, cut from what it was computed of, and the ways back through it."""
    x = x.detach().requires_grad_()
    read = parts.read(x)
    # Cut before the addition: what is behind it is gone back through once, by either way.
    ways = parts.shortcut(read), parts.branch(read)
    ends = [way.detach().requires_grad_() for way in ways]
    y = parts.joined(*ends)
    shortcut, branch = (_way(x, way, end, y) for way, end in zip(ways, ends, strict=True))
    return y.detach(), Link(shortcut, branch)


def _way(x: Tensor, way: Tensor, end: Tensor, y: Tensor) -> Back:
    first, last = _back(way, x), _back(y, end)
    return lambda gradient: first(last(gradient))


def _back(output: Tensor, source: Tensor) -> Back:
    def back(gradient: Tensor) -> Tensor:
        if output is source:
            return gradient
        (found,) = torch.autograd.grad(output, source, gradient, retain_graph=True)
        return found

    return back


@dataclass(frozen=True)
class Measured:
    """What came back to the images by paths of each length, 0 to n, on average over images."""

    paths: tuple[int, ...]  # how many there are, C(n, k)
    magnitude: tuple[float, ...]  # the gradient's norm by one path, of those that were drawn
    together: tuple[float, ...]  # the norm of the sum over all paths of that length
    products: tuple[tuple[float, ...], ...]  # inner products of these sums, over all images

    @property
    def contribution(self) -> list[float]:
        """How many paths times what one carries, as shares (Veit et al. 2016, Fig. 6c)."""
        return _shares([n * each for n, each in zip(self.paths, self.magnitude, strict=True)])

    @property
    def share(self) -> list[float]:
        """The share of each length in the whole gradient, along it; below 0 it works against it."""
        return _shares([sum(row) for row in self.products])

    def effective(self, mass: float = MASS) -> tuple[int, int]:
        """Return the lengths, first and last, in the middle that make up this much contribution."""
        below, tail = 0.0, (1 - mass) / 2
        first, last = 0, len(self.paths) - 1
        for length, share in enumerate(self.contribution):
            if below <= tail:
                first = length
            below += share
            if below >= 1 - tail:
                last = length
                break
        return first, last

    def part_of_paths(self, first: int, last: int) -> float:
        """Return the share of all 2^n paths that have these lengths."""
        return sum(self.paths[first : last + 1]) / sum(self.paths)

    def agreement(self, first: int, last: int) -> float:
        """Return the cosine between the whole gradient and what paths of these lengths make."""
        kept = range(first, last + 1)
        along = sum(sum(self.products[k]) for k in kept)
        own = sum(self.products[j][k] for j in kept for k in kept)
        whole = sum(map(sum, self.products))
        return float(along / (own * whole) ** 0.5) if own > 0 < whole else 0.0


def measure(
    model: ResNet,
    batches: Iterable[tuple[Tensor, Tensor]],
    draws: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Measured:
    """Return what paths of each length carry, with ``draws`` of them drawn for each batch.

    ``batches`` are images (N, C, H, W) as the net takes them, and their classes. The net computes
    in evaluation mode, so that an image's gradient is its own. ``on_progress`` is told how many
    more images are done.
    """
    random = np.random.default_rng(seed)
    norms, together, products, count = [], [], [], 0
    for images, labels in batches:
        net = Linked(model, images, labels)
        depth, count = len(net.links), count + len(images)
        drawn = [
            [random.choice(depth, length, replace=False).tolist() for _ in range(draws)]
            for length in range(depth + 1)
        ]
        norms.append(
            [
                sum(_norms(net.at_input(along(net.links, net.gradient, path))) for path in paths)
                / draws
                for paths in drawn
            ]
        )
        sums = [net.at_input(each).double() for each in by_length(net.links, net.gradient)]
        together.append([_norms(each) for each in sums])
        flat = torch.stack(sums).flatten(1)
        products.append(flat @ flat.T)
        on_progress(len(images))
    lengths = range(len(norms[0]))
    return Measured(
        paths=tuple(comb(lengths[-1], length) for length in lengths),
        magnitude=tuple(sum(batch[k] for batch in norms) / count for k in lengths),
        together=tuple(sum(batch[k] for batch in together) / count for k in lengths),
        products=tuple(map(tuple, torch.stack(products).sum(0).tolist())),
    )


def _norms(gradient: Tensor) -> float:
    """Return the sum of the images' Euclidean norms."""
    return float(gradient.double().flatten(1).norm(dim=1).sum())


def _shares(values: Sequence[float]) -> list[float]:
    whole = sum(values)
    return [value / whole if whole else 0.0 for value in values]
