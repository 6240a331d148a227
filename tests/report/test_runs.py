import json
from pathlib import Path

import pytest
from run_folders import write_run

from resnets.errors import CheckpointError
from resnets.run_folder.reading import is_image, read_run


def test_a_complete_run_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "data.json").write_text('{"skipped": [{"path": "a.jpg", "reason": "truncated"}]}')
    run = read_run(folder)
    assert run.path == folder
    assert (run.model.name, run.model.parameters, run.data.test) == ("resnet20", 269434, 360)
    assert run.model.stages[1].output == (16, 32, 32)
    assert run.results.test is not None
    assert run.results.test.accuracy == pytest.approx(352 / 360)
    assert [epoch.epoch for epoch in run.epochs] == list(range(1, 31))
    assert run.settings["optimizer.lr"] == 0.05
    assert len(run.mistakes) == 12
    assert run.skipped[0].path == "a.jpg"
    assert run.notes == ()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1, "status": "running"}')
    run = read_run(tmp_path)
    assert (run.name, run.epochs, run.mistakes, run.results.test) == (tmp_path.name, (), (), None)
    missing = ("metrics.jsonl", "mistakes.json", "recipe.yaml")
    assert all(any(name in note for note in run.notes) for name in missing)


def test_null_is_missing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", model=None, seed=None, results={"test": None})
    run = read_run(folder)
    assert (run.model.name, run.seed, run.results.test) == ("unknown model", None, None)


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", epochs=3)
    metrics = folder / "metrics.jsonl"
    for cut in (10, 60, 1):  # within a key, within a number, the brace
        text = metrics.read_text().rstrip()
        metrics.write_text(text[:-cut])
        run = read_run(folder)
        assert len(run.epochs) == 2
        assert any("half-written" in note for note in run.notes)
        metrics.write_text(text + "\n")


def test_a_broken_line_within_is_an_error_with_its_number(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", epochs=3)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[1] = lines[1][:-5]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match="line 2"):
        read_run(folder)


def test_epochs_written_again_after_a_resume_replace_the_first_ones(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", epochs=4)
    again = {"epoch": 3, "step": 63, "train_loss": 9.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    run = read_run(folder)
    assert [epoch.epoch for epoch in run.epochs] == [1, 2, 3]
    assert run.epochs[-1].train_loss == 9.0


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_what_is_no_number_is_missing(tmp_path: Path, number: str) -> None:
    folder = write_run(tmp_path / "run", epochs=1)
    (folder / "metrics.jsonl").write_text(f'{{"epoch": 1, "step": 5, "train_loss": {number}}}\n')
    assert read_run(folder).epochs[0].train_loss is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "schema_version"),
        ("{}", "schema_version"),
        ('{"schema_version": 2}', "schema version 2"),
        ('{"schema_version": 1, "model": {"parameters": "many"}}', "model.parameters"),
        ('{"schema_version": 1, "results": {"test": {"accuracy": 98.9}}}', "results.test"),
        ('{"schema_version": 1, "results": {"test": {"confusion": [[1, 2]]}}}', "results.test"),
    ],
)
def test_a_bad_run_json_is_one_line_and_a_hint(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_run(tmp_path)
    assert "\n" not in caught.value.message
    assert "run.json" in caught.value.message
    assert caught.value.hint


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        read_run(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["mistakes.json", "data.json", "recipe.yaml"])
def test_damage_names_its_file(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_text("{[")
    with pytest.raises(CheckpointError, match=name):
        read_run(folder)
    (folder / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=name):
        read_run(folder)


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", True),
        ("data:image/png;base64,iVBORw0KGg", False),
        ("data:image/svg+xml;base64,PHN2Zz4=", False),
        ("https://example.com/x.png", False),
        ("data:image/png;base64,", False),
        ('data:image/png;base64,AAAA" onerror="x', False),
    ],
)
def test_only_embedded_pictures_count(address: str, good: bool) -> None:
    assert is_image(address) is good
