"""Every dialect and every net that it can hold: names there and back, and documented names."""

from dataclasses import replace

import pytest
import torch

from resnets import ResNet, get_spec
from resnets.errors import CheckpointError, UsageError
from resnets.spec import Spec
from resnets.weights.dialects import BY_NAME, DIALECTS, Dialect
from resnets.weights.naming import recognise, refusal, traits, write
from resnets.weights.state_dict import StateDict
from resnets.weights.translate import translate
from resnets.zoo import ZOO

NETS = {
    **ZOO,
    "akamaster's resnet20": replace(get_spec("resnet20"), zero_pad="both"),
    "timm's resnet18_v2": replace(get_spec("resnet18_v2"), first_shortcut_input="raw"),
    "bearpaw's preresnet20": replace(
        get_spec("resnet20_b_v2"), projection_input="raw", first_shortcut_input="raw"
    ),
    "xternalz's wrn16_1": replace(
        get_spec("wrn16_8"), widths=(16, 32, 64), first_shortcut_input="raw"
    ),
}
ORDINARY = {"resnet18", "resnet50", "resnet152"}
# The others are the same with more blocks.
SHALLOW = [name for name, spec in NETS.items() if sum(spec.depths) <= 18]
HELD = {  # some that each must hold, so that a refusal too many is noticed
    "torchvision": ORDINARY | {"resnext101_64x4d", "wide_resnet50_2", "resnet50t", "se_resnet50"},
    "timm": ORDINARY | {"eca_resnet50d", "resnet152_v2", "timm's resnet18_v2", "resnet50s"},
    "detectron2": ORDINARY | {"resnet101_v1", "resnext101_32x8d"},
    "caffe2": {"resnet18", "resnet50_v1", "resnet152_v1", "resnext101_32x8d"},
    "caffe2_live": {"resnet18", "resnet50_v1", "resnet152_v1", "resnext101_32x8d"},
    "mmlab": ORDINARY | {"resnet101_v1", "resnet50c", "resnet152d", "se_resnet50"},
    "mmdetection": ORDINARY | {"resnet50_v1", "resnext101_64x4d", "resnet50d"},
    "huggingface": {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"},
    "pycls": ORDINARY | {"resnet50_v1", "resnext50_32x4d", "resnet56_b"},
    "pycls_2019": ORDINARY | {"resnet50_v1", "resnext50_32x4d", "resnet56_b"},
    "akamaster": {"akamaster's resnet20", "resnet56_b"},
    "pytorch_cifar": {"resnet18_cifar", "resnet34_cifar", "resnet50_cifar", "resnet152_cifar"},
    "preresnet": {"bearpaw's preresnet20"},
    "wide_resnet": {"wrn16_8", "wrn28_10", "wrn40_4", "xternalz's wrn16_1"},
    "resnext_pytorch": {"resnext29_8x64d", "resnext29_16x64d"},
    "native": set(NETS),
}

_shapes: dict[str, dict[str, tuple[int, ...]]] = {}


def shapes_of(name: str, spec: Spec) -> dict[str, tuple[int, ...]]:
    if name not in _shapes:
        with torch.device("meta"):
            state = ResNet(spec).state_dict()
        _shapes[name] = {key: tuple(tensor.shape) for key, tensor in state.items()}
    return _shapes[name]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_names_there_and_back(dialect):
    held = {name for name, spec in NETS.items() if not refusal(spec, dialect)}
    assert HELD[dialect.name] <= held
    for name in held.intersection(SHALLOW):
        there_and_back(dialect, name, NETS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETS if name not in SHALLOW])
def test_names_of_deep_nets(name):
    for dialect in DIALECTS:
        if not refusal(NETS[name], dialect):
            there_and_back(dialect, name, NETS[name])


def there_and_back(dialect: Dialect, name: str, spec: Spec) -> None:
    shapes = shapes_of(name, spec)
    names = write(shapes, dialect, spec)
    dropped = shapes.keys() - names.keys()
    assert all(key.endswith("num_batches_tracked") for key in dropped), (name, dropped)
    assert len(set(names.values())) == len(names), name  # no two of ours have one name there
    theirs = {k: shapes[ours] for ours, k in names.items()}
    for found in (understood(theirs), understood(theirs, dialect.name)):
        assert found.sources == names, (name, found.dialect)
        assert not found.unexpected, name
        # It is the written dialect, or an earlier one with the same names.
        assert DIALECTS.index(BY_NAME[found.dialect]) <= DIALECTS.index(dialect)
    # What the dialect proves is true of the net that was written.
    true = {field: value for field, value in traits(spec).items() if field in found.hints}
    assert true == {field: found.hints[field] for field in true}, name


