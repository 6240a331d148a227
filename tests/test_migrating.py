"""What users of torchvision, timm, Keras and fastai type first: it works, or one line says how.

A hint is typed as it stands wherever it is an expression.
"""

import io
import re
import shlex
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import resnets
from resnets.errors import CheckpointError, DataError, UsageError
from resnets.training.recipe import load_recipe
from resnets.weights.calibration import Calibration, Unknown


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
    with pytest.warns(UserWarning, match="softmax"):
        (answer,) = resnets.predict(model, photos / "cat" / "0.png")
    assert set(answer.classes) == {"0", "1"}
    model.outputs = "softmax"
    model.classes = ("cat", "dog")
    (answer,) = resnets.predict(model, photos / "cat" / "0.png")
    assert set(answer.classes) == {"cat", "dog"}


@pytest.mark.parametrize("way", ["fc", "reset_classifier"])
def test_what_is_known_of_a_last_layer_goes_with_it(model, photos, tmp_path, way):
    """As many outputs are no proof that they are the same."""
    model.calibration = Calibration(9, (0.1,), unknown=Unknown("energy", -1e9, 0.05))
    same = model.fc
    model.fc = same  # what is there stays what it is
    assert model.calibration
    assert model.classes
    if way == "fc":
        model.fc = nn.Linear(64, 10)
    else:
        model.reset_classifier(10)
    assert (model.classes, model.outputs, model.thresholds, model.calibration) == (
        (),
        None,
        (),
        None,
    )
    resnets.save_weights(model, tmp_path / "own.safetensors")
    assert resnets.open_model(tmp_path / "own.safetensors").calibration is None
    model.outputs = "softmax"
    (answer,) = resnets.predict(model, photos / "cat" / "0.png")
    assert not answer.unknown
    assert set(answer.classes) <= {*map(str, range(10))}


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


OPTIONS = {
    "in_chans": "in_channels",
    "drop_rate": "dropout",
    "drop_path_rate": "drop_path",
    "norm_layer": "norm",
    "act_layer": "activation",
    "base_width": "width_per_group",
    "layers": "depths",
    "classes": "num_classes",
    "img_size": "image_size",
    "zero_init_last": "zero_init_residual",
    "num_clases": "num_classes",
}


@pytest.mark.parametrize("make", [resnets.create_model, resnets.create_backbone])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_under_anothers_name(make, option):
    with pytest.raises(UsageError, match=f'{make.__name__}: unknown option "{option}"') as refused:
        make("resnet18", **{option: 1})
    assert refused.value.hint == f"did you mean {OPTIONS[option]}?"
    assert OPTIONS[option] in resnets.Spec().to_dict()


INSTEAD = {
    "features_only": "create_backbone(",
    "out_indices": "create_backbone(",
    "include_top": "model.forward_features(images)",
    "global_pool": "model.forward_features(images)",
    "replace_stride_with_dilation": "output_stride=16",
    "device": "model.to(",
    "pretrained": 'create_model("resnet20", weights="cifar10")',
    "freeze_at": "create_backbone(",
    "strict": 'head="drop"',
    "drop_block_rate": "help(resnets.Spec)",
}


@pytest.mark.parametrize("option", INSTEAD)
def test_what_is_done_in_another_way(model, option):
    with pytest.raises(UsageError, match=f'unknown option "{option}"') as refused:
        resnets.create_model("resnet20", **{option: True})
    hint = refused.value.hint
    assert hint.startswith(INSTEAD[option])
    assert "\n" not in hint
    assert len(hint) < 120
    if hint.startswith(("create_", "model.")) and "..." not in hint:
        assert typed(hint, model=model, torch=torch, images=torch.zeros(1, 3, 32, 32)) is not None


def typed(hint, **names):
    """Return what the expression is that a hint begins with."""
    expression = hint if hint.endswith(")") else hint.partition(") ")[0] + ")"
    return eval(expression, {n: getattr(resnets, n) for n in resnets.__all__} | names)


def test_what_is_of_no_backbone():
    with pytest.raises(UsageError) as refused:
        resnets.create_backbone("resnet20", head="drop")
    assert refused.value.hint == "leave it out: a backbone has no classifier"
    with pytest.raises(UsageError) as refused:
        resnets.create_backbone("resnet20", frozen_stage=1)
    assert refused.value.hint == "did you mean frozen_stages?"


