"""Constants of images beside a network's tensors: used where they are clear, else named."""

import pytest
import torch

from resnets.weights.dialects import (
    CAFFE2_INPUT,
    CAFFE2_RESNEXT_INPUT,
    DETECTRON2_INPUT,
    IMAGENET_INPUT,
    Input,
)
from resnets.weights.normalisation import stated_input

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def tensors(name: str, mean, std, *shape: int) -> dict[str, torch.Tensor]:
    """A mean and a deviation under a name such as ``normalizer.mean``."""
    values = {name: mean, name.replace("mean", "std"): std}
    return {key: torch.tensor(v).view(shape or (-1,)) for key, v in values.items()}


def of_255(values) -> tuple[float, ...]:
    return tuple(value * 255 for value in values)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1), (1, 1, 1, 3)])
@pytest.mark.parametrize(
    "name",
    [
        *("normalizer.mean", "normalizer.new_mean", "module.normalize.mean", "0.mean", "mean"),
        *("data_preprocessor.mean", "norm.mean", "pixel_mean", "model.pixel_mean", "net._mean"),
        *("MODEL.PIXEL_MEAN", "preprocess.mean", "img_mean", "image_means", "encoder.norm_mean"),
        *("input_transform/mean", "attacker.normalize.new_mean"),
    ],
)
def test_names_and_shapes(name, shape):
    if name.isupper():
        found = {
            "MODEL.PIXEL_MEAN": torch.tensor(CIFAR[0]),
            "MODEL.PIXEL_STD": torch.tensor(CIFAR[1]),
        }
    else:
        found = tensors(name, *CIFAR, *shape)
    found["conv1.weight"] = torch.zeros(64, 3, 7, 7)
    assert stated_input(found) == (Input(*CIFAR), [])


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (MEAN, STD, IMAGENET_INPUT),
        (of_255(MEAN), of_255(STD), IMAGENET_INPUT),
        (MEAN[::-1], STD[::-1], Input(MEAN, STD, bgr=True)),
        (MEAN, (1.0, 1.0, 1.0), Input(MEAN, (1.0, 1.0, 1.0))),
        ((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), DETECTRON2_INPUT),
        ((102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0), CAFFE2_INPUT),
        ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), CAFFE2_RESNEXT_INPUT),
        ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), Input((0.5,) * 3, (0.25,) * 3)),
        ((0.5,), (0.25,), Input((0.5,) * 3, (0.25,) * 3)),
        ((127.5,), (127.5,), Input((0.5,) * 3, (0.5,) * 3)),
        ((0.0,), (255.0,), Input((0.0,) * 3, (1.0,) * 3)),
        ((0.0, 0.0, 0.0), (0.2, 0.2, 0.2), Input((0.0,) * 3, (0.2,) * 3)),
        (
            (123, 117, 104),
            (58, 57, 57),
            Input((123 / 255, 117 / 255, 104 / 255), (58 / 255, 57 / 255, 57 / 255)),
        ),
    ],
)
def test_scale_and_order(mean, std, expected):
    """Of 0..1 or 0..255 by size; red or blue first by what widely used sets have."""
    found, notes = stated_input(tensors("normalizer.mean", mean, std))
    assert notes == []
    assert found.bgr == expected.bgr
    assert found.mean == pytest.approx(expected.mean, rel=1e-6)
    assert found.std == pytest.approx(expected.std, rel=1e-6)


def test_numbers_are_as_they_were_written():
    assert stated_input(tensors("normalizer.mean", *CIFAR))[0] == Input(*CIFAR)
    values = {
        "norm.mean": torch.tensor(CIFAR[0]).double(),
        "norm.std": torch.tensor(CIFAR[1]).half(),
    }
    found, _ = stated_input(values)
    assert found.mean == tuple(values["norm.mean"].tolist())
    assert found.std == pytest.approx(CIFAR[1], abs=1e-4)


OWN = (0.31, 0.38, 0.41), (0.20, 0.21, 0.22)


def test_an_order_that_nothing_shows():
    found, (note,) = stated_input(tensors("normalizer.mean", *OWN))
    assert found == Input(*OWN)
    assert note == (
        "normalizer.mean and normalizer.std: nothing says whether red or blue comes first; "
        "taken as red first"
    )
    found, (note,) = stated_input(tensors("pixel_mean", *map(of_255, OWN)))
    assert found is None
    assert note == (
        "pixel_mean and pixel_std: not used, as nothing says whether red or blue comes first; if "
        'it is red: --preprocess "mean=0.31,0.38,0.41 std=0.2,0.21,0.22"'
    )


def test_an_order_that_the_name_tells():
    assert stated_input(tensors("rgb_mean", *OWN)) == (Input(*OWN), [])
    reversed_own = OWN[0][::-1], OWN[1][::-1]
    assert stated_input(tensors("bgr_mean", *OWN)) == (Input(*reversed_own, bgr=True), [])