def understood(shapes: dict[str, tuple[int, ...]], dialect: str | None = None) -> StateDict:
    """Return what is made of tensors of these names and shapes, in this order."""
    tensors = {key: torch.ones(()).expand(shape) for key, shape in shapes.items()}
    return translate(StateDict(tensors), dialect=dialect)


# Key lists as each library documents or saves them, written out without the tables.
BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
FROZEN = BN[:4]


def spelt(convolutions: list[str], norms: list[str], head: str, norm=BN) -> set[str]:
    return {
        *(f"{name}.weight" for name in convolutions),
        *(f"{name}.{part}" for name in norms for part in norm),
        *(f"{head}.{part}" for part in ("weight", "bias")),
    }


BASIC_18 = [(stage, block) for stage in range(4) for block in range(2)]
BOTTLENECK_50 = [(stage, block) for stage, n in enumerate((3, 4, 6, 3)) for block in range(n)]
CIFAR_20 = [(stage, block) for stage in range(3) for block in range(3)]


def detectron2_50():
    blocks = [f"res{s + 2}.{b}" for s, b in BOTTLENECK_50]
    convolutions = ["stem.conv1", *(f"{p}.conv{i}" for p in blocks for i in (1, 2, 3))]
    convolutions += [f"res{s}.0.shortcut" for s in (2, 3, 4, 5)]
    return spelt(convolutions, [f"{name}.norm" for name in convolutions], "linear", FROZEN)


def caffe2_50():
    names = [f"res{s + 2}_{b}_branch2{c}" for s, b in BOTTLENECK_50 for c in "abc"]
    names += [f"res{s}_0_branch1" for s in (2, 3, 4, 5)]
    return {
        *("conv1_w", "res_conv1_bn_s", "res_conv1_bn_b", "fc1000_w", "fc1000_b"),
        *(f"{name}{ending}" for name in names for ending in ("_w", "_bn_s", "_bn_b")),
    }


def caffe2_live_50():
    live = ("_bn_gamma", "_bn_beta", "_bn_running_mean", "_bn_running_var")
    ends = {"_bn_s": live[::2], "_bn_b": live[1::2]}
    return {
        key.removesuffix(end) + ending
        for key in caffe2_50()
        for end, endings in (ends | {"_w": ("_w",), "fc1000_b": ("fc1000_b",)}).items()
        if key.endswith(end)
        for ending in endings
    }


def mmlab_50d():
    blocks = [f"backbone.layer{s + 1}.{b}" for s, b in BOTTLENECK_50]
    first = "backbone.layer1.0.downsample"
    return spelt(
        [f"backbone.stem.{n}.conv" for n in (0, 1, 2)]
        + [f"{place}.conv{i}" for place in blocks for i in (1, 2, 3)]
        + [f"{first}.0", *(f"backbone.layer{s}.0.downsample.1" for s in (2, 3, 4))],
        [f"backbone.stem.{n}.bn" for n in (0, 1, 2)]
        + [f"{place}.bn{i}" for place in blocks for i in (1, 2, 3)]
        + [f"{first}.1", *(f"backbone.layer{s}.0.downsample.2" for s in (2, 3, 4))],
        "head.fc",
    )


def mmlab_18():
    blocks = [f"backbone.layer{s + 1}.{b}" for s, b in BASIC_18]
    return spelt(
        ["backbone.conv1", *(f"{place}.conv{i}" for place in blocks for i in (1, 2))]
        + [f"backbone.layer{s}.0.downsample.0" for s in (2, 3, 4)],
        ["backbone.bn1", *(f"{place}.bn{i}" for place in blocks for i in (1, 2))]
        + [f"backbone.layer{s}.0.downsample.1" for s in (2, 3, 4)],
        "head.fc",
    )


def huggingface_18():
    layers = [
        f"resnet.encoder.stages.{s}.layers.{b}.layer.{i}" for s, b in BASIC_18 for i in (0, 1)
    ]
    layers += [f"resnet.encoder.stages.{s}.layers.0.shortcut" for s in (1, 2, 3)]
    layers += ["resnet.embedder.embedder"]
    return spelt(
        [f"{layer}.convolution" for layer in layers],
        [f"{layer}.normalization" for layer in layers],
        "classifier.1",
    )


