"""What outputs mean: read from files that say it, asked for otherwise, honoured everywhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import scramble
from exported import export
from resnets import create_model, load_weights, open_model, predict, save_weights
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, UsageError
from resnets.inference.prediction_table import predict_table
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.outputs import answers, meaning, probabilities

PREPARED = Preprocess(3, 16, 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def network(count: int, outputs: str | None = None, classes: tuple[str, ...] = ()):
    torch.manual_seed(0)
    model = scramble(create_model("resnet8_b", num_classes=count, image_size=16)).eval()
    model.preprocess, model.classes, model.outputs = PREPARED, classes, outputs
    return model


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def logits(model, picture) -> list[float]:
    with torch.no_grad():
        return model(PREPARED(picture))[0].double().tolist()


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_a_softmax_and_sigmoids():
    values = np.array([[0.5, -1.0, 3.0], [1000.0, 0.0, -1000.0]], np.float32)
    exact = np.exp(values[:1].astype(float))
    np.testing.assert_allclose(probabilities(values, "softmax")[0], (exact / exact.sum())[0])
    np.testing.assert_array_equal(probabilities(values, "softmax")[1], [1, 0, 0])
    np.testing.assert_array_equal(probabilities(values, None), probabilities(values, "softmax"))
    np.testing.assert_allclose(probabilities(values[:1], "sigmoid"), sigmoid(values[:1]), rtol=1e-6)
    np.testing.assert_array_equal(probabilities(values, "sigmoid")[1], [1, 0.5, 0])
    single = np.array([[2.0], [-800.0]], np.float32)
    np.testing.assert_allclose(probabilities(single, "sigmoid"), [[sigmoid(2.0)], [0]])
    pair = probabilities(single, "sigmoid", names=2)
    np.testing.assert_allclose(pair, [[1 - sigmoid(2.0), sigmoid(2.0)], [1, 0]])


def test_names_of_answers():
    assert answers((), 3, None) == ("0", "1", "2")
    assert answers(("a", "b"), 2, "sigmoid") == ("a", "b")
    assert answers((), 1, "sigmoid") == ("output 0",)


@pytest.mark.parametrize(("outputs", "count"), [(None, 1), ("softmax", 1), ("regression", 3)])
def test_what_cannot_be_probabilities_is_refused(outputs, count, picture, tmp_path):
    with pytest.raises(CheckpointError):
        meaning(outputs, count)
    model = network(count, outputs)
    save_weights(model, tmp_path / "own.safetensors")
    for source in (model, tmp_path / "own.safetensors"):
        with pytest.raises(CheckpointError, match="output"):
            list(predict(source, [picture]))


@pytest.mark.parametrize(
    ("count", "classes", "expected"),
    [
        (1, (), lambda x: {"output 0": sigmoid(x[0])}),
        (1, ("on",), lambda x: {"on": sigmoid(x[0])}),
        (1, ("cat", "dog"), lambda x: {"cat": sigmoid(-x[0]), "dog": sigmoid(x[0])}),
        (3, ("a", "b", "c"), lambda x: {n: sigmoid(v) for n, v in zip("abc", x, strict=True)}),
        (3, (), lambda x: {str(i): sigmoid(v) for i, v in enumerate(x)}),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".safetensors", ".onnx"])
def test_sigmoids_are_answered(count, classes, expected, suffix, picture, tmp_path):
    """By a network, its weights and its export, alone and in a table."""
    model = network(count, "sigmoid", classes)
    source = tmp_path / f"model{suffix}"
    if suffix == ".onnx":
        from exported import metadata

        stated = {**metadata(model), "outputs": "sigmoid"}
        export(model, source, json.dumps(stated))
    elif suffix:
        save_weights(model, source)
    (found,) = predict(source if suffix else model, [picture], top=5)
    wanted = expected(logits(model, picture))
    assert dict(zip(found.classes, found.probabilities, strict=True)) == pytest.approx(
        wanted, abs=1e-5
    )
    assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
    predict_table(source if suffix else model, [picture], tmp_path / "t.csv", top=5)
    row = (tmp_path / "t.csv").read_text().splitlines()[1].split(",")
    assert dict(zip(row[2::2], map(float, row[3::2]), strict=True)) == pytest.approx(
        wanted, abs=1e-5
    )


def test_a_softmax_that_is_assumed_is_said(picture, tmp_path):
    """In Python by a warning at the first answer, which comes all the same."""
    model = network(3, None)
    coming = predict(model, [picture])
    with pytest.warns(UserWarning, match="nothing says what its outputs mean; taken as softmax"):
        assert sum(next(coming).probabilities) == pytest.approx(1)
    with pytest.warns(UserWarning, match=r'model\.outputs = "softmax" or "sigmoid" says it'):
        predict_table(model, [picture], tmp_path / "t.csv")
    model.outputs = "softmax"
    assert sum(next(predict(model, [picture])).probabilities) == pytest.approx(1)


def test_a_stopped_table_of_another_meaning_is_not_gone_on_with(picture, tmp_path):
    model = network(3, "softmax")
    jobs = []
    for outputs in ("softmax", "sigmoid", "softmax"):
        model.outputs = outputs

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        jobs.append(outputs)
        if len(jobs) == 2:
            with pytest.raises(UsageError, match="begun with other meaning of outputs"):
                predict_table(model, [picture] * 3, tmp_path / "t.csv", batch_size=1)
            continue
        if len(jobs) == 1:
            with pytest.raises(KeyboardInterrupt):
                predict_table(
                    model, [picture] * 3, tmp_path / "t.csv", batch_size=1, on_progress=stop
                )
            continue
        assert predict_table(model, [picture] * 3, tmp_path / "t.csv", batch_size=1).resumed == 1


def test_the_meaning_travels(tmp_path):
    for outputs in ("softmax", "sigmoid", None):
        model = network(3, outputs)
        save_weights(model, tmp_path / "own.safetensors")
        assert open_model(tmp_path / "own.safetensors").outputs == outputs
    model = network(1, "sigmoid", ("cat", "dog"))
    save_weights(model, tmp_path / "own.safetensors")
    again = open_model(tmp_path / "own.safetensors")
    assert (again.outputs, again.classes) == ("sigmoid", ("cat", "dog"))
    again.reset_classifier(2)
    assert (again.outputs, again.classes) == (None, ())
    model.outputs = "tanh"
    with pytest.raises(UsageError, match='called "tanh"'):
        save_weights(model, tmp_path / "other.safetensors")


def test_other_weights_outputs_do_not_stay():
    model = network(3, "sigmoid")
    load_weights(model, network(3).state_dict())
    assert model.outputs is None
    model.outputs = "sigmoid"
    load_weights(model, network(4).state_dict(), head="drop")
    assert model.outputs == "sigmoid"  # the classifier is still its own


@pytest.mark.parametrize(
    ("problem", "outputs"),
    [
        ("single_label_classification", "softmax"),
        ("multi_label_classification", "sigmoid"),
        ("regression", "regression"),
        (None, None),
        ("other", None),
        (7, None),
        (["regression"], None),
    ],
)
def test_hugging_face_says_it(problem, outputs, tmp_path):
    model = create_model("resnet18", num_classes=2)
    save_weights(model, tmp_path / "folder", dialect="huggingface")
    config = json.loads((tmp_path / "folder/config.json").read_text())
    assert "problem_type" not in config
    (tmp_path / "folder/config.json").write_text(json.dumps({**config, "problem_type": problem}))
    assert open_checkpoint(tmp_path / "folder").outputs == outputs
    if isinstance(problem, str) and outputs:
        model.outputs = outputs
        save_weights(model, tmp_path / "again", dialect="huggingface")
        assert json.loads((tmp_path / "again/config.json").read_text())["problem_type"] == problem


@pytest.mark.parametrize(
    "labels", [["a", "b"], {"0": ["a"], "1": "b"}, {"0": 1, "1": 2}, {"1": "a", "2": "b"}, "ab", 7]
)
def test_labels_that_are_none_are_refused(labels, tmp_path):
    model = create_model("resnet18", num_classes=2)
    save_weights(model, tmp_path / "folder", dialect="huggingface")
    config = json.loads((tmp_path / "folder/config.json").read_text()) | {"id2label": labels}
    (tmp_path / "folder/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="id2label does not number names"):
        open_checkpoint(tmp_path / "folder")


def test_published_weights_and_runs_are_of_a_softmax(tmp_path):
    model = create_model("resnet20", weights="cifar10")
    assert model.outputs == "softmax"  # an older file: its recipe says it


@pytest.fixture
def bare(tmp_path):
    """A stranger's file of one output, and one of three."""
    for count in (1, 3):
        torch.save(network(count).state_dict(), tmp_path / f"{count}.pth")
    return tmp_path


