"""Files that earlier versions wrote, one of each kind, open and mean what they meant."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from resnets.errors import CheckpointError, UsageError
from resnets.files import partial_of
from resnets.inference.embedding import embed_folder
from resnets.inference.prediction_table import predict_table
from resnets.models import open_model
from resnets.report.page import write_report
from resnets.training.audit import audit
from resnets.training.train import train

KEPT = Path(__file__).parent / "compatibility" / "schema-1"
FIRST = KEPT.parent / "schema-0" / "finished"
CHANGED = 1_700_000_000  # when the images were, which tells them from others
# What outputs mean was not written down.
pytestmark = pytest.mark.filterwarnings("ignore:nothing says what its outputs mean")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A copy of the files to work in."""
    shutil.copytree(KEPT, tmp_path / "kept")
    monkeypatch.chdir(tmp_path / "kept")
    for picture in Path("pictures").rglob("*.png"):
        os.utime(picture, (CHANGED, CHANGED))
    return tmp_path / "kept"


@pytest.fixture
def first(tmp_path):
    """A copy of a run of the first version, which kept no ledger."""
    return Path(shutil.copytree(FIRST, tmp_path / "first"))


def lines(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_runs_report_and_audit(kept):
    for run in ("finished", "seeds"):
        found = audit(run)
        assert found.ok, found.differences
    page = write_report([Path("finished")]).read_text("utf-8")
    assert "resnet8" in page
    assert "basil/2.png" in page
    assert "basil/broken.png" in page
    compared = write_report([Path("seeds/seed-0"), Path("seeds/seed-1")], Path("both.html"))
    assert "2 seeds" in compared.read_text("utf-8")


def test_a_stopped_run_goes_on(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # it takes seconds to load
    before = lines("stopped/metrics.jsonl")
    run = train("pictures", resume="stopped", quiet=True)
    after = lines("stopped/metrics.jsonl")
    assert after[: len(before)] == before
    assert after[-1]["step"] == 6
    assert run.results["validation"]["samples"] == 3
    assert open_model("stopped").preprocess.version == 1  # cut as it was before the stop
    found = audit("stopped")
    assert found.ok, found.differences


@pytest.mark.parametrize("text", ["{", "[" * 50_000 + "]" * 50_000])
def test_a_run_that_does_not_say_how_its_pictures_were_cut_does_not_go_on(kept, text):
    Path("stopped/data.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"data\.json.* damaged"):
        train("pictures", resume="stopped", quiet=True)


def in_todays_words(text: str | None) -> str | None:
    return text and text.replace("not a picture", "not an image")


@pytest.mark.parametrize(
    "model",
    ["finished", "weights.safetensors", "exported.onnx", "exported.xml", "exported.pt2"],
)
def test_models_answer_as_they_did(kept, model):
    predict_table(model, "pictures", "again.jsonl", top=2)
    for now, then in zip(lines("again.jsonl"), lines("predictions.jsonl"), strict=True):
        assert now.keys() == then.keys()
        assert now["path"] == then["path"]
        assert now.get("error") == in_todays_words(then.get("error"))
        for one, other in zip(now.get("predictions", ()), then.get("predictions", ()), strict=True):
            assert one["class"] == other["class"]
            assert one["probability"] == pytest.approx(other["probability"], abs=2e-5)


def test_weights_say_what_they_are(kept):
    for path in ("finished", "weights.safetensors"):
        model = open_model(path)
        assert model.spec.widths == (2, 4, 4)
        assert model.classes == ("apple", "basil", "ceramic")
        assert model.preprocess.size == 8


def test_tables_that_were_begun_go_on(kept):
    model = open_model("weights.safetensors")
    journal = partial_of(Path("begun.csv"))
    job, *done = lines(journal)
    job["runtime"] = (
        f"torch {torch.__version__}"  # the results of another may differ in the last digit
    )
    journal.write_text("".join(json.dumps(line) + "\n" for line in (job, *done)), "utf-8")
    assert predict_table(model, "pictures", "begun.csv", top=2).resumed == 8
    then = in_todays_words(Path("predictions.csv").read_text("utf-8"))
    assert Path("begun.csv").read_text("utf-8") == then

    assert embed_folder(model, "pictures", "begun.npz").resumed == 16
    with np.load("begun.npz") as now, np.load("embeddings.npz") as then:
        assert now["paths"].tolist() == then["paths"].tolist()
        np.testing.assert_allclose(now["embeddings"], then["embeddings"], rtol=1e-5, atol=1e-6)
    assert not list(kept.glob(".begun*"))


def test_a_stop_while_what_was_begun_changes_its_form(kept):
    def stop(done, total):
        raise KeyboardInterrupt

    model, journal = open_model("weights.safetensors"), partial_of(Path("begun.npz"))
    (journal / "000000000.safetensors").unlink()
    with pytest.raises(KeyboardInterrupt):
        embed_folder(model, "pictures", "begun.npz", on_progress=stop)
    aside = journal.with_name(f"{journal.name}.earlier")
    assert not aside.exists()
    aside.mkdir()
    journal.rename(aside / "journal")
    assert embed_folder(model, "pictures", "begun.npz").resumed == 16
    assert not list(kept.glob(".begun.npz*"))


def test_a_chunk_that_is_damaged_is_made_again(kept):
    (chunk,) = partial_of(Path("begun.npz")).glob("*.safetensors")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert embed_folder(open_model("weights.safetensors"), "pictures", "begun.npz").resumed == 0
    with np.load("begun.npz") as now, np.load("embeddings.npz") as then:
        np.testing.assert_allclose(now["embeddings"], then["embeddings"], rtol=1e-5, atol=1e-6)
    assert not list(kept.glob(".begun.npz*"))


def test_a_run_of_the_first_version_is_older_and_not_at_fault(first):
    found = audit(first)
    assert found.ok, found.differences
    older = {check.name for check in found.checks if "older version" in check.found}
    assert older == {"samples", "steps", "metrics", "sessions"}
    assert "digits" in write_report([first]).read_text("utf-8")
    predict_table(first, KEPT / "pictures" / "apple" / "1.png", first / "now.jsonl", top=2)
    (answer,) = lines(first / "now.jsonl")
    assert answer["predictions"] == [
        {"class": "8", "probability": 0.117296},
        {"class": "6", "probability": 0.113223},
    ]


def test_faults_of_a_run_of_the_first_version_are_found(first):
    whole = (first / "model.safetensors").read_bytes()
    (first / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (fault,) = audit(first).differences
    assert "weights" in fault
    with pytest.raises(CheckpointError, match="damaged"):
        open_model(first)


@pytest.mark.parametrize("missing", ["ledger", "sittings"])
def test_a_later_run_with_something_removed_is_not_older(kept, missing):
    if missing == "ledger":
        Path("finished/ledger.jsonl").unlink()
    else:
        record = json.loads(Path("finished/run.json").read_text("utf-8"))
        del record["sittings"]
        Path("finished/run.json").write_text(json.dumps(record), "utf-8")
    assert not audit("finished").ok


def test_tables_that_a_newer_version_has_begun_are_left_to_it(kept):
    journal, job = partial_of(Path("begun.csv")), partial_of(Path("begun.npz")) / "job.json"
    first, *done = lines(journal)
    newer = [{"version": 2, **first}, *done]
    journal.write_text("".join(json.dumps(line) + "\n" for line in newer), "utf-8")
    job.write_text(json.dumps({"version": 2, **json.loads(job.read_text("utf-8"))}), "utf-8")
    before = journal.read_bytes(), job.read_bytes()
    for work, out in ((predict_table, "begun.csv"), (embed_folder, "begun.npz")):
        with pytest.raises(UsageError, match="another version") as caught:
            work(open_model("weights.safetensors"), "pictures", out)
        assert "--overwrite" in caught.value.hint
    assert (journal.read_bytes(), job.read_bytes()) == before
    assert predict_table("weights.safetensors", "pictures", "begun.csv", overwrite=True).images