def pycls_50():
    blocks = [f"s{s + 1}.b{b + 1}" for s, b in BOTTLENECK_50]
    return spelt(
        ["stem.conv", *(f"{place}.f.{c}" for place in blocks for c in "abc")]
        + [f"s{s}.b1.proj" for s in (1, 2, 3, 4)],
        ["stem.bn", *(f"{place}.f.{c}_bn" for place in blocks for c in "abc")]
        + [f"s{s}.b1.bn" for s in (1, 2, 3, 4)],
        "head.fc",
    )


def timm_v2_18():
    blocks = [f"stages.{s}.blocks.{b}" for s, b in BASIC_18]
    return spelt(
        ["stem.conv", *(f"{place}.conv{i}" for place in blocks for i in (1, 2))]
        + [f"stages.{s}.blocks.0.downsample.conv" for s in (1, 2, 3)],
        ["norm", *(f"{place}.norm{i}" for place in blocks for i in (1, 2))],
        "head.fc",
    )


def akamaster_20():
    blocks = [f"layer{s + 1}.{b}" for s, b in CIFAR_20]
    return spelt(
        ["conv1", *(f"{place}.conv{i}" for place in blocks for i in (1, 2))],
        ["bn1", *(f"{place}.bn{i}" for place in blocks for i in (1, 2))],
        "linear",
    )


def pytorch_cifar_18():
    blocks = [f"layer{s + 1}.{b}" for s, b in BASIC_18]
    return spelt(
        ["conv1", *(f"{place}.conv{i}" for place in blocks for i in (1, 2))]
        + [f"layer{s}.0.shortcut.0" for s in (2, 3, 4)],
        ["bn1", *(f"{place}.bn{i}" for place in blocks for i in (1, 2))]
        + [f"layer{s}.0.shortcut.1" for s in (2, 3, 4)],
        "linear",
    )


def wide_resnet_16():
    blocks = [f"block{s}.layer.{b}" for s in (1, 2, 3) for b in (0, 1)]
    return spelt(
        ["conv1", *(f"{place}.conv{i}" for place in blocks for i in (1, 2))]
        + [f"block{s}.layer.0.convShortcut" for s in (1, 2, 3)],
        ["bn1", *(f"{place}.bn{i}" for place in blocks for i in (1, 2))],
        "fc",
    )


def resnext_29():
    places = [f"stage_{s}.stage_{s}_bottleneck_{b}" for s in (1, 2, 3) for b in (0, 1, 2)]
    first = [f"stage_{s}.stage_{s}_bottleneck_0.shortcut" for s in (1, 2, 3)]
    return spelt(
        ["conv_1_3x3", *(f"{place}.conv_{c}" for place in places for c in KINDS)]
        + [f"{place}.shortcut_conv" for place in first],
        ["bn_1", *(f"{place}.bn{c}" for place in places for c in ("_reduce", "", "_expand"))]
        + [f"{place}.shortcut_bn" for place in first],
        "classifier",
    )


KINDS = ("reduce", "conv", "expand")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def scales_and_shifts(name: str, spec: Spec) -> list[str]:
    statistics = ("running_mean", "running_var")
    return [key for key in shapes_of(name, spec) if not key.endswith(statistics)]


@pytest.mark.parametrize(
    ("dialect", "net", "expected"),
    [
        ("detectron2", "resnet50", detectron2_50),
        ("caffe2", "resnet50_v1", caffe2_50),
        ("caffe2_live", "resnet50_v1", caffe2_live_50),
        ("mmlab", "resnet18", mmlab_18),
        ("mmlab", "resnet50d", mmlab_50d),
        ("huggingface", "resnet18", huggingface_18),
        ("pycls", "resnet50", pycls_50),
        ("timm", "timm's resnet18_v2", timm_v2_18),
        ("akamaster", "akamaster's resnet20", akamaster_20),
        ("pytorch_cifar", "resnet18_cifar", pytorch_cifar_18),
        ("wide_resnet", "wrn16_8", wide_resnet_16),
        ("resnext_pytorch", "resnext29_8x64d", resnext_29),
    ],
)
def test_documented_names(dialect, net, expected):
    spec = NETS[net]
    keys = list(shapes_of(net, spec))
    if dialect == "caffe2":
        keys = scales_and_shifts(net, spec)
    assert set(write(keys, BY_NAME[dialect], spec).values()) == expected()
    names = write(keys, BY_NAME[dialect], spec)
    found = understood({theirs: shapes_of(net, spec)[ours] for ours, theirs in names.items()})
    assert found.dialect == dialect
    assert not found.unexpected


