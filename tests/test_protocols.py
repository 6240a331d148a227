"""Crops, scales and mirror images: as slow loops over Pillow's and torch's functions have them."""

import copy
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import resnets as package
from conftest import scramble
from exported import export
from resnets import create_model, evaluate, get_spec, open_model, save_weights
from resnets.data import open_dataset
from resnets.data.preprocess import Preprocess
from resnets.data.samples import as_images
from resnets.errors import ResourceError, UsageError
from resnets.evaluation.averaged import Averaged, averaged
from resnets.evaluation.protocols import PROTOCOLS, Protocol, asked
from resnets.inference.runtimes import open_runtime
from resnets.inference.runtimes.torch_runtime import Network
from resnets.weights.calibration import Calibration
from resnets.weights.outputs import probabilities

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SMALL = {"depths": (1, 1, 1, 1), "widths": (4, 4, 8, 8), "stem_width": 4}


def network(name: str = "resnet18", size: int = 64, resize: int = 72, **changes):
    """A narrow network with random weights, and what prepares its images."""
    torch.manual_seed(0)
    changes = {"num_classes": 7, "in_channels": 3, "image_size": size} | changes
    if len(get_spec(name).widths) == 4:
        changes = SMALL | changes
    model = scramble(create_model(replace(get_spec(name), **changes))).eval()
    channels = changes["in_channels"]
    model.preprocess = Preprocess(channels, resize, size, MEAN[:channels], STD[:channels])
    model.outputs = "softmax"
    with torch.no_grad():  # so that it does not answer one class to everything
        logits = model(model.preprocess(photographs(channels)))
        model.fc.weight.div_(logits.std(0).mean())
        model.fc.bias.sub_(logits.mean(0)).div_(logits.std(0).mean())
    return model


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth noise in colours, as a photograph more or less is."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def photographs(channels: int = 3) -> list[Image.Image]:
    sizes = [(90, 120), (131, 80), (75, 75), (90, 120)]
    found = [photograph(*size, seed) for seed, size in enumerate(sizes)]
    return [image.convert("L") for image in found] if channels == 1 else found


PHOTOS = photographs()


# The slow way, in double precision.


