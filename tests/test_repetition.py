"""Several seeds: what is run, what is summarised, and what may be called a reproduction."""

import json
import os
import re
import shlex
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from conftest import at_step, coloured, signal_at, tiny_dataset
from resnets import get_spec
from resnets.cli.train import print_seeds
from resnets.errors import CheckpointError, Stopped, UsageError
from resnets.papers.paper_tables import FIGURES
from resnets.papers.published import Published
from resnets.run_folder.directory import RunFolder
from resnets.training.audit import audit
from resnets.training.recipe import load_recipe, read_recipe
from resnets.training.seeds import Comparison, differences, train_seeds
from resnets.training.train import train

RECIPE = load_recipe(
    "default", ["schedule.epochs=1", "batch_size=8", "data.holdout=10", "optimizer.lr=0.05"]
)  # five steps


def run(out, seeds=2, data=None, recipe=RECIPE, **options):
    data = data or tiny_dataset()
    return train_seeds(data, seeds, model="resnet8", recipe=recipe, out=out, quiet=True, **options)


@pytest.fixture
def folder(photos):
    """A folder of images, as a command needs it, and the settings that make runs of it short."""
    words = ["--model", "resnet8", "--set", "data.image_size=8", "--set", "data.holdout=3"]
    words += ["--set", "schedule.epochs=1", "--set", "batch_size=8", "--set", "augment.padding=1"]
    return [photos, *words]


def weights(path) -> list[dict[str, bytes]]:
    files = sorted(path.glob("seed-*/model.safetensors"))
    return [{k: t.numpy().tobytes() for k, t in load_file(file).items()} for file in files]


def test_seeds_are_plain_runs_and_are_summarised(tmp_path):
    found = run(tmp_path / "all", 3, recipe=load_recipe(RECIPE, ["seed=8"]))
    assert [r.path.name for r in found.runs] == ["seed-8", "seed-9", "seed-10"]
    plain = train(
        tiny_dataset(),
        model="resnet8",
        recipe=RECIPE,
        settings=["seed=9"],
        out=tmp_path / "9",
        quiet=True,
    )
    assert plain.results["test"] == found.runs[1].results["test"]
    records = [json.loads((r.path / "run.json").read_text()) for r in found.runs]
    accuracies = [record["results"]["test"]["accuracy"] for record in records]
    assert len(set(accuracies)) > 1
    values = json.loads((tmp_path / "all/seeds.json").read_text())
    assert values == found.to_dict()
    assert values["seeds"] == [
        {"seed": seed, "accuracy": accuracy, "run": f"seed-{seed}"}
        for seed, accuracy in zip(range(8, 11), accuracies, strict=True)
    ]
    assert (values["n"], values["part"]) == (3, "test")
    assert values["median"] == pytest.approx(np.median(accuracies), rel=1e-15)
    assert values["mean"] == pytest.approx(np.mean(accuracies), rel=1e-15)
    assert values["sd"] == pytest.approx(np.std(accuracies, ddof=1), rel=1e-12)
    assert values["best"] == max(accuracies)
    assert values["minutes"] == pytest.approx(
        sum(record["progress"]["seconds"] for record in records) / 60, abs=0.005
    )
    assert values["published"] == []
    page = found.report.read_text()
    assert all(r.path.name in page for r in found.runs)
    assert "3 seeds" in page


@pytest.mark.slow
def test_the_command_repeats_it(folder, tmp_path, resnets):
    resnets("train", *folder, "--seeds", 2, "--out", tmp_path / "my runs")
    command = json.loads((tmp_path / "my runs/seeds.json").read_text())["command"]
    assert resnets(*shlex.split(command)[1:])[0] == 0
    assert weights(tmp_path / "my runs") == weights(tmp_path / "my runs-again") != []


def test_stopped_and_going_on_by_its_hint(folder, tmp_path, resnets):
    words = ["train", *folder, "--seeds", 3, "--out"]
    with signal_at(5):  # of four steps a run
        code, _, err = resnets(*words, tmp_path / "a b")
    assert code == 75
    assert "seed 1, 2 of 3: stopped and saved at step 2" in err
    assert not (tmp_path / "a b/seed-2").exists()
    assert not (tmp_path / "a b/seeds.json").exists()
    finished = (tmp_path / "a b/seed-0/run.json").read_bytes()
    command = err.partition("resume with: ")[2].partition("\n")[0]
    code, _, err = resnets("train", "--resume", tmp_path / "a b")  # begun are two of three
    assert code == 2
    assert err.partition("resume with: ")[2] == command.replace("--seeds 3", "--seeds 2") + "\n"
    code, _, err = resnets(*shlex.split(command)[1:])
    assert code == 0, err
    assert (tmp_path / "a b/seed-0/run.json").read_bytes() == finished
    assert resnets(*words, tmp_path / "whole")[0] == 0
    whole, parts = (
        json.loads((tmp_path / name / "seeds.json").read_text()) for name in ("whole", "a b")
    )
    own = {"name", "minutes", "command"}
    assert {k: whole[k] for k in whole.keys() - own} == {k: parts[k] for k in parts.keys() - own}
    result = audit(tmp_path / "a b")
    assert result.ok, result.differences