@pytest.mark.parametrize(
    ("dialect", "net", "theirs", "ours"),
    [
        ("detectron2", "resnet50", "res4.5.conv2.norm.running_var", "layer3.5.bn2.running_var"),
        ("caffe2", "resnet101_v1", "res4_22_branch2c_bn_s", "layer3.22.bn3.weight"),
        (
            *("huggingface", "resnet50"),
            "resnet.encoder.stages.2.layers.5.layer.0.convolution.weight",
            "layer3.5.conv1.weight",
        ),
        ("pycls", "resnet50", "s3.b6.f.b_bn.bias", "layer3.5.bn2.bias"),
    ],
)
def test_offsets_and_letters(dialect, net, theirs, ours):
    """Where counting starts elsewhere, one by one."""
    spec = get_spec(net)
    assert write([ours], BY_NAME[dialect], spec) == {ours: theirs}


def test_a_prefix_may_be_gone():
    """Such as `backbone.`, which somebody has taken off."""
    shapes = shapes_of("resnet50d", get_spec("resnet50d"))
    names = write(shapes, BY_NAME["mmlab"], get_spec("resnet50d"))
    bare = {theirs.removeprefix("backbone."): shapes[ours] for ours, theirs in names.items()}
    assert understood(bare).dialect == "mmlab"


def test_a_pooling_before_the_first_projection_tells_two_tables_apart():
    shapes = shapes_of("resnet50d", get_spec("resnet50d"))
    assert "layer1.0.downsample.1.weight" in shapes
    names = write(shapes, BY_NAME["mmdetection"], get_spec("resnet50d"))
    assert names["layer1.0.downsample.1.weight"] == "backbone.layer1.0.downsample.1.weight"
    found = understood({theirs: shapes[ours] for ours, theirs in names.items()})
    assert found.dialect == "mmdetection"


def test_names_of_no_dialect_prove_nothing():
    shapes = shapes_of("resnet50", get_spec("resnet50"))
    theirs = {key.replace("layer", "group"): shape for key, shape in shapes.items()}
    assert understood(theirs).hints == {}
    assert understood(shapes).hints == {"bottleneck_stride": "3x3"}
    with pytest.raises(CheckpointError, match='in the dialect "torchvision"'):
        understood(theirs, "torchvision")
    names = {key: key.replace("layer", "group") for key in shapes}
    assert recognise(names, theirs) == (None, names)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["blocks.0.attn.qkv.weight"],
        ["fc.weight", "fc.bias"],
        ["layer0.0.conv1.weight"],
        [f"layer1.{'9' * 5000}.conv1.weight"],
    ],
)
def test_other_networks_are_refused(keys):
    with pytest.raises(CheckpointError, match="no residual network"):
        understood(dict.fromkeys(keys, (4, 4, 3, 3)))


@pytest.mark.parametrize(
    ("dialect", "net", "reason"),
    [
        ("torchvision", "resnet20", "shortcut is A"),
        ("torchvision", "plain18", "shortcut is none"),
        ("torchvision", "resnet50_v1", "bottleneck_stride is 1x1"),
        ("torchvision", "keras_resnet20_v1", "conv_bias is all"),
        ("detectron2", "resnet50_v2", "activation_order is preactivation"),
        ("caffe2", "resnet50", "bottleneck_stride is 3x3"),
        ("huggingface", "resnext50_32x4d", "groups is 32"),
        ("huggingface", "resnet50_v1", "bottleneck_stride is 1x1"),
        ("timm", "resnet18_v2", "first_shortcut_input is activated"),
        ("akamaster", "resnet20", "zero_pad is end"),
        ("pytorch_cifar", "resnet20_b", "stages is 3"),
    ],
)
def test_refused_with_the_reason(dialect, net, reason):
    with pytest.raises(CheckpointError, match=reason) as caught:
        write([], BY_NAME[dialect], get_spec(net))
    assert net in caught.value.message
    assert "native" in caught.value.hint


def test_an_unknown_dialect():
    with pytest.raises(UsageError, match='"detectron"') as caught:
        understood({}, "detectron")
    assert "detectron2" in caught.value.hint
