"""Several models on the same images: together, each beside the first, and what is kept of them.

The yardstick is worked out here from the logits of the networks, image by image.
"""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from exported import export
from resnets import evaluate, save_weights
from resnets.data import open_dataset
from resnets.errors import DataError
from resnets.evaluation.metrics import of_one
from resnets.inference.runtimes import open_runtime
from resnets.weights.calibration import Calibration
from test_assessment import NAMES, PREPARED, network, trees

COUNTS = dict.fromkeys(NAMES, 4)
COOL, HOT = Calibration(100, scale=(0.5,)), Calibration(100, scale=(1.7,))


def changed(seed: int, names=NAMES, calibration=None):
    """The network of test_assessment with another classifier, which may have another order."""
    model = network(names)
    with torch.no_grad():
        model.fc.weight += 0.3 * torch.randn(model.fc.weight.shape, generator=_generator(seed))
    model.calibration = calibration
    return model


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(model, files) -> np.ndarray:
    """Its probabilities of NAMES, calibrated."""
    with torch.no_grad():
        logits = model(PREPARED(files)).double()
    scale = model.calibration.scale[0] if model.calibration else 1
    p = (scale * logits).softmax(1).numpy()
    return p[:, [model.classes.index(name) for name in NAMES]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trees(tmp_path_factory.mktemp("data") / "photos", COUNTS)


@pytest.fixture(scope="module")
def models():
    return [changed(1, calibration=COOL), changed(2, tuple(reversed(NAMES))), changed(3)]


def test_together_they_answer_the_mean_of_their_probabilities(models, data):
    files = sorted(data.rglob("*.png"))
    labels = np.array([NAMES.index(file.parent.name) for file in files])
    each = [by_hand(model, files) for model in models]
    mean = sum(each) / 3
    found = evaluate(models, data)
    values = found.to_dict()
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)
    assert found.accuracy == (mean.argmax(1) == labels).mean()
    assert found.loss == pytest.approx(-np.log(mean[np.arange(28), labels]).mean(), abs=1e-6)
    best = np.argsort(-mean, 1)[:, :5]
    assert values["top5_accuracy"] == (best == labels[:, None]).any(1).mean()
    for key in ("log_loss", "brier", "ece"):
        assert values[key] == pytest.approx(of_one(mean, labels)[key], abs=1e-6)
    assert "calibration" not in values  # what it averages is calibrated already
    for member, p in zip(values["members"], each, strict=True):
        own = of_one(p, labels)
        assert member["accuracy"] == (p.argmax(1) == labels).mean()
        for key in ("log_loss", "brier", "ece"):
            assert member[key] == pytest.approx(own[key], abs=1e-6)
    shares = [member["accuracy"] for member in values["members"]]
    assert values["members_mean"]["accuracy"] == pytest.approx(sum(shares) / 3)


def test_each_is_compared_with_the_first(models, data):
    files = sorted(data.rglob("*.png"))
    labels = np.array([NAMES.index(file.parent.name) for file in files])
    right = [by_hand(model, files).argmax(1) == labels for model in models]
    values = evaluate(models, data).to_dict()
    assert "against_first" not in values["members"][0]
    for member, own in zip(values["members"][1:], right[1:], strict=True):
        against = member["against_first"]
        assert against["only_this"] == (own & ~right[0]).sum()
        assert against["only_first"] == (right[0] & ~own).sum()
        assert against["difference"] == pytest.approx(own.mean() - right[0].mean())
        assert against["interval"][0] <= against["difference"] <= against["interval"][1]
    assert values["against_first"]["samples"] == 28


def test_a_calibrated_model_says_what_it_was_before(data):
    model, raw = changed(1, calibration=HOT), changed(1)
    found, before = (evaluate(each, data).to_dict() for each in (model, raw))
    assert found["accuracy"] == before["accuracy"]
    assert found["loss"] == before["loss"]  # of the logits as they are, as ever
    assert found["log_loss"] != pytest.approx(before["log_loss"])
    assert found["calibration"]["scale"] == [1.7]
    for key in ("log_loss", "brier", "ece", "reliability"):
        assert found["uncalibrated"][key] == before[key]
    assert before["log_loss"] == pytest.approx(before["loss"], abs=1e-6)
    assert "uncalibrated" not in before


