"""Gradients by path length against elementary symmetric polynomials and against autograd."""

from itertools import combinations
from math import comb, prod

import pytest
import torch
import torch.nn.functional as F
from test_lesion import KINDS, net

from resnets.studies.path_lengths import Link, Linked, Measured, along, by_length, measure


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 1])


def scalars(values):
    return [Link(lambda g: g, lambda g, a=a: a * g) for a in values]


def test_scalar_branches_give_elementary_symmetric_polynomials():
    """(1 + a_1) ... (1 + a_n) = sum of e_k: paths of length k carry e_k."""
    values = [0.5, -0.25, 2.0, 0.125, -1.5]
    found = [each.item() for each in by_length(scalars(values), torch.ones(1))]
    assert found == [sum(map(prod, combinations(values, k))) for k in range(6)]
    assert sum(found) == prod(1 + a for a in values)
    assert along(scalars(values), torch.ones(1), [0, 2]).item() == 1.0


def test_by_length_is_the_sum_over_every_path(batch):
    linked = Linked(net("resnet8_v2"), *batch)
    lengths = by_length(linked.links, linked.gradient)
    for k, found in enumerate(lengths):
        paths = [along(linked.links, linked.gradient, path) for path in combinations(range(3), k)]
        torch.testing.assert_close(found, sum(paths), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain8"], ids=str)
def test_all_paths_together_are_the_gradient(kind, batch):
    model, (images, labels) = net(kind), batch
    linked = Linked(model, images, labels)
    found = linked.at_input(sum(by_length(linked.links, linked.gradient)))
    x = images.clone().requires_grad_()
    (whole,) = torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x)
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_measured(batch):
    model, (images, labels) = net("resnet14"), batch
    found = measure(model, [(images[:2], labels[:2]), (images[2:], labels[2:])], 2, seed=0)
    assert found == measure(model, [(images[:2], labels[:2]), (images[2:], labels[2:])], 2, seed=0)
    assert found.paths == (1, 6, 15, 20, 15, 6, 1)
    assert sum(found.share) == pytest.approx(1)
    assert sum(found.contribution) == pytest.approx(1)
    # Of the one path without branches, and of the one with all, nothing is drawn.
    for k in (0, 6):
        assert found.magnitude[k] == pytest.approx(found.together[k], rel=1e-12)
    x = images.clone().requires_grad_()
    (whole,) = torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x)
    assert sum(map(sum, found.products)) == pytest.approx(whole.square().sum().item(), rel=1e-9)
    assert found.agreement(0, 6) == pytest.approx(1)


def test_the_effective_lengths_hold_their_share():
    """Branches that pass on a tenth make lengths binomial, of mean n / 11."""
    n = 40
    found = Measured(
        paths=tuple(comb(n, k) for k in range(n + 1)),
        magnitude=tuple(0.1**k for k in range(n + 1)),
        together=(),
        products=(),
    )
    p = 1 / 11
    binomial = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    assert found.contribution == pytest.approx(binomial)
    first, last = found.effective()
    assert (first, last) == (1, 8)
    assert sum(binomial[first : last + 1]) >= 0.95
    assert sum(binomial[:first]) <= 0.025
    assert sum(binomial[last + 1 :]) <= 0.025
    assert found.part_of_paths(first, last) == sum(comb(n, k) for k in range(1, 9)) / 2**n
