"""Weights go from torchvision and timm to our nets and back, and everyone agrees with everyone."""

from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from torch import nn

from conftest import scramble
from resnets import ResNet, get_spec
from resnets.errors import CheckpointError
from resnets.weights.containers import unwrap
from resnets.weights.dialects import DIALECTS
from resnets.weights.infer import looks_like
from resnets.weights.naming import refusal
from resnets.weights.state_dict import StateDict
from resnets.weights.translate import to_dialect, translate

TORCHVISION = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
    *("resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
]
# timm's name -> ours
TIMM = {
    **{name: name for name in ("resnet18", "resnet50c", "resnet50d", "resnet50s", "resnet50t")},
    **{name: name for name in ("resnet18d", "resnet34d", "resnet101d", "resnext50_32x4d")},
    **{f"seresnet{depth}": f"se_resnet{depth}" for depth in (18, 34, 50, 101)},
    "seresnext50_32x4d": "se_resnext50_32x4d",
    "ecaresnet50d": "eca_resnet50d",
    "ecaresnet101d": "eca_resnet101d",
}
TIMM_V2 = {f"resnetv2_{depth}": f"resnet{depth}_v2" for depth in (18, 34, 50, 101, 152)}
TIMM_V2_DEEP = {"resnetv2_50d": {"stem": "deep"}, "resnetv2_50t": {"stem": "deep_tiered"}}


def spec_of(name: str):
    """The spec of a timm ResNetV2, whose first basic block adds the raw stem."""
    if name in TIMM_V2_DEEP:
        return replace(get_spec("resnet50_v2"), shortcut="D", **TIMM_V2_DEEP[name])
    spec = get_spec(TIMM_V2[name])
    return replace(spec, first_shortcut_input="raw") if spec.block == "basic" else spec


def logits(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 97, 64, generator=generator)
    with torch.no_grad():
        return model.eval()(x)


def assert_agrees(model: nn.Module, expected: torch.Tensor) -> None:
    assert (logits(model) - expected).abs().max() <= 1e-5 * expected.abs().max()


def assert_there_and_back(theirs: nn.Module, fresh: nn.Module, spec, dialect: str) -> None:
    """Their weights in our net, and from there, written as theirs, in a fresh one of theirs."""
    expected = logits(theirs)
    translation = translate(StateDict(theirs.state_dict()))
    assert translation.dialect == dialect
    assert not translation.unexpected
    guess = looks_like(translation.tensors, translation.hints)
    assert spec in (guess.spec, replace(guess.spec, bottleneck_stride="3x3"))
    ours = ResNet(spec)
    ours.load_state_dict(translation.tensors)
    assert_agrees(ours, expected)
    written = to_dialect(ours.state_dict(), spec, dialect)
    state = theirs.state_dict()
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    fresh.load_state_dict(written, strict=True)
    assert_agrees(fresh, expected)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    get = torchvision.models.get_model
    assert_there_and_back(scramble(get(name)), get(name), get_spec(name), "torchvision")


@pytest.mark.parametrize(("name", "ours"), TIMM.items())
def test_timm(name, ours):
    theirs, fresh = scramble(timm.create_model(name)), timm.create_model(name)
    assert_there_and_back(theirs, fresh, get_spec(ours), "torchvision")


@pytest.mark.parametrize("name", [*TIMM_V2, *TIMM_V2_DEEP])
def test_timm_preactivation(name):
    theirs, fresh = scramble(timm.create_model(name)), timm.create_model(name)
    assert_there_and_back(theirs, fresh, spec_of(name), "timm")


@pytest.mark.parametrize(
    "dialect", [d for d in DIALECTS if not refusal(get_spec("resnet50"), d)], ids=lambda d: d.name
)
def test_torchvision_through_every_dialect(dialect):
    """resnet50 out of torchvision, through a dialect, and back into torchvision."""
    theirs, spec = scramble(torchvision.models.resnet50()), get_spec("resnet50")
    ours = translate(StateDict(theirs.state_dict())).tensors
    through = translate(StateDict(to_dialect(ours, spec, dialect.name))).tensors
    back = torchvision.models.resnet50()
    back.load_state_dict(to_dialect(through, spec, "torchvision"), strict=True)
    assert_agrees(back, logits(theirs))


def test_a_detection_backbone():
    """torchvision's detectors hold frozen norms without counters under `backbone.body.`."""
    build = torchvision.models.detection.backbone_utils.resnet_fpn_backbone
    detector = nn.Module()
    detector.backbone = build(backbone_name="resnet50", weights=None)
    for name, buffer in detector.backbone.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif name.endswith(("running_var", "weight")):
            buffer.uniform_(0.5, 1)
    translation = translate(unwrap(detector.state_dict()))
    tensors = translation.tensors
    assert not [key for key in tensors if key.startswith("fc.")]
    counters = {key for key in tensors if key.endswith("num_batches_tracked")}
    assert counters
    assert counters == translation.adapted.keys()
    ours = ResNet(get_spec("resnet50")).eval()
    missing, unexpected = ours.load_state_dict(tensors, strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        *_, expected = detector.backbone.body.eval()(x).values()
        assert (ours.forward_features(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_segmentation_backbone():
    segmenter = scramble(
        torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None)
    )
    translation = translate(unwrap(segmenter.state_dict()))
    ours = ResNet(replace(get_spec("resnet50"), output_stride=8)).eval()
    missing, unexpected = ours.load_state_dict(translation.tensors, strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = segmenter.backbone.eval()(x)["out"]
        assert (ours.forward_features(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_group_norms_of_timm():
    """BiT standardises its convolutions' weights: refused, rather than computed wrongly."""
    theirs = timm.create_model("resnetv2_50x1_bit")
    with pytest.raises(CheckpointError, match="standardise the weights"):
        translate(StateDict(theirs.state_dict()))
