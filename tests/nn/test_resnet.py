"""The network: keys, shapes, initialisation, and the function it computes."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from resnets import ResNet, create_model
from resnets.nn.blocks import Block
from resnets.zoo import ZOO, get_spec


def torchvision_keys(depths, convolutions, projections):
    """The documented key list of torchvision's ResNet, written out from its layout."""

    def norm(name):
        state = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{key}" for key in state]

    keys = ["conv1.weight", *norm("bn1")]
    for stage, blocks in enumerate(depths, start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            for i in range(1, convolutions + 1):
                keys += [f"{prefix}.conv{i}.weight", *norm(f"{prefix}.bn{i}")]
            if block == 0 and stage in projections:
                keys += [f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1")]
    return {*keys, "fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("name", "depths", "convolutions", "projections"),
    [
        ("resnet18", (2, 2, 2, 2), 2, {2, 3, 4}),
        ("resnet50", (3, 4, 6, 3), 3, {1, 2, 3, 4}),
        ("resnext50_32x4d", (3, 4, 6, 3), 3, {1, 2, 3, 4}),
        ("plain18", (2, 2, 2, 2), 2, set()),
        ("resnet20", (3, 3, 3), 2, set()),
    ],
)
def test_state_dict_keys_are_torchvisions(name, depths, convolutions, projections):
    with torch.device("meta"):
        keys = ResNet(ZOO[name]).state_dict().keys()
    assert set(keys) == torchvision_keys(depths, convolutions, projections)


@pytest.mark.parametrize("name", [n for n in ZOO if ZOO[n].depth <= 60])
def test_every_model_runs_on_meta_at_two_sizes(name):
    spec = ZOO[name]
    with torch.device("meta"):
        model = ResNet(spec)
        for size in (spec.image_size, spec.image_size + 13):
            x = torch.empty(2, spec.in_channels, size, size)
            assert model(x).shape == (2, spec.num_classes)


def reference(model, x):
    """The forward pass of He et al. 2015 written with functions, from the weights alone."""
    spec, state = model.spec, model.state_dict()

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        scale = weight / torch.sqrt(var + 1e-5)
        return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]

    def conv(x, name, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)

    x = F.relu(norm(conv(x, "conv1", 2 if spec.stem == "7x7" else 1), "bn1"))
    if spec.stem == "7x7":
        x = F.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(spec.depths):
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            if spec.block == "basic":
                y = F.relu(norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1"))
                y = norm(conv(y, f"{name}.conv2"), f"{name}.bn2")
            else:
                first, second = (stride, 1) if spec.bottleneck_stride == "1x1" else (1, stride)
                y = F.relu(norm(conv(x, f"{name}.conv1", first), f"{name}.bn1"))
                y = conv(y, f"{name}.conv2", second, spec.groups)
                y = F.relu(norm(y, f"{name}.bn2"))
                y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
            if f"{name}.downsample.0.weight" in state:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            elif spec.shortcut == "none":
                x = torch.zeros_like(y)
            elif y.shape != x.shape:  # option A: every second pixel, zeros for the new channels
                padded = torch.zeros_like(y)
                padded[:, : x.shape[1]] = x[:, :, ::2, ::2]
                x = padded
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def scrambled(spec):
    """A float64 model in evaluation mode whose batch norms are not trivial."""
    torch.manual_seed(0)
    model = ResNet(replace(spec, num_classes=7)).double().eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1)
    return model


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet18_a", "resnet18_c", "plain18", "resnet50", "resnet50_v1"),
        *("resnext50_32x4d", "resnet20", "resnet20_b", "resnet20_c", "plain20", "resnet29"),
    ],
)
def test_forward_equals_the_paper_in_float64(name):
    spec = get_spec(name)
    model = scrambled(spec)
    size = 65 if spec.stem == "7x7" else 33
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(model, x)
        torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_v1_and_v1_5_share_weights_and_differ_in_function():
    model, other = scrambled(ZOO["resnet50"]), scrambled(ZOO["resnet50_v1"])
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    assert not torch.allclose(model(x), other(x))


def test_initialisation():
    torch.manual_seed(0)
    model = ResNet(ZOO["resnet34"])
    weight = model.layer3[1].conv1.weight  # fan-out: 256 channels x 3 x 3
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert abs(weight.mean().item()) < 1e-3
    assert weight.abs().max() > 4 * weight.std()  # normal, not uniform
    assert (model.bn1.weight == 1).all()
    assert (model.bn1.bias == 0).all()
    assert (model.fc.bias == 0).all()


@pytest.mark.parametrize("name", ["resnet20", "resnet20_c", "resnet29"])
def test_zero_init_residual_makes_every_block_its_shortcut(name):
    model = ResNet(replace(get_spec(name), zero_init_residual=True)).eval()
    for block in (m for m in model.modules() if isinstance(m, Block)):
        x = torch.rand(1, block.conv1.in_channels, 8, 8)
        residual = block.residual(x)
        assert (residual == 0).all()
        assert torch.equal(block(x), F.relu(block.downsample(x, residual)))


def test_deepcopy_and_training_step():
    model = create_model("resnet20", in_channels=1)
    twin = copy.deepcopy(model)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )
    twin(torch.rand(4, 1, 32, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_forward_features_is_the_last_stage():
    model = create_model("resnet20").eval()
    x = torch.rand(2, 3, 32, 32)
    features = model.forward_features(x)
    assert features.shape == (2, 64, 8, 8)
    assert torch.equal(model.fc(features.mean((2, 3))), model(x))
