"""Values there and back: layouts, folded statistics, channel order, biases, counters."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from resnets import ResNet, get_spec
from resnets.errors import CheckpointError, UsageError
from resnets.readers.content import Content
from resnets.spec import Spec
from resnets.weights.biases import fold_biases
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.containers import unwrap
from resnets.weights.dialects import CAFFE2_INPUT, DETECTRON2_INPUT, DIALECTS, IMAGENET_INPUT
from resnets.weights.naming import refusal
from resnets.weights.state_dict import StateDict
from resnets.weights.translate import to_dialect, translate

SMALL = {"depths": (1, 2), "num_classes": 7}
BASIC = Spec("small basic", **SMALL, widths=(16, 32), stem_width=16)
BOTTLENECK = Spec("small bottleneck", "bottleneck", **SMALL, widths=(16, 32), stem_width=16)
V1 = replace(BOTTLENECK, bottleneck_stride="1x1")
CIFAR = replace(BASIC, stem="3x3", depths=(1, 2, 1), widths=(16, 32, 64))
PRE = replace(BASIC, activation_order="preactivation")
NETS = {
    "basic": BASIC,
    "bottleneck": BOTTLENECK,
    "v1": V1,
    "grouped": replace(BOTTLENECK, groups=4, width_per_group=32),
    "deep, D": replace(BOTTLENECK, stem="deep", stem_width=32, shortcut="D"),
    "tiered": replace(BASIC, stem="deep_tiered", stem_width=32, shortcut="D"),
    "C": replace(BASIC, shortcut="C"),
    "se": replace(BOTTLENECK, attention="se"),
    "eca": replace(BASIC, attention="eca"),
    "cifar A": replace(CIFAR, shortcut="A", zero_pad="both"),
    "cifar B": CIFAR,
    "cifar, 4 stages": replace(CIFAR, depths=(1, 1, 1, 1), widths=(16, 16, 32, 32)),
    "cifar grouped": replace(
        CIFAR, block="bottleneck", groups=2, width_per_group=64, widths=(64, 64, 128)
    ),
    "timm v2": replace(PRE, first_shortcut_input="raw"),
    "timm v2 deep": replace(
        PRE, block="bottleneck", stem="deep", stem_width=32, shortcut="D", widths=(16, 32)
    ),
    "wide": replace(CIFAR, widths=(32, 64, 96), activation_order="preactivation"),
    "preresnet": replace(
        CIFAR,
        activation_order="preactivation",
        projection_input="raw",
        first_shortcut_input="raw",
    ),
    "ours": replace(PRE, gate="exclusive", stem_activation=True, conv_bias="all"),
}


def scrambled(spec: Spec) -> ResNet:
    """A network whose statistics and biases are not what they start as."""
    torch.manual_seed(0)
    model = ResNet(spec).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.2)
            module.num_batches_tracked.fill_(1000)
        elif getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def logits(model: ResNet, size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(2, model.spec.in_channels, size, size, generator=generator))


def loaded(spec: Spec, tensors: dict[str, torch.Tensor]) -> ResNet:
    model = ResNet(spec).eval()
    model.load_state_dict(tensors)
    return model


PAIRS = [(d.name, net) for d in DIALECTS for net, spec in NETS.items() if not refusal(spec, d)]


def test_every_dialect_and_every_net_is_tried():
    assert {dialect for dialect, _ in PAIRS} == {dialect.name for dialect in DIALECTS}
    assert {net for _, net in PAIRS} == set(NETS)


@pytest.mark.parametrize(("dialect", "net"), PAIRS)
def test_there_and_back(dialect, net):
    spec = NETS[net]
    model = scrambled(spec)
    theirs = to_dialect(model.state_dict(), spec, dialect)
    found = translate(StateDict(theirs))
    named = translate(StateDict(theirs), dialect=dialect)
    for back in (found, named):
        assert not back.unexpected
        again = to_dialect(back.tensors, spec, dialect)
        assert again.keys() == theirs.keys()
        assert all(torch.equal(again[key], theirs[key]) for key in theirs)  # bit for bit
    expected = logits(model)
    difference = (logits(loaded(spec, found.tensors)) - expected).abs().max()
    # Nothing is computed but Caffe2's statistics, folded into float32 scales and shifts.
    assert difference <= (1e-5 * expected.abs().max() if dialect == "caffe2" else 0)
    assert all(value.dtype in (torch.float32, torch.int64) for value in found.tensors.values())


@pytest.mark.parametrize(("dialect", "net"), PAIRS)
def test_out_of_a_container(dialect, net):
    """Prefixes that a dialect's own names begin with are left to it."""
    theirs = to_dialect(ResNet(NETS[net]).state_dict(), NETS[net], dialect)
    direct = translate(StateDict(theirs))
    saved = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in theirs.items()}}
    for tree in (theirs, saved):
        found = translate(unwrap(tree))
        assert found.tensors.keys() == direct.tensors.keys()
        assert (found.dialect, found.hints, found.unexpected) == (direct.dialect, direct.hints, ())


