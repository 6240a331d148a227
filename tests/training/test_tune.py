"""A search for settings: what is tried, which trials end early, and that nothing is lost."""

import json
import os
import shlex
import signal
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from forks import forked
from runs import NARROW, timeless

from conftest import at_step, signal_at, tiny_dataset
from resnets import create_model, save_weights
from resnets.data.preprocess import imagenet
from resnets.errors import DataError, ResourceError, Stopped, UsageError
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import to_plain
from resnets.run_folder.trials import SearchFolder, Trial
from resnets.training.proposals import falls_behind, propose
from resnets.training.recipe import load_recipe
from resnets.training.space import Choice, Range, default_space, parse_space, read_space
from resnets.training.train import train
from resnets.training.tune import tune

SETTINGS = (
    *("batch_size=8", "data.holdout=10", "augment.padding=2", "schedule.epochs=3"),
    *("optimizer.lr=0.05", "schedule.warmup=0"),
)
SEARCH = ("optimizer.lr=1e-4..1:log", "label_smoothing=0,0.1")
STEPS = 15  # of a trial that comes to its end
needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="takes Optuna")


@pytest.fixture(autouse=True)
def _little():
    """For so little, less is faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    yield
    torch.backends.mkldnn.enabled = True
    torch.set_num_threads(threads)


def searched(out, trials=3, data=None, **options):
    options = {"search": SEARCH, "settings": SETTINGS, "model": NARROW, **options}
    data = tiny_dataset() if data is None else data
    return tune(data, trials=trials, out=out, quiet=True, **options)


def resumed(out, **options):
    return tune(tiny_dataset(), resume=out, quiet=True, **options)


def told(path):
    """What a search has come to, but for times, and its best recipe."""
    folder = SearchFolder(path)
    return timeless(to_plain(folder.read())), folder.best.read_text()


def test_a_space_is_read_from_words_and_files(tmp_path):
    recipe = load_recipe("default", ["augment.padding=0"])
    (tmp_path / "space.yaml").write_text(
        "optimizer.lr: 1e-3..1:log\nlabel_smoothing: [0.0, 0.1]\nschedule.epochs: 5..20\n"
    )
    words = ["optimizer.weight_decay=0..1", "augment.area=null,[0.35, 1]", "label_smoothing=0,0.2"]
    texts = read_space(words, tmp_path / "space.yaml")
    assert parse_space(texts, recipe) == {
        "optimizer.lr": Range(1e-3, 1, log=True),
        "label_smoothing": Choice((0, 0.2)),
        "schedule.epochs": Range(5, 20, whole=True),
        "optimizer.weight_decay": Range(0, 1),
        "augment.area": Choice((None, [0.35, 1])),
    }
    for name in ("default", "timm_a2_imagenet", "akamaster_cifar"):
        own = load_recipe(name)
        space = parse_space(default_space(own, starts=True), own)
        assert own.optimizer.peak in space["optimizer.lr"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer.lr", "is not of the form key=values"),
        ("optimizer.lr=0.1", "leaves no choice"),
        ("optimizer.lr=1..0.1", "is no range"),
        ("optimizer.lr=0..0.1:log", "is no range"),
        ("optimizer.lr=a..b", "is no range"),
        ("optimizer.lr=0.1..1000", "optimizer.lr: Input should be less than or equal to 100"),
        ("optimizer.rate=0.1..1", "there is no such setting"),
        ("loss=cross_entropy,hinge", "loss: "),
        ("seed=0..5", "cannot be compared"),
        ("data.holdout=0.1,0.2", "cannot be compared"),
    ],
)
def test_what_is_no_space_is_refused(word, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_space(read_space([word]), load_recipe("default"))
    assert caught.value.hint


def test_a_setting_has_one_range(tmp_path):
    with pytest.raises(UsageError, match=r"search optimizer\.lr: is 0\.1\.\.1 and 0\.2"):
        read_space(["optimizer.lr=0.1..1", "optimizer.lr=0.2"])
    (tmp_path / "space.yaml").write_text("optimizer.lr: 0.1..1")
    assert read_space(["optimizer.lr=0.2"], tmp_path / "space.yaml") == {"optimizer.lr": "0.2"}


def finished(*epochs, status="finished"):
    return Trial("trial-000", {}, status, epochs[-1], 1.0, epochs)


def test_a_trial_falls_behind_the_median():
    others = [finished(0.1 * k, 0.2 * k, 0.2 * k, 0.2 * k) for k in range(1, 5)]  # median 0.5
    assert falls_behind([0.3, 0.49], 4, others)
    assert not falls_behind([0.3, 0.51], 4, others)
    assert not falls_behind([0.51, 0.3], 4, others)  # its best counts
    assert not falls_behind([0.0], 4, others)  # the first quarter
    assert not falls_behind([0.0] * 4, 4, others)  # its end
    assert not falls_behind([0.0, 0.0], 4, others[1:])  # too few
    assert not falls_behind([0.0, 0.0], 4, [replace(t, status="pruned") for t in others])


@needs_optuna
def test_a_proposal_follows_from_seed_and_trials():
    space = parse_space(read_space(["batch_size=4..64:log", *SEARCH]), load_recipe("default"))

    def tried(seed, count, sign=1):
        trials = []
        for _ in range(count):
            settings = propose(space, trials, seed)
            assert all(settings[key] in values for key, values in space.items())
            score = sign / (1 + abs(settings["optimizer.lr"] / 0.02 - 1))
            trials.append(Trial("any", settings, "finished", score, 1.0, (score,)))
        return [trial.settings for trial in trials]

    first = tried(0, 24)
    assert first == tried(0, 24)
    assert first[:3] != tried(1, 3)
    assert len({json.dumps(settings) for settings in first}) == 24
    assert all(isinstance(settings["batch_size"], int) for settings in first)

    def near(tries):
        return sum(0.005 < settings["optimizer.lr"] < 0.08 for settings in tries)

    assert near(first) > near(tried(0, 24, -1)) + 2  # the other way round it flees from there


@needs_optuna
def test_trials_are_plain_runs_and_the_best_is_a_recipe(tmp_path):
    found = searched(tmp_path / "s", 3)
    trials = found.search.trials
    assert [trial.name for trial in trials] == ["trial-000", "trial-001", "trial-002"]
    assert trials[0].settings == {"optimizer.lr": 0.05, "label_smoothing": 0.0}
    for trial in trials:
        folder = RunFolder(tmp_path / "s" / trial.name)
        words = [f"{key}={json.dumps(value)}" for key, value in trial.settings.items()]
        plain = train(
            tiny_dataset(),
            model=NARROW,
            settings=[*SETTINGS, *words],
            out=tmp_path / f"plain-{trial.name}",
            quiet=True,
        )
        assert plain.results["validation"]["accuracy"] == trial.score
        assert plain.results["validation"]["loss"] == trial.loss
        assert folder.read_record().results.test is None
        assert plain.results["test"] is not None
        assert not folder.states()
    best = max(trials, key=lambda t: (t.score, -t.loss))
    assert found.search.best is best
    recipe = load_recipe(found.recipe)
    assert {key: recipe.flat()[key] for key in best.settings} == best.settings
    assert recipe.name == "default-tuned"
    page = found.report.read_text()
    assert all(trial.name in page for trial in trials)
    again = searched(tmp_path / "again", 3)
    assert timeless(to_plain(again.search)) == timeless(to_plain(found.search))


@needs_optuna
def test_several_classes_are_scored_by_mean_average_precision(tmp_path):
    data = tiny_dataset()
    wide = torch.nn.functional.one_hot(data.train.labels, 2).bool()
    data = replace(data, train=replace(data.train, targets=wide), test=None)
    settings = [*SETTINGS, "loss=binary_cross_entropy"]
    search = searched(tmp_path / "s", 1, data=data, settings=settings).search
    results = RunFolder(tmp_path / "s/trial-000").read_record().results
    assert search.measure == "mean average precision"
    assert "held-out mean average precision" in (tmp_path / "s/report.html").read_text()
    assert search.trials[0].score == results.validation.map
    assert search.trials[0].epochs[-1] == results.validation.map


class Forbidden:
    """Images that nobody may look at."""

    def __init__(self, images):
        self.shape, self.names, self._count = images.shape, images.names, len(images)

    def __len__(self):
        return self._count

    def batch(self, ids):
        raise AssertionError("the test split was looked at")


@needs_optuna
def test_no_trial_looks_at_the_test_split(tmp_path):
    data = tiny_dataset()
    data = replace(data, test=replace(data.test, images=Forbidden(data.test.images)))
    assert searched(tmp_path / "s", 2, data=data).search.best


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(out, step=None, resume=False):
    """Search, perhaps until a step in which the process is killed; return what came of it."""
    torch.backends.mkldnn.enabled = False
    with at_step(step, kill):
        resumed(out) if resume else searched(out)
    return told(out)


@cache
def uninterrupted():
    with TemporaryDirectory() as folder:
        return forked(in_a_fork, Path(folder) / "s")


@needs_optuna
@pytest.mark.parametrize("step", [0, STEPS + 7, 2 * STEPS - 1])
def test_killed_and_resumed_it_comes_to_the_same(tmp_path, step):
    assert forked(in_a_fork, tmp_path / "s", step) is signal.SIGKILL
    assert len(SearchFolder(tmp_path / "s").read().trials) == 1 + step // STEPS
    assert forked(in_a_fork, tmp_path / "s", None, True) == uninterrupted()


@needs_optuna
def test_stopped_by_ctrl_c_it_says_how_to_resume(tmp_path):
    with signal_at(STEPS + 2, signal.SIGINT), pytest.raises(Stopped) as caught:
        searched(tmp_path / "s")
    assert caught.value.exit_code == 130
    assert caught.value.message == "stopped in trial 2 of 3"
    assert caught.value.hint == f"resume with: resnets.tune(data, resume='{tmp_path / 's'}')"
    with pytest.raises(UsageError, match="there is a search in it already"):
        searched(tmp_path / "s")
    with pytest.raises(UsageError, match="is a search with another seed and recipe"):
        searched(tmp_path / "s", resume="auto", seed=1, settings=[*SETTINGS, "ema=0.9"])
    with pytest.raises(DataError, match="the images or labels are others"):
        tune(replace(tiny_dataset(), fingerprint="1" * 64), resume=tmp_path / "s", quiet=True)
    assert len(searched(tmp_path / "s", resume="auto").search.trials) == 3
    assert len(resumed(tmp_path / "s", trials=4).search.trials) == 4
    assert len(searched(tmp_path / "s", 1, overwrite=True).search.trials) == 1


@needs_optuna
def test_the_time_is_over_at_the_end_of_an_epoch(tmp_path):
    found = searched(tmp_path / "s", minutes=1e-9)
    (trial,) = found.search.trials
    assert (trial.status, found.search.best, found.command) == ("running", None, "")
    assert RunFolder(tmp_path / "s/trial-000").read_record().progress.epoch == 1
    assert len(resumed(tmp_path / "s").search.trials) == 3
    assert told(tmp_path / "s")[0]["trials"] == told_of(searched(tmp_path / "whole"))


def told_of(found):
    return timeless(to_plain(found.search))["trials"]


@needs_optuna
def test_trials_that_cannot_be_are_told_apart(tmp_path):
    """Nesterov's form and no momentum do not go together, but each goes with the recipe."""
    found = searched(
        tmp_path / "s",
        6,
        search=["optimizer.nesterov=false,true", "optimizer.momentum=0,0.9"],
        settings=[*SETTINGS, "optimizer.nesterov=false"],
    )
    refused = [trial for trial in found.search.trials if trial.status == "refused"]
    assert all("nesterov needs a momentum" in trial.reason for trial in refused)
    assert {json.dumps(trial.settings) for trial in refused} <= {
        '{"optimizer.nesterov": true, "optimizer.momentum": 0}'
    }
    assert found.search.best.status == "finished"
    with pytest.raises(UsageError, match="nothing is held out"):
        searched(tmp_path / "none", settings=[*SETTINGS, "data.holdout=0"])
    assert not (tmp_path / "none").exists()


