"""--plan: what a run would do, measured on copies, with nothing written."""

import json

import pytest

from conftest import tiny_dataset
from resnets import Machine, create_model, peak_memory, plan, save_weights
from resnets.data.preprocess import imagenet
from resnets.errors import UsageError
from resnets.formatting import duration
from resnets.training.outlook import augmentation
from resnets.training.recipe import load_recipe

SETTINGS = ("batch_size=8", "data.holdout=4", "augment.padding=1", "schedule.epochs=4")
QUIET = Machine(quiet=True)


def look(*settings, **options):
    options = {"model": "resnet8", "settings": [*SETTINGS, *settings], "machine": QUIET, **options}
    return plan(tiny_dataset(), **options)


def test_the_phases_are_those_of_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights.safetensors"
    save_weights(create_model("resnet8", num_classes=5), weights)
    found = look("finetune.head_epochs=1", "finetune.thaw=0.5", weights=weights, model=None)
    assert (found.steps, found.epochs) == (24, 4)
    assert [(phase.learns, phase.begins, phase.steps) for phase in found.phases] == [
        ("the classifier alone learns", 0, 6),
        ("stage 3 and the classifier learn", 6, 3),
        ("stages 2 to 3 and the classifier learn", 9, 3),
        ("stages 1 to 3 and the classifier learn", 12, 3),
        ("everything learns", 15, 9),
    ]
    assert found.weights["source"] == str(weights)
    assert found.seconds == sum(phase.total for phase in found.phases) + found.evaluation
    assert list(tmp_path.iterdir()) == [weights]


def test_what_is_known_without_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = look(machine=Machine())
    assert [(phase.learns, phase.steps) for phase in found.phases] == [("everything learns", 24)]
    assert (
        found.memory == peak_memory("resnet8", batch_size=8, image_size=8, num_classes=2).peak.total
    )
    assert found.data["train"] == 46
    assert found.data["smallest_class"] == {"name": "top", "images": 23}
    assert (found.weights, found.why, found.reading) == (None, "", None)
    assert found.out == "runs/tiny-resnet8"
    assert json.loads(json.dumps(found.to_dict()))["recipe"]["schedule.epochs"] == 4
    assert not list(tmp_path.iterdir())


def test_the_time_of_all_seeds_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = look(seeds=5)
    assert found.total == 5 * found.seconds == found.to_dict()["total"]
    said = "\n".join(found.sentences())
    assert f"; 5 seeds: {duration(found.total)}" in said
    assert "without --plan the runs would be in runs/tiny-resnet8-seeds" in said
    with pytest.raises(UsageError, match="0 seeds are none"):
        look(seeds=0)
    assert not list(tmp_path.iterdir())


def test_the_memory_of_a_teacher_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = create_model("resnet20", num_classes=2)
    teacher.preprocess, teacher.classes = imagenet(3, 8), tiny_dataset().classes
    alone, taught = look(), look(teacher=teacher)
    parameters = sum(p.numel() for p in teacher.parameters())
    assert 4 * parameters < taught.memory - alone.memory < 4 * parameters + 2_000_000


def test_the_command_says_it_or_prints_it_as_json(photos, resnets):
    words = ["train", photos, "--model", "resnet8", "--plan", "--set", "data.image_size=24"]
    words += ["--set", "schedule.epochs=1", "--out", photos.parent / "run"]
    code, out, err = resnets(*words)
    assert code == 0, err
    for line in ("3 classes, ", "augmentation: ", "time: about ", "memory: ", "reading: "):
        assert line in out
    assert out.splitlines()[-1].endswith(f"would be {photos.parent / 'run'}")
    code, out, _ = resnets(*words, "--json")
    assert json.loads(out)["steps"] == 1
    assert not (photos.parent / "run").exists()
    code, out, _ = resnets(*words, "--seeds", "2")
    assert (code, "; 2 seeds: " in out) == (0, True)
    code, _, err = resnets(*words, "--resume", "auto")
    assert (code, "leave out --resume" in err) == (2, True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("augment.mirror=false", "augment.padding=0"), "none"),
        (
            ("augment.mirror=true", "augment.padding=4", "label_smoothing=0.1"),
            "moved by up to 4 pixels, mirrored half of the time, labels smoothed by 0.1",
        ),
        (
            ("augment={padding: 0, area: [0.35, 1.0], mirror: alternate, erasing: 0.25}",),
            "crops of 35 to 100 % of the area, mirrored every other time, a box erased in 25 % of "
            "the images",
        ),
    ],
)
def test_augmentation_in_a_sentence(settings, said):
    assert augmentation(load_recipe("default", settings)) == said
