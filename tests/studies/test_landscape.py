"""Loss surfaces: the middle is the run's own loss, directions are as long as filters, resuming."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_lesion import net

from conftest import tiny_dataset
from resnets.data.preprocess import measure
from resnets.evaluation.network import evaluate
from resnets.studies.loss_surface import Kept, Surface, directions, grid, shape
from resnets.zoo import get_spec


def float_net(kind="resnet8", **options):
    return net(kind, **options).float()


@pytest.fixture
def seen():
    """Images and labels as a net sees them, and the split and preprocessing they are of."""
    split = tiny_dataset(train=150).train
    preprocess = measure(split, 8, "channel")
    return preprocess(split.batch(torch.arange(150))[0]), split.labels, split, preprocess


def surface(model, seen, seed=0, **options):
    return Surface(model, *seen[:2], seed, **options)


@pytest.mark.parametrize("kind", ["resnet8", "plain8", "resnet8_v2"])
def test_the_middle_is_the_runs_loss_to_the_bit(kind, seen):
    model = float_net(kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for norms in ("precise", "running"):
        measured = surface(model, seen, norms=norms)
        moved = measured.at(0.5, -0.25)
        assert moved != measured.at(0, 0)
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    own = evaluate(model, seen[2], seen[3])
    assert measured.at(0, 0) == own.loss


@pytest.mark.parametrize(
    "kind", ["resnet8", "resnet11_v2", replace(get_spec("se_resnet18"), depths=(1,), widths=(8,))]
)
def test_directions_have_the_norms_of_filters(kind):
    model = float_net(kind)
    for ignore in ("biasbn", "nothing"):
        for direction in directions(model, 0, ignore=ignore):
            for weight, moved in zip(model.parameters(), direction, strict=True):
                if weight.ndim == 1:
                    expected = torch.zeros_like(weight) if ignore == "biasbn" else weight
                    assert torch.equal(moved, expected)
                    continue
                for own, drawn in zip(weight, moved, strict=True):
                    assert drawn.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)
                    assert not torch.equal(own, drawn)


def test_directions_are_random_and_equal_nets_draw_alike():
    model = float_net("resnet8")
    (first, second), (again, _), (other, _) = (directions(model, seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first[:1], other[:1]))
    cosine = torch.cosine_similarity(
        torch.cat([*map(torch.flatten, first)]), torch.cat([*map(torch.flatten, second)]), dim=0
    )
    assert abs(cosine) < 0.1
    plain = directions(float_net("plain8"), 0)[0]
    for a, b in zip(first, plain, strict=True):
        if a.ndim > 1:
            torch.testing.assert_close(a[0] / a[0].norm(), b[0] / b[0].norm())


def test_a_filter_of_zeros_stays():
    model = float_net()
    torch.nn.init.zeros_(model.layer1[0].conv2.weight)
    (first, _), names = directions(model, 0), [name for name, _ in model.named_parameters()]
    assert first[names.index("layer1.0.conv2.weight")].abs().sum() == 0


def test_equal_seeds_give_equal_surfaces(seen):
    points = grid(3)
    twice = [[surface(float_net(), seen, seed).at(*p) for p in points] for seed in (0, 0, 1)]
    assert twice[0] == twice[1] != twice[2]
    assert twice[0][4] == twice[2][4]
    # Whatever was computed before.
    measured = surface(float_net(), seen)
    assert [measured.at(*point) for point in reversed(points)] == twice[0][::-1]


def test_what_is_no_number_is_said_to_be_none(seen):
    model = float_net("plain8")
    torch.nn.init.constant_(model.fc.weight, 1e38)
    assert surface(model, seen).at(0, 0) is None


def test_a_surface_that_was_killed_goes_on_to_the_same_bits(seen, tmp_path):
    measured, points = surface(float_net(), seen), grid(3, 0.5)
    whole = Kept(tmp_path / "whole", {"seed": 0}).losses(points, measured.at)

    def dies(a, b):
        if (a, b) == points[5]:
            raise KeyboardInterrupt
        return measured.at(a, b)

    kept = Kept(tmp_path / "killed", {"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        kept.losses(points, dies)
    with kept.path.open("a") as file:
        file.write("[0.5, 0.0, 1.2")  # a line that a kill has cut off
    damaged = kept.path.read_bytes()
    computed = []

    def counted(a, b):
        computed.append((a, b))
        return measured.at(a, b)

    resumed = Kept(tmp_path / "killed", {"seed": 0}).losses(points, counted)
    assert resumed == whole
    assert computed == points[5:]
    lines = kept.path.read_text().splitlines()
    assert json.loads(lines[0]) == {"seed": 0}
    assert [json.loads(line)[:2] for line in lines[1:]] == [list(point) for point in points]
    for end in (b"\xff", b"5\n", b"[1, 2]\n", b"[[], 0, 0]\n"):
        kept.path.write_bytes(damaged + end)
        assert Kept(tmp_path / "killed", {"seed": 0}).losses(points[:5], None) == whole[:5]
    # Another seed has a file of its own.
    assert Kept(tmp_path / "killed", {"seed": 1}).path != kept.path


def test_grid_and_figures_of_a_bowl_and_of_a_saddle():
    points = grid(5, 0.5)
    assert points[0] == (-0.5, -0.5)
    assert points[12] == (0, 0)
    assert [b for _, b in grid(5, line=True)] == [0] * 5
    bowl = np.array([1 + 3 * a * a + b * b + a * b for a, b in points]).reshape(5, 5)
    found = shape(bowl, 0.5, 10)
    assert (found.centre, found.highest) == (1, bowl.max())
    assert found.curvature == pytest.approx((6 + 2) / 2)
    assert found.convex == 1
    assert found.below_guessing == pytest.approx((bowl < np.log(10)).mean())
    saddle = np.array([1 + a * a - b * b for a, b in points]).reshape(5, 5)
    assert shape(saddle, 0.5, 10).convex == 0
    twisted = np.array([1 + a * a + b * b + 3 * a * b for a, b in points]).reshape(5, 5)
    assert shape(twisted, 0.5, 10).convex == 0
    line = shape(bowl[2:3], 0.5, 10)
    assert (line.curvature, line.convex) == (pytest.approx(6), 1)
    bowl[0, 0] = np.nan
    assert shape(bowl, 0.5, 10).highest is None
