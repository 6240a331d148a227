"""The network: keys, shapes, initialisation, and the function it computes."""

import copy
from dataclasses import replace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from conftest import scramble
from every_model import each_model
from resnets import ResNet, create_model
from resnets.nn.blocks import Block
from resnets.spec import ActivationOrder
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


@pytest.mark.parametrize("name", each_model())
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
            if spec.block == "single":
                y = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1")
            elif spec.block == "basic":
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
    return scramble(model)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet18_a", "resnet18_c", "plain18", "resnet50", "resnet50_v1"),
        *("resnext50_32x4d", "resnet20", "resnet20_b", "resnet20_c", "plain20", "resnet29"),
        *("resnet8_1layer", "resnet20_1layer"),
    ],
)
def test_forward_equals_the_paper_in_float64(name):
    equals_the_paper(get_spec(name))


def test_projections_of_3x3_in_float64():
    equals_the_paper(replace(get_spec("resnet20_b"), projection_size="3x3"))


def equals_the_paper(spec):
    model = scrambled(spec)
    size = 65 if spec.stem == "7x7" else 33
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(model, x)
        torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


SMALL = replace(get_spec("resnet14"), num_classes=7)
AXES = {
    **{order: {"activation_order": order} for order in get_args(ActivationOrder)},
    "scaled": {"shortcut_scale": 0.5, "residual_scale": 0.5},
    "exclusive": {"gate": "exclusive", "gate_bias": -6.0},
    "shortcut_only": {"gate": "shortcut_only", "gate_bias": -6.0},
    "dropout": {"shortcut_dropout": 0.5},
    "both": {"zero_pad": "both"},
    "D": {"shortcut": "D"},
    "bare_projection": {"shortcut": "B", "projection_norm": False},
    "large_projection": {"shortcut": "B", "projection_size": "3x3"},
    "deep": {"stem": "deep", "stem_width": 16},
    "tiered": {"stem": "deep_tiered", "stem_width": 16},
    "se": {"attention": "se"},
    "eca": {"attention": "eca"},
    "group": {"norm": "group"},
    "frozen": {"norm": "frozen_batch"},
    "silu": {"activation": "silu"},
    "gelu": {"activation": "gelu"},
    "leaky": {"activation": "leaky_relu"},
    "bias": {"conv_bias": "all"},
    "same": {"padding": "same"},
    "drop_path": {"drop_path": 0.2},
    "head_dropout": {"dropout": 0.2},
    "last": {"stride_position": "last", "shortcut": "B"},
    "bottleneck": {"block": "bottleneck", "shortcut": "B"},
    "single": {"block": "single"},
    "preactivated_single": {"block": "single", "activation_order": "preactivation"},
    "preactivated_bottleneck": {
        **{"block": "bottleneck", "shortcut": "B", "activation_order": "preactivation"}
    },
}


ALIKE = ("gelu", "leaky")  # to compile and export as "silu" is


@pytest.mark.parametrize(
    "axis", [pytest.param(axis, marks=[pytest.mark.slow] * (axis in ALIKE)) for axis in AXES]
)
def test_every_axis_trains_copies_compiles_and_exports(axis):
    torch.manual_seed(0)
    torch._dynamo.reset()  # it counts the graphs of one forward() over all models
    # A first and a later block with the same shape as its input, and one with another.
    model = ResNet(replace(SMALL, depths=(2, 1), widths=(16, 32), **AXES[axis]))
    x = torch.randn(3, 3, 16, 16)
    twin = copy.deepcopy(model)
    loss = twin(x).square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    expected = model(x)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), expected, rtol=1e-4, atol=1e-5)


def run(block: Block, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A block's output, and the shortcut and residual that it joins."""
    joined = []

    def keep(module, args):  # copies, of what an activation may overwrite
        joined.extend(x.detach().clone() for x in args)

    handle = block.join.register_forward_pre_hook(keep)
    output = block(x)
    handle.remove()
    return output, *joined


def small_block(order: str, **changes) -> tuple[Block, torch.Tensor]:
    """The second block of a stage (an identity shortcut) in float64, and an input of both signs."""
    torch.manual_seed(0)
    model = scrambled(replace(SMALL, activation_order=order, **changes))
    return model.layer2[1], torch.randn(2, 32, 9, 9, dtype=torch.float64)


def parts(block: Block):
    """The block's convolutions, each with its norm, as functions."""

    def conv(number):
        weight = block.get_submodule(f"conv{number}").weight
        return lambda x: F.conv2d(x, weight, padding=1)

    def norm(number):
        n = block.get_submodule(f"bn{number}")
        return lambda x: F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias)

    numbers = [number for number in (1, 2) if hasattr(block, f"conv{number}")]
    return [layer(number) for number in numbers for layer in (conv, norm)]


# He et al. 2016, Fig. 4 (a) to (e), written out.
FIGURE_4 = {
    "original": lambda x, c1, n1, c2, n2: F.relu(x + n2(c2(F.relu(n1(c1(x)))))),
    "bn_after_addition": lambda x, c1, n1, c2, n2: F.relu(n2(x + c2(F.relu(n1(c1(x)))))),
    "relu_before_addition": lambda x, c1, n1, c2, n2: x + F.relu(n2(c2(F.relu(n1(c1(x)))))),
    "relu_only_preactivation": lambda x, c1, n1, c2, n2: x + n2(c2(F.relu(n1(c1(F.relu(x)))))),
    "preactivation": lambda x, c1, n1, c2, n2: x + c2(F.relu(n2(c1(F.relu(n1(x)))))),
}
# The same of a single layer (Table 3).
OF_ONE_LAYER = {
    "original": lambda x, conv, norm: F.relu(x + norm(conv(x))),
    "bn_after_addition": lambda x, conv, norm: F.relu(norm(x + conv(x))),
    "relu_before_addition": lambda x, conv, norm: x + F.relu(norm(conv(x))),
    "relu_only_preactivation": lambda x, conv, norm: x + norm(conv(F.relu(x))),
    "preactivation": lambda x, conv, norm: x + conv(F.relu(norm(x))),
}