def test_without_logits_all_other_figures_are_there(data):
    """As of tens of thousands of classes, where they would take all memory."""
    whole = evaluate(changed(1), data)
    found, there = replace(whole, logits=None).to_dict(), whole.to_dict()
    gone = {"log_loss", "brier", "ece", "binning", "reliability"}
    assert found == {key: value for key, value in there.items() if key not in gone}


def test_both_roads_say_the_same(models, data, tmp_path):
    """An exported file goes through the folder, the network through the data set."""
    onnx = export(models[2], tmp_path / "model.onnx")
    exported, torchs = (evaluate(each, data).to_dict() for each in (onnx, models[2]))
    for key in ("brier", "ece", "log_loss", "f1_macro", "f1_weighted", "balanced_accuracy"):
        assert exported[key] == pytest.approx(torchs[key], abs=1e-5)
    classes = [[c["recall_interval"], c["precision_interval"], c["f1"]] for c in torchs["classes"]]
    assert classes == [
        [c["recall_interval"], c["precision_interval"], c["f1"]] for c in exported["classes"]
    ]
    mixed = evaluate([onnx, models[2]], data)
    assert mixed.accuracy == torchs["accuracy"]
    assert mixed.members[1].against.to_dict()["difference"] == 0


def trained_on(root, tmp_path, name: str, split_seed: int) -> None:
    """A file that says it was trained on these images, of which it held out a half."""
    known = open_dataset(root, side=18).fingerprint
    how = {"holdout": 0.5, "split_seed": split_seed, "broken": "error"}
    made = {"data": {"fingerprint": known}, "recipe": {"data": how}}
    save_weights(network(), tmp_path / f"{name}.safetensors", made=made)


def test_the_split_is_that_of_whoever_was_trained_on_the_data(models, data, tmp_path):
    """Also for an exported file of another model, and for a run that held out others."""
    for seed, name in enumerate("ab"):
        trained_on(data, tmp_path, name, seed)
    alone = evaluate(tmp_path / "a.safetensors", data)
    assert (alone.part, len(alone.labels)) == ("validation", 14)
    strange = export(models[2], tmp_path / "model.onnx")
    found = evaluate([strange, tmp_path / "a.safetensors", tmp_path / "b.safetensors"], data)
    assert found.part == "validation"
    assert sorted(found.images) == sorted(alone.images)
    assert found.members[1].accuracy == alone.accuracy
    assert found.notes == (
        "a.safetensors: measured on the held-out split of the data that the model was trained on: "
        "14 of 28 images",
        "b.safetensors: measured on the held-out split of another model, and so on images that it "
        "was trained on: 14 of 28 images",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((*NAMES[:-1], "yew"), "tell other classes apart: ginkgo, yew are known to one of them"),
        (NAMES[:-1], "tell other classes apart: ginkgo is known to one of them only"),
    ],
)
def test_models_of_other_classes_are_refused(data, names, message):
    with pytest.raises(DataError, match=message):
        evaluate([network(), network(names, len(names))], data)


def test_a_model_of_each_class_by_itself_is_no_member(data):
    sigmoid = changed(1)
    sigmoid.outputs = "sigmoid"
    with pytest.raises(DataError, match="model 2 answers each class by itself, model 1 one of all"):
        evaluate([changed(2), sigmoid], data)


def progress(seen: list):
    return lambda done, total: seen.append((done, total))


