"""Settings are found: listed whole, and under the names that other tools have for them."""

import json
import shlex

import pytest

from resnets.errors import UsageError
from resnets.training.recipe import list_recipes, load_recipe, recipe_text, setting_fields
from resnets.training.settings import describe, list_settings


@pytest.mark.parametrize("name", list_recipes())
def test_every_setting_is_listed_with_what_it_does(name):
    recipe = load_recipe(name)
    found = list_settings(name)
    assert {setting.key: setting.value for setting in found} == recipe.flat()
    assert [setting.key for setting in found if len(setting.description) < 10] == []


def test_the_command_lists_them(resnets):
    words = ["train", "--settings", "--recipe", "he2015_cifar", "--set", "optimizer.lr=0.02"]
    code, out, _ = resnets(*words, "--json")
    listed = {each["key"]: each for each in json.loads(out)}
    assert (code, set(listed)) == (0, set(setting_fields()))
    lr = listed["optimizer.lr"]
    assert (lr["value"], lr["default"], "learning rate" in lr["description"]) == (0.02, 0.1, True)
    table = resnets(*words)[1].splitlines()
    assert len(table) == 1 + len(listed)
    assert any(line.split()[:5] == ["*", "optimizer.lr", "0.02", "0.1", "--set"] for line in table)


def test_what_a_recipe_changes_stands_out_with_its_source(resnets):
    code, out, _ = resnets("recipes", "he2015_cifar", "--json")
    found = json.loads(out)
    listed = {each["key"]: each for each in found["settings"]}
    assert (code, set(listed), found["source"]) == (
        0,
        set(setting_fields()),
        "He et al. 2015, sec. 4.2",
    )
    assert [key for key, each in listed.items() if each["differs"]] == [
        "name",
        "source",
        "data.holdout",
        "data.normalize",
        "augment.mirror",
        "optimizer.momentum_form",
        "optimizer.decay",
        "schedule.iterations",
        "schedule.milestones",
    ]
    assert listed["optimizer.lr"]["source"] == "He et al. 2015, sec. 4.2"
    assert "KaimingHe/deep-residual-networks" in listed["optimizer.momentum_form"]["source"]
    assert listed["augment.mixup"]["source"] == "default"
    lines = resnets("recipes", "he2015_cifar")[1].splitlines()
    starred = [line.split()[1] for line in lines if line.startswith("* ")]
    assert starred == [key for key, each in listed.items() if each["differs"]]


def test_what_is_set_by_hand_says_so():
    changed = list_settings("default", ["schedule.iterations=5"])
    by_hand = {setting.key: setting.value for setting in changed if setting.source == "--set"}
    assert by_hand == {"schedule.iterations": 5, "schedule.epochs": None}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_is_and_where_each_value_comes_from(name, resnets):
    what, more = describe(name)
    assert 20 < len(what) <= 100
    assert name == "default" or f"--recipe {name}" in more
    given = recipe_text(name)
    for setting in list_settings(name):
        key = setting.key.rpartition(".")[2]
        if setting.key in ("name", "source"):
            continue
        assert setting.source not in ("", "--set")
        # What differs from the default was written down, and has a source of its own.
        assert not setting.differs or setting.source != "default", setting.key
        assert setting.source == "default" or f"{key}:" in given
    rows = {row["recipe"]: row for row in json.loads(resnets("recipes", "--json")[1])}
    assert rows[name]["what it is"] == what
    assert rows[name]["source"] == load_recipe(name).source


def test_a_file_of_ones_own_is_printed_too(resnets, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nsource: a talk\noptimizer:\n  lr: 0.2  # slide 3\n  momentum: 0.8\n"
        "schedule: {epochs: 3}\n"
    )
    listed = {
        each["key"]: each for each in json.loads(resnets("recipes", path, "--json")[1])["settings"]
    }
    assert listed["optimizer.lr"]["source"] == "slide 3"
    assert listed["optimizer.momentum"]["source"] == "a talk"
    assert listed["schedule.epochs"]["source"] == "a talk"
    assert describe(path) == ("", "")


def test_an_unknown_recipe_is_told_with_the_nearest(resnets):
    code, out, err = resnets("recipes", "he2015-cifr")
    assert (code, out) == (2, "")
    assert "did you mean he2015_cifar" in err
    assert "`resnets recipes` lists all" in resnets("recipes", "xx")[2]


