"""The backbone: its levels for every entry of the zoo, their sizes, what they see."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import scramble
from every_model import each_model
from resnets import Backbone, ResNet, create_backbone, get_spec, profile
from resnets.errors import SpecError, UsageError
from resnets.zoo import ZOO

# Every block, order, stem, shortcut and attention.
KINDS = [
    *("resnet18", "resnet50", "resnet50_v1", "resnet18_v2", "timm_resnet18_v2", "resnet50_v2"),
    *("plain18", "resnext50_32x4d", "resnet50d", "eca_resnet50d", "se_resnet18", "resnet20"),
    *("resnet20_v2", "plain20", "keras_resnet20_v1", "keras_resnet20_v2", "resnet18_a"),
    *("keras_applications_resnet50", "keras_applications_resnet50_v2", "wide_resnet50_2"),
]


def scrambled(model):
    """The model in evaluation mode, with norms, biases and statistics that matter."""
    torch.manual_seed(0)
    return scramble(model).eval()


def shallow(spec):
    """The spec with two blocks a stage: one that changes the shape, and one that does not."""
    return replace(spec, depths=(2,) * len(spec.depths))


def fill(backbone, model):
    """The backbone in evaluation mode with another's weights, as far as it has a place for them."""
    state = model.state_dict()
    backbone.load_state_dict({key: state[key] for key in backbone.state_dict()})
    return backbone.eval()