@needs_optuna
def test_the_command(photos, tmp_path, monkeypatch, resnets):
    monkeypatch.chdir(tmp_path)
    words = ["photos", "--model", "resnet8", "--set", "data.image_size=8", "--set", "batch_size=8"]
    words += ["--set", "schedule.epochs=1", "--set", "data.holdout=6"]
    code, out, err = resnets("tune", *words, "--trials", 2, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert [trial["status"] for trial in values["trials"]] == ["finished"] * 2
    assert list(values["space"]) == [
        *("optimizer.lr", "optimizer.weight_decay", "label_smoothing", "augment.policy")
    ]
    assert (tmp_path / "runs/photos-resnet8-tune/report.html").exists()
    code, out, err = resnets("tune", "--resume", "runs/photos-resnet8-tune", "--trials", 2)
    assert code == 0, err
    command = out.splitlines()[-1].removeprefix("train with: ")
    assert command == values["command"]
    assert resnets(*shlex.split(command)[1:])[0] == 0
    assert (tmp_path / "runs/photos-resnet8-default-tuned/run.json").exists()
    code, _, err = resnets("tune", *words, "--track", "wandbb")
    assert (code, 'no tracker is called "wandbb"' in err) == (2, True)
    code, _, err = resnets("tune", "photos", "--search", "optimizer.rate=1..2")
    assert (code, "there is no such setting" in err) == (2, True)


@needs_optuna
def test_from_weights_it_begins_by_the_recipe_that_training_means(tmp_path):
    """A search that an earlier version began by the default recipe goes on by that."""
    known = create_model(replace(NARROW, num_classes=5))
    known.preprocess = imagenet(3, known.spec.image_size)
    save_weights(known, tmp_path / "known.safetensors")
    options = {"weights": tmp_path / "known.safetensors", "search": ["label_smoothing=0,0.1"]}
    options["settings"] = [*SETTINGS, "schedule.epochs=1"]
    names = {}
    for out, recipe in (("auto", None), ("default", "default")):
        searched(tmp_path / out, 1, recipe=recipe, **options)
        found = searched(tmp_path / out, 2, resume="auto", **options)
        assert [trial.status for trial in found.search.trials] == ["finished"] * 2
        recipes = [load_recipe(tmp_path / out / f"trial-00{i}/recipe.yaml") for i in range(2)]
        names[out] = {each.name for each in recipes}
    assert names == {"auto": {"auto"}, "default": {"default"}}


@pytest.mark.skipif(find_spec("optuna") is not None, reason="Optuna is installed")
def test_without_optuna_it_says_what_to_install(tmp_path):
    with pytest.raises(ResourceError, match="takes Optuna, which is not installed") as caught:
        searched(tmp_path / "s")
    assert caught.value.hint == 'pip install "resnets[tune]"'
    assert not (tmp_path / "s").exists()
