"""What users of torchvision, timm, Keras and fastai type first: it works, or one line says how.

A hint is typed as it stands wherever it is an expression.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import resnets
from resnets.errors import DataError, UsageError


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of two images."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(2):
            pixels = random.integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def model():
    return resnets.create_model("resnet20", weights="cifar10")


def test_one_image_in_hand(model, photos):
    path = photos / "cat" / "0.png"
    with Image.open(path) as image:
        answers = [
            answer
            for images in (path, str(path), image, [image], [image.copy()])
            for answer in resnets.predict(model, images)
        ]
    assert len({answer.probabilities for answer in answers}) == 1
    assert [answer.path for answer in answers] == [str(path)] * 4 + [""]


def refused_images(path):
    array = np.asarray(Image.open(path))
    yield from (array, [array], torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32).byte(), None)
    yield from (path.read_bytes(), [path.read_bytes()], io.BytesIO(path.read_bytes()), 3, [None])


def test_what_is_no_image(model, photos):
    for images in refused_images(photos / "cat" / "0.png"):
        with pytest.raises(UsageError, match="is no image and no file") as refused:
            list(resnets.predict(model, images))
        assert refused.value.hint
    for images in (None, b"", [b""], np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(UsageError, match="is no image and no file"):
            model.preprocess(images)


@pytest.mark.parametrize("kind", ["ndarray", "bytes"])
def test_the_hint_makes_an_image(model, photos, kind):
    path = photos / "cat" / "0.png"
    data, array = path.read_bytes(), np.asarray(Image.open(path))
    with pytest.raises(UsageError) as refused:
        list(resnets.predict(model, [array if kind == "ndarray" else data]))
    import PIL

    expression = refused.value.hint.partition(" makes ")[0]
    image = eval(expression, {"PIL": PIL, "io": io, "data": data, "array": array})
    (answer,) = resnets.predict(model, image)
    assert answer.classes == next(resnets.predict(model, path)).classes


def test_a_folder_is_not_one_image(model, photos):
    with pytest.raises(UsageError, match="is a folder") as refused:
        list(resnets.predict(model, photos))
    assert "rglob" in refused.value.hint


@pytest.mark.parametrize("options", [{"top": 0}, {"top": -1}, {"batch_size": 0}])
def test_numbers_that_answer_nothing(model, photos, options):
    with pytest.raises(UsageError, match=" is "):
        list(resnets.predict(model, photos / "cat" / "0.png", **options))


@pytest.mark.parametrize("value", [None, 0, False, True, 3])
def test_arguments_that_there_are_not(model, photos, tmp_path, value):
    """Whatever their value is: one that is ignored would be wrong in silence."""
    resnets.save_weights(model, tmp_path / "own.safetensors")
    calls = {
        "predict": lambda **given: next(resnets.predict(model, photos, **given)),
        "evaluate": lambda **given: resnets.evaluate(model, photos, **given),
        "export": lambda **given: resnets.export(model, tmp_path / "x.onnx", **given),
        "open_model": lambda **given: resnets.open_model(tmp_path / "own.safetensors", **given),
    }
    for name, call in calls.items():
        with pytest.raises(UsageError, match=rf"{name}\(\) has no argument strict"):
            call(strict=value)
    with pytest.raises(UsageError) as refused:
        calls["predict"](topk=value)
    assert refused.value.hint == "did you mean top?"


def test_what_reads_weights_is_known_without_torch():
    from resnets.inference import runtimes
    from resnets.models import ReadingOptions

    assert set(ReadingOptions.__annotations__) == set(runtimes._READING)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (nn.Linear(2, 2), "Linear is no network of resnets"),
        ({}, "dict is no network of resnets"),
        (None, "NoneType is no network of resnets"),
        (resnets.create_backbone("resnet8"), "no classifier"),
    ],
)
def test_what_is_no_model(photos, thing, message):
    with pytest.raises(UsageError, match=message):
        list(resnets.predict(thing, photos / "cat" / "0.png"))
    with pytest.raises(UsageError, match=message):
        resnets.evaluate(thing, photos)


def test_wrapped_networks_answer_and_are_saved(model, photos, tmp_path):
    path = photos / "cat" / "0.png"
    plain = next(resnets.predict(model, path))
    compiled = torch.compile(model, backend="eager")
    for wrapped in (nn.DataParallel(model), compiled):
        assert next(resnets.predict(wrapped, path)).classes == plain.classes
        resnets.save_weights(wrapped, tmp_path / "own.safetensors")
        again = resnets.open_model(tmp_path / "own.safetensors")
        assert next(resnets.predict(again, path)) == plain


HEADS = [nn.Linear(64, 2), nn.Sequential(nn.Dropout(), nn.Linear(64, 2))]


@pytest.mark.parametrize("head", HEADS)
def test_a_new_last_layer_does_not_answer_with_the_old_names(model, photos, tmp_path, head):
    """``model.fc = nn.Linear(...)`` of every tutorial."""
    model.fc = head
    with pytest.raises(UsageError, match="has 2 outputs, its spec says 10"):
        list(resnets.predict(model, photos / "cat" / "0.png"))
    with pytest.raises(UsageError, match="has 2 outputs, its spec says 10"):
        resnets.evaluate(model, photos)
    with pytest.raises(UsageError, match="has 2 outputs, its spec says 10") as refused:
        resnets.save_weights(model, tmp_path / "own.safetensors")
    import dataclasses

    exec(refused.value.hint, {"model": model, "dataclasses": dataclasses})
    with pytest.raises(UsageError, match="10 different class names for 2 outputs"):
        list(resnets.predict(model, photos / "cat" / "0.png"))
    model.classes = ("cat", "dog")
    (answer,) = resnets.predict(model, photos / "cat" / "0.png")
    assert set(answer.classes) == {"cat", "dog"}


def test_an_export_looks_at_the_last_layer_first(model, tmp_path):
    model.fc = HEADS[0]
    with pytest.raises(UsageError, match="has 2 outputs, its spec says 10"):
        resnets.export(model, tmp_path / "x.pt2", to="torch")


def test_a_network_without_its_last_layer_answers_nothing(model, photos):
    model.fc = nn.Identity()
    with pytest.raises(UsageError, match="no classifier"):
        list(resnets.predict(model, photos / "cat" / "0.png"))


@pytest.mark.parametrize(
    ("place", "layer", "hint"),
    [
        ("conv1", nn.Conv2d(1, 16, 3, padding=1, bias=False), "in_channels="),
        ("fc", nn.Sequential(nn.Dropout(), nn.Linear(64, 10)), "reset_classifier("),
        ("layer1.0.conv1", nn.Conv2d(16, 16, 5, padding=2, bias=False), "state_dict()"),
        ("neck", nn.Linear(64, 64), "state_dict()"),
    ],
)
def test_a_file_that_nothing_could_read_is_not_written(model, tmp_path, place, layer, hint):
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
    with pytest.raises(UsageError, match=rf"{place}.*, its spec says ") as refused:
        resnets.save_weights(model, tmp_path / "own.safetensors")
    assert hint in refused.value.hint
    assert not list(tmp_path.iterdir())


def test_arguments_in_another_order(model, photos, tmp_path):
    with pytest.raises(UsageError, match="str is no network"):
        resnets.save_weights(str(tmp_path / "x.safetensors"), model)
    with pytest.raises(UsageError, match="OrderedDict is no network"):
        resnets.save_weights(model.state_dict(), tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="backbone") as refused:
        resnets.save_weights(resnets.create_backbone("resnet8"), tmp_path / "x.safetensors")
    assert "torch.save" in refused.value.hint
    with pytest.raises(UsageError, match="data is a ResNet"):
        resnets.evaluate(photos, model)


@pytest.mark.parametrize("word", ["imagenet", lambda images: images])
def test_preprocessing_of_another_kind(model, photos, word):
    model.preprocess = word
    with pytest.raises(UsageError, match="not a Preprocess") as refused:
        list(resnets.predict(model, photos / "cat" / "0.png"))
    exec(refused.value.hint, {"model": model, "resnets": resnets})
    assert next(resnets.predict(model, photos / "cat" / "0.png")).classes


def test_measuring_takes_folders_and_names(model, photos):
    images, labels = torch.zeros(4, 3, 32, 32).byte(), torch.tensor([0, 1, 2, 3])
    for data in ((images, labels), [(images[0], 1)], None, torch.utils.data.DataLoader([1, 2])):
        with pytest.raises(UsageError, match="no folder and no data set's name") as refused:
            resnets.evaluate(model, data)
    expression = refused.value.hint.rpartition("is ")[2]
    names = {"model": model, "images": images, "labels": labels}
    assert 0 <= float(eval(expression, names)) <= 1
    with pytest.raises(UsageError, match="there is no model"):
        resnets.evaluate([], photos)
    with pytest.raises(DataError, match="no test split"):
        resnets.evaluate(model, photos, split="test")
