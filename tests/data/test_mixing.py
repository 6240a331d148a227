"""Mixing: the papers' formulas, from the pixels that come out; and purity."""

from dataclasses import replace
from math import pi

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnets.data.mixing import Mix

MIX = Mix(seed=1, mixup=0.4, cutmix=1.0, classes=5)
IDS = torch.arange(2000)


def batch(count: int, seed: int, side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, side, side, generator=generator)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return images.contiguous(memory_format=torch.channels_last), labels


def own_part(mix: Mix, side: int = 12, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """What each pixel (N, H, W) and label (N,) keeps, seen by mixing white with black."""
    white = torch.ones(len(IDS), 1, side, side)
    labels = torch.zeros(len(IDS), dtype=torch.long)
    images, targets, _ = mix(white, labels, 0 * white, labels + 1, IDS, epoch)
    assert targets.dtype == torch.float32
    assert torch.equal(targets.sum(1), torch.ones(len(IDS)))
    assert not targets[:, 2:].any()
    return images[:, 0], targets[:, 0]


def distance(probabilities: torch.Tensor) -> float:
    """Kolmogorov and Smirnov's, from the uniform distribution; beyond 2.6: one in a million."""
    found = probabilities.double().sort().values
    steps = torch.arange(len(found) + 1) / len(found)
    gaps = torch.maximum((found - steps[:-1]).abs(), (found - steps[1:]).abs())
    return gaps.max().item() * len(found) ** 0.5


def test_mixup_blends_pictures_as_it_blends_labels():
    images, labels = batch(64, 0)
    others, other_labels = batch(64, 1)
    mix = replace(MIX, cutmix=0.0)
    mixed, targets, _ = mix(images, labels, others, other_labels, IDS[:64], 3)
    # The share, from the labels where they tell it, must explain the images.
    tell = labels != other_labels
    own, partner = (targets.gather(1, v[:, None])[tell] for v in (labels, other_labels))
    assert torch.equal(own + partner, torch.ones_like(own))
    share = own.double()[:, :, None, None]
    expected = share * images[tell].double() + (1 - share) * others[tell].double()
    torch.testing.assert_close(mixed[tell].double(), expected, rtol=0, atol=1e-6)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert mixed.dtype == torch.float32


def test_mixup_draws_from_beta():
    for alpha, distribution in (
        (1.0, lambda x: x),
        (0.5, lambda x: 2 / pi * torch.asin(torch.sqrt(x))),
    ):
        parts, share = own_part(replace(MIX, mixup=alpha, cutmix=0.0))
        assert torch.equal(parts, share[:, None, None].expand_as(parts))
        assert distance(distribution(share.double())) < 2.6


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    parts, share = own_part(replace(MIX, mixup=0.0))
    pasted = parts == 0
    assert (pasted | (parts == 1)).all()
    assert torch.equal(share, parts.double().mean((1, 2)).float())
    rows, columns = pasted.any(2), pasted.any(1)
    assert torch.equal(pasted, rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):  # without gaps: it begins at most once
        assert (side.int().diff(dim=1, prepend=torch.zeros(len(IDS), 1)) > 0).sum(1).max() == 1
    inside = ~(rows[:, [0, -1]].any(1) | columns[:, [0, -1]].any(1)) & pasted.any((1, 2))
    assert torch.equal(rows[inside].sum(1), columns[inside].sum(1))  # not clipped: square


def test_the_size_of_cutmix_boxes():
    """A side r with r^2 uniform, clipped at both ends, is r - r^2 / 4 long on average.

    So the area's mean is the integral of 2r (r - r^2 / 4)^2, 0.32083.
    """
    _, share = own_part(replace(MIX, mixup=0.0), side=96)
    assert (1 - share).mean() == pytest.approx(0.32083, abs=5 * share.std().item() / 2000**0.5)


def test_cutmix_takes_pixels_as_they_are():
    images, labels = batch(32, 0)
    others, other_labels = batch(32, 1)
    mixed, _, _ = replace(MIX, mixup=0.0)(images, labels, others, other_labels, IDS[:32], 0)
    own, partner = (mixed == images).all(1), (mixed == others).all(1)
    assert (own ^ partner).all()
    assert partner.any()


def test_both_are_half_and_half():
    parts, _ = own_part(MIX)
    blended = ((parts > 0) & (parts < 1)).all((1, 2)).sum().item()
    assert abs(blended - 1000) < 5 * 500**0.5


def test_one_class_stays_whole():
    images, labels = batch(2000, 0, side=2)
    _, targets, _ = MIX(images, labels, images.flip(0), labels, IDS, 0)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 5).float())


