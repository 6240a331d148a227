"""The catalogue is what torchvision 0.28, timm 1.0.31 and Keras 3.15.1 say of their weights."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

from resnets import ResNet, get_spec
from resnets.data.preprocess import Preprocess
from resnets.weights import catalog

sys.path.append(str(Path(__file__).parents[1] / "docs"))

TORCHVISION = catalog.entries("torchvision.*")
TIMM = catalog.entries("timm.*")
KERAS = catalog.entries("keras.*")


def timm_name(entry: catalog.Entry) -> str:
    """``resnet50.a1_in1k``: the repository that the entry's last file lies in."""
    return entry.files[-1].address.split("/")[4]


def picture(width: int = 403) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (300, width, 3), np.uint8)
    return Image.fromarray(pixels)


def pictures() -> list[Image.Image]:
    """Images whose middle lies on a pixel, and between two, in either direction."""
    wide = [picture(width) for width in (300, 301, 303, 305, 403, 1200)]
    return [*wide, *(image.transpose(Image.Transpose.TRANSPOSE) for image in wide)]


@pytest.mark.parametrize(
    ("resize", "size"),
    sorted({(entry.preprocess["resize"], entry.preprocess["size"]) for entry in catalog.entries()}),
)
def test_every_margin_is_cut_as_torchvision_cuts_it(resize, size):
    transform = torchvision.transforms.Compose(
        [torchvision.transforms.Resize(resize), torchvision.transforms.CenterCrop(size)]
    )
    preprocess = Preprocess(3, resize, size, (0.0,) * 3, (1.0,) * 3)
    for longer in range(resize, resize + 40):
        for side in ((resize, longer), (longer, resize), (2 * longer, 2 * resize + 1)):
            image = picture(403).resize(side)
            found = preprocess.squares(image)[0].transpose(1, 2, 0)
            assert np.array_equal(found, np.asarray(transform(image))), side


def prepared(entry: catalog.Entry, image: Image.Image) -> torch.Tensor:
    fields = {**entry.preprocess, "interpolation": entry.interpolation, "version": 2}
    return Preprocess.from_dict(fields)(image)


def test_the_file_is_what_the_script_writes():
    import make_catalog

    assert catalog.DATA.read_text(encoding="utf-8") == make_catalog.text()


@pytest.mark.parametrize("entry", TORCHVISION, ids=str)
def test_torchvision(entry):
    weights = torchvision.models.get_model_weights(entry.model)[entry.name.partition(".")[2]]
    assert entry.files[0].address == weights.url
    digits = torch.hub.HASH_REGEX.search(entry.files[0].name)[1]  # what check_hash compares
    assert entry.files[0].sha256.startswith(digits)
    assert list(entry.classes) == weights.meta["categories"]
    assert entry.accuracy["top1"] == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    for image in pictures():
        expected = weights.transforms()(image)[None]
        torch.testing.assert_close(prepared(entry, image), expected, rtol=0, atol=1e-5)


def test_no_weights_of_torchvision_are_missing():
    for name in torchvision.models.list_models(module=torchvision.models, include=["*resne*"]):
        for weights in torchvision.models.get_model_weights(name):
            assert catalog.find(name, f"torchvision.{weights.name}")


@pytest.mark.parametrize("entry", TIMM, ids=timm_name)
def test_timm(entry):
    config = timm.get_pretrained_cfg(timm_name(entry))
    if config.url:
        assert entry.files[0].address == config.url
        assert entry.files[0].sha256.startswith(torch.hub.HASH_REGEX.search(entry.files[0].name)[1])
    assert entry.licence.lower() == config.license
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    )
    resize, crop, _, normalise = transform.transforms
    assert resize.interpolation.value == entry.interpolation
    assert (resize.size, crop.size[0]) == (entry.preprocess["resize"], entry.preprocess["size"])
    np.testing.assert_allclose(normalise.mean, entry.preprocess["mean"])
    np.testing.assert_allclose(normalise.std, entry.preprocess["std"])
    for image in pictures():
        expected = transform(image)[None]
        torch.testing.assert_close(prepared(entry, image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("entry", TIMM, ids=timm_name)
def test_timms_nets_have_the_shapes_of_ours(entry):
    with torch.device("meta"):
        theirs = timm.create_model(timm_name(entry).partition(".")[0])
        ours = ResNet(get_spec(entry.model))
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("entry", KERAS, ids=str)
def test_keras(entry):
    from keras.src.applications import resnet, resnet_v2

    name = entry.files[0].name.removesuffix("_weights_tf_dim_ordering_tf_kernels.h5")
    assert entry.files[0].digest == f"md5:{resnet.WEIGHTS_HASHES[name][0]}"
    prepare = resnet_v2.preprocess_input if name.endswith("v2") else resnet.preprocess_input
    middle = picture().crop((8, 4, 232, 228))
    expected = prepare(np.asarray(middle, np.float32)[None], data_format="channels_last")
    if entry.channel_order == "bgr":
        expected = expected[..., ::-1]
    without_resize = replace(entry, preprocess={**entry.preprocess, "resize": 224})
    ours = prepared(without_resize, middle).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)