def shorter(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    size = (
        (side, int(side * height / width))
        if width <= height
        else (int(side * width / height), side)
    )
    return image.resize(size, Image.Resampling.BILINEAR)


def centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (round((n - side) / 2) for n in image.size)
    return image.crop((left, top, left + side, top + side))


def squashed(image: Image.Image, side: int) -> Image.Image:
    rows = image.resize((side, image.height), Image.Resampling.BILINEAR)  # first, as data sets do
    return rows.resize((side, side), Image.Resampling.BILINEAR)


def tensor(image: Image.Image, model) -> torch.Tensor:
    values = torch.from_numpy(np.array(image)).double() / 255
    values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    mean, std = (
        torch.tensor(v).double()[:, None, None]
        for v in (model.preprocess.channel_mean, model.preprocess.std)
    )
    return ((values - mean) / std)[None]


def mean_probabilities(model, views: list[Image.Image]) -> np.ndarray:
    double = copy.deepcopy(model).double()
    logits = double(torch.cat([tensor(view, model) for view in views]))
    return answer(logits, model).mean(0).detach().numpy()


def answer(logits: torch.Tensor, model) -> torch.Tensor:
    return logits.sigmoid() if model.outputs == "sigmoid" else logits.softmax(1)


def ours(model, protocol: Protocol, images, dtype=torch.float64) -> np.ndarray:
    """In double precision too: what a network rounds is not the protocol's."""
    runtime = Averaged(Network(copy.deepcopy(model).to(dtype)), protocol)
    logits = runtime.logits(np.concatenate([runtime.prepare(image) for image in images]))
    return probabilities(logits, runtime.outputs)


def five(image: Image.Image, side: int) -> list[Image.Image]:
    right, down = image.width - side, image.height - side
    boxes = [(0, 0), (right, 0), (0, down), (right, down)]
    corners = [image.crop((x, y, x + side, y + side)) for x, y in boxes]
    return [*corners, centre(image, side)]


def ten(image: Image.Image, side: int) -> list[Image.Image]:
    return [*five(image, side), *five(ImageOps.mirror(image), side)]


def mirrored(views: list[Image.Image]) -> list[Image.Image]:
    return [*views, *map(ImageOps.mirror, views)]


SINGLE = {
    "own": (Protocol(), lambda i: [centre(shorter(i, 72), 64)]),
    "size": (asked(size=96), lambda i: [centre(shorter(i, 108), 96)]),
    "crop fraction": (asked(size=95, crop_fraction=0.95), lambda i: [centre(shorter(i, 100), 95)]),
    "resize": (asked(resize=64), lambda i: [centre(shorter(i, 64), 64)]),
    "tta": (asked(tta=True), lambda i: mirrored([centre(shorter(i, 72), 64)])),
    "keras": (asked("keras"), lambda i: [squashed(i, 64)]),
    "timm": (asked("timm-0.875"), lambda i: [centre(shorter(i, 73), 64)]),
    "ten crops": (asked(crops=10), lambda i: ten(centre(shorter(i, 72), 72), 64)),
    "ten of another": (
        asked("he2015-ten-crops", size=56, resize=64),
        lambda i: ten(centre(shorter(i, 64), 64), 56),
    ),
    "ten of the whole": (
        asked("fb-ten-crops", size=56, resize=64),
        lambda i: ten(shorter(i, 64), 56),
    ),
    "ten at each scale": (
        asked(crops=10, scales=(64, 72, 96)),
        lambda i: [v for side in (64, 72, 96) for v in ten(centre(shorter(i, side), side), 64)],
    ),
    "ten of the whole at each scale": (
        asked("fb-ten-crops", size=56, scales=(64, 80)),
        lambda i: [v for side in (64, 80) for v in ten(shorter(i, side), 56)],
    ),
}


@pytest.mark.parametrize("case", SINGLE)
def test_crops_are_those_of_slow_loops(case):
    protocol, views = SINGLE[case]
    model = network()
    expected = np.stack([mean_probabilities(model, views(image)) for image in PHOTOS])
    found = ours(model, protocol, PHOTOS)
    assert np.ptp(expected, axis=0).max() > 1e-3  # images are told apart
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def slid(model, image: Image.Image, side: int, window: int) -> torch.Tensor:
    """The classifier at each place of the map, and the mean of what it says there."""
    double = copy.deepcopy(model).double()
    features = double.forward_features(tensor(shorter(image, side), model))
    _, _, height, width = features.shape
    scores = [
        double.fc(features[:, :, y : y + window, x : x + window].mean((2, 3)))
        for y in range(height - window + 1)
        for x in range(width - window + 1)
    ]
    assert len(scores) > 1 or side == model.preprocess.size
    return torch.stack(scores).mean(0)


@pytest.mark.parametrize(
    ("name", "size", "scales", "window", "tta", "changes"),
    [
        ("resnet18", 64, (64, 96, 128), 2, True, {}),
        ("resnet18_v2", 64, (70, 128), 2, False, {}),
        ("resnet50d", 64, (96,), 2, False, {"attention": "se"}),
        ("resnet18", 64, (96,), 4, False, {"output_stride": 16}),
        ("keras_applications_resnet50_v2", 70, (70, 100), 3, False, {}),
        ("resnet8", 16, (16, 24, 31), 4, True, {}),
    ],
)
def test_scales_are_the_classifier_slid_over_the_map(name, size, scales, window, tta, changes):
    model = network(name, size, size, **changes)
    expected = []
    for image in PHOTOS:
        views = [image, ImageOps.mirror(image)] if tta else [image]
        rows = [answer(slid(model, v, s, window), model) for s in scales for v in views]
        expected.append(torch.cat(rows).mean(0).detach().numpy())
    found = ours(model, asked(scales=scales, tta=tta), PHOTOS)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6, rtol=0)