def test_caffe2_norms_scale_and_shift_exactly():
    """Statistics that are made up leave a norm's input as it is, whatever epsilon it adds."""
    for eps in (1e-5, 1e-3):
        spec = replace(V1, norm_eps=eps)
        theirs = to_dialect(scrambled(V1).state_dict(), V1, "caffe2")
        translation = translate(StateDict(theirs), norm_eps=eps)
        model = loaded(spec, translation.tensors)
        x = torch.randn(2, 16, 5, 5)
        shape = (1, -1, 1, 1)
        scaled = x * theirs["res_conv1_bn_s"].view(shape) + theirs["res_conv1_bn_b"].view(shape)
        torch.testing.assert_close(model.bn1(x), scaled, rtol=1e-6, atol=1e-6)
        assert "bn1.running_var" in translation.adapted
        assert "bn1.running_var" not in translation.sources


def test_blue_first_becomes_red_first():
    theirs = to_dialect(scrambled(V1).state_dict(), V1, "caffe2")
    translation = translate(StateDict(theirs))
    first = translation.tensors["conv1.weight"]
    assert torch.equal(first, theirs["conv1_w"][:, [2, 1, 0]])
    assert "conv1.weight" in translation.adapted
    # (pixel / 255 - mean) / std, red first, is what Caffe2 computes from 0..255, blue first.
    pixels = torch.tensor([10.0, 120.0, 250.0])
    assert translation.input == CAFFE2_INPUT
    mean, std = torch.tensor(CAFFE2_INPUT.mean), torch.tensor(CAFFE2_INPUT.std)
    theirs_blue_first = pixels.flip(0) - torch.tensor([102.9801, 115.9465, 122.7717])
    torch.testing.assert_close((pixels / 255 - mean) / std, theirs_blue_first.flip(0))


def test_the_caller_knows_what_pictures_a_net_saw():
    """torchvision's names do not prove it; a catalogue entry does."""
    state = StateDict(to_dialect(scrambled(BASIC).state_dict(), BASIC, "torchvision"))
    before, after = translate(state), translate(state, images=DETECTRON2_INPUT)
    assert after.input == DETECTRON2_INPUT
    assert torch.equal(after.tensors["conv1.weight"], before.tensors["conv1.weight"].flip(1))
    grey = replace(BASIC, in_channels=1)
    state = StateDict(to_dialect(scrambled(grey).state_dict(), grey, "torchvision"))
    translation = translate(state, images=DETECTRON2_INPUT)
    assert "conv1.weight" not in translation.adapted


def test_a_classifier_may_be_a_convolution():
    spec = NETS["timm v2"]
    theirs = to_dialect(ResNet(spec).state_dict(), spec, "timm")
    assert theirs["head.fc.weight"].shape == (7, 32, 1, 1)
    assert translate(StateDict(theirs)).tensors["fc.weight"].shape == (7, 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_stay_what_they_are(dtype):
    tensors = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in ResNet(BASIC).state_dict().items()
    }
    translation = translate(StateDict(tensors))
    assert all(translation.tensors[key].equal(value) for key, value in tensors.items())
    assert translation.tensors["conv1.weight"].dtype == dtype


def test_a_missing_counter_is_adapted():
    tensors = {k: v for k, v in ResNet(BASIC).state_dict().items() if "tracked" not in k}
    translation = translate(StateDict(tensors))
    assert translation.tensors.keys() == ResNet(BASIC).state_dict().keys()
    assert translation.adapted.keys() == translation.tensors.keys() - tensors.keys()


def content(**tree) -> Content:
    return Content(Path("R-50.pkl"), "pickle", tree)


@pytest.mark.parametrize(
    ("author", "stride", "pictures"),
    [("Caffe2", "1x1", CAFFE2_INPUT), ("torchvision", "3x3", IMAGENET_INPUT), (None, None, None)],
)
def test_a_detectron2_file_names_its_author(author, stride, pictures):
    theirs = to_dialect(scrambled(V1).state_dict(), V1, "detectron2")
    translation = translate(StateDict(theirs), content(__author__=author))
    assert translation.hints.get("bottleneck_stride") == stride
    assert translation.input == pictures
    assert ("conv1.weight" in translation.adapted) == (author == "Caffe2")