@pytest.mark.parametrize("blocks", ["basic", "single"])
@pytest.mark.parametrize("order", FIGURE_4)
def test_activation_orders_are_figure_4(order, blocks):
    block, x = small_block(order, block=blocks)
    formula = (FIGURE_4 if blocks == "basic" else OF_ONE_LAYER)[order]
    expected = formula(x, *parts(block))
    before = x.clone()
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(x, before)


def test_shortcuts_of_table_1():
    """He et al. 2016, sec. 3.1: scaling, exclusive and shortcut-only gating, dropout."""

    def joined(**changes):
        block, x = small_block("original", **changes)
        return block, x, run(block, x)[2]

    block, x, residual = joined(shortcut_scale=0.5, residual_scale=0.25)
    torch.testing.assert_close(block(x), F.relu(0.5 * x + 0.25 * residual))
    for gate in ("exclusive", "shortcut_only"):
        block, x, residual = joined(gate=gate, gate_bias=-6.0)
        fresh = ResNet(replace(SMALL, gate=gate, gate_bias=-6.0))
        assert (fresh.layer2[1].join.gate.bias == -6).all()
        g = torch.sigmoid(F.conv2d(x, block.join.gate.weight, block.join.gate.bias))
        residual = g * residual if gate == "exclusive" else residual
        torch.testing.assert_close(block(x), F.relu((1 - g) * x + residual))
    block, x, residual = joined(shortcut_dropout=0.5)
    torch.testing.assert_close(block(x), F.relu(x + residual))
    block.join.train()
    dropped = block.join(x, torch.zeros_like(x))
    assert set((dropped / x).round(decimals=6).unique().tolist()) == {0.0, 2.0}


def test_the_signal_identity_of_preactivation():
    """x_L = x_l + the sum of the residuals between them (He et al. 2016, eq. 4), exactly."""
    model = scrambled(replace(get_spec("resnet32_v2"), num_classes=7))
    x = torch.randn(2, 16, 12, 12, dtype=torch.float64)
    total, inputs = x.clone(), x
    for block in list(model.layer1)[1:]:
        inputs, _, residual = run(block, inputs)
        total = total + residual
    torch.testing.assert_close(inputs, total, rtol=1e-13, atol=1e-13)


def test_preactivation_follows_the_appendix():
    """The first activation comes before the split; projections read it and have no norm."""
    model = scrambled(replace(get_spec("resnet20_b_v2"), num_classes=7))
    assert isinstance(model.bn1, torch.nn.Identity)
    assert len(model.layer2[0].downsample) == 1
    for block in (model.layer1[0], model.layer2[0]):
        x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
        activated = F.relu(block.bn1(x))
        second = F.relu(block.bn2(block.conv1(activated)))
        expected = block.downsample(activated) + block.conv2(second)
        torch.testing.assert_close(block(x), expected)
    features = model.forward_features(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    assert features.min() == 0


def test_padding_on_both_sides_is_option_a_up_to_the_order_of_channels():
    x = torch.randn(1, 16, 8, 8)
    ends = ResNet(SMALL).layer2[0].downsample(x)
    both = ResNet(replace(SMALL, zero_pad="both")).layer2[0].downsample(x)
    assert torch.equal(both[:, 8:24], x[:, :, ::2, ::2])
    assert torch.equal(torch.roll(both, -8, 1), ends)


def test_drop_path_falls_linearly_and_keeps_the_mean():
    model = ResNet(replace(SMALL, drop_path=0.6)).train()
    rates = [m.drop_path.probability for m in model.modules() if isinstance(m, Block)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    dropped = model.layer3[1].drop_path(torch.ones(20_000, 1, 1, 1))
    assert dropped.unique().tolist() == pytest.approx([0.0, 2.5])
    assert dropped.mean() == pytest.approx(1, abs=5 * (1.5 / 20_000) ** 0.5)


@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_of_basic_blocks(stride):
    """Dilated maps hold the undilated ones: every other pixel, away from the border."""
    spec = replace(get_spec("resnet18"), num_classes=7)
    coarse = scrambled(spec)
    fine = ResNet(replace(spec, output_stride=stride)).double().eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 257, 257, dtype=torch.float64)
    with torch.no_grad():
        a, b = coarse.forward_features(x), fine.forward_features(x)
    step = 32 // stride
    torch.testing.assert_close(b[:, :, ::step, ::step], a, rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize("name", ["resnet20", "resnet20_c", "resnet29", "resnet20_v2"])
@pytest.mark.parametrize("order", get_args(ActivationOrder))
def test_zero_init_residual_makes_every_block_its_shortcut(name, order):
    spec = replace(get_spec(name), zero_init_residual=True, activation_order=order)
    for block in (m for m in ResNet(spec).eval().modules() if isinstance(m, Block)):
        # Positive, so that an activation before the split leaves it as it is.
        x = torch.rand(1, block.conv1.in_channels, 8, 8) + 1
        _, shortcut, residual = run(block, x)
        assert (residual == 0).all()
        assert shortcut.any()


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