def test_the_command_asks_what_one_output_means(bare, picture, resnets):
    words = ("predict", bare / "1.pth", picture, "--preprocess", "imagenet")
    code, out, err = resnets(*words)
    assert (code, out) == (4, "")
    assert "it has one output, and nothing says what it means" in err
    assert "--outputs sigmoid" in err
    code, out, _ = resnets(*words, "--outputs", "sigmoid")
    assert (code, "100.0 %" in out) == (0, False)
    assert "output 0" in out
    code, _, err = resnets(*words, "--outputs", "softmax")
    assert (code, "a softmax of one is always 1" in err) == (4, True)
    code, _, err = resnets(*words, "--outputs", "tanh")
    assert (code, "softmax, sigmoid" in err) == (2, True)


def test_the_command_says_what_several_are_taken_as(bare, picture, resnets):
    words = ("predict", bare / "3.pth", picture, "--preprocess", "imagenet")
    code, out, err = resnets(*words)
    assert (code, err.count("taken as softmax")) == (0, 1)
    code, other, err = resnets(*words, "--outputs", "sigmoid")
    assert (code, "taken as softmax" in err) == (0, False)
    assert other != out
    assert "taken as" not in resnets(*words, "--outputs", "softmax")[2].replace("these; taken", "")


def test_convert_writes_down_what_is_said(bare, resnets):
    own = bare / "own.safetensors"
    code, _, err = resnets("convert", bare / "3.pth", own)
    assert (code, "nothing says what its outputs mean" in err) == (0, True)
    assert "nothing says how its images were prepared" in err
    assert open_model(own).outputs is None
    options = ("--outputs", "sigmoid", "--preprocess", "imagenet")
    code, _, err = resnets("convert", own, bare / "said.safetensors", *options)
    assert (code, "outputs mean" in err) == (0, False)
    said = open_model(bare / "said.safetensors")
    assert (said.outputs, said.preprocess.std[0]) == ("sigmoid", 0.229)
    assert said.assumed == open_model(own).assumed != ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("to", ["native", "torchvision", "detectron2"])
