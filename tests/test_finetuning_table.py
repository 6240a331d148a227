"""results/finetuning.py: what is there is left alone, and what is kept is text without places."""

import json
import runpy
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import coloured, tiny_dataset
from resnets import Machine, train
from resnets.data.sources import open_listing

RESULTS = Path(__file__).parents[1] / "results"


@pytest.mark.slow
def test_two_ways_make_a_table(tmp_path, monkeypatch, capsys):
    for split, count in (("train", 8), ("validation", 2), ("test", 4)):
        for label, name in enumerate(("brick", "cork")):
            folder = tmp_path / "elsewhere/things" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                coloured(label, 100 * len(split) + number, 32).save(folder / f"{number}.png")
    (tmp_path / "all").mkdir()
    (tmp_path / "all/things").symlink_to(tmp_path / "elsewhere/things")
    settings = ("schedule.iterations=2", "batch_size=8", "augment.padding=1")
    known = tmp_path / "known"
    train(
        tiny_dataset(), model="resnet8", settings=settings, out=known, machine=Machine(quiet=True)
    )
    monkeypatch.syspath_prepend(RESULTS)
    main = runpy.run_path(str(RESULTS / "finetuning.py"))["main"]
    words = ["--weights", known, "--data", tmp_path / "all", "--sets", "things", "--size", "32"]
    words += [
        "--model",
        "resnet8",
        "--ways",
        "scratch,classifier,auto",
        "--set",
        "schedule.epochs=1",
    ]
    words += ["--runs", tmp_path / "runs", "--results", tmp_path / "results"]

    def call(seeds: int) -> str:
        monkeypatch.setattr(sys, "argv", ["", *map(str, words), "--seeds", str(seeds)])
        assert main() == 0
        return (tmp_path / "results/finetuning.txt").read_text()

    first = call(1)
    assert "resnet8 on things: 2 classes, 16 training, 4 held-out and 8 test images" in first
    assert "the classifier only              1" in first
    assert "auto: ours; chosen because a linear classifier" in first
    capsys.readouterr()
    assert "recipe auto                      2" in call(2)
    kept = tmp_path / "results/finetuning/things-resnet8-auto"
    assert json.loads((kept / "seed-1/run.json").read_text())["weights"]["source"].endswith(
        "/known"
    )
    assert str(tmp_path) not in "".join(f.read_text() for f in kept.rglob("*") if f.is_file())
    assert not list(tmp_path.glob("results/**/*.safetensors"))
    call(2)
    assert (
        not (tmp_path / "runs/finetuning/things-resnet8-auto.log").read_text().count("$ resnets")
        > 2
    )
    # A later seed that has been begun is neither kept nor counted.
    begun = tmp_path / "runs/finetuning/things-resnet8-auto/seed-2"
    shutil.copytree(begun.with_name("seed-1"), begun)
    record = json.loads((begun / "run.json").read_text())
    del record["results"]
    (begun / "run.json").write_text(json.dumps(record | {"status": "stopped"}))
    shutil.rmtree(kept)
    assert "recipe auto                      2" in call(2)
    assert not (kept / "seed-2").exists()


def test_auto_beside_the_best_that_was_always_the_same(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS)
    beside = runpy.run_path(str(RESULTS / "finetuning.py"))["beside_the_best"]

    def runs(*accuracies):
        return [{"results": {"test": {"accuracy": each}}} for each in accuracies]

    auto, lucky = runs(0.85, 0.81, 0.82), runs(0.99)  # of one seed nothing is told
    found = {"scratch": runs(0.7, 0.9, 0.8), "one_rate": lucky, "finetune": runs(0.83, 0.835)}
    (line,) = beside(found | {"auto": auto})
    assert line == (
        "auto's median is 1.2 points below the best other (recipe finetune); "
        "their seeds spread over 4.0 and 0.5"
    )
    (line,) = beside({"scratch": found["scratch"], "auto": auto})
    assert line.startswith("auto's median is 2.0 points above the best other (from scratch,")
    assert not [*beside({"one_rate": lucky, "auto": auto})]
    assert not [*beside(found)]


def test_a_table_of_labels_is_a_set_too(tmp_path, monkeypatch):
    """It is called as its folder, and the lines of shell that are told of make one."""
    monkeypatch.syspath_prepend(RESULTS)
    script = runpy.run_path(str(RESULTS / "finetuning.py"))
    files = {
        "train": ["Fruit/Apple/Red-Apple", "Fruit/Lemon"],
        "val": ["Fruit/Lemon"],
        "test": ["Fruit/Apple/Red-Apple"],
    }
    for split, folders in files.items():
        names = [f"{split}/{folder}/{number}.jpg" for number, folder in enumerate(folders)]
        (tmp_path / f"{split}.txt").write_text("".join(f"{name}, 3, 0\n" for name in names))
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            coloured(0, len(name), 8).save(tmp_path / name)
    shell = textwrap.dedent(script["__doc__"].split("FOLDER/grocery:\n")[1])
    subprocess.run(["sh", "-c", shell], cwd=tmp_path, check=True)
    listing = open_listing(tmp_path / "labels.csv")
    assert listing.splits == ("train", "validation", "test")
    assert listing.classes == ("Lemon", "Red-Apple")
    assert listing.labels.tolist() == [1, 0, 0, 1]
    for data in (tmp_path, tmp_path / "labels.csv"):
        trial = script["Trial"](data, "auto", "resnet18", "run", 1, ())
        assert trial.name == f"finetuning/{tmp_path.name}-resnet18-auto"
        assert trial.command(tmp_path, "cpu")[:2] == ["train", str(data)]
