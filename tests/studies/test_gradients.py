"""Gradients of a study against autograd by hand and nets whose answer is known."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import scramble
from resnets import create_model
from resnets.errors import NonFiniteError
from resnets.nn.blocks import Block
from resnets.studies.gradient_lines import (
    AT_ONCE,
    Measured,
    autocorrelation,
    correlation_between,
    half_length,
    line_gradients,
    noises,
    norms_by_depth,
)
from resnets.studies.gradients import NORM, TRAINED, found


@pytest.mark.parametrize("name", ["resnet8_v2", "resnet11_v2"])
def test_full_preactivation_adds_the_residuals_up(name):
    """x_L = x_l + the sum of F: He et al. 2016, eq. 4; where shapes change, of the shortcut."""
    torch.manual_seed(0)
    spec = create_model(name).spec
    model = create_model(type(spec)(**{**spec.to_dict(), "depths": (3, 1, 1)})).double().eval()
    scramble(model)
    inputs, outputs, residuals = [], [], []
    for block in model.layer1:
        block.register_forward_pre_hook(lambda _, given: inputs.append(given[0].clone()))
        block.register_forward_hook(lambda _, given, output: outputs.append(output.clone()))
        block.se.register_forward_hook(lambda _, given, output: residuals.append(output.clone()))
    with torch.no_grad():
        model(torch.randn(2, 3, 16, 16, dtype=torch.float64))
    assert len(residuals) == 3
    torch.testing.assert_close(outputs[-1], inputs[1] + residuals[1] + residuals[2])
    assert not torch.allclose(outputs[-1], inputs[1] + residuals[1])


@pytest.mark.parametrize("name", ["resnet8", "plain8", "resnet8_v2"])
def test_norms_are_those_of_autograd(name):
    torch.manual_seed(0)
    model = create_model(name).double()
    images, labels = torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.arange(4)
    before = copy.deepcopy(model.state_dict())
    weights, outputs = norms_by_depth(model, images, labels)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    twin, kept = copy.deepcopy(model).train(), {}
    for key, block in twin.named_modules():
        if isinstance(block, Block):
            block.register_forward_hook(
                lambda _, given, output, key=key: kept.update({key: output})
            )
    loss = F.cross_entropy(twin(images), labels)
    for output in kept.values():
        output.retain_grad()
    loss.backward()
    assert outputs == pytest.approx({key: out.grad.norm().item() for key, out in kept.items()})
    assert weights["layer1.0.conv1"] == pytest.approx(
        twin.layer1[0].conv1.weight.grad.norm().item()
    )
    assert next(iter(weights)) == "conv1"
    assert len(weights) == 7


def test_a_linear_net_has_one_gradient_everywhere():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 2)).double()
    first, last = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    gradients = line_gradients(net, first, last, 9, 1)
    assert gradients.shape == (9, 108)
    assert autocorrelation(gradients) == pytest.approx([1.0] * 9)
    curve = correlation_between(net, first, last, 9, 1)
    assert [value for _, value in curve] == pytest.approx([1.0] * len(curve))
    assert [distance for distance, _ in curve] == [
        *(place / 128 for place in range(5)),
        *(place / 8 for place in range(1, 9)),
    ]
    assert half_length(curve) == 1
    many = line_gradients(net, first, last, 3 * AT_ONCE - 1, 1)  # of which a part is taken at once
    assert len(many) == 3 * AT_ONCE - 1
    torch.testing.assert_close(many[:: len(many) - 1], gradients[::8])
    (own,) = torch.autograd.grad(net(x := last[None].requires_grad_())[0, 1], x)
    torch.testing.assert_close(gradients[-1], own.flatten())


def test_correlation_of_what_is_known():
    one, other = torch.eye(2, dtype=torch.float64)
    assert autocorrelation(torch.stack([one, other, 3 * one])) == pytest.approx([1, 0, 1])
    reference = noises(33, 500, 0)
    assert max(abs(value) for _, value in reference["white noise"][1:]) < 0.1
    brown = [value for _, value in reference["brown noise"]]
    assert brown[1] > 0.8
    assert brown[0] > brown[4] > brown[8] > brown[16]
    assert half_length(reference["white noise"]) == 1 / 32  # all that the line shows
    assert half_length([(0.0, 1.0), (0.2, 0.8), (0.6, 0.6), (1.0, 0.2)]) == pytest.approx(0.7)
    assert half_length([(0.0, 0.0), (0.2, 0.0), (1.0, 0.0)]) == 0.2  # gradients of zero
    with pytest.raises(NonFiniteError):
        autocorrelation(torch.full((3, 2), torch.nan))


def measured(name: str, *, half: float, depth: int, ratio: float = 1.0, scale: float = 1.0):
    correlation = [(place / 100, float(place / 100 < half)) for place in range(101)]
    plain = name.startswith("plain")
    outputs = {"layer1.0": ratio, "layer3.0": 1.0, "layer3.1": 5.0}
    return Measured(name, name, NORM, plain, depth, scale, correlation, {}, outputs)


def test_sentences_follow_the_numbers():
    nets = [
        measured("plain8", half=0.5, depth=8),
        measured("plain56", half=0.1, depth=56, ratio=5000),
        measured("resnet8", half=0.6, depth=8),
        measured("resnet56", half=0.4, depth=56, ratio=0.5),
        measured("resnet56 scaled", half=0.7, depth=56, scale=0.1),
    ]
    shattered, plain, residual, scaled, norms = found(nets)
    assert "shortcuts keep it from shattering, as the paper found" in shattered
    assert "distance falls, from 0.495" in plain
    assert "0.395 of the line" in residual
    assert "residuals times 0.1 raise it" in scaled
    assert "5,000 times in plain56 (it explodes)" in norms
    assert "0.5 times in resnet56 (it does neither)" in norms
    nets[1] = measured("plain56", half=0.6, depth=56, ratio=0.001)
    nets[4] = measured("resnet56 scaled", half=0.2, depth=56, scale=0.1)
    shattered, plain, _, scaled, norms = found(nets)
    assert "contrary to what the paper found" in shattered
    assert "distance rises" in plain
    assert "do not raise it" in scaled
    assert "contrary" in scaled
    assert "0.001 times in plain56 (it vanishes)" in norms
    both = [measured(name, half=2, depth=56) for name in ("plain56", "resnet56", "resnet56 scaled")]
    both[2] = replace(both[2], residual_scale=0.1)
    shattered, scaled, _ = found(both)
    assert shattered.endswith("1.0 times as far: neither loses it between these images.")
    assert scaled.endswith("neither loses it between these images.")
    nets[1], nets[3] = (measured(net, half=0.005, depth=56) for net in ("plain56", "resnet56"))
    assert "more --points would be needed" in found(nets)[0]
    trained = [measured("plain56", half=0.1, depth=56), measured("resnet56", half=0.4, depth=56)]
    told = found([replace(net, condition=TRAINED) for net in trained])
    assert "as the paper found of fresh weights" in told[0]  # it has looked at no others
