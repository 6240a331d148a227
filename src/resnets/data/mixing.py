"""Mixing pairs of samples: mixup and CutMix as pure functions on normalised batches."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.windows import within


@dataclass(frozen=True)
class Mix:
    """The mixing of a run: each sample with a partner drawn for it, images and labels alike.

    ``mixup`` and ``cutmix`` are the alpha of Beta(alpha, alpha), from which a sample's share
    lambda is drawn; 0 for none. With both, half of the samples get one, half the other.
    """

    seed: int
    mixup: float  # Zhang et al. 2018
    cutmix: float  # Yun et al. 2019
    classes: int
    whole: bool = False  # the loss counts classes whole that have more than some share of an image

    @property
    def active(self) -> bool:
        """Whether samples are mixed at all."""
        return self.mixup > 0 or self.cutmix > 0

    def partners(self, ids: Tensor, count: int, epoch: int) -> Tensor:
        """Return a position in 0 .. count-1 for each sample id, int64 (N,)."""
        return counter.integers(count, self.seed, "mix partner", epoch, ids)

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        others: Tensor,
        other_labels: Tensor,
        ids: Tensor,
        epoch: int,
        factors: Tensor | None = None,
        other_factors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return mixed images (N, C, H, W), each class's share, float32 (N, classes), and factors.

        ``images`` are normalised floats, ``others`` their partners in the same order; labels are
        int64 (N,), or bool (N, classes) where an image may have several; factors of the samples'
        losses float32 (N,). Raises ValueError for an alpha outside 0.05 .. 1 other than 0.

        The loss of a mixed sample is that of both labels on the mixed image, each times its share
        and its own factor, as torch's CrossEntropyLoss(weight=) has it: only so classes that weigh
        alike alone do when mixed. Losses being linear in targets, that is the loss of shares times
        factors, scaled to sum to 1, times that sum. Where classes count ``whole``, shares stay.
        """
        weights = self._weights(ids, epoch, images.shape[2], images.shape[3])
        share = weights.double().mean((1, 2, 3)).float()[:, None]  # exact: no sum is rounded
        if factors is not None and other_factors is not None:
            own, other = share * factors[:, None], (1 - share) * other_factors[:, None]
            factors = (own + other)[:, 0]
            if not self.whole:
                share = torch.where(own + other > 0, own / (own + other), share)
        if labels.ndim == 2:
            targets = share * labels + (1 - share) * other_labels
        else:
            targets = torch.zeros(len(labels), self.classes, device=labels.device)
            targets.scatter_(1, labels[:, None], share)
            targets.scatter_add_(1, other_labels[:, None], 1 - share)
        return torch.lerp(others, images, weights.to(images.dtype)), targets, factors

    def _weights(self, ids: Tensor, epoch: int, height: int, width: int) -> Tensor:
        """Return the sample's own part of each pixel, float32 (N, 1, H, W) or (N, 1, 1, 1)."""
        blend = paste = torch.ones_like(ids, dtype=torch.float32)[:, None, None, None]
        if self.mixup:
            share = counter.beta(self.mixup, self.seed, "mixup", epoch, ids)
            blend = share.float()[:, None, None, None]
        if self.cutmix:
            paste = (~self._boxes(ids, epoch, height, width)).float()
        if self.mixup and self.cutmix:
            blends = counter.integers(2, self.seed, "mix kind", epoch, ids).bool()
            return torch.where(blends[:, None, None, None], blend, paste)
        return blend * paste

    def _boxes(self, ids: Tensor, epoch: int, height: int, width: int) -> Tensor:
        """Return which pixels are the partner's, bool (N, 1, H, W): a box, clipped at borders."""
        share = counter.beta(self.cutmix, self.seed, "cutmix", epoch, ids)
        rows, columns = (
            self._span(length, torch.sqrt(1 - share), f"cutmix {axis}", epoch, ids)
            for axis, length in (("row", height), ("column", width))
        )
        return rows[:, None, :, None] & columns[:, None, None, :]

    def _span(self, length: int, part: Tensor, stream: str, epoch: int, ids: Tensor) -> Tensor:
        """Return ``part`` of a side around a random place, bool (N, length)."""
        extent = (length * part).round().long()
        centre = counter.integers(length, self.seed, stream, epoch, ids)
        return within(length, centre - extent // 2, extent)
