"""Same weights, same output as torchvision 0.28: every residual network it has."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision

from conftest import scramble
from resnets import ResNet, get_spec, profile

NAMES = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
    *("resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
]


def pair(name: str, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.nn.Module]:
    theirs = scramble(torchvision.models.get_model(name)).to(dtype)
    ours = ResNet(get_spec(name)).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_logits(name, dtype, bound):
    ours, theirs = (model.eval() for model in pair(name, dtype))
    x = torch.randn(2, 3, 97, 64, dtype=dtype)
    with torch.no_grad():
        expected = theirs(x)
        assert (ours(x) - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_a_training_step(name):
    """Loss, gradients and batch-norm statistics in float64."""
    ours, theirs = (model.train() for model in pair(name, torch.float64))
    x, labels = torch.randn(4, 3, 64, 64, dtype=torch.float64), torch.arange(4)
    losses = [F.cross_entropy(model(x), labels) for model in (ours, theirs)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=0)
    for loss in losses:
        loss.backward()
    expected = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key].grad, rtol=1e-8, atol=1e-10)
    buffers = dict(theirs.named_buffers())
    for key, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, buffers[key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_published_counts(name):
    """torchvision's own metadata: parameters, and multiply-adds in units of 1e9."""
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    cost = profile(name)
    assert cost.parameters == meta["num_params"]
    assert round(cost.macs / 1e9, 3) == meta["_ops"]


@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride(stride):
    """Dilation as replace_stride_with_dilation, with the weights unchanged."""
    dilate = [False, stride <= 8, stride <= 16]
    theirs = scramble(torchvision.models.resnet50(replace_stride_with_dilation=dilate)).double()
    ours = ResNet(replace(get_spec("resnet50"), output_stride=stride)).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 65, 65, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.eval()(x)
        assert (ours.eval()(x) - expected).abs().max() <= 1e-10 * expected.abs().max()
        assert ours.forward_features(x).shape[-1] == -(-65 // stride)


@pytest.mark.parametrize("norm", ["group", "frozen_batch"])
def test_norms(norm):
    """Group norm over 32 groups; frozen batch norm as torchvision's detection models have it."""
    layer = {
        "group": lambda channels: torch.nn.GroupNorm(32, channels),
        "frozen_batch": torchvision.ops.FrozenBatchNorm2d,
    }[norm]
    theirs = torchvision.models.resnet50(norm_layer=layer).double()
    for key, tensor in theirs.state_dict().items():
        if tensor.ndim == 1:  # buffers of the frozen norm too
            tensor.uniform_(0.5, 1) if "var" in key or "weight" in key else tensor.normal_(0, 0.2)
    ours = ResNet(replace(get_spec("resnet50"), norm=norm)).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 97, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.train()(x)
        assert (ours.train()(x) - expected).abs().max() <= 1e-10 * expected.abs().max()