@pytest.mark.parametrize("name", each_model())
def test_levels_of_every_model(name):
    """Names, channels, strides and receptive fields, against the maps and the profile."""
    spec = ZOO[name]
    names = [f"c{i + 1}" for i in range(len(spec.depths) + 1)]
    with torch.device("meta"):
        keys = ResNet(spec).state_dict().keys()
        backbone = Backbone(spec, levels=names)
        maps = backbone(torch.empty(1, spec.in_channels, 256, 256))
        whole = Backbone(spec, activated=True)
        assert list(whole(torch.empty(1, spec.in_channels, 64, 64))) == names[1:]
    assert list(backbone.levels) == list(maps) == names
    for level, x in zip(backbone.levels.values(), maps.values(), strict=True):
        assert x.shape[1:] == (level.channels, 256 // level.stride, 256 // level.stride)
    fields = [level.receptive_field for level in backbone.levels.values()]
    assert fields[1:] == [stage.receptive_field for stage in profile(spec).stages[1:-1]]
    heads = ("fc.", "norm.") if spec.preactivated else ("fc.",)
    assert backbone.state_dict().keys() == {key for key in keys if not key.startswith(heads)}
    assert whole.state_dict().keys() == {key for key in keys if not key.startswith("fc.")}


@pytest.mark.parametrize("name", KINDS)
def test_maps_are_the_classifiers(name):
    """What the classifier's modules put out, and what its next norm and ReLU make of it."""
    classifier = scrambled(ResNet(shallow(get_spec(name))))
    names = [f"c{i + 1}" for i in range(len(classifier.spec.depths) + 1)]
    raw, activated = (
        fill(Backbone(classifier.spec, levels=names, activated=choice), classifier)
        for choice in (False, True)
    )
    seen = {}

    def keep(name):
        def hook(module, args, output):
            seen[name] = output.clone()

        return hook

    for level in raw.levels.values():
        classifier.get_submodule(level.module).register_forward_hook(keep(level.name))
    size = 47 if classifier.spec.stem == "3x3" else 97
    x = torch.randn(2, 3, size, 64)
    with torch.no_grad():
        features = classifier.forward_features(x)
        maps, after = raw(x), activated(x)
    assert list(maps) == names
    for level in names:
        assert torch.equal(maps[level], seen[level])
    assert torch.equal(after[names[-1]], features)
    if not classifier.spec.preactivated:
        assert all(torch.equal(after[level], maps[level]) for level in names)
        return
    for stage, level in enumerate(names[1:-1], start=1):
        norm = classifier.get_submodule(f"layer{stage + 1}.0.bn1")
        with torch.no_grad():
            assert torch.equal(after[level], F.relu(norm(seen[level])))
        assert activated.levels[level].activated
        assert not raw.levels[level].activated


@pytest.mark.parametrize("name", ["resnet18", "resnet18_v2", "resnet20_v2"])
@pytest.mark.parametrize("activated", [False, True])
def test_stages_after_the_last_level_are_not_built(name, activated):
    spec = get_spec(name)
    torch.manual_seed(0)
    last = f"c{len(spec.depths) + 1}"
    for count in range(len(spec.depths)):
        level = f"c{count + 1}"
        short = Backbone(spec, levels=[level], activated=activated)
        beyond = [key.split(".") for key in short.state_dict() if "layer" in key]
        beyond = [key for key in beyond if int(key[0].removeprefix("layer")) > count]
        follows = activated and spec.preactivated and (count > 0 or spec.stem == "3x3")
        # Where a level is activated by the next stage's first norm, that norm alone is built.
        expected = {(f"layer{count + 1}", "0", "bn1")} if follows else set()
        assert {tuple(key[:3]) for key in beyond} == expected
        full = Backbone(spec, levels=[level, last], activated=activated)
        short = fill(short, full)
        x = torch.randn(2, 3, 64, 64)
        # In training, so that every norm must count, and count once.
        assert torch.equal(full.train()(x)[level], short.train()(x)[level])
        buffers = dict(full.named_buffers())
        for key, buffer in short.named_buffers():
            assert torch.equal(buffer, buffers[key])
        short(x)[level].sum().backward()
        assert all(p.grad is not None for p in short.parameters())  # DDP asks for that


def test_activated_maps_count_every_batch_once():
    torch.manual_seed(0)
    spec = get_spec("resnet20_v2")
    activated = Backbone(spec, activated=True)
    raw = fill(Backbone(spec), activated).train()
    x = torch.randn(4, 3, 32, 32)
    maps, after = raw(x), activated(x)
    buffers = dict(activated.named_buffers())
    assert all(torch.equal(buffer, buffers[key]) for key, buffer in raw.named_buffers())
    assert buffers["norm.num_batches_tracked"] == 1
    expected = F.relu(F.batch_norm(maps["c2"], None, None, training=True))
    torch.testing.assert_close(after["c2"], expected)
    assert after["c4"].min() == 0


ORDERS = [
    *("original", "bn_after_addition", "relu_before_addition", "relu_only_preactivation"),
    "preactivation",
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activated", [False, True])
def test_maps_stay_as_they_are_while_later_stages_run(order, activated):
    """Nothing downstream writes into a map: alone it is the same."""
    torch.manual_seed(0)
    spec = replace(get_spec("resnet14"), activation_order=order, shortcut="B")
    names = ["c1", "c2", "c3", "c4"]
    backbone = Backbone(spec, levels=names, activated=activated).eval()
    x = torch.randn(1, 3, 32, 32)
    maps = backbone(x)
    for name in names:
        short = fill(Backbone(spec, levels=[name], activated=activated), backbone)
        assert torch.equal(maps[name], short(x)[name]), name
    sum(x.sum() for x in maps.values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def small(**changes):
    """An ImageNet net of four blocks."""
    spec = replace(get_spec("resnet18"), depths=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem_width=4)
    return replace(spec, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"output_stride": 16},
        {"output_stride": 8},
        {"output_stride": 16, "multi_grid": (2,)},
        {"output_stride": 8, "block": "bottleneck"},
        {"output_stride": 8, "shortcut": "D", "stem": "deep"},
        {"activation_order": "preactivation", "output_stride": 16},
    ],
)
def test_receptive_fields_and_strides_are_what_gradients_show(changes):
    """With positive weights, the pixels that a position depends on are exactly its field."""
    backbone = Backbone(small(**changes), levels=["c1", "c2", "c3", "c4", "c5"]).double().eval()
    for parameter in backbone.parameters():
        torch.nn.init.constant_(parameter, 0.1 if parameter.ndim > 1 else 1)
    # Rows that rise, so that the max-pool's choice is its lowest row; falling, its highest.
    for name, level in backbone.levels.items():
        ends = []
        for direction in (1, -1):
            ramp = torch.arange(641, dtype=torch.float64) * direction
            x = (1 + (ramp - ramp.min()) / 1e3).view(1, 1, -1, 1).expand(1, 3, -1, 1).clone()
            x.requires_grad_()
            column = backbone(x)[name].sum((0, 1, 3))
            for position in (len(column) // 2, len(column) // 2 + 1):
                (gradient,) = torch.autograd.grad(column[position], x, retain_graph=True)
                seen = gradient.sum((0, 1, 3)).nonzero().flatten()
                ends.append((seen.min().item(), seen.max().item()))
        first, last = min(ends[0][0], ends[2][0]), max(ends[0][1], ends[2][1])
        assert last - first + 1 == level.receptive_field, name
        assert ends[1][0] - ends[0][0] == level.stride, name


def dilated_convolution(x, weight, stride=1, dilation=1):
    """The definition: shifted images times weights, summed; zeros outside."""
    size = weight.shape[-1]
    height, width = ((n - 1) // stride + 1 for n in x.shape[2:])
    padded = F.pad(x, (dilation * (size // 2),) * 4)
    result = 0
    for i in range(size):
        for j in range(size):
            rows = slice(i * dilation, i * dilation + (height - 1) * stride + 1, stride)
            columns = slice(j * dilation, j * dilation + (width - 1) * stride + 1, stride)
            patch = padded[:, :, rows, columns]
            result = result + torch.einsum("nchw,oc->nohw", patch, weight[:, :, i, j])
    return result


def test_dilated_basic_blocks_equal_a_direct_convolution():
    """resnet18 at output stride 8: dilation 2 in the third stage, 4 in the fourth; a stage's first
    convolution has that of the stage before."""
    backbone = scrambled(Backbone(replace(get_spec("resnet18"), output_stride=8))).double()
    state = backbone.state_dict()

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    pictures = torch.randn(1, 3, 65, 49, dtype=torch.float64)
    x = norm(dilated_convolution(pictures, state["conv1.weight"], 2), "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    expected = {}
    for stage, (stride, first, dilation) in enumerate(
        [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)], start=1
    ):
        for block in (f"layer{stage}.0", f"layer{stage}.1"):
            entry = block.endswith("0")
            steps = (stride, first) if entry else (1, dilation)
            y = dilated_convolution(x, state[f"{block}.conv1.weight"], *steps)
            y = norm(y, f"{block}.bn1").relu()
            y = dilated_convolution(y, state[f"{block}.conv2.weight"], 1, dilation)
            if entry and stage > 1:
                x = dilated_convolution(x, state[f"{block}.downsample.0.weight"], stride)
                x = norm(x, f"{block}.downsample.1")
            x = (x + norm(y, f"{block}.bn2")).relu()
        expected[f"c{stage + 1}"] = x
    with torch.no_grad():
        for name, features in backbone(pictures).items():
            torch.testing.assert_close(features, expected[name], rtol=1e-10, atol=1e-12)
    assert [backbone.levels[f"c{i}"].stride for i in range(1, 6)] == [2, 4, 8, 8, 8]


@pytest.mark.parametrize(
    "name", ["resnet18_a", "resnet18d", "resnet50d", "resnet50_v1", "resnet18_v2", "eca_resnet50d"]
)
def test_dilation_leaves_weights_and_what_they_see_unchanged(name):
    """Dilated maps hold the undilated ones at every other pixel (attention sees other means)."""
    spec = replace(shallow(get_spec(name)), attention="none")
    coarse = scrambled(Backbone(spec)).double()
    fine = fill(Backbone(replace(spec, output_stride=8)).double(), coarse)
    x = torch.randn(1, 3, 161, 129, dtype=torch.float64)
    with torch.no_grad():
        a, b = coarse(x), fine(x)
    for level, step in (("c3", 1), ("c4", 2), ("c5", 4)):
        torch.testing.assert_close(b[level][..., ::step, ::step], a[level], rtol=1e-9, atol=1e-10)


def test_equal_widths_keep_their_keys_when_dilated():
    keys = [
        Backbone(small(widths=(4, 4, 4, 4), output_stride=stride)).state_dict().keys()
        for stride in (8, 32)
    ]
    assert keys[0] == keys[1]


def test_multi_grid():
    """Chen et al. 2017, sec. 3.2.1: rates 2 x (1, 2, 4) at output stride 16."""
    spec = replace(get_spec("resnet50"), output_stride=16, multi_grid=(1, 2, 4))
    with torch.device("meta"):
        backbone = Backbone(spec)
        basic = Backbone(replace(get_spec("resnet18"), output_stride=8, multi_grid=(1, 2)))
        keys = Backbone(get_spec("resnet50")).state_dict().keys()
    assert [block.conv2.dilation for block in backbone.layer4] == [(2, 2), (4, 4), (8, 8)]
    assert [block.conv2.dilation for block in backbone.layer3] == [(1, 1)] * 6
    dilations = [(b.conv1.dilation[0], b.conv2.dilation[0]) for b in basic.layer4]
    assert dilations == [(4, 4), (8, 8)]
    assert backbone.state_dict().keys() == keys
    # Every 3x3 sees twice its dilation more, in steps of 16 pixels.
    grown = backbone.levels["c5"].receptive_field - backbone.levels["c4"].receptive_field
    assert grown == 2 * (2 + 4 + 8) * 16
    assert profile(spec).stages[4].receptive_field == backbone.levels["c5"].receptive_field
    with pytest.raises(SpecError, match="2 units for the last stage's 3 blocks"):
        replace(get_spec("resnet50"), multi_grid=(1, 2))


def test_create_backbone():
    with pytest.warns(UserWarning, match="without weights"):
        backbone = create_backbone(
            "resnet18", levels=("c5", "c3"), in_channels=12, output_stride=16, frozen_stages=1
        )
    features = backbone(torch.randn(2, 12, 64, 64))
    assert {name: tuple(x.shape[1:]) for name, x in features.items()} == {
        "c5": (512, 4, 4),
        "c3": (128, 8, 8),
    }
    assert list(features) == ["c5", "c3"]
    assert backbone.channels == (512, 128)
    assert backbone.levels["c3"].receptive_field == 99
    assert backbone.feature_info.channels() == [512, 128]
    assert backbone.feature_info.reduction() == [16, 8]
    assert backbone.feature_info.module_name() == ["layer4", "layer2"]
    assert backbone.preprocess is not None


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_any_number_of_input_channels(channels):
    backbone = create_backbone("resnet20", in_channels=channels)
    assert list(backbone(torch.randn(1, channels, 33, 47))) == ["c2", "c3", "c4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ("c2", "c6")}, 'resnet18 has no level "c6"'),
        ({"levels": ()}, "levels is"),
        ({"levels": "c2"}, "levels is"),
        ({"levels": ("c2", "c2")}, "levels is"),
        ({"frozen_stages": 5}, "frozen_stages is 5"),
        ({"frozen_stages": -2}, "frozen_stages is -2"),
        ({"frozen_stages": True}, "frozen_stages is True"),
        ({"freeze_bn": "all"}, "freeze_bn is 'all'"),
        ({"output_strid": 8}, 'unknown option "output_strid"'),
        ({"output_stride": 4}, "output_stride is 4"),
    ],
)
def test_errors(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        create_backbone("resnet18", **options)
    assert caught.value.hint