def test_single_precision_is_as_near():
    model = network()
    with torch.no_grad():  # as weights begin: rounding is not made larger
        model.fc.weight.normal_(0, 0.1)
    for name in ("own", "ten crops"):
        protocol, views = SINGLE[name]
        expected = np.stack([mean_probabilities(model, views(image)) for image in PHOTOS])
        found = ours(model, protocol, PHOTOS, torch.float32)
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("protocol", "views"),
    [
        (asked(crops=10), lambda i: ten(centre(shorter(i, 72), 72), 64)),
        (asked(size=80, tta=True), lambda i: mirrored([centre(shorter(i, 90), 80)])),
    ],
)
@pytest.mark.parametrize("changes", [{"in_channels": 1}, {"num_classes": 1}, {"num_classes": 4}])
def test_probabilities_are_averaged_whatever_outputs_mean(protocol, views, changes):
    model = network(**changes)
    model.outputs = "softmax" if "in_channels" in changes else "sigmoid"
    images = photographs(changes.get("in_channels", 3))
    expected = np.stack([mean_probabilities(model, views(image)) for image in images])
    found = ours(model, protocol, images)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_calibrated_probabilities_are_averaged():
    model = network()
    model.calibration = Calibration(100, scale=(0.5,) * 7, bias=(0.3, -0.1, 0, 0, 0.2, 0, -0.5))
    one, many = asked(resize=70), asked(resize=70, tta=True)
    runtimes = [Averaged(Network(copy.deepcopy(model).double()), each) for each in (one, many)]
    images = [*PHOTOS, *map(ImageOps.mirror, PHOTOS)]  # 70 - 64 is even: the middle is one
    single, double = (
        runtime.probabilities(runtime.logits(np.concatenate([runtime.prepare(i) for i in images])))
        for runtime in runtimes
    )
    mean = (single[: len(PHOTOS)] + single[len(PHOTOS) :]) / 2
    np.testing.assert_allclose(double[: len(PHOTOS)], mean, atol=1e-6)
    model.calibration = None
    assert np.abs(ours(model, many, PHOTOS) - mean).max() > 1e-2


def test_certain_answers_stay_numbers():
    """Probabilities that round to 0 and 1 have logits that are neither infinite nor alike."""
    logits = np.array([[[80.0, -80.0], [40.0, -90.0]]], np.float32)
    for outputs in ("softmax", "sigmoid"):
        found = averaged(logits, outputs)
        assert np.isfinite(found).all()
        assert found[0, 0] > found[0, 1]
    # (1 - p of 40 and of 80) / 2, and p of -80 and of -90
    expected = [40 + np.log(2), -80 - np.log(2)]
    np.testing.assert_allclose(averaged(logits, "sigmoid")[0], expected, atol=1e-4)


def test_a_mean_image_is_the_crops_own_and_a_colour_for_other_sizes():
    model = network(size=64, resize=64)
    image = np.random.default_rng(0).uniform(0.3, 0.6, 3 * 64 * 64)
    model.preprocess = replace(model.preprocess, mean=tuple(image.tolist()))
    runtime = Averaged(Network(model), asked(crops=10))
    assert runtime.protocol.resize == 73
    assert runtime.notes == []
    (views,) = runtime.prepare(PHOTOS[0])[0]
    for view, crop in zip(views, ten(centre(shorter(PHOTOS[0], 73), 73), 64), strict=True):
        own = model.preprocess(crop)[0].numpy()
        assert min(np.abs(own - each).max() for each in views) == 0, view.shape
    other = Averaged(Network(model), asked(size=80))
    assert "mean colour" in other.notes[0]
    ((found,),) = other.prepare(PHOTOS[0])[0]
    expected = tensor(centre(shorter(PHOTOS[0], 80), 80), model)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("form", ["normalized", "pixels"])