class Weights(Enum):
    """As torchvision's."""

    IMAGENET1K_V1 = "url"


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (True, 'create_model("resnet18", weights="torchvision.IMAGENET1K_V1")'),
        (Weights.IMAGENET1K_V1, 'weights="torchvision.IMAGENET1K_V1"'),
        ("ResNet18_Weights.IMAGENET1K_V1", "did you mean torchvision.IMAGENET1K_V1?"),
        ("IMAGENET1K_V1", "did you mean torchvision.IMAGENET1K_V1?"),
        ("DEFAULT", "for resnet18 there are torchvision.IMAGENET1K_V1"),
        ("imagenet", "for resnet18 there are torchvision.IMAGENET1K_V1"),
    ],
)
def test_weights_by_anothers_name(weights, told):
    with pytest.raises(UsageError) as refused:
        resnets.create_model("resnet18", weights=weights)
    assert refused.value.hint.startswith(told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet18.a1_in1k", 'create_model("resnet18", weights="timm.a1_in1k")'),
        ("hf_hub:timm/resnet50.a1_in1k", 'create_model("resnet50", weights="timm.a1_in1k")'),
        ("microsoft/resnet-50", "did you mean resnet50,"),
        ("ResNet50", "did you mean resnet50,"),
        ("resnext50", "did you mean resnext50_32x4d,"),
        ("wide_resnet50", "did you mean wide_resnet50_2?"),
        ("resnet5O", "did you mean resnet50,"),
        ("", "`resnets models`"),
    ],
)
def test_models_by_anothers_name(name, told):
    with pytest.raises(UsageError, match="no model is called") as refused:
        resnets.create_model(name)
    assert refused.value.hint.startswith(told)


@pytest.mark.parametrize(
    "call", [resnets.open_model, lambda name: next(resnets.predict(name, "x"))]
)
def test_a_models_name_is_no_file(call):
    with pytest.raises(CheckpointError, match="no such file") as refused:
        call("resnet20")
    assert typed(refused.value.hint).classes[0] == "airplane"


def test_names_of_weights_are_for_create_model(model):
    with pytest.raises(UsageError, match="the name of published weights") as refused:
        resnets.load_weights(model, "cifar10")
    assert typed(refused.value.hint).classes
    with pytest.raises(UsageError, match="not for resnet20"):
        resnets.load_weights(model, "torchvision.IMAGENET1K_V1")


@pytest.mark.parametrize("name", ["resnet50", "ResNet50", "resnext101_32x8d"])
def test_there_is_no_function_for_each_model(name):
    with pytest.raises(AttributeError, match=rf'create_model\("{name.lower()}"\) makes one'):
        getattr(resnets, name)


def test_names_that_the_package_does_not_have():
    with pytest.raises(AttributeError, match="did you mean open_model, "):
        _ = resnets.load_model
    assert not hasattr(resnets, "__wrapped__")
    assert not hasattr(resnets, "xyz")


@pytest.mark.parametrize("network", [resnets.ResNet, resnets.Backbone])
@pytest.mark.parametrize("spec", ["resnet18", [2, 2, 2, 2], None])
def test_networks_are_made_of_specs(network, spec):
    with pytest.raises(UsageError, match="made of a Spec") as refused:
        network(spec)
    assert refused.value.hint.startswith('create_model("resnet18") and create_backbone(')


@pytest.mark.parametrize("call", [resnets.profile, resnets.peak_memory, resnets.create_backbone])
def test_a_network_has_its_spec(model, call):
    with pytest.raises(UsageError, match="ResNet is no model's name and no spec") as refused:
        call(model)
    assert eval(refused.value.hint.removesuffix(" is one"), {"model": model}) == model.spec


def test_whole_numbers_of_any_kind():
    kinds = (np.int64(3), np.uint8(3), torch.tensor(3), np.int32(3))
    for three in kinds:
        spec = resnets.create_model("resnet20", num_classes=three, depths=[three] * 3).spec
        assert spec == resnets.create_model("resnet20", num_classes=3).spec
        assert {type(n) for n in (spec.num_classes, *spec.depths)} == {int}
    for wrong in (True, 3.0, "3", np.float64(3), torch.tensor(3.0), None, -1):
        with pytest.raises(UsageError, match="positive whole number, not "):
            resnets.create_model("resnet20", num_classes=wrong)


def test_no_classifier(model):
    with pytest.raises(UsageError, match="not 0") as refused:
        resnets.create_model("resnet20", num_classes=0)
    exec(refused.value.hint.partition(" leaves")[0], {"model": model})
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 64)


def test_patterns_are_texts():
    with pytest.raises(UsageError, match="a pattern is a text, not a list") as refused:
        resnets.list_models(["resnet18*", "resnext*"])
    assert typed(refused.value.hint)


