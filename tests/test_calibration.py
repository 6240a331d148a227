"""Calibration: fitted on held-out images, carried by every file, applied by all that answer."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import resnets as package
from conftest import signal_at
from resnets.errors import CheckpointError, Stopped, UsageError
from resnets.evaluation.metrics import log_losses
from resnets.evaluation.temperature import fit_calibration
from resnets.weights.calibration import Calibration, Unknown
from resnets.weights.metadata import Metadata, read_metadata
from resnets.weights.outputs import probabilities


def _samples(count, classes=5, temperature=2.5, seed=0):
    """Return logits that are this many times too sure of themselves, and labels."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 1.5, (count, classes))
    labels = np.array([random.choice(classes, p=p) for p in probabilities(true, "softmax")])
    return true * temperature, labels


def test_the_temperature_by_which_logits_were_spoilt_is_found():
    logits, labels = _samples(20_000)
    found = fit_calibration(logits, labels)
    assert found.samples == 20_000
    assert found.temperature == pytest.approx(2.5, rel=0.02)


def test_no_other_temperature_is_likelier():
    logits, labels = _samples(500)
    found = fit_calibration(logits, labels)
    at_best = log_losses(found(logits), labels).mean()
    for factor in (0.999, 1.001):
        beside = replace(found, scale=(found.scale[0] * factor,))
        assert log_losses(beside(logits), labels).mean() > at_best


def test_a_vector_finds_a_scale_and_a_bias_for_each_class():
    logits, labels = _samples(10_000, classes=3, temperature=1.0)
    spoilt = logits * [2.0, 1.0, 0.5] + [1.0, 0.0, -1.0]
    found = fit_calibration(spoilt, labels, "vector")
    # A softmax does not see what is added to all logits.
    mended = np.add([1.0, 0.0, -1.0] * np.array(found.scale), found.bias)
    np.testing.assert_allclose(found.scale, [0.5, 1.0, 2.0], rtol=0.1)
    np.testing.assert_allclose(mended - mended.mean(), 0, atol=0.1)
    assert found.temperature is None


def test_several_classes_are_calibrated_by_their_own_losses():
    random = np.random.default_rng(0)
    true = random.normal(0, 2, (10_000, 3))
    targets = random.random(true.shape) < probabilities(true, "sigmoid")
    assert fit_calibration(true * 3, targets).temperature == pytest.approx(3, rel=0.05)
    found = fit_calibration(true * [3, 1, 1], targets, "vector")
    np.testing.assert_allclose(found.scale, [1 / 3, 1, 1], rtol=0.1)


@pytest.mark.parametrize("kind", ["temperature", "vector"])
def test_what_does_not_hold_beyond_its_own_images_is_not_kept(kind):
    logits, labels = _samples(60)
    assert fit_calibration(logits[:9], labels[:9], kind) is None  # too few to look beyond them
    sure = np.eye(5)[labels] * 4.0  # all correct: the likeliest temperature is zero
    assert fit_calibration(sure, labels, kind) is None
    calibrated, right = _samples(40, temperature=1.0, seed=3)
    found = fit_calibration(calibrated, right, "vector")
    assert found is None or found.samples == 40


def test_a_few_mistakes_do_not_make_everything_certain():
    """Two unsure mistakes of 150: the likeliest temperature makes all others all but certain."""
    random = np.random.default_rng(0)
    labels = random.integers(5, size=150)
    logits = np.eye(5)[labels] * random.uniform(3, 6, (150, 1))
    for place in (3, 77):
        logits[place] = np.eye(5)[(labels[place] + 1) % 5] * 0.1
    assert fit_calibration(logits, labels) is None
    many, all_labels = np.tile(logits, (5, 1)), np.tile(labels, 5)  # ten mistakes
    assert fit_calibration(many, all_labels).scale[0] > 2


def _written(calibration, classes=3):
    spec = package.get_spec("resnet20")
    metadata = Metadata(replace(spec, num_classes=classes), calibration=calibration)
    return metadata.to_text()


def test_metadata_carries_it():
    calibration = Calibration(7, (0.5,), (), Unknown("energy", -1.5, 0.05))
    for each in (calibration, Calibration(7, (1.0, 2.0, 3.0), (0.0, 0.5, -1.0)), None):
        text = _written(each)
        assert ("calibration" in json.loads(text)) == (each is not None)
        assert read_metadata("f", _as_export(text)).calibration == each


def _as_export(text, **calibration):
    values = json.loads(text)
    sizes = {"batch": "dynamic", "size": "dynamic"}
    values["export"] = {"input": "normalized", "precision": "float32", **sizes}
    if calibration:
        values["calibration"] |= calibration
    return json.dumps(values)