def test_mixing_nothing_changes_nothing():
    images, labels = batch(8, 0)
    nothing = replace(MIX, mixup=0.0, cutmix=0.0)
    mixed, targets, _ = nothing(images, labels, images.flip(0), labels.flip(0), IDS[:8], 0)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 5).float())
    assert [m.active for m in (nothing, MIX, replace(MIX, mixup=0.0))] == [False, True, True]


@pytest.mark.parametrize("mix", [MIX, replace(MIX, cutmix=0.0), replace(MIX, mixup=0.0)])
def test_a_mixed_sample_has_both_losses_by_their_shares_and_factors(mix):
    """With factors of classes that is torch's weighted cross-entropy of the shares."""
    images, labels = batch(64, 0)
    others, other_labels = batch(64, 1)
    pairs = (images, labels, others, other_labels, IDS[:64], 3)
    of_class = torch.tensor([0.1, 0.5, 0.0, 2.0, 7.0])
    logits = torch.randn(64, 5, dtype=torch.float64)
    mixed, shares, none = mix(*pairs)
    again, targets, factors = mix(*pairs, of_class[labels], of_class[other_labels])
    assert none is None
    assert again.equal(mixed)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    found = factors * F.cross_entropy(logits, targets.double(), reduction="none")
    theirs = nn.CrossEntropyLoss(weight=of_class.double(), reduction="none")
    torch.testing.assert_close(found, theirs(logits, shares.double()), rtol=1e-5, atol=1e-7)
    whole = replace(mix, whole=True)(*pairs, of_class[labels], of_class[other_labels])
    assert whole[1].equal(shares)
    assert whole[2].equal(factors)


def test_classes_that_weigh_alike_alone_do_when_mixed():
    """Where one is nine times as many: what each is worth in targets, over all samples."""
    labels = (torch.arange(2000) % 10 == 0).long()
    others = labels[MIX.partners(IDS, 2000, 1)]
    factors = torch.tensor([1 / 1.8, 1 / 0.2])
    images = torch.zeros(2000, 1, 4, 4)
    given = factors[labels], factors[others]
    _, targets, weights = MIX(images, labels, images, others, IDS, 1, *given)
    most, least, *_ = (targets * weights[:, None]).sum(0).tolist()
    assert least / most == pytest.approx(1, abs=0.1)


def test_partners_are_uniform():
    partners = MIX.partners(torch.arange(40_000), 10, 2)
    counts = torch.bincount(partners, minlength=10).double()
    assert len(counts) == 10
    assert ((counts - 4000) ** 2 / 4000).sum() < 9 + 5 * 18**0.5
    assert (partners != MIX.partners(torch.arange(40_000), 10, 3)).double().mean() > 0.8


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_sample_does_not_depend_on_its_batch(size):
    (images, labels), (others, other_labels) = batch(50, 0), batch(50, 1)
    everything = (images, labels, others, other_labels, IDS[:50])
    factors = torch.linspace(0, 2, 50), torch.linspace(3, 0, 50)
    together = MIX(*everything, 2, *factors)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    places = [order[i : i + size] for i in range(0, 50, size)]
    parts = [MIX(*(v[p] for v in everything), 2, *(f[p] for f in factors)) for p in places]
    for whole, pieces in zip(together, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), whole[order])
    assert torch.equal(MIX.partners(IDS, 99, 2)[order], MIX.partners(IDS[order], 99, 2))


@pytest.mark.parametrize("change", ["seed", "epoch"])
def test_seed_and_epoch_matter(change):
    first = own_part(MIX)[1]
    mix = replace(MIX, seed=2) if change == "seed" else MIX
    other = own_part(mix, epoch=int(change == "epoch"))[1]
    assert (first != other).double().mean() > 0.9