@pytest.mark.parametrize("kind", ["onnx", "xml", "pt2"])
def test_exported_files_are_shown_crops_of_their_size(kind, form, tmp_path):
    model = network()
    pytest.importorskip({"onnx": "onnxruntime", "xml": "openvino", "pt2": "torch"}[kind])
    path = export(model, tmp_path / f"model.{kind}", input=form)
    runtime = open_runtime(path)
    for protocol in (asked(crops=10, scales=(72, 96)), asked(resize=80, tta=True)):
        shown = Averaged(runtime, protocol)
        found = shown.logits(np.concatenate([shown.prepare(image) for image in PHOTOS]))
        expected = ours(model, protocol, PHOTOS)
        np.testing.assert_allclose(probabilities(found, "softmax"), expected, atol=1e-4)
        assert shown.digest() != runtime.digest()
    with pytest.raises(UsageError, match="takes images of 64 x 64, the protocol's are 80 x 80"):
        Averaged(runtime, asked(size=80))
    with pytest.raises(UsageError, match="has no classifier that can be slid"):
        Averaged(runtime, asked(scales=(64, 80)))


def test_a_file_that_prepares_images_has_its_own_protocol(tmp_path):
    pytest.importorskip("onnxruntime")
    runtime = open_runtime(export(network(), tmp_path / "model.onnx", input="pictures"))
    with pytest.raises(UsageError, match="prepares images itself"):
        Averaged(runtime, asked(tta=True))


def test_an_exported_file_of_any_size_is_shown_any(tmp_path):
    pytest.importorskip("onnxruntime")
    model = network(num_classes=2)
    path = package.export(model, tmp_path / "any.onnx", to="onnx", size="dynamic").path
    for protocol in (asked(size=96, crops=10), asked("keras", size=80)):
        shown = Averaged(open_runtime(path), protocol)
        found = shown.logits(np.concatenate([shown.prepare(image) for image in PHOTOS]))
        expected = ours(model, protocol, PHOTOS)
        np.testing.assert_allclose(probabilities(found, "softmax"), expected, atol=1e-4)


def test_too_large_images_end_in_one_line():
    endless = np.lib.stride_tricks.as_strided(
        np.zeros(1, np.float32), (1, 3, 10**6, 10**6), [0] * 4
    )
    with pytest.raises(ResourceError, match="memory for images 1 x 3 x 1000000 x 1000000"):
        Network(network()).logits(endless)


def test_only_a_head_of_averages_is_slid():
    model = network()
    model.avgpool = torch.nn.AdaptiveMaxPool2d(1)
    with pytest.raises(UsageError, match="AdaptiveMaxPool2d and Linear cannot be slid"):
        Averaged(Network(model), asked(scales=(64,)))
    assert Averaged(Network(model), asked(crops=10)).views == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crops": 5}, "5 crops"),
        ({"crops": 10, "tta": True}, "mirror images already"),
        ({"scales": (64, 96), "crop_fraction": 0.9}, "scales and resize or crop_fraction at once"),
        ({"scales": (64, 96), "resize": 80, "crops": 10}, "scales and resize"),
        ({"scales": (48, 96), "crops": 10}, "a scale of 48 is less than the 64 x 64"),
        ({"resize": 80, "crop_fraction": 0.9}, "resize and crop_fraction at once"),
        ({"crop_fraction": 1.5}, "a crop fraction of 1.5"),
        ({"size": -3}, "-3 is no size"),
        ({"size": 10**6}, "1000000 is no size"),
        ({"size": 0}, "0 is no size"),
        ({"resize": 0}, "0 is no size"),
        ({"crop_fraction": 0.0}, "a crop fraction of 0"),
        ({"crops": 0}, "0 crops"),
        ({"resize": 40}, "a crop of 64 does not fit in images of 40"),
        ({"resize": 64, "crops": 10}, "are one and the same"),
        ({"scales": (48, 96)}, "a scale of 48 is less than the 64 x 64"),
        ({"protocol": "he2015-ten-crop"}, "no protocol is called"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, message):
    with pytest.raises(UsageError, match=message) as caught:
        asked(**settings).settled(network().preprocess)
    assert caught.value.hint


