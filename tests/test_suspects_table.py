"""results/suspects.py: planted errors are counted, copies under two labels come first."""

import runpy
from pathlib import Path

import pytest

from conftest import coloured, tiny_dataset
from resnets import Machine, train

RESULTS = Path(__file__).parents[1] / "results"


@pytest.mark.slow
def test_planted_errors_and_copies_make_a_table(tmp_path):
    for name in ("clothing", "trashnet"):
        for split, count in (("train", 16), ("validation", 4), ("test", 4)):
            for label, kind in enumerate(("brick", "cork", "dune")):
                folder = tmp_path / "all" / name / split / kind
                folder.mkdir(parents=True)
                for number in range(count):
                    coloured(label, 100 * len(split) + number, 32).save(folder / f"{number}.jpg")
    for kind in ("brick", "cork"):
        coloured(0, 1, 32).save(tmp_path / "all/trashnet/train" / kind / "twin.jpg")
    settings = ("schedule.iterations=2", "batch_size=8", "augment.padding=1")
    known = tmp_path / "known"
    train(
        tiny_dataset(), model="resnet8", settings=settings, out=known, machine=Machine(quiet=True)
    )
    words = ["--weights", known, "--data", tmp_path / "all", "--size", "32", "--folds", "2"]
    words += ["--model", "resnet8", "--set", "finetune={}", "--set", "batch_size=8"]
    words += ["--share", "0.1", "--runs", tmp_path / "runs", "--results", tmp_path / "results"]
    (tmp_path / "results").mkdir()
    assert runpy.run_path(str(RESULTS / "suspects.py"))["main"](list(map(str, words))) == 0
    text = (tmp_path / "results/suspects.txt").read_text()
    assert "60 training and held-out images at 32 pixels, of which 6 have a label" in text
    average = float(text.partition("models and neighbours (ours)")[2].split()[4])
    assert average > 0.5
    first = text.partition("the first of its suspects:\n\n")[2].splitlines()
    assert {line.split()[0] for line in first[:2]} == {
        "train/brick/twin.jpg",
        "train/cork/twin.jpg",
    }
