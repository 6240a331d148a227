from pathlib import Path
from typing import Any

import pytest
from run_folders import summary, write_run

from resnets.report.sentence import comparisons, sentence
from resnets.run_folder.reading import RunRecord, read_run

SCORE = {"samples": 10000, "accuracy": 0.913, "loss": 0.3}


def cifar10(folder: Path, model: str = "resnet20", **changes: Any) -> RunRecord:
    parts = summary([str(i) for i in range(10)])
    values = {
        "model": {**parts["model"], "name": model},
        "data": {**parts["data"], "name": "cifar10"},
        "progress": {"step": 1200, "steps": 1200, "epoch": 3.4, "epochs": 3.4, "seconds": 3480},
        "results": {"test": SCORE},
        **changes,
    }
    return read_run(write_run(folder / "run", **values))


def test_the_sentence_that_matters(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert sentence(run) == (
        "resnet20 on digits: 97.8 % test accuracy, 30 epochs, 1 min 35 s on 2 CPU threads"
    )
    assert comparisons(run) == []


def test_a_stopped_run_says_how_far_it_came(tmp_path: Path) -> None:
    progress = {"step": 250, "steps": 630, "epoch": 11.97, "epochs": 30, "seconds": 38.2}
    folder = write_run(
        tmp_path / "run", epochs=11, status="stopped", progress=progress, results=None
    )
    assert sentence(read_run(folder)) == (
        "resnet20 on digits: 88.7 % held-out accuracy, stopped after 11.9 of 30 epochs, "
        "38 s on 2 CPU threads"
    )
    (folder / "metrics.jsonl").unlink()
    assert "no accuracy yet, stopped after" in sentence(read_run(folder))


def test_a_run_about_which_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1}')
    assert sentence(read_run(tmp_path)) == "unknown model on unknown data: no accuracy yet, unknown"


def test_a_gpu_is_named(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", environment={"device": "cuda:0", "threads": 8}))
    assert sentence(run).endswith("1 min 35 s on cuda:0")


def test_the_published_number_comes_with_its_budget(tmp_path: Path) -> None:
    assert comparisons(cifar10(tmp_path)) == [
        "published: 91.25 % (He et al. 2015, Table 6; 64,000 iterations, this run: 1,200); "
        "this run is 0.05 points above"
    ]


@pytest.mark.parametrize(
    ("accuracy", "text"),
    [(0.9125, "this run is level with it"), (0.8, "this run is 11.25 points below")],
)
def test_the_distance(tmp_path: Path, accuracy: float, text: str) -> None:
    run = cifar10(tmp_path, results={"test": {"samples": 10000, "accuracy": accuracy}})
    assert comparisons(run)[0].endswith(text)


def test_held_out_is_not_passed_off_as_test(tmp_path: Path) -> None:
    run = cifar10(tmp_path, results={"validation": SCORE})
    assert comparisons(run)[0].endswith("held-out split and not on the test set")


def test_protocol_and_epochs_are_stated(tmp_path: Path) -> None:
    (text,) = comparisons(cifar10(tmp_path, model="resnext29_8x64d"))
    assert "Xie et al. 2017, Table 7; mean of 10; 300 epochs, this run: 3.4" in text