@pytest.mark.parametrize(
    ("mean", "std", "reason"),
    [
        (of_255(MEAN), STD, "a mean of pixels in 0..255 and a deviation of some in 0..1"),
        (MEAN, of_255(STD), "a mean of pixels in 0..1 and a deviation of some in 0..255"),
        ((-0.1, 0.0, 0.1), STD, "neither in 0..1 nor in 0..255"),
        (of_255(of_255(MEAN)), STD, "neither in 0..1 nor in 0..255"),
        (MEAN, (0.2, 0.0, 0.2), "no images are divided by these"),
        (MEAN, (0.2, float("nan"), 0.2), "no images are divided by these"),
        ((float("inf"),), (1.0,), "no images are divided by these"),
        ((0.0,), (1.0,), "they do not say where pixels are"),
    ],
)
def test_constants_that_cannot_be_meant(mean, std, reason):
    found, (note,) = stated_input(tensors("normalizer.mean", mean, std))
    assert found is None
    assert note.startswith("normalizer.mean and normalizer.std: not used: ")
    assert reason in note


def test_other_numbers_of_channels():
    grey = tensors("normalizer.mean", (0.1307,), (0.3081,), 1, 1, 1)
    assert stated_input(grey, 1) == (Input((0.1307,), (0.3081,)), [])
    five = tensors("normalizer.mean", (10.0, 20.0, 30.0, 40.0, 50.0), (5.0,) * 5)
    found, notes = stated_input(five, 5)
    assert found.mean == pytest.approx([n / 255 for n in (10, 20, 30, 40, 50)])
    assert notes == []
    found, (note,) = stated_input(five)
    assert found is None
    assert note.startswith("normalizer.mean: not used, as it and normalizer.std are of the shapes")


def test_what_lacks_its_other_half():
    found, (note,) = stated_input({"normalizer.mean": torch.tensor(MEAN)})
    assert found is None
    assert note == "normalizer.mean: not used, as there is no normalizer.std beside it"
    image = {"mean": torch.rand(3, 32, 32), "std": torch.tensor(STD)}
    found, (note,) = stated_input(image)
    assert found is None
    assert "(3, 32, 32)" in note


@pytest.mark.parametrize(
    "name", ["target_normalizer.mean", "box_coder.mean", "head.mean", "text_norm.mean"]
)
def test_constants_of_something_else(name):
    found, (note,) = stated_input(tensors(name, *OWN))
    assert found is None
    assert note.endswith("not used, as nothing says that they are of its images")
    _, (again,) = stated_input(tensors(name, (-5.0, 3.0, 900.0), (2.0,) * 3))
    assert again == note
    # ImageNet's can be of nothing else.
    assert stated_input(tensors(name, MEAN, STD))[0] == IMAGENET_INPUT


@pytest.mark.parametrize(
    "keys",
    [
        ("bn1.running_mean", "bn1.running_var"),
        ("renorm.running_mean", "renorm.running_std"),
        ("norm.mean", "norm.var"),
        ("batch_stats/bn_init/mean", "batch_stats/bn_init/var"),
        ("norm.mean_weight", "norm.std_weight"),
    ],
)
def test_norms_are_no_constants(keys):
    assert stated_input({key: torch.rand(3) for key in keys}) == (None, [])


def test_several():
    same = tensors("student.normalizer.mean", *CIFAR) | tensors("teacher.normalizer.mean", *CIFAR)
    assert stated_input(same) == (Input(*CIFAR), [])
    found, (note,) = stated_input(
        tensors("a.normalizer.mean", *CIFAR) | tensors("b.normalizer.mean", MEAN, STD)
    )
    assert found is None
    assert "a.normalizer.mean and a.normalizer.std; b.normalizer.mean" in note


def test_numbers_in_settings():
    """Of a Lightning checkpoint, an argparse namespace, timm's config."""
    tree = {
        "state_dict": {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        "hyper_parameters": {"mean": list(CIFAR[0]), "std": list(CIFAR[1]), "lr": 0.1},
        "epoch": 3,
        "optimizer": {"state": {0: {"momentum": torch.zeros(3)}}},
    }
    assert stated_input(tree) == (Input(*CIFAR), [])
    assert stated_input({"pretrained_cfg": {"mean": MEAN, "std": STD}})[0] == IMAGENET_INPUT
    assert stated_input({"args": {"mean": 0.5, "std": 0.5}})[0] == Input((0.5,) * 3, (0.5,) * 3)
    texts = {"mean": str(list(MEAN)), "std": "[0.229, 0.224, 0.225]"}  # of safetensors' metadata
    assert stated_input(texts)[0] == IMAGENET_INPUT
    assert stated_input({"args": {"mean": 10**400, "std": 10**400}}) == (None, [])
    assert stated_input({"args": {"mean": True, "std": True}}) == (None, [])
    assert stated_input({"args": {"mean": "imagenet", "std": None}}) == (None, [])


@pytest.mark.parametrize("value", [torch.empty(3, device="meta"), torch.zeros(3).cfloat()])
def test_values_that_are_no_numbers(value):
    found, _ = stated_input({"normalizer.mean": value, "normalizer.std": value})
    assert found is None
