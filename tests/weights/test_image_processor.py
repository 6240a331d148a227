"""Hugging Face's preprocessor_config.json beside a checkpoint becomes the preprocessing."""

import json

import pytest
import torch

from resnets import create_model, get_spec
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.dialects import IMAGENET_INPUT, Input
from resnets.weights.image_processor import read_processor
from resnets.weights.save import save_weights

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
RESNET = {  # as microsoft/resnet-50 has it
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": MEAN,
    "image_std": STD,
    "resample": 3,
    "size": 224,
}
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
}


def squash(side: int) -> dict:
    return {"resize": side, "size": side, "fit": "squash"}


@pytest.mark.parametrize(
    ("config", "images", "frame"),
    [
        (RESNET, IMAGENET_INPUT, {"resize": 256, "size": 224, "interpolation": "bicubic"}),
        (CLIP, Input((0.5,) * 3, (0.5,) * 3), {"resize": 256, "size": 224}),
        ({**CLIP, "do_center_crop": False, "size": {"height": 96, "width": 96}}, ..., squash(96)),
        ({**RESNET, "size": {"shortest_edge": 384}, "resample": 2}, ..., squash(384)),
        ({**CLIP, "do_normalize": False}, Input((0.0,) * 3, (1.0,) * 3), ...),
        ({**CLIP, "do_flip_channel_order": True}, Input((0.5,) * 3, (0.5,) * 3, bgr=True), ...),
        # (x - 127.5) / 127.5 of whole numbers is (x / 255 - 0.5) / 0.5
        (
            {**CLIP, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
            Input((0.5,) * 3, (0.5,) * 3),
            ...,
        ),
        ({**CLIP, "rescale_factor": 2 / 255}, Input((0.25,) * 3, (0.25,) * 3), ...),
        ({**CLIP, "do_resize": False}, ..., {}),
    ],
)
def test_what_it_says_is_the_preprocessing(config, images, frame):
    found, sizes, notes = read_processor(config)
    assert images is ... or found == images
    assert frame is ... or {"interpolation": "bilinear", **sizes} == (
        {"interpolation": "bilinear", **frame} if frame else {"interpolation": "bilinear"}
    )
    assert notes == ["its images are prepared as preprocessor_config.json says"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_mean": None}, "image_mean is None"),
        ({"image_mean": [0.5]}, "do not fit"),
        ({"image_std": [0.5, 0.0, 0.5]}, "do not fit"),
        ({"rescale_factor": "1/255"}, "rescale_factor is ['1/255']"),
        ({"rescale_factor": 1e400}, "rescale_factor is [inf]"),
        ({"size": {"shortest_edge": 10**9}}, "size is 1000000000"),
        ({"size": {"shortest_edge": True}}, "size is True"),
        ({"size": {"height": 224, "width": 256}}, "size is no square"),
        ({"size": {"height": 256, "width": 256}}, "crops what it has squashed"),
        ({"size": {"shortest_edge": 200}}, "crop of 224 is larger than its images of 200"),
        ({"size": 224}, "size 224 does not say what square is seen"),
        ({"do_center_crop": False}, "does not say what square is seen"),
        ({"crop_pct": 1.5, "size": 224}, "crop_pct is 1.5"),
        ({"resample": 0}, "resample 0 is not done here; taken as bilinear"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_file(changes, reason):
    _, _, notes = read_processor({**CLIP, **changes})
    assert len(notes) == 2
    assert notes[0].startswith("preprocessor_config.json: ")
    assert reason in notes[0]


@pytest.fixture
def folder(tmp_path):
    model = create_model("resnet18", num_classes=3).eval()
    save_weights(model, tmp_path / "hf", dialect="huggingface")
    return tmp_path / "hf"


def test_beside_the_weights_of_a_folder(folder):
    assert open_checkpoint(folder).preprocess is None
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(RESNET))
    checkpoint = open_checkpoint(folder)
    expected = Preprocess(3, 256, 224, tuple(MEAN), tuple(STD), "bicubic")
    assert checkpoint.preprocess == expected
    assert "its images are prepared as preprocessor_config.json says" in checkpoint.notes
    file.write_text("{")
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: not JSON"):
        open_checkpoint(folder)


def test_images_in_blue_green_red(folder):
    config = {**RESNET, "do_flip_channel_order": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    plain = open_checkpoint(folder / "model.safetensors").tensors["conv1.weight"]
    assert torch.equal(open_checkpoint(folder).tensors["conv1.weight"], plain.flip(1))


def test_constants_that_contradict_it_are_used_no_more_than_it(tmp_path):
    state = create_model(get_spec("resnet18"), num_classes=3).state_dict()
    beside = {"pixel_mean": MEAN, "pixel_std": STD}
    torch.save({"state_dict": state, **beside}, tmp_path / "pytorch_model.bin")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(RESNET))
    assert open_checkpoint(tmp_path).preprocess.resize == 256
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.preprocess is None
    note = "preprocessor_config.json contradicts the constants in the file: neither is used"
    assert note in checkpoint.notes