def test_ten_crops_leave_a_margin_of_their_own_where_the_model_has_none():
    small = Preprocess(3, 32, 32, MEAN, STD)
    protocol = asked(crops=10).settled(small)
    assert protocol.resize == 36
    assert protocol.sentence == (
        "ten crops of 32 x 32, the corners and the middle of the central square scaled to 36 x 36, "
        "and their mirror images; the average of their probabilities"
    )
    several = asked(crops=10, scales=(32, 40)).settled(small)
    assert several.views == 20
    assert "the central square scaled to 32 x 32 and 40 x 40, and" in several.sentence
    for fit, area in (("pad", "the whole image beside black"), ("squash", "the whole image")):
        shown = asked(crops=10).settled(replace(small, fit=fit))
        assert shown.resize == 36
        assert f"of {area}" in shown.sentence


def test_ten_crops_of_images_that_are_shown_whole():
    model = network(resize=64)
    model.preprocess = replace(model.preprocess, fit="squash")
    expected = np.stack([mean_probabilities(model, ten(squashed(i, 73), 64)) for i in PHOTOS])
    np.testing.assert_allclose(ours(model, asked(crops=10), PHOTOS), expected, atol=1e-6)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_name_is_settled_and_says_itself(name):
    usual = Preprocess(3, 256, 224, MEAN, STD)
    protocol = asked(name).settled(usual)
    values = protocol.to_dict()
    assert values["name"] == name
    assert PROTOCOLS[name][1]
    assert str(protocol.size) in protocol.sentence
    changed = asked(name, size=192).settled(usual)
    assert (changed.name, changed.size) == ("", 192)


def test_the_size_alone_keeps_the_crops_share():
    usual = Preprocess(3, 256, 224, MEAN, STD)
    assert asked(size=320).settled(usual).resize == 365
    assert asked("torchvision", size=448).settled(usual).resize == 512
    assert asked("timm-0.95").settled(usual).resize == 235  # as timm rounds
    assert asked(size=224).settled(usual) == asked().settled(usual)


@pytest.mark.slow
@pytest.mark.skipif("RESNETS_PHOTOGRAPHS" not in os.environ, reason="RESNETS_PHOTOGRAPHS: a folder")
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_real_photographs(name):
    """The whole network at its own size, on a few of a folder of photographs."""
    files = sorted(Path(os.environ["RESNETS_PHOTOGRAPHS"]).rglob("*.[jJ]*"))
    images = [Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // 2)]][:2]
    torch.manual_seed(0)
    model = scramble(create_model(name)).eval()
    model.preprocess, model.outputs = Preprocess(3, 256, 224, MEAN, STD), "softmax"
    with torch.no_grad():
        logits = model(model.preprocess(images))
        model.fc.weight.div_(logits.std(0).mean())
        model.fc.bias.sub_(logits.mean(0)).div_(logits.std(0).mean())
    expected = [mean_probabilities(model, ten(centre(shorter(i, 256), 256), 224)) for i in images]
    found = ours(model, asked("he2015-ten-crops"), images)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6, rtol=0)
    expected = [
        np.concatenate(
            [
                answer(slid(model, v, s, 7), model).detach()
                for s in (224, 384)
                for v in mirrored([i])
            ]
        ).mean(0)
        for i in images
    ]
    found = ours(model, asked("he2015-multi-scale", scales=(224, 384)), images)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6, rtol=0)