def test_a_folder_of_seeds_where_a_run_is_meant(tmp_path, resnets):
    found = run(tmp_path / "all", 2)
    page = found.report.read_text()
    found.report.unlink()
    code, out, err = resnets("report", tmp_path / "all")
    assert (code, out, err) == (0, f"{found.report.resolve()}\n", "")
    assert found.report.read_text() == page
    coloured(0, 0, side=8).save(tmp_path / "0.png")
    for words in (["predict", found.path, tmp_path / "0.png"], ["inspect", found.path]):
        code, out, err = resnets(*words)
        assert (code, out) == (4, "")
        assert f"{found.path}: holds 2 runs of several seeds, where one run is meant" in err
        assert err.endswith(f" hint: give one of them, such as {found.path / 'seed-0'}\n")
    assert resnets("audit", found.path)[1].count(" 1 line that agrees with the ledger\n") == 2
    with pytest.raises(CheckpointError, match="2 runs of several seeds"):
        train(tiny_dataset(), resume=found.path)


def test_more_seeds_are_added(tmp_path):
    one = run(tmp_path / "runs", 1).to_dict()
    assert (one["n"], one["sd"], one["median"]) == (1, None, one["best"])
    before = (tmp_path / "runs/seed-0/run.json").read_bytes()
    assert run(tmp_path / "runs", 2, resume="auto").to_dict()["n"] == 2
    assert (tmp_path / "runs/seed-0/run.json").read_bytes() == before


