"""Label sets in what predicts: Python, command, tables, exported files; and in a run's results."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import coloured
from resnets import (
    create_model,
    evaluate,
    export,
    get_spec,
    open_model,
    predict,
    save_weights,
    train,
)
from resnets.data.preprocess import identity
from resnets.errors import UsageError
from resnets.inference.prediction_table import predict_table
from resnets.run_folder.reading import read_run
from resnets.weights.calibration import Calibration
from resnets.weights.conformal import METHODS, Conformal
from resnets.weights.outputs import probabilities

CLASSES = ("ant", "b, or not", "bañana", "cow", "dog", "eel")
SPEC = replace(get_spec("resnet8"), widths=(4, 8, 16), stem_width=4, image_size=8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    model = create_model(replace(SPEC, num_classes=len(CLASSES))).eval()
    with torch.no_grad():
        model.fc.weight.mul_(20)
    model.preprocess, model.classes, model.outputs = identity(3, 8), CLASSES, "softmax"
    random = np.random.default_rng(0)
    labels = random.integers(0, len(CLASSES), 40)
    p = probabilities(random.normal(0, 1, (40, 6)) + 2 * np.eye(6)[labels], "softmax")
    model.calibration = Calibration(40, (0.5,), conformal=Conformal.fitted(p, labels))
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{i:02}.png" for i in range(12)]
    for i, path in enumerate(paths):
        coloured(i % 3, i, 8).save(path)
    return paths


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    save_weights(network, path)
    return path


def by_hand(model, images, coverage, method):
    """The sets, by the definition of each method."""
    with torch.no_grad():
        logits = model(model.preprocess([*map(str, images)])).double()
    limit, sets = model.calibration.conformal.quantile(coverage, method), []
    for p in (logits * model.calibration.scale[0]).softmax(1).tolist():
        ranked = sorted(range(len(p)), key=lambda i: -p[i])
        chosen, before = [CLASSES[ranked[0]]], p[ranked[0]]
        for place, i in enumerate(ranked[1:], 2):
            penalty = 0.01 * max(0, place - 5) if method == "raps" else 0
            if (1 - p[i] if method == "lac" else before + penalty) <= limit:
                chosen.append(CLASSES[i])
            before += p[i]
        sets.append(tuple(chosen))
    return sets


@pytest.mark.parametrize("method", METHODS)
def test_sets_are_what_the_method_says(network, images, file, method):
    wanted = by_hand(network, images, 0.9, method)
    assert len({len(each) for each in wanted}) > 1
    for model in (network, file):
        found = [*predict(model, images, coverage=0.9, sets=method, batch_size=5)]
        assert [each.label_set for each in found] == wanted
        assert all(len(each.classes) == 3 for each in found)
    if method == "lac":
        default = predict(network, images, coverage=0.9)
        assert [each.label_set for each in default] == wanted


def test_an_exported_file_answers_the_same(network, images, tmp_path):
    path = export(network, tmp_path / "net.pt2", to="torch").path
    found = predict(path, images, coverage=0.9, sets="aps")
    assert [each.label_set for each in found] == by_hand(network, images, 0.9, "aps")


def test_the_command(resnets, file, images, network):
    wanted = by_hand(network, images, 0.9, "lac")
    code, out, err = resnets("predict", file, *images, "--coverage", "0.9")
    assert code == 0, err
    for line, names in zip(out.splitlines(), wanted, strict=True):
        assert line.endswith(f"   {{{', '.join(names)}}}")
    code, out, _ = resnets("predict", file, *images, "--coverage", "0.9", "--json")
    assert [each["label_set"] for each in json.loads(out)] == [*map(list, wanted)]
    _, out, _ = resnets("predict", file, images[0], "--json")
    assert "label_set" not in json.loads(out)[0]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_tables(file, images, network, tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / f"table{ending}"
    predict_table(file, [*images, broken], out, coverage=0.9, top=1)
    wanted = [*map(list, by_hand(network, images, 0.9, "lac"))]
    if ending == ".parquet":
        from pyarrow.parquet import read_table

        found = read_table(out).to_pylist()
        assert [row["label_set"] for row in found] == [*wanted, None]
    elif ending == ".jsonl":
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        assert [row.get("label_set") for row in rows] == [*wanted, None]
    else:
        with out.open(encoding="utf-8", newline="") as text:
            rows = [*csv.DictReader(text)]
        assert [*rows[0]] == ["path", "error", "class_1", "probability_1", "label_set"]
        assert [json.loads(row["label_set"]) for row in rows[:-1]] == wanted
        assert rows[-1]["label_set"] == ""


def test_what_was_begun_with_another_coverage_is_kept(file, images, tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise Stop

    out = tmp_path / "table.csv"
    with pytest.raises(Stop):
        predict_table(file, images, out, coverage=0.9, batch_size=2, on_progress=stop)
    with pytest.raises(UsageError, match="was begun with other coverage"):
        predict_table(file, images, out, coverage=0.8, batch_size=2)
    with pytest.raises(UsageError, match="was begun with other label sets"):
        predict_table(file, images, out, coverage=0.9, sets="aps", batch_size=2)
    assert predict_table(file, images, out, coverage=0.9, batch_size=2).resumed == 4


def test_models_without_label_sets(network, file, images, tmp_path, resnets):
    """One line, and a hint that works."""
    plain = replace(network.calibration, conformal=None)
    for calibration, outputs, message in (
        (None, "softmax", "carries no label sets"),
        (plain, "softmax", "carries no label sets"),
        (network.calibration, "sigmoid", "may have several"),
    ):
        model = open_model(file)
        model.calibration, model.outputs = calibration, outputs
        with pytest.raises(UsageError, match=message) as caught:
            next(predict(model, images, coverage=0.9))
        assert caught.value.hint.startswith("leave out --coverage")
    code, out, err = resnets("predict", file, images[0], "--coverage", "0.99")
    assert (code, out) == (2, "")
    assert "take 99 held-out images" in err
    hint = err.split("hint: --coverage ")[1].split(",")[0]
    assert resnets("predict", file, images[0], "--coverage", hint)[0] == 0
    code, _, err = resnets("predict", file, images[0], "--sets", "aps")
    assert code == 2
    hint = err.split("hint: ")[1].split()
    assert resnets("predict", file, images[0], *hint)[0] == 0


def test_a_run_reports_what_its_sets_cover(tmp_path, images):
    settings = ["schedule.epochs=1", "data.holdout=0.3"]
    run = train("digits", model=SPEC, settings=settings, out=tmp_path / "run", quiet=True)
    model = open_model(run.path)
    assert model.calibration.samples == 431
    results = read_run(run.path).results
    assert results.validation.label_sets == ()
    test, found = results.test, results.test.label_sets
    asked = [(each.coverage, each.method) for each in found]
    assert asked == [(c, m) for c in (0.8, 0.9, 0.95, 0.99) for m in METHODS]
    counts = np.array([sum(row) for row in test.confusion])
    for each in found:
        assert each.covered > each.coverage - 0.06  # three standard deviations on 360 images
        assert 1 <= each.size <= 10
        if each.method != "lac":
            assert each.class_covered == each.class_size == ()
            continue
        assert counts @ np.array(each.class_covered) / counts.sum() == pytest.approx(each.covered)
        assert counts @ np.array(each.class_size) / counts.sum() == pytest.approx(each.size)
    made = json.loads((run.path / "run.json").read_text("utf-8"))
    assert len(made["results"]["test"]["label_sets"]) == 12
    again = evaluate(run.path, "digits").to_dict()["label_sets"]
    assert json.loads(json.dumps(again)) == made["results"]["test"]["label_sets"]
    image = tmp_path / "digit.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(image)
    (prediction,) = predict(run.path, image, coverage=0.95)
    assert prediction.label_set[0] == prediction.classes[0]