OPTIONS = {
    "--epochs 5": "schedule.epochs=5",
    "--num-train-epochs=5": "schedule.epochs=5",
    "--lr 0.01": "optimizer.lr=0.01",
    "--learning-rate 1e-2": "optimizer.lr=1e-2",
    "--lr fast": "optimizer.lr=auto",
    "--batch-size 16": "batch_size=16",
    "--bs 16": "batch_size=16",
    "--image-size 64": "data.image_size=64",
    "--imgsz 64": "data.image_size=64",
    "--size 64x64": "data.image_size=64",
    "--seed 3": "seed=3",
    "--weight-decay 1e-4": "optimizer.weight_decay=1e-4",
    "--wd 1e-4": "optimizer.weight_decay=1e-4",
    "--warmup 0.2": "schedule.warmup=0.2",
    "--warmup-epochs 5": "schedule.warmup_epochs=5",
    "--label-smoothing 0.1": "label_smoothing=0.1",
    "--bce-loss": "loss=binary_cross_entropy",
    "--aug-repeats 3": "data.repeats=3",
    "--ra-sampler": "data.repeats=3",
    "--val-crop-size 224": "data.eval_size=224",
    "--val-resize-size": "data.resize=256",
    "--drop-path 0.1": "drop_path=0.1",
    "--lr-warmup-decay 0.01": "schedule.warmup_from=0.01",
    "--model-ema-steps 32": "ema_every=32",
    "--mixup 0.2": "augment.mixup=0.2",
    "--reprob 0.25": "augment.erasing=0.25",
    "--random-erase 0.1": "augment.erasing=0.1",
    "--auto-augment trivialaugment": "augment.policy=trivialaugment",
    "--auto-augment ta_wide": "augment.policy=trivialaugment",
    "--aa rand-m7-mstd0.5-inc1": "augment.policy=timm",
    "--aa original": "augment.policy=randaugment",
    "--color-jitter 0.4": "'augment.jitter=[0.4,0.4,0.4,0]'",
    "--ra-magnitude 9": "augment.policy_magnitude=null",  # which needs a policy
    "--momentum": "optimizer.momentum=0.9",
    "--momentun 0.8": "optimizer.momentum=0.8",
    "--precision bfloat16": "precision=bfloat16",
    "--early-stopping 3": "schedule.patience=3",
    "--patience 3": "schedule.patience=3",
    "--freeze-backbone": "finetune.freeze=all",
    "--frozen-stages 2": "finetune.freeze=2",
    "--freeze-epochs 1": "finetune.head_epochs=1",
    "--fp16": "precision=bfloat16",
    "--loss bce": "loss=binary_cross_entropy",
    "--class-weights 1,2": "class_weights=balanced",
    # The recipe's nesterov and rate are of SGD.
    "--optimizer adam": "optimizer.kind=adam --set optimizer.nesterov=false "
    "--set optimizer.momentum_form=torch --set optimizer.lr=0.001",
}


@pytest.mark.parametrize(("typed", "meant"), OPTIONS.items())
def test_options_of_other_tools_lead_to_the_setting(resnets, typed, meant):
    option, *_ = typed.replace("=", " ").split()
    code, _, err = resnets("train", "digits", *typed.split())
    assert (code, err) == (2, f"error: No such option: {option}\n hint: --set {meant}\n")
    said = [word for word in shlex.split(meant) if word != "--set"]
    load_recipe("default", said)  # what the hint says can be said


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("train digits --pretrained", "did you mean --weights?"),
        ("train digits --workers 4", "nothing is to be set"),
        ("train digits --output runs/x", "did you mean --out?"),
        ("train digits --modl resnet20", "did you mean --model?"),
        ("train digits --zebra", "`resnets train --help` lists its arguments and options"),
        ("show resnet18 --memry", "did you mean --memory?"),
        ("predict --jsn a.png", "did you mean --json?"),
        ("data check photos --jsn", "did you mean --json?"),
        ("evaluate --zebra", "`resnets evaluate --help` lists its arguments and options"),
        ("trian digits", "`resnets --help` lists the commands"),
        ("data chek", "`resnets data --help` lists the commands"),
        ("draw", "`resnets draw --help` lists its arguments and options"),
        ("train digits --seeds", "`resnets train --help` says what it takes"),
    ],
)
def test_hints_are_about_the_command_that_was_typed(resnets, words, hint):
    code, _, err = resnets(*words.split())
    assert code == 2
    assert err.splitlines()[1].startswith(f" hint: {hint}")
    assert f"`resnets {words}`" not in err


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("epochs=5", "schedule.epochs=5"),
        ("image_size=64", "data.image_size=64"),
        ("data.imgsz=64", "data.image_size=64"),
        ("optimizer.learning_rate=0.1", "optimizer.lr=0.1"),
        ("lr=0.1", "optimizer.lr=0.1"),
        ("data.lr=0.1", "optimizer.lr=0.1"),
        ("optimzer.lr=0.1", "optimizer.lr=0.1"),
        ("Batch-Size=8", "batch_size=8"),
        ("schedule.batch_size=8", "batch_size=8"),
        ("schedule.epoch=0", "schedule.epochs=30"),
        ("size=huge", "data.image_size=64"),
        ("area=[0.5, 1]", "'augment.area=[0.5, 1]'"),
    ],
)
def test_keys_are_found_in_every_section(setting, meant):
    with pytest.raises(UsageError) as caught:
        load_recipe("default", [setting])
    assert caught.value.message.endswith(f'unknown key "{setting.partition("=")[0]}"')
    assert caught.value.hint == f"did you mean --set {meant}?"
    load_recipe("default", [shlex.split(meant)[0]])


def test_what_is_like_nothing_leads_to_the_list(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_recipe("default", ["zebra=1"])
    assert "resnets train --settings" in caught.value.hint
    (tmp_path / "a.yaml").write_text("name: a\nlr: 0.1\nschedule: {epochs: 1}\n")
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path / "a.yaml")
    assert caught.value.hint == "did you mean optimizer.lr?"
