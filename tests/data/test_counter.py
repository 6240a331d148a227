"""Counter-based randomness: known values, independence, uniformity."""

import pytest
import torch

from resnets.data import counter


def splitmix64(state: int) -> int:
    """The reference generator's output function, in plain integers."""
    z = state % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def test_tensor_arithmetic_is_splitmix64():
    # The first three outputs of splitmix64 seeded with 1234567, as published with the algorithm.
    golden = 0x9E3779B97F4A7C15
    states = [1234567 + golden * (i + 1) for i in range(3)]
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix64(s) for s in states] == known
    signed = torch.tensor([(s + 2**63) % 2**64 - 2**63 for s in states])
    assert [int(x) % 2**64 for x in counter._mix(signed)] == known
    assert [counter._mix_int(s) for s in states] == known


GOLDEN = [86, 149, 654, 30, 962, 284, 594, 248]


def test_numbers_do_not_change_between_versions():
    """Recorded runs depend on these values; a change here breaks every resume."""
    assert counter.integers(1000, 0, "order", 0, torch.arange(8)).tolist() == GOLDEN


def test_several_streams_are_each_what_it_is_alone():
    ids = torch.arange(5)
    for draw in (counter.bits, counter.uniform):
        alone = [draw(1, name, 2, ids) for name in ("a", "b", "")]
        assert torch.equal(draw(1, ["a", "b", ""], 2, ids), torch.stack(alone))


@pytest.mark.parametrize("change", ["seed", "stream", "epoch", "id"])
def test_each_argument_matters(change):
    arguments = {"seed": 1, "stream": "a", "epoch": 2, "ids": torch.arange(64)}
    changed = (
        arguments
        | {
            "seed": {"seed": 2},
            "stream": {"stream": "b"},
            "epoch": {"epoch": 3},
            "id": {"ids": torch.arange(64) + 64},
        }[change]
    )
    assert not (counter.bits(**arguments) == counter.bits(**changed)).any()


@pytest.mark.parametrize("high", [2, 9, 10, 1000])
def test_integers_are_uniform(high):
    values = counter.integers(high, 3, "uniform", 5, torch.arange(100_000))
    counts = torch.bincount(values, minlength=high).double()
    expected = 100_000 / high
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    # Mean high-1, standard deviation sqrt(2 (high-1)): five of them away is one in a million.
    assert len(counts) == high
    assert abs(chi_squared - (high - 1)) < 5 * (2 * (high - 1)) ** 0.5 + 5


def test_streams_are_uncorrelated():
    ids = torch.arange(100_000)
    a, b = (counter.integers(9, 0, s, 0, ids).double() for s in ("crop row", "crop column"))
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 5 / 100_000**0.5


def test_every_place_of_a_permutation_is_equally_likely():
    places = torch.stack([counter.permutation(5, 0, "order", e) for e in range(5000)])
    for place in places.T:
        assert (torch.bincount(place, minlength=5) - 1000).abs().max() < 5 * 800**0.5


IDS = torch.arange(100_000)


def distance(probabilities: torch.Tensor) -> float:
    """Kolmogorov and Smirnov's, from the uniform distribution, times the root of the count.

    Beyond 2.6 lies one in a million.
    """
    found = probabilities.sort().values
    steps = torch.arange(len(found) + 1, dtype=torch.float64) / len(found)
    gaps = torch.maximum((found - steps[:-1]).abs(), (found - steps[1:]).abs())
    return gaps.max().item() * len(found) ** 0.5


def test_uniform_numbers_are_the_upper_bits():
    values = counter.uniform(0, "u", 1, IDS)
    assert values.dtype == torch.float64
    assert values.min() >= 0
    assert values.max() < 1
    whole = [int(b) % 2**64 >> 11 for b in counter.bits(0, "u", 1, IDS[:100])]
    assert (values[:100] * 2**53).long().tolist() == whole
    assert distance(values) < 2.6


def test_a_bound_for_each_sample():
    high = 1 + IDS % 7
    values = counter.integers(high, 0, "bounds", 0, IDS)
    for bound in range(1, 8):
        one = counter.integers(bound, 0, "bounds", 0, IDS)
        assert torch.equal(values[high == bound], one[high == bound])


def test_normal_numbers():
    values = counter.normal(3, "n", 0, IDS)
    assert distance(torch.special.ndtr(values)) < 2.6
    assert values.abs().max() > 3.5  # one of 100,000 is, but for e^-46
    other = counter.normal(3, "m", 0, IDS)
    assert abs(torch.corrcoef(torch.stack([values, other]))[0, 1]) < 5 / 100_000**0.5


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 0.8, 1.0])
def test_beta_moments(alpha):
    """E[(x - 1/2)^2] = 1 / 4(2a+1) and E[(x - 1/2)^4] = 3 / 16(2a+1)(2a+3)."""
    values = counter.beta(alpha, 0, "b", 0, IDS)
    assert values.min() >= 0
    assert values.max() <= 1
    second, fourth = 1 / (4 * (2 * alpha + 1)), 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))
    for power, expected in ((1, 0), (2, second), (3, 0), (4, fourth)):
        moments = (values - 0.5) ** power
        assert abs(moments.mean() - expected) < 5 * moments.std() / 100_000**0.5


def test_beta_distributions_that_have_a_formula():
    assert distance(counter.beta(1.0, 1, "b", 0, IDS)) < 2.6
    arcsine = counter.beta(0.5, 1, "b", 0, IDS)
    assert distance(2 / torch.pi * torch.asin(torch.sqrt(arcsine))) < 2.6


@pytest.mark.parametrize("alpha", [0.0, 0.04, 1.1])
def test_beta_outside_its_range(alpha):
    with pytest.raises(ValueError, match=r"alpha must be between 0\.05 and 1"):
        counter.beta(alpha, 0, "b", 0, IDS[:2])


@pytest.mark.parametrize("draw", ["uniform", "normal", "beta"])
def test_numbers_do_not_depend_on_the_batch(draw):
    def numbers(ids: torch.Tensor) -> torch.Tensor:
        if draw == "beta":
            return counter.beta(0.7, 0, "x", 0, ids)
        return getattr(counter, draw)(0, "x", 0, ids)

    ids = IDS[:1000]
    together = numbers(ids)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(numbers(ids[order]), together[order])
    for size in (1, 7, 300):
        parts = [numbers(part) for part in ids[:300].split(size)]
        assert torch.equal(torch.cat(parts), together[:300])