def test_what_is_kept_is_not_computed_again(models, data, tmp_path):
    files = []
    for number, model in enumerate(models):
        save_weights(model, tmp_path / f"{number}.safetensors")
        files.append(tmp_path / f"{number}.safetensors")
    whole = evaluate(files, data).to_dict()
    out, seen = tmp_path / "out", []
    first = evaluate(files[0], data, out=out, on_progress=progress(seen)).to_dict()
    assert seen[-1] == (28, 28)
    seen.clear()
    assert evaluate(files[:1], data, out=out, on_progress=progress(seen)).to_dict() == first
    assert seen == []  # nothing was computed, and what was kept says the same to the bit
    extended = evaluate(files, data, out=out, on_progress=progress(seen)).to_dict()
    assert seen[-1] == (56, 56)  # the two that were missing
    assert extended == whole
    seen.clear()
    renamed = tmp_path / "moved" / "again"
    shutil.copytree(data, renamed)
    evaluate(files, renamed, out=out, on_progress=progress(seen))
    assert seen == []  # the same images, wherever they are
    (renamed / "ash" / "0.png").write_bytes((renamed / "elm" / "0.png").read_bytes())
    evaluate(files[0], renamed, out=out, on_progress=progress(seen))
    assert seen[-1] == (28, 28)  # other images
    (renamed / "ash" / "0.png").rename(renamed / "elm" / "9.png")
    seen.clear()
    evaluate(files[0], renamed, out=out, on_progress=progress(seen))
    assert seen[-1] == (28, 28)  # other labels


def test_a_stop_loses_no_model_that_is_done(models, data, tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > 28:  # within the second
            raise Stop

    runtimes = [export(model, tmp_path / f"{i}.onnx") for i, model in enumerate(models)]
    with pytest.raises(Stop):
        evaluate(runtimes, data, out=tmp_path / "out", on_progress=stop)
    assert not (tmp_path / "out" / "evaluation.json").exists()
    seen: list = []
    evaluate(runtimes, data, out=tmp_path / "out", on_progress=progress(seen))
    assert seen[-1] == (56, 56)
    (kept,) = {path.suffix for path in (tmp_path / "out" / "scores").iterdir()}
    assert kept == ".npz"


def test_damaged_scores_are_computed_again(models, data, tmp_path):
    evaluate(models[0], data, out=tmp_path / "out")
    (file,) = (tmp_path / "out" / "scores").iterdir()
    for damaged in (file.read_bytes()[:-40], b"", b"PK\x03\x04 nothing"):
        file.write_bytes(damaged)
        seen: list = []
        evaluate(models[0], data, out=tmp_path / "out", on_progress=progress(seen))
        assert seen[-1] == (28, 28)


def test_what_is_kept_says_what_was_broken(tmp_path):
    """A large set is known by names and sizes: what is broken is found when it is read."""
    root = trees(tmp_path / "photos", COUNTS)
    known = open_dataset(root, side=18, content=False).fingerprint
    how = {"holdout": 0.5, "split_seed": 0, "broken": "skip", "broken_limit": 0.5}
    made = {"data": {"fingerprint": known}, "recipe": {"data": how}}
    save_weights(network(), tmp_path / "run.safetensors", made=made)
    whole = evaluate(tmp_path / "run.safetensors", root)
    gone = root / str(whole.images[3])
    gone.write_bytes(b"\0" * gone.stat().st_size)
    found, again = (
        evaluate(tmp_path / "run.safetensors", root, out=tmp_path / "out").to_dict()
        for _ in range(2)
    )
    assert found == again
    (broken,) = found["left_out"]["broken"]
    assert root / broken["path"] == gone
    assert found["samples"] == len(whole.labels) - 1


def test_a_folder_says_how_it_came_about(resnets, models, data, tmp_path):
    names = []
    for number, model in enumerate(models[:2]):
        save_weights(model, tmp_path / f"net-{number}.safetensors")
        names.append(tmp_path / f"net-{number}.safetensors")
    before = set(tmp_path.rglob("*"))
    code, out, err = resnets("evaluate", *names, data, "--json")
    assert (code, before) == (0, set(tmp_path.rglob("*"))), err  # nothing written
    code, told, _ = resnets("evaluate", *names, data, "--out", tmp_path / "out")
    assert code == 0
    assert re.search(r"2 models together: accuracy 0\.\d{4} \(95 % interval", told)
    assert re.search(r"net-1\S* .*[+-]\d+\.\d\d points \(\S+ to \S+\), p [=<] ", told)
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {**record, **json.loads(out)} == record  # the same figures
    digests = [open_runtime(name).digest() for name in names]
    assert [model["sha256"] for model in record["models"]] == digests
    assert len(record["data"]["sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "net-0.safetensors" in page
    assert "2 models together" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