ARGUMENTS = {
    "epochs": (3, 'settings=["schedule.epochs=3"]'),
    "lr": (0.1, 'settings=["optimizer.lr=0.1"]'),
    "optimizer": ("sgd", 'settings=["optimizer.kind=sgd"]'),
    "criterion": (nn.CrossEntropyLoss(), 'settings=["loss=binary_cross_entropy"]'),
    "amp": (True, 'settings=["precision=bfloat16"]'),
    "class_weights": ([1, 2], 'settings=["class_weights=balanced"]'),
    "color_jitter": (0.4, 'settings=["augment.jitter=[0.4,0.4,0.4,0]"]'),
    "output_dir": ("x", "did you mean out?"),
    "pretrained": (True, "did you mean weights?"),
    "verbose": (0, "did you mean quiet?"),
    "num_workers": (4, "nothing is to be set: images are read once"),
    "num_classes": (2, "nothing is to be set: the data say"),
    "zebra": (1, "help(resnets.train)"),
}
PAIR = (torch.zeros(8, 3, 32, 32).byte(), torch.arange(8) % 2)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_other_trainers(name):
    value, told = ARGUMENTS[name]
    for function in (resnets.train, resnets.find_lr, resnets.plan, resnets.tune):
        with pytest.raises(UsageError, match=f"there is no argument {name}") as refused:
            function(PAIR, model="resnet8", **{name: value})
        assert refused.value.hint.startswith(told)
    if told.startswith("settings="):
        load_recipe("default", eval(told.removeprefix("settings=")))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_another_optimizer_comes_with_its_rate(kind):
    with pytest.raises(UsageError, match="no argument optimizer") as refused:
        resnets.train(PAIR, optimizer=kind)
    recipe = load_recipe("default", eval(refused.value.hint.removeprefix("settings=")))
    assert (recipe.optimizer.kind, recipe.optimizer.lr) == (kind, 0.001)
    setting = f"optimizer.kind={kind}"
    with pytest.raises(UsageError, match="belong to sgd") as refused:
        load_recipe("finetune", [setting])
    words = shlex.split(refused.value.hint.removeprefix("beside it: "))
    load_recipe("finetune", [setting, *(word for word in words if word != "--set")])
    with pytest.raises(UsageError, match="lr auto belongs to sgd") as refused:
        load_recipe("default", [setting, "optimizer.nesterov=false"])
    assert refused.value.hint == "beside it: --set optimizer.lr=0.001"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": {"schedule.epochs": 1}}, "settings are a list of texts"),
        ({"settings": [("schedule.epochs", 1)]}, "settings are a list of texts"),
        ({"settings": 1}, "settings are a list of texts"),
        ({"recipe": {"schedule": {"epochs": 1}}}, "a recipe is a name or a YAML file, not a dict"),
        ({"resume": True}, "resume is True"),
        ({"device": "cuda:1"}, "of several devices one is chosen before Python starts"),
    ],
)
def test_values_of_other_kinds(options, message):
    with pytest.raises(UsageError, match=message) as refused:
        resnets.train(PAIR, model="resnet8", **options)
    assert refused.value.hint


def test_devices_are_torchs_or_names():
    assert resnets.Machine(device=torch.device("cpu")).where == torch.device("cpu")


def test_loaders_have_data_sets():
    data = torch.utils.data.TensorDataset(*PAIR)
    with pytest.raises(UsageError, match="data is a DataLoader") as refused:
        resnets.train(torch.utils.data.DataLoader(data))
    assert refused.value.hint == "give its data set: loader.dataset"


@pytest.mark.filterwarnings("ignore:nothing says what its outputs mean")
def test_what_a_notebook_shows_fits_on_a_screen(model, photos, tmp_path):
    """However many classes, images and tensors there are."""
    steps = ["schedule.iterations=1", "batch_size=4", "augment.mirror=false"]
    tiny = {"model": "resnet8", "settings": steps, "quiet": True}
    wide = resnets.create_model("resnet8", num_classes=1000)
    wide.classes = ("cat", "dog", *map(str, range(998)))
    shown = [
        resnets.train(PAIR, out=tmp_path / "run", **tiny),
        resnets.load_weights(model, model.state_dict()),
        resnets.evaluate(wide, photos),
        resnets.profile("resnet8"),
        resnets.export(model, tmp_path / "own.safetensors", to="safetensors"),
    ]
    for value in shown:
        text = repr(value)
        assert text.startswith(f"{type(value).__name__}("), text[:100]
        assert len(text) < 2000, text[:3000]
    assert "accuracy=" in repr(shown[2])


@pytest.mark.pages
def test_the_page_runs(photos, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs/start.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Image.open(photos / "cat" / "0.png").save("new.jpg")
    names = {}
    exec(code, names)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert names["logits"].shape == (1, 10)
    assert names["vectors"].shape == (1, 64)
    assert eval('resnets.weights.catalog.entries("resnet50")', names)