def test_what_is_refused_leaves_everything(tmp_path):
    later = tmp_path / "runs/seed-1"
    later.mkdir(parents=True)
    (later / "run.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    for options, words in (
        ({"seeds": 0}, "0 seeds are none"),
        ({"seeds": -1}, "-1 seeds are none"),
        ({"resume": str(later)}, "is one run, and cannot be resumed as 2 seeds"),
        ({"resume": str(tmp_path / "runs")}, "runs holds several runs, and cannot be resumed as 2"),
        ({"out": tmp_path / "run"}, "is a run itself"),
        ({}, "seed-1: there is a run in it already"),
        ({"recipe": load_recipe(RECIPE, [f"seed={2**63 - 1}"])}, "seed: Input should be less"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            run(**{"out": tmp_path / "runs", **options})
        assert caught.value.hint
    with pytest.raises(UsageError, match="there is no data"):
        train_seeds(None, out=tmp_path / "runs")
    assert not (tmp_path / "runs/seed-0").exists()


def test_overwriting_replaces_all_seeds_before_the_first(tmp_path):
    run(tmp_path / "runs", 2)
    (tmp_path / "runs/seed-1/notes.txt").write_text("mine")
    with at_step(0, lambda: sys.exit(9)), pytest.raises(SystemExit):
        run(tmp_path / "runs", 2, overwrite=True)
    assert not (tmp_path / "runs/seed-1/run.json").exists()
    run(tmp_path / "runs", 2, resume="auto", overwrite=True)
    assert (tmp_path / "runs/seed-1/notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_overwriting_that_is_stopped_goes_on_with_the_new_recipe(tmp_path):
    run(tmp_path / "runs", 2)
    (tmp_path / "runs/seed-1/notes.txt").write_text("mine")
    other = load_recipe(RECIPE, ["optimizer.lr=0.1"])
    with signal_at(2), pytest.raises(Stopped):
        run(tmp_path / "runs", 2, recipe=other, overwrite=True)
    assert {path.name for path in (tmp_path / "runs/seed-1").iterdir()} <= {"notes.txt", ".lock"}
    (tmp_path / "runs/seed-1/notes.txt").unlink()
    run(tmp_path / "runs", 2, recipe=other, resume="auto")
    run(tmp_path / "new", 2, recipe=other)
    results = [
        json.loads((tmp_path / n / "seeds.json").read_text())["seeds"] for n in ("runs", "new")
    ]
    assert results[0] == results[1]
    assert audit(tmp_path / "runs").ok


def test_without_a_test_part_the_held_out_part_is_meant(folder, tmp_path, resnets):
    words = ["train", *folder, "--seeds", 2]
    code, out, _ = resnets(*words, "--out", tmp_path / "runs")
    assert code == 0
    assert "3 images of the held-out split, as there is no test split" in out
    values = json.loads((tmp_path / "runs/seeds.json").read_text())
    record = json.loads((tmp_path / "runs/seed-1/run.json").read_text())
    assert values["part"] == "validation"
    assert values["seeds"][1]["accuracy"] == record["results"]["validation"]["accuracy"]
    code, out, err = resnets(*words, "--set", "data.holdout=0", "--out", tmp_path / "none")
    assert (code, out) == (0, "")
    assert "no accuracy" in err
    values = json.loads((tmp_path / "none/seeds.json").read_text())
    assert [values[key] for key in ("part", "median", "mean", "sd", "best")] == [None] * 5
    assert audit(tmp_path / "runs").ok
    assert audit(tmp_path / "none").ok


class Asking:
    """Images whose first reading asks the process to stop."""

    def __init__(self, images, number):
        self.images, self.number = images, number
        self.shape, self.names = images.shape, images.names

    def __len__(self):
        return len(self.images)

    def batch(self, ids):
        if self.number is not None:
            number, self.number = self.number, None
            os.kill(os.getpid(), number)
        return self.images.batch(ids)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_after_the_last_step_lets_a_run_finish_and_no_other_begin(tmp_path, number, code):
    data = tiny_dataset()
    data = replace(data, test=replace(data.test, images=Asking(data.test.images, number)))
    settings = ["schedule.iterations=1", "data.holdout=10"]
    with pytest.raises(Stopped, match="stopped after seed 0, 1 of 2") as caught:
        train_seeds(data, 2, model="resnet8", settings=settings, out=tmp_path / "runs", quiet=True)
    assert caught.value.exit_code == code
    assert json.loads((tmp_path / "runs/seed-0/run.json").read_text())["status"] == "finished"
    assert not (tmp_path / "runs/seed-1").exists()


def test_the_table(tmp_path, capsys):
    """Accuracies 0.80, 0.90, 0.85: the figures are these by hand."""
    settings = ["schedule.iterations=1", "data.holdout=10", "optimizer.lr=0.05"]
    found = train_seeds(
        replace(tiny_dataset(), name="cifar10"),
        3,
        model="resnet20",
        recipe="he2015_cifar",
        settings=settings,
        out=tmp_path / "runs",
        quiet=True,
    )
    for run, accuracy in zip(found.runs, (0.80, 0.90, 0.85), strict=True):
        run.results["test"]["accuracy"] = accuracy
    print_seeds(found, as_json=False)
    out = capsys.readouterr().out
    title, _, *rows, verdict = out.splitlines()
    rows, cautions = rows[:4], rows[4:]
    assert title.startswith("resnet20 on cifar10 by he2015_cifar, 3 seeds, ")
    assert title.endswith(", 20 images of the test split")
    assert [" ".join(row.split()) for row in rows] == [
        "median 15.00 % 85.00 % 95 % interval 64.0 to 94.8 % for one run",
        "mean ± sd 15.00 % ± 5.00 85.00 % ± 5.00",
        "best 10.00 % 90.00 %",
        "published 8.75 % 91.25 % He et al. 2015, Table 6 (test)",
    ]
    # After a single step, as far as that has come on this machine.
    one_answer = r"the model answers (top|bottom) for (18|19|20) of 20 images"
    assert all(re.fullmatch(f"seed [012]: {one_answer}", line) for line in cautions)
    assert verdict == (
        "not a reproduction of He et al. 2015, Table 6: 1 iteration, not 64,000; a data set called "
        "cifar10, not cifar10's own files; data.holdout 10, not 5000; optimizer.lr 0.05, not 0.1"
    )
    (row,) = json.loads((tmp_path / "runs/seeds.json").read_text())["published"]
    assert (row["error_percent"], row["source"]) == (8.75, "He et al. 2015, Table 6")
    assert row["reproduction"] is False
    assert verdict.endswith("; ".join(row["differences"]))


PAPER = Published(
    "Tiny 2020", "1", "cifar10", "test", "resnet8", 9.0, iterations=5, batch=8, recipe="tiny"
)


def compared(tmp_path, row=PAPER, paper=RECIPE, **data):
    """The differences of runs by RECIPE from a row whose paper trained by ``paper``."""
    schedule = paper.schedule.model_copy(
        update={"epochs": row.epochs, "iterations": row.iterations}
    )
    file = tmp_path / "tiny.yaml"
    file.write_text(
        paper.model_copy(update={"schedule": schedule})
        .to_yaml()
        .replace("mirror: auto", "mirror: false")
    )
    row = replace(row, recipe=row.recipe and str(file))
    own = replace(tiny_dataset(), name="cifar10", **data)
    runs = run(tmp_path / "cifar10", data=own, resume="auto").runs
    folder = RunFolder(runs[0].path)
    found = differences(row, folder.read_record(), read_recipe(folder.recipe), len(runs))
    comparison = Comparison(row, tuple(found))
    assert comparison.to_dict()["reproduction"] == (not comparison.differences)
    return list(comparison.differences)


def test_a_reproduction_is_one_and_nothing_else_is(tmp_path):
    def apart(row=PAPER, **options):
        found = compared(tmp_path, row, **options)
        found.remove("a data set called cifar10, not cifar10's own files")
        return found

    assert apart() == []
    assert apart(replace(PAPER, iterations=6)) == ["5 iterations, not 6"]
    assert apart(replace(PAPER, iterations=None, epochs=2)) == ["1 epoch, not 2"]
    assert apart(replace(PAPER, iterations=None, epochs=1)) == []
    assert apart(replace(PAPER, batch=16)) == ["batches of 8, not 16"]
    assert apart(replace(PAPER, protocol="median of 2")) == []
    assert apart(replace(PAPER, protocol="median of 5")) == ["2 runs, not the median of 5"]
    assert apart(replace(PAPER, protocol="10-crop")) == ["measured on one crop, not on ten"]
    assert apart(replace(PAPER, recipe="")) == [
        "no recipe of the paper to compare the settings with"
    ]
    paper = load_recipe(RECIPE, ["optimizer.nesterov=false", "ema=0.9", "data.split_seed=3"])
    assert apart(paper=paper) == ["ema 0.0, not 0.9", "optimizer.nesterov True, not False"]


def test_a_held_out_part_is_no_test_part(tmp_path):
    *_, last = compared(tmp_path, test=None)
    assert last == "measured on the held-out split, not on the test split"


def test_a_row_without_a_figure_is_left_out(tmp_path):
    data = replace(tiny_dataset(), name="cifar10")
    for figure in (True, False):
        row = next(
            row
            for row in FIGURES
            if row.dataset == data.name and (row.error_percent is not None) == figure
        )
        found = train_seeds(
            data,
            1,
            model=replace(get_spec("resnet8"), name=row.model),
            recipe=RECIPE,
            out=tmp_path / str(figure),
            quiet=True,
        )
        assert bool(found.comparisons) == figure


def test_the_audit_compares_the_seeds(tmp_path, resnets):
    run(tmp_path / "runs", 2)
    code, out, _ = resnets("audit", tmp_path / "runs")
    assert code == 0
    assert (
        out.splitlines()[1].split("ok")[-1].strip()
        == "2 runs that differ in nothing but their seed"
    )
    assert out.count("every one exactly once") == 2
    values = json.loads((tmp_path / "runs/seeds.json").read_text())
    values["seeds"][0]["accuracy"] = 0.999
    (tmp_path / "runs/seeds.json").write_text(json.dumps(values))
    train(
        tiny_dataset(),
        model="resnet8",
        recipe=load_recipe(RECIPE, ["optimizer.lr=0.1", "seed=1"]),
        out=tmp_path / "runs/seed-1",
        overwrite=True,
        quiet=True,
    )
    result = audit(tmp_path / "runs")
    assert not result.ok
    assert all(seed.ok for seed in result.seeds)
    assert "seeds: seed-1: another recipe than seed-0" in result.differences
    assert any("seeds.json: seed-0: accuracy is 0.999, not" in d for d in result.differences)
    assert resnets("audit", tmp_path / "runs")[0] == 4


def test_only_the_first_process_summarises(folder, tmp_path, monkeypatch, resnets):
    monkeypatch.setenv("RANK", "1")
    words = ["train", *folder, "--seeds", 1, "--out", tmp_path / "runs"]
    code, out, err = resnets(*words)
    assert (code, out) == (0, "")
    assert "look at" not in err
    assert not (tmp_path / "runs/seeds.json").exists()