@pytest.mark.parametrize(
    "damage",
    [
        {"scale": []},
        {"scale": [1.0, 2.0]},
        {"scale": [0.0]},
        {"scale": [True]},
        {"scale": 2},
        {"scale": ["1"]},
        {"bias": [1.0]},
        {"samples": "many"},
        {"samples": -1},
        {"code": "x"},
        {"unknown": {"score": "luck", "threshold": 0, "false_alarms": 0.05}},
        {"unknown": {"score": "energy", "threshold": None, "false_alarms": 0.05}},
        {"unknown": {"score": "energy", "threshold": 0, "false_alarms": 5}},
        {"unknown": {"score": "energy"}},
        {"unknown": 1},
    ],
)
def test_a_damaged_calibration_is_one_line(damage):
    text = _as_export(_written(Calibration(7, (0.5,))), **damage)
    with pytest.raises(CheckpointError, match="its calibration is damaged"):
        read_metadata("f", text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return two runs of the same seed: one calibrated, one not."""
    folder = tmp_path_factory.mktemp("runs")
    settings = ["schedule.epochs=1", "batch_size=32", "data.holdout=0.3"]
    for name, calibrate in (("with", "temperature"), ("without", None)):
        package.train(
            "digits",
            model="resnet8",
            settings=settings,
            out=folder / name,
            calibrate=calibrate,
            quiet=True,
        )
    return folder


def test_a_run_is_calibrated_and_its_training_is_not_touched(runs):
    one, other = (package.open_model(runs / n) for n in ("with", "without"))
    assert one.calibration.temperature > 0
    assert one.calibration.samples == 431
    assert other.calibration is None
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    records = [json.loads((runs / n / "run.json").read_text()) for n in ("with", "without")]
    losses = [record["results"]["test"]["loss"] for record in records]
    assert losses[0] == losses[1]


def test_probabilities_are_those_of_the_temperature(runs, tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(path)
    (sure,) = package.predict(runs / "without", path, top=10)
    (calibrated,) = package.predict(runs / "with", path, top=10)
    model = package.open_model(runs / "with").eval()
    with torch.no_grad():
        logits = model(model.preprocess(path)).double() / model.calibration.temperature
    expected = logits.softmax(1).sort(descending=True).values[0].tolist()
    assert calibrated.probabilities == pytest.approx(expected, abs=1e-6)
    assert calibrated.classes == sure.classes
    assert calibrated.probabilities != pytest.approx(sure.probabilities, abs=1e-4)


def test_it_is_carried_on_and_dropped_with_the_classifier(runs, tmp_path):
    model = package.open_model(runs / "with")
    package.save_weights(model, tmp_path / "saved.safetensors")
    again = package.open_model(tmp_path / "saved.safetensors")
    assert again.calibration == model.calibration
    again.reset_classifier(10)
    assert again.calibration is None
    other = package.create_model(
        "resnet8", in_channels=1, weights=runs / "with", num_classes=7, head="drop"
    )
    assert other.calibration is None


def test_a_calibration_of_another_name_is_refused():
    with pytest.raises(UsageError, match='no calibration is called "magic"'):
        package.train("digits", model="resnet8", calibrate="magic")


def begun(folder, **ending):
    """A run that was stopped in its first step."""
    settings = ["schedule.iterations=2", "batch_size=32", "data.holdout=0.3"]
    with signal_at(1), pytest.raises(Stopped):
        package.train(
            "digits", model="resnet8", settings=settings, out=folder, quiet=True, **ending
        )
    return json.loads((folder / "run.json").read_text())


def test_a_run_ends_as_it_was_begun(tmp_path, resnets):
    """What is fitted in the end is no less a run's own than its recipe."""
    record = begun(tmp_path / "raw", calibrate=None)
    assert record["command"].endswith("--no-calibrate")
    code, _, err = resnets("train", "--resume", tmp_path / "raw")
    assert (code, "in the end as it was begun: --no-calibrate" in err) == (0, True)
    assert package.open_model(tmp_path / "raw").calibration is None
    record = begun(tmp_path / "vector", calibrate="vector", false_alarms=0.2)
    assert record["ending"] == {"calibrate": "vector", "false_alarms": 0.2}
    assert record["command"].endswith("--calibrate vector --false-alarms 0.2")
    package.train(resume=tmp_path / "vector", quiet=True, false_alarms=0.1)
    record = json.loads((tmp_path / "vector/run.json").read_text())
    assert record["ending"] == {"calibrate": "vector", "false_alarms": 0.1}
    begun(tmp_path / "usual")
    run = package.train(resume=tmp_path / "usual", quiet=True, calibrate=None)
    assert package.open_model(run.path).calibration is None
    (tmp_path / "odd").mkdir()
    for path in (tmp_path / "raw").iterdir():
        path.rename(tmp_path / "odd" / path.name)
    text = (tmp_path / "odd/run.json").read_text()
    changed = text.replace('"status": "finished"', '"status": "stopped"').replace('"none"', '"odd"')
    (tmp_path / "odd/run.json").write_text(changed)
    with pytest.raises(UsageError, match='no calibration is called "odd"'):
        package.train(resume=tmp_path / "odd", quiet=True)


def test_the_run_says_how_far_its_probabilities_hold(runs):
    record = json.loads((runs / "with" / "run.json").read_text())
    told = record["results"]["calibration"]
    assert (told["split"], told["samples"]) == ("test", 431)
    assert sum(told["before"]["reliability"]["counts"]) == record["results"]["test"]["samples"]
    assert told["before"]["log_loss"] == pytest.approx(record["results"]["test"]["loss"], abs=1e-6)
    assert told["after"]["log_loss"] < told["before"]["log_loss"]
    assert "calibration" not in json.loads((runs / "without" / "run.json").read_text())["results"]
    pages = [(runs / name / "report.html").read_text() for name in ("with", "without")]
    assert ["alibrated: temperature" in page for page in pages] == [True, False]


def test_who_converts_it_away_is_told(tmp_path, resnets):
    model = package.create_model("resnet18", num_classes=2)
    model.outputs, model.calibration = "softmax", Calibration(9, (0.5,))
    package.save_weights(model, tmp_path / "calibrated")
    for to, told in (("torchvision", True), ("native", False)):
        code, _, said = resnets("convert", tmp_path / "calibrated", tmp_path / to, "--to", to)
        assert (code, "no place for the model's calibration" in said) == (0, told)


def test_logits_may_be_a_tensor_of_a_graph():
    """As the model gives them."""
    calibration = Calibration(9, (2.0,), (0.5, -0.5))
    logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
    found = calibration(logits)
    assert found.dtype == np.float64
    assert np.array_equal(found, calibration(logits.detach().numpy()))
    assert np.array_equal(calibration(logits.half()), calibration(logits.detach().half().numpy()))
