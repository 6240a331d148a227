"""Run folders from strangers: nothing is waited for, and nothing outside of them is written."""

import os
import shutil
import sys
from pathlib import Path

import pytest

KEPT = Path(__file__).parents[1] / "compatibility" / "schema-1"
PICTURE = KEPT / "pictures" / "apple" / "1.png"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="without pipes that have names")


def run_with(tmp_path, name, kind="finished"):
    """A copy of a run with a pipe in place of one of its files."""
    run = Path(shutil.copytree(KEPT / kind, tmp_path / "run"))
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    return run


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml", "metrics.jsonl", "ledger.jsonl"])
def test_a_pipe_in_place_of_a_record(tmp_path, resnets, name):
    run = run_with(tmp_path, name)
    code, _, err = resnets("audit", run)
    assert code == 4
    assert "it is a named pipe, not a file" in err
    if name != "ledger.jsonl":  # which a page does not need
        code, _, err = resnets("report", run)
        assert code == 4
        assert err.startswith("error: ")


def test_a_pipe_in_place_of_weights(tmp_path, resnets):
    run = run_with(tmp_path, "model.safetensors")
    for words in (["audit", run], ["inspect", run], ["verify", run], ["predict", run, PICTURE]):
        code, _, err = resnets(*words)
        assert code == 4, words
        assert "not a file" in err or "neither a file nor a folder" in err or "not good" in err
    (state,) = (KEPT / "stopped" / "state").iterdir()
    stopped = run_with(tmp_path / "other", f"state/{state.name}", "stopped")
    resumed = ["train", KEPT / "pictures", "--resume", stopped]  # wherever its images were
    for words in (["predict", stopped, PICTURE], resumed):
        code, _, err = resnets(*words)
        assert code == 4, words
        assert "it is a named pipe, not a file" in err
    (stopped / "data.json").unlink()
    os.mkfifo(stopped / "data.json")
    assert resnets("predict", stopped, PICTURE)[0] == 4


@pytest.mark.parametrize("name", ["f.onnx", "f.pt2", "f.bin", "f.safetensors", "f.pth", "f.h5"])
def test_a_pipe_in_place_of_a_model(tmp_path, resnets, name):
    os.mkfifo(tmp_path / name)
    model = tmp_path / name
    if name == "f.bin":
        model = Path(shutil.copy(KEPT / "exported.xml", tmp_path / "f.xml"))
    for words in (["predict", model, PICTURE], ["inspect", model]):
        code, _, err = resnets(*words)
        assert code == 4, words
        assert err.startswith("error: ")


def test_links_in_a_run_are_replaced_and_not_followed(tmp_path, resnets, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # it takes seconds to load
    run = Path(shutil.copytree(KEPT / "stopped", tmp_path / "run"))
    shutil.copytree(KEPT / "pictures", tmp_path / "pictures")
    outside = tmp_path / "outside"
    outside.mkdir()
    names = [path.name for path in run.iterdir() if path.is_file()]
    names += ["report.html", "model.safetensors", "model.onnx", "model.onnx.certificate.json"]
    for name in names:
        content = (run / name).read_bytes() if (run / name).exists() else b"somebody's"
        (outside / name).write_bytes(content)
        (run / name).unlink(missing_ok=True)
    for name in set(names) - {"model.safetensors"}:
        (run / name).symlink_to(outside / name)
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    assert resnets("report", run)[0] == 0
    resnets("train", tmp_path / "pictures", "--resume", run)
    (run / "model.safetensors").unlink(missing_ok=True)
    shutil.copy(KEPT / "finished" / "model.safetensors", run)
    assert resnets("export", run, "--images", PICTURE.parent, "--overwrite")[0] == 0
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    assert not (run / "report.html").is_symlink()
    assert not (run / "model.onnx").is_symlink()


def test_a_lock_that_leads_elsewhere_is_refused(tmp_path, resnets):
    run = Path(shutil.copytree(KEPT / "stopped", tmp_path / "run"))
    (tmp_path / "theirs").write_text("somebody's", "utf-8")
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(tmp_path / "theirs")
    code, _, err = resnets("train", KEPT / "pictures", "--resume", run)
    assert code == 7
    assert "error: " in err
    assert (tmp_path / "theirs").read_text("utf-8") == "somebody's"