def test_convert_keeps_the_precision(dtype, to, tmp_path, resnets):
    narrow = create_model("resnet18", num_classes=2, widths=(8, 16, 32, 64), stem_width=8)
    state = narrow.to(dtype).state_dict()
    torch.save(state, tmp_path / "in.pth")
    out = tmp_path / ("out.safetensors" if to == "native" else "out.pth")
    assert resnets("convert", tmp_path / "in.pth", out, "--to", to)[0] == 0
    found = open_checkpoint(out)
    assert found.dtype == dtype
    assert all(found.tensors[key].equal(value) for key, value in state.items())
    shown = json.loads(resnets("inspect", out, "--json")[1])
    assert shown["precision"] == str(dtype).removeprefix("torch.")


def test_export_says_what_it_cannot_write_down(bare, tmp_path, resnets):
    words = ("--to", "safetensors", "--out")
    code, _, err = resnets("export", bare / "3.pth", *words, tmp_path / "x.safetensors")
    assert code == 0, err
    assert "nothing says how its images are prepared" in err
    assert "nothing says what its outputs mean" in err
    again = open_model(tmp_path / "x.safetensors")
    assert (again.preprocess, again.outputs) == (None, None)
    said = ("--outputs", "sigmoid", "--preprocess", "imagenet")
    code, _, err = resnets("export", bare / "1.pth", *words, tmp_path / "y.safetensors", *said)
    assert (code, "nothing says what" in err) == (0, False)
    assert open_model(tmp_path / "y.safetensors").outputs == "sigmoid"


def test_features_of_a_sigmoid(picture, tmp_path):
    from resnets.analysis.features import write_features

    model = network(1, "sigmoid", ("cat", "dog"))
    page = write_features(model, picture, tmp_path / "f.html").read_text()
    (value,) = logits(model, picture)
    assert all(name in page for name in ("cat", "dog"))
    assert f"{100 * max(sigmoid(value), sigmoid(-value)):.1f}" in page.replace("\u00a0", " ")
    with pytest.raises(CheckpointError, match="one output"):
        write_features(network(1), picture, tmp_path / "g.html")


def test_replaced_preprocessing_is_known():
    assert replace(create_model("resnet8").preprocess, resize=40).assumed is False


@pytest.mark.parametrize("classes", [(), ("cat", "dog")])
def test_one_sigmoid_is_evaluated_as_two_classes(classes, tmp_path):
    """By name, or in the order of the folders; the loss is the binary cross-entropy."""
    from resnets import evaluate

    model = network(1, "sigmoid", classes)
    rng, found = np.random.default_rng(1), []
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            path = tmp_path / "data" / name / f"{number}.png"
            pixels = rng.integers(0, 120 + 135 * (number % 2), (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            p = sigmoid(logits(model, path)[0])
            found.append(((p > 0.5) == label, -np.log(p if label else 1 - p)))
    assessed = evaluate(model, tmp_path / "data")
    right, losses = zip(*found, strict=True)
    assert assessed.accuracy == np.mean(right)
    assert assessed.loss == pytest.approx(np.mean(losses), rel=1e-4)
    with pytest.raises(CheckpointError, match="one output"):
        evaluate(network(1), tmp_path / "data")