# On labelled images, by `evaluate`.


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Photographs in folders of classes, and weights as of a run on them."""
    root = tmp_path_factory.mktemp("photographs")
    for label, name in enumerate(("ash", "birch")):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(6):
            image = photograph(90 + 9 * number, 100 - 5 * label, 10 * label + number)
            image.save(root / "photos" / name / f"{number}.png")
    model = network(num_classes=2)
    model.classes = ("ash", "birch")
    dataset = open_dataset(root / "photos", frame=model.preprocess.frame)
    made = {
        "data": {
            "fingerprint": dataset.fingerprint,
            "source": str(root / "photos"),
            **{"train": 8, "validation": 4, "test": 0, "skipped": 0},
        },
        "recipe": {"data": {"holdout": 4, "split_seed": 0, "broken": "error"}},
    }
    save_weights(model, root / "run.safetensors", made=made)
    return root / "run.safetensors", root / "photos"


CORNERS = Protocol(crops=10, whole=True)  # of the whole image, which no square has


def test_views_are_cut_of_the_images_and_not_of_the_stored_squares(trained):
    run, photos = trained
    found = evaluate(run, photos, protocol=CORNERS)
    assert (found.part, len(found.labels)) == ("validation", 4)
    model = open_model(run)
    images = [Image.open(photos / name) for name in found.images]
    expected = [mean_probabilities(model, ten(shorter(i, 72), 64)) for i in images]
    np.testing.assert_allclose(found.probabilities, np.stack(expected), atol=1e-5)
    assert found.notes[0] == (
        "shown ten crops of 64 x 64, the corners and the middle of the image scaled to a shorter "
        "side of 72, and their mirror images; the average of their probabilities"
    )
    assert found.to_dict()["protocol"]["resize"] == 72


def test_a_folder_a_pack_and_a_table_are_shown_alike(resnets, trained, tmp_path):
    run, photos = trained
    pytest.importorskip("onnxruntime")
    assert resnets("data", "pack", photos, "--out", tmp_path / "photos.pack")[0] == 0
    shutil.copytree(photos, tmp_path / "table" / "images")
    files = [path.relative_to(photos) for path in sorted(photos.rglob("*.png"))]
    rows = [f"images/{file.as_posix()},{file.parent.name}" for file in files]
    (tmp_path / "table" / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    exported = export(open_model(run), tmp_path / "model.onnx")
    expected = {
        file.stem + file.parent.name: mean_probabilities(
            open_model(run), ten(shorter(Image.open(photos / file), 72), 64)
        )
        for file in files
    }
    for model in (run, exported):
        for data in (photos, tmp_path / "photos.pack", tmp_path / "table"):
            found = evaluate(model, data, protocol=CORNERS)
            assert len(found.images) in (4, 12)  # the held-out split, or all
            for name, row in zip(map(Path, found.images), found.probabilities, strict=True):
                np.testing.assert_allclose(row, expected[name.stem + name.parent.name], atol=1e-4)


def test_images_in_memory(trained):
    model = network("resnet8", 8, 8, num_classes=10, in_channels=1)
    model.classes = tuple("0123456789")
    split = open_dataset("digits").test
    images = as_images(split.batch(torch.arange(len(split)))[0])[:20]
    found = evaluate(model, "digits", crops=10)
    expected = [mean_probabilities(model, ten(shorter(i, 9), 8)) for i in images]
    np.testing.assert_allclose(found.probabilities[:20], np.stack(expected), atol=1e-4)


def test_what_is_the_models_own_is_computed_as_ever(trained):
    run, photos = trained
    own = evaluate(run, photos)
    for settings in ({"size": 64}, {"resize": 72}, {"protocol": "timm-0.875", "resize": 72}):
        again = evaluate(run, photos, **settings)
        assert again.logits.tobytes() == own.logits.tobytes()
        assert again.notes == own.notes
    assert own.to_dict()["protocol"]["name"] is None
    assert evaluate(run, photos, resize=64).logits.tobytes() != own.logits.tobytes()


def test_the_command(resnets, trained):
    run, photos = trained
    code, out, _ = resnets("evaluate", "--protocol", "list")
    assert code == 0
    assert all(f"{name}: " in out for name in PROTOCOLS)
    words = ["evaluate", run, photos, "--json"]
    code, out, err = resnets(*words, "--scales", "64,96", "--tta")
    assert code == 0, err
    first = json.loads(out)
    assert first["protocol"]["scales"] == [64, 96]
    assert first["protocol"]["tta"]
    code, out, _ = resnets(*words, "--protocol", "keras")
    second = json.loads(out)
    assert second["protocol"]["name"] == "keras"
    assert second["log_loss"] != first["log_loss"]
    for wrong in (["--protocol", "kera"], ["--scales", "big"], ["--crops", "10", "--tta"]):
        code, _, err = resnets(*words, *wrong)
        assert (code, len(err.splitlines())) == (2, 2), err
