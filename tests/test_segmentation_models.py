"""Encoders by themselves; `reference/test_segmentation_models.py` puts them into the library."""

import sys

import pytest
import torch

from resnets import create_backbone, create_model, save_weights
from resnets.data.preprocess import Preprocess
from resnets.errors import ResourceError, UsageError
from resnets.integrations.segmentation_models import Encoder, register

X = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
LEVELS = ("c1", "c2", "c3", "c4", "c5")


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_an_encoder_returns_the_image_and_the_backbones_maps(depth):
    backbone = create_backbone("resnet18", levels=LEVELS).eval()
    encoder = Encoder("resnet18", depth=depth).eval()
    encoder.load_state_dict(backbone.state_dict())
    maps = encoder(X)
    assert maps[0] is X
    assert len(maps) == depth + 1
    assert all(map(torch.equal, maps[1:], backbone(X).values()))
    assert encoder.out_channels == [x.shape[1] for x in maps]
    assert encoder.output_stride == 64 // maps[-1].shape[2]


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("model", ["resnet18", "resnet50d"])
def test_a_dilated_stage_dilates_from_its_first_block_on(model, output_stride):
    encoder = Encoder(model, output_stride=output_stride).eval()
    encoder.make_dilated(output_stride)  # which the library calls; nothing is left to do
    assert encoder.output_stride == output_stride
    assert encoder(X)[-1].shape[2:] == (64 // output_stride, 96 // output_stride)
    rate = 32 // output_stride
    first = encoder.layer4[0]
    dilated = first.conv1 if model == "resnet18" else first.conv2
    assert dilated.dilation == encoder.layer4[1].conv2.dilation == (rate, rate)
    with pytest.raises(UsageError, match="is built for output_stride"):
        encoder.make_dilated(32)


def test_weights_and_their_preprocessing(tmp_path):
    model = create_model("resnet18", num_classes=3)
    model.preprocess = Preprocess(3, 256, 224, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    save_weights(model, tmp_path / "mine.safetensors")
    encoder = Encoder("resnet18", weights=tmp_path / "mine.safetensors")
    assert torch.equal(encoder.conv1.weight, model.conv1.weight)
    assert encoder.preprocess == model.preprocess
    encoder.set_in_channels(4, pretrained=False)  # as the library asks without weights of its own
    assert encoder.preprocess.mean == (0.1, 0.2, 0.3, 0.1)
    expected = model.conv1.weight[:, [0, 1, 2, 0]] * 0.75
    assert torch.allclose(encoder.conv1.weight, expected)
    assert encoder.out_channels[0] == encoder(torch.randn(1, 4, 64, 64))[0].shape[1] == 4


def test_fresh_weights_of_other_images():
    encoder = Encoder("resnet50d")
    before = encoder.conv1[0].weight
    encoder.set_in_channels(1, pretrained=False)
    assert not torch.allclose(encoder.conv1[0].weight, before.sum(1, keepdim=True))
    assert encoder(torch.randn(1, 1, 64, 64))[-1].shape == (1, 2048, 2, 2)
    encoder.set_in_channels(1)
    assert encoder.conv1[0].in_channels == 1


def test_a_whole_networks_state_dict_loads_without_its_classifier():
    model = create_model("resnet18")
    state = model.state_dict()
    encoder = Encoder("resnet18")
    encoder.load_state_dict(state)
    assert "fc.weight" in state
    assert torch.equal(encoder.layer4[1].bn2.weight, model.layer4[1].bn2.weight)
    assert encoder.preprocess is None


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet20", {}, "resnet20 has maps at strides 1, 1, 2, 4"),
        ("resnet50", {"depth": 6}, "depth is 6"),
        ("resnet50", {"colour": 1}, 'unknown option "colour"'),
        ("resnet51", {}, "resnet51"),
    ],
)
def test_what_is_no_encoder(model, options, message):
    with pytest.raises(UsageError, match=message):
        Encoder(model, **options)


@pytest.mark.parametrize("option", ["in_channels", "output_stride"])
def test_what_the_model_is_asked_for_is_not_registered(option):
    with pytest.raises(UsageError, match=f"{option} is no choice of an encoder") as caught:
        register("resnet50", **{option: 8})
    assert option in caught.value.hint


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ResourceError, match="segmentation_models_pytorch is not installed"):
        register("resnet50")