def test_hugging_face_says_where_it_strides_in_its_configuration():
    theirs = to_dialect(ResNet(BOTTLENECK).state_dict(), BOTTLENECK, "huggingface")
    assert translate(StateDict(theirs)).hints == {"bottleneck_stride": "3x3"}
    beside = Content(Path("x"), "safetensors", {}, config={"downsample_in_bottleneck": True})
    assert translate(StateDict(theirs), beside).hints == {"bottleneck_stride": "1x1"}


def test_torchvision_names_prove_nothing_where_statistics_are_folded_in():
    """Caffe's nets, stride on the 1x1, are passed on under these names too."""
    model = scrambled(BOTTLENECK)
    assert translate(StateDict(model.state_dict())).hints == {"bottleneck_stride": "3x3"}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1 - 1e-5)
    assert translate(StateDict(model.state_dict())).hints == {}


def test_group_norms_under_timm_names_are_refused():
    """BiT: the same keys and shapes, with convolutions that standardise their weights."""
    spec = NETS["timm v2"]
    theirs = to_dialect(ResNet(spec).state_dict(), spec, "timm")
    theirs = {k: v for k, v in theirs.items() if "running" not in k and "tracked" not in k}
    with pytest.raises(CheckpointError, match="standardise the"):
        translate(StateDict(theirs))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("conv1.weight", torch.zeros(16, 3, 7, 7, dtype=torch.int8), "int8 values"),
        ("bn1.num_batches_tracked", torch.zeros(0), "a counter of shape"),
    ],
)
def test_values_that_are_no_weights(tmp_path, key, value, message):
    tensors = ResNet(BASIC).state_dict() | {key: value}
    torch.save(tensors, tmp_path / "R-50.pth")
    with pytest.raises(CheckpointError, match=rf"R-50\.pth: {key}: {message}"):
        open_checkpoint(tmp_path / "R-50.pth")


def test_errors_say_where(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "R-50.pth")
    with pytest.raises(CheckpointError, match=r"R-50\.pth: its 1 tensors"):
        open_checkpoint(tmp_path / "R-50.pth")
    with pytest.raises(CheckpointError, match='dialect "detectron2"'):
        translate(StateDict(ResNet(BASIC).state_dict()), content(), "detectron2")
    with pytest.raises(UsageError, match="tensorflow"):
        translate(StateDict({}), content(), "tensorflow")
    with pytest.raises(CheckpointError, match="shortcut is A"):
        to_dialect({}, get_spec("resnet20"), "torchvision")


@pytest.mark.parametrize(
    "net", ["basic", "v1", "deep, D", "se", "C", "cifar B"], ids=lambda net: net
)
def test_biases_fold_into_the_following_norm(net):
    biased = replace(NETS[net], conv_bias="all")
    model = scrambled(biased)
    tensors, folded, impossible = fold_biases(model.state_dict(), NETS[net])
    assert impossible == {}
    assert set(folded) == model.state_dict().keys() - tensors.keys()
    plain = loaded(NETS[net], tensors)  # strict: no bias is left, none is missing
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "order", ["bn_after_addition", "relu_before_addition", "relu_only_preactivation"]
)
def test_biases_fold_in_other_orders(order):
    spec = replace(BASIC, activation_order=order, shortcut="A")
    model = scrambled(replace(spec, conv_bias="all"))
    tensors, _, impossible = fold_biases(model.state_dict(), spec)
    assert impossible == {}
    plain = loaded(spec, tensors)
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-5, atol=1e-5)


def test_biases_that_no_norm_follows_stay():
    model = scrambled(replace(PRE, conv_bias="all"))
    tensors, folded, impossible = fold_biases(model.state_dict(), PRE)
    assert set(impossible) == {
        *("conv1.bias", "layer2.0.downsample.0.bias"),
        *(f"layer{stage}.{block}.conv2.bias" for stage, block in ((1, 0), (2, 0), (2, 1))),
    }
    assert set(folded) == {
        f"layer{stage}.{block}.conv1.bias" for stage, block in ((1, 0), (2, 0), (2, 1))
    }
    kept = replace(PRE, conv_bias="without_norm")  # a net that has a place for them
    tensors, folded, impossible = fold_biases(model.state_dict(), kept)
    assert impossible == {}
    torch.testing.assert_close(logits(loaded(kept, tensors)), logits(model), rtol=1e-5, atol=1e-5)


def test_zero_biases_are_left_out_anywhere():
    model = ResNet(replace(PRE, conv_bias="all"))
    tensors, _, impossible = fold_biases(model.state_dict(), PRE)
    assert impossible == {}
    assert tensors.keys() == ResNet(PRE).state_dict().keys()
    group = replace(BASIC, norm="group")
    biased = scrambled(replace(group, conv_bias="all"))
    assert "has no running mean" in fold_biases(biased.state_dict(), group)[2]["conv1.bias"]
