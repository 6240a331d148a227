"""Encoders beside segmentation_models_pytorch 0.6's own ones, with the same weights.

Maps are equal to the bit. Where stages dilate they are so up to rounding: the library dilates 1x1
convolutions as well, which changes nothing but how they are computed.
"""

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders, get_encoder

from conftest import scramble
from resnets import create_model
from resnets.errors import UsageError
from resnets.integrations.segmentation_models import Encoder, register

NAMES = ("resnet18", "resnet34", "resnet50", "resnext50_32x4d")
MODELS = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3")
MODELS = (*MODELS, "DeepLabV3Plus", "UPerNet", "Segformer")


def exchange(theirs, ours):
    """Both in evaluation mode with the same weights, which are loaded both ways."""
    scramble(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs.eval(), ours.eval()


def assert_close(found, wanted):
    assert (found - wanted).abs().max() <= 1e-10 * wanted.abs().max()


@pytest.mark.parametrize("name", [*NAMES, "resnet101", "resnext101_32x8d"])
def test_encoders(name):
    x = torch.randn(1, 3, 64, 96)
    theirs, ours = exchange(get_encoder(name), get_encoder(register(name)))
    with torch.no_grad():
        expected, maps = theirs(x), ours(x)
    assert len(maps) == 6
    assert all(map(torch.equal, maps, expected))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("depth", [3, 5])
def test_depth_and_dilation(name, output_stride, depth):
    options = {"depth": depth, "output_stride": output_stride}
    theirs, ours = exchange(get_encoder(name, **options), get_encoder(register(name), **options))
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected, maps = theirs.double()(x), ours.double()(x)
    assert len(maps) == len(expected)
    for found, wanted in zip(maps, expected, strict=True):
        assert_close(found, wanted)
    assert ours.out_channels == theirs.out_channels
    assert ours.output_stride == theirs.output_stride


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_images(channels):
    theirs, ours = exchange(get_encoder("resnet18"), get_encoder(register("resnet18")))
    for encoder in (theirs, ours):
        encoder.set_in_channels(channels, pretrained=True)
    # Ours adds in double precision.
    assert torch.allclose(ours.conv1.weight, theirs.conv1.weight, rtol=0, atol=3e-8)
    assert ours.out_channels == theirs.out_channels


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    options = {"encoder_weights": None, "classes": 2}
    model = getattr(smp, name)
    theirs, ours = exchange(model("resnet34", **options), model(register("resnet34"), **options))
    x = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        assert_close(ours.double()(x), theirs.double()(x))


def test_what_only_we_have():
    source = create_model("resnet50d", num_classes=4)
    name = register("resnet50d", weights=source.state_dict(), name="mine")
    model = smp.DeepLabV3Plus(name, encoder_weights=None, in_channels=5)
    assert torch.equal(model.encoder.layer4[2].conv3.weight, source.layer4[2].conv3.weight)
    assert model(torch.randn(2, 5, 64, 64)).shape == (2, 1, 64, 64)


def test_freezing_and_saving(tmp_path):
    model = smp.Unet(register("resnet18"), encoder_weights=None)
    model.freeze_encoder()
    model.train()
    assert not model.encoder.bn1.training
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    model.unfreeze_encoder()
    model.train()
    assert model.encoder.bn1.training
    model.save_pretrained(tmp_path)
    again = smp.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in model.state_dict().items())


def test_names():
    """The library's own weights are offered for its own networks, and its encoders stay."""
    register("resnet50")
    theirs = encoders["resnet50"]["pretrained_settings"]
    assert encoders["resnets-resnet50"]["pretrained_settings"] == theirs
    register("resnet50", norm="group")
    assert encoders["resnets-resnet50"]["pretrained_settings"] == {}
    register("se_resnet50")  # the library's se_resnet50 has other keys
    assert encoders["resnets-se_resnet50"] == {
        "encoder": Encoder,
        "params": {"model": "se_resnet50", "weights": None},
        "pretrained_settings": {},
    }
    with pytest.raises(UsageError, match='the library has its own encoder "resnet50"'):
        register("resnet50", name="resnet50")
