"""ResNeXt's three forms compute the same, forwards and backwards; two layers degenerate."""

import pytest
import torch
import torch.nn.functional as F

from resnets import ResNet, get_spec
from resnets.nn import forms

SHAPES = [(32, 48, 8, 4, 1), (24, 64, 32, 4, 2), (16, 16, 1, 8, 1), (20, 12, 2, 5, 2)]


def scrambled(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(m.weight, 0.5, 1)
            torch.nn.init.normal_(m.bias, 0, 0.2)
    return module.double()


def three_forms(*shape):
    """The same block in forms (c), (b) and (a)."""
    cardinality = shape[2]
    grouped = scrambled(forms.GroupedConvolution(*shape))
    concatenated = forms.EarlyConcatenation(*shape).double()
    state = forms.grouped_to_concatenated(grouped.state_dict(), cardinality)
    concatenated.load_state_dict(state)
    split = forms.SplitTransformMerge(*shape).double()
    split.load_state_dict(forms.concatenated_to_split(state, cardinality))
    return grouped, concatenated, split


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
def test_the_forms_are_equal(shape, training):
    """Forward, input gradient, parameter gradients (mapped) and statistics in float64."""
    blocks = [block.train(training) for block in three_forms(*shape)]
    results = []
    for block in blocks:
        x = torch.linspace(-1, 1, 2 * shape[0] * 81, dtype=torch.float64).sin() * 3
        x = x.view(2, shape[0], 9, 9).requires_grad_()
        y = block(x)
        (y * torch.arange(y.numel(), dtype=y.dtype).view_as(y).cos()).sum().backward()
        results.append((y.detach(), x.grad))
    for y, gradient in results[1:]:
        torch.testing.assert_close(y, results[0][0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-10, atol=1e-10)
    grouped, concatenated, split = blocks
    gradients = {k: p.grad for k, p in split.named_parameters()}
    gradients = forms.concatenated_to_grouped(forms.split_to_concatenated(gradients))
    for key, parameter in grouped.named_parameters():
        torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-9, atol=1e-9)
    back = forms.concatenated_to_grouped(concatenated.state_dict())
    for key, tensor in grouped.state_dict().items():
        torch.testing.assert_close(back[key], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_maps_lose_nothing(shape):
    state = scrambled(forms.GroupedConvolution(*shape)).state_dict()
    paths = forms.grouped_to_concatenated(state, shape[2])
    split = forms.concatenated_to_split(paths, shape[2])
    again = forms.concatenated_to_grouped(forms.split_to_concatenated(split))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_the_networks_use_form_c():
    model = scrambled(ResNet(get_spec("resnext29_8x64d"))).eval()
    block = model.layer2[1]
    grouped = forms.GroupedConvolution(512, 512, 8, 128).double().eval()
    keys = grouped.state_dict().keys()
    grouped.load_state_dict({k: v for k, v in block.state_dict().items() if k in keys})
    x = torch.randn(1, 512, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(grouped(x), block.residual(x), rtol=1e-12, atol=1e-12)


def test_two_layers_degenerate_to_a_wide_dense_block():
    torch.manual_seed(0)
    paths = forms.TwoLayerPaths(channels=12, cardinality=4, width=5).double()
    dense = forms.two_layer_paths_to_dense(paths.state_dict())
    assert dense["conv1.weight"].shape == (20, 12, 3, 3)
    x = torch.randn(2, 12, 7, 7, dtype=torch.float64)
    hidden = F.relu(F.conv2d(x, dense["conv1.weight"], padding=1))
    expected = F.conv2d(hidden, dense["conv2.weight"], padding=1)
    torch.testing.assert_close(paths(x), expected, rtol=1e-12, atol=1e-12)
