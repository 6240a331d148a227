"""Exports of calibrated networks: probabilities and the unknown score are in the graph."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from networks import NAMES, TARGETS, network

from conftest import coloured
from resnets import create_model, export, open_model, predict
from resnets.data.preprocess import identity
from resnets.errors import ExportError, UsageError
from resnets.exporting.answers import check_answers
from resnets.exporting.examples import Examples
from resnets.exporting.plan import plan_export
from resnets.exporting.raw_pixels import Feed
from resnets.inference.runtimes import open_runtime
from resnets.inference.runtimes.openvino_runtime import core
from resnets.weights.calibration import Calibration, Unknown

ENERGY, MAX_LOGIT = (Unknown(score, -1.0, 0.05) for score in ("energy", "max_logit"))
TEMPERATURE = Calibration(100, (0.37,), unknown=ENERGY)
VECTOR = Calibration(100, (0.5, 1.25, 0.75), (0.5, -0.25, -0.25), MAX_LOGIT)
ALONE = {"outputs": "sigmoid", "thresholds": (0.3, 0.5, 0.7)}
PLAIN = {"score": "energy", "threshold": 0.0}


def calibrated(calibration, **other):
    model = network()
    model.calibration = calibration
    for name, value in other.items():
        setattr(model, name, value)
    return model


def binary():
    """One output of which both classes have a name."""
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=1, image_size=16).eval()
    model.preprocess, model.classes, model.outputs = identity(3, 16), ("no", "yes"), "sigmoid"
    model.calibration = Calibration(9, (1.5,), (0.25,), ENERGY)
    return model


def in_torch(model, images):
    """What is right, in double precision by torch: logits, probabilities, unknown score."""
    calibration = model.calibration
    with torch.no_grad():
        logits = model.double()(images.double())
    model.float()
    values = logits * torch.tensor(calibration.scale, dtype=torch.float64)
    values = values + torch.tensor(calibration.bias or [0.0], dtype=torch.float64)
    if model.spec.num_classes == 1:
        values = torch.cat([-values, values], 1)
    p = values.sigmoid() if model.outputs == "sigmoid" else values.softmax(1)
    if calibration.unknown is None:
        return logits, p
    energy = calibration.unknown.score == "energy"
    return logits, p, -(logits.exp().sum(1).log() if energy else logits.max(1).values)


def in_file(path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a runtime says of an exported file, without resnets."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(None, {"images": images}), strict=True))
    if path.suffix == ".xml":
        found = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
        return {output.get_any_name(): found[output] for output in found}
    with torch.no_grad():
        found = torch.export.load(path).module()(torch.from_numpy(images))
    names = ("logits", "probabilities", "unknown_score")[: len(found)]
    return {name: each.numpy() for name, each in zip(names, found, strict=True)}


MODELS = {
    "temperature": lambda: calibrated(TEMPERATURE),
    "vector": lambda: calibrated(VECTOR),
    "several": lambda: calibrated(replace(VECTOR, unknown=None), **ALONE),
    "binary": binary,
}


SOON = {
    ("temperature", "openvino"),
    ("several", "openvino"),
    ("vector", "onnx"),
    ("binary", "onnx"),
}
SOON |= {("vector", "torch"), ("binary", "torch")}  # each answer and each format twice at least


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        pytest.param(*pair, marks=[pytest.mark.slow] * (pair not in SOON))
        for pair in product(MODELS, TARGETS)
    ],
)
def test_answers_in_the_graph_are_torchs(tmp_path, kind, to):
    model = MODELS[kind]()
    written = export(model, tmp_path / NAMES[to], to=to)
    images = torch.randn(5, 3, 16, 16)
    found, wanted = in_file(written.path, images.numpy()), in_torch(model, images)
    assert list(found) == ["logits", "probabilities", "unknown_score"][: len(wanted)]
    for name, right in zip(found, wanted, strict=True):
        assert found[name].dtype == np.float32
        assert found[name].shape == right.shape
        assert np.abs(found[name] - right.numpy()).max() < 1e-5, name
    record = json.loads(written.certificate.read_text("utf-8"))["answers"]
    assert set(record["off"]) == set(record["off_torch"]) == set(found) - {"logits"}
    assert max(record["off"].values()) < record["bound"] == 1e-5
    assert max(record["off_torch"].values()) < 1e-5
    assert any(line.startswith("besides logits: ") for line in written.sentences())
    runtime = open_runtime(written.path)
    assert runtime.calibration == model.calibration
    assert np.array_equal(runtime.logits(images.numpy()), found["logits"])
    p = runtime.probabilities(found["logits"])
    assert np.abs(p - found["probabilities"]).max() < 1e-6


@pytest.mark.parametrize(
    "to", ["onnx", *(pytest.param(to, marks=pytest.mark.slow) for to in ("openvino", "torch"))]
)
def test_images_of_any_size_and_batches_of_one(tmp_path, to):
    model = calibrated(TEMPERATURE)
    path = export(model, tmp_path / NAMES[to], to=to, input="pictures", batch=2).path
    image = coloured(1, 2, 18)
    (prediction,) = predict(path, image_file(tmp_path, image), top=3)
    _, p, score = in_torch(model, model.preprocess(image))
    both = np.stack([np.asarray(image)] * 2)
    found = in_file(path, both)
    assert found["unknown_score"] == pytest.approx([score.item()] * 2, abs=1e-5)
    named = dict(zip(prediction.classes, prediction.probabilities, strict=True))
    for i, name in enumerate(model.classes):
        assert named[name] == pytest.approx(p[0, i].item(), abs=1e-5)
        assert found["probabilities"][0, i] == pytest.approx(p[0, i].item(), abs=1e-5)
    answers = open_runtime(path).answers(both[:1])
    assert [each.shape for each in answers] == [(1, 3), (1, 3), (1,)]


def image_file(folder, image):
    image.save(folder / "image.png")
    return folder / "image.png"


def test_weights_carry_it_and_a_fresh_classifier_does_not(tmp_path):
    model = calibrated(VECTOR)
    written = export(model, tmp_path / "net.safetensors", to="safetensors")
    again = open_model(written.path)
    assert again.calibration == VECTOR
    assert "answers" not in written.record
    again.reset_classifier(3)
    assert again.calibration is None
    model.reset_classifier(4)
    model.calibration = VECTOR
    with pytest.raises(UsageError, match="it has 3 scales and 3 biases for 4 outputs"):
        export(model, tmp_path / "other.safetensors", to="safetensors")


def test_what_does_not_follow_from_the_logits_is_refused():
    model = calibrated(TEMPERATURE)
    plan = plan_export(model, to="torch", form="normalized", batch="dynamic", size=None, int8=False)
    feed = Feed(model, plan)

    def answer(images, *, sharper=1.0, stranger=0.0):
        logits, p, score = in_torch(model, torch.from_numpy(images))
        p = p**sharper / (p**sharper).sum(1, keepdim=True)
        return [each.float().numpy() for each in (logits, p, score + stranger)]

    assert check_answers(answer, feed, Examples())["off"]["probabilities"] < 1e-6
    for wrong in ({"sharper": 1.01}, {"stranger": 1e-3}, {"stranger": float("nan")}):
        with pytest.raises(ExportError, match="off what follows from its logits"):
            check_answers(lambda images, wrong=wrong: answer(images, **wrong), feed, Examples())
