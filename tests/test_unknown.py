"""Images of none of the classes: the score, its threshold, and all that marks answers by it."""

import csv
import json
import subprocess
import sys
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resnets as package
from conftest import several_dataset, tiny_dataset
from resnets.data.holdout import divide
from resnets.data.samples import as_images
from resnets.errors import UsageError
from resnets.evaluation.network import evaluate
from resnets.weights.calibration import Unknown, fewest


def logits(seed: int, count: int, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (count, classes)).astype(np.float32)


def test_scores_are_those_of_the_papers():
    values = logits(0, 50)
    tensor = torch.from_numpy(values).double()
    np.testing.assert_allclose(
        Unknown("energy", 0, 0.05).of(values), -tensor.logsumexp(1).numpy(), atol=1e-12
    )
    np.testing.assert_array_equal(Unknown("max_logit", 0, 0.05).of(values), -tensor.amax(1).numpy())
    huge = values * 1e30
    assert np.isfinite(Unknown("energy", 0, 0.05).of(huge)).all()


@pytest.mark.parametrize(("count", "asked"), [(39, 0.05), (100, 0.05), (29, 0.1)])
def test_false_alarms_are_at_most_what_was_asked_for(count, asked):
    """In the mean of many held-out splits; each other one is off by chance."""
    shares = []
    for seed in range(200):
        found = Unknown.fitted(logits(seed, count), asked)
        shares.append(found.flags(logits(10_000 + seed, 400)).mean())
    exact = floor((count + 1) * asked + 1e-9) / (count + 1)
    assert exact <= asked
    assert np.mean(shares) == pytest.approx(exact, abs=4 * np.std(shares) / np.sqrt(200))
    own = logits(5, count)
    assert Unknown.fitted(own, asked).flags(own).sum() == round(exact * (count + 1)) - 1


def test_too_few_images_show_no_threshold():
    assert Unknown.fitted(logits(0, 18), 0.05) is None
    assert Unknown.fitted(logits(0, 19), 0.05) is not None
    assert Unknown.fitted(logits(0, 1000), 0) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unknown") / "run"
    settings = ["schedule.epochs=1", "data.holdout=0.3"]
    package.train("digits", model="resnet8", settings=settings, out=out, quiet=True)
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Digits, and noise, which is none."""
    from resnets.data import open_dataset

    folder = tmp_path_factory.mktemp("images")
    test = open_dataset("digits").test
    for i, image in enumerate(as_images(test.images.batch(test.ids[:12]))):
        image.save(folder / f"digit{i:02}.png")
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"noise{i:02}.png")
    return folder


def test_a_run_fits_it_on_its_held_out_split(run):
    from resnets.data import open_dataset

    model = package.open_model(run)
    unknown = model.calibration.unknown
    assert (unknown.score, unknown.false_alarms) == ("energy", 0.05)
    dataset = divide(open_dataset("digits"), 0.3, 0)
    for part, share in (("validation", (floor(432 * 0.05) - 1) / 431), ("test", None)):
        answers = evaluate(model, dataset.parts[part], model.preprocess, keep_logits=True)
        flagged = (-torch.from_numpy(answers.logits).logsumexp(1) > unknown.threshold).sum()
        if share is not None:
            assert flagged / len(answers.labels) == pytest.approx(share, abs=0.003)
    told = json.loads((run / "run.json").read_text())["results"]["unknown"]
    assert told == {
        "split": "test",
        "share": pytest.approx(float(flagged) / len(answers.labels)),
        "false_alarms": 0.05,
        "samples": 431,
    }
    said = "by mistake for 5 % of the others (by 431 held-out images"
    assert said in (run / "report.html").read_text()


def test_predictions_are_marked(run, images, resnets):
    model = package.open_model(run).eval()
    unknown = model.calibration.unknown
    found = list(package.predict(run, sorted(images.iterdir())))
    with torch.no_grad():
        for answer in found:
            expected = -model(model.preprocess(answer.path)).double().logsumexp(1).item()
            assert answer.unknown_score == pytest.approx(expected, abs=1e-4)
            assert answer.unknown == (answer.unknown_score > unknown.threshold)
    noise, digits = ([p.unknown for p in found if kind in p.path] for kind in ("noise", "digit"))
    assert np.mean(noise) > 0.5 > np.mean(digits)
    lines = resnets("predict", run, images)[1].splitlines()
    for line, answer in zip(lines, found, strict=True):
        assert ("unknown; nearest: " in line) == answer.unknown
        assert answer.classes[0] in line
    records = json.loads(resnets("predict", run, images, "--json")[1])
    assert [record["unknown"] for record in records] == [answer.unknown for answer in found]
    assert records[0]["unknown_score"] == round(found[0].unknown_score, 6)


def test_tables_have_it_too(run, images, tmp_path, resnets):
    from pyarrow import parquet

    (images / "broken.png").write_bytes(b"nothing")
    for kind in ("csv", "jsonl", "parquet"):
        resnets("predict", run, images, "--out", tmp_path / f"table.{kind}", "--top", 1)
    (images / "broken.png").unlink()
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-2:] == ["unknown", "unknown_score"]
    table = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    records = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    for row, other, record in zip(rows, table, records, strict=True):
        assert other["unknown"] == record.get("unknown")
        assert other["unknown_score"] == record.get("unknown_score")
        told = "" if "error" in record else json.dumps(record["unknown"])
        assert row["unknown"] == told


def test_an_exported_file_marks_alike_without_torch(run, images, tmp_path):
    out = tmp_path / "model.onnx"
    package.export(run, out)
    code = (
        "import json, sys; sys.modules['torch'] = None; import resnets\n"
        f"found = resnets.predict({str(out)!r}, {sorted(map(str, images.iterdir()))!r})\n"
        "print(json.dumps([[p.unknown, p.unknown_score] for p in found]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for (unknown, score), ours in zip(
        json.loads(result.stdout), package.predict(run, sorted(images.iterdir())), strict=True
    ):
        assert unknown == ours.unknown
        assert score == pytest.approx(ours.unknown_score, abs=1e-4)


def test_evaluate_says_how_many_known_images_are_called_unknown(run, resnets):
    told = json.loads((run / "run.json").read_text())["results"]["unknown"]["share"]
    values = json.loads(resnets("evaluate", run, "digits", "--json")[1])
    assert values["called_unknown"] == pytest.approx(told)
    assert (
        "all of known classes, are called unknown; 5 % were"
        in resnets("evaluate", run, "digits")[1]
    )


def test_nothing_is_marked_where_nothing_was_fitted(tmp_path, images, resnets):
    """Not without a calibration, nor where no false alarm may be, nor of several classes."""
    settings = ["schedule.iterations=3", "batch_size=8", "data.holdout=40"]
    for name, data, options in (
        ("not", tiny_dataset(80), {"calibrate": None}),
        ("none", tiny_dataset(80), {"false_alarms": 0}),
        ("several", several_dataset(80), {}),
    ):
        out = tmp_path / name
        package.train(data, model="resnet8", settings=settings, out=out, quiet=True, **options)
        calibration = package.open_model(out).calibration
        assert calibration is None or calibration.unknown is None
        assert "unknown" not in json.loads((out / "run.json").read_text())["results"]
    answer = next(package.predict(tmp_path / "none", images / "noise00.png"))
    assert (answer.unknown, answer.unknown_score) == (None, None)
    assert "unknown" not in answer.to_dict()
    table = tmp_path / "table.csv"
    resnets("predict", tmp_path / "none", images, "--out", table, "--top", 1)
    assert table.read_text().splitlines()[0] == "path,error,class_1,probability_1"


@pytest.mark.parametrize(
    ("data", "held_out", "options", "words"),
    [
        (tiny_dataset, 0, {"calibrate": "vector"}, "no images are held out to calibrate"),
        (tiny_dataset, 8, {"false_alarms": 0.1}, "take 9 held-out images, and there are 8"),
        (tiny_dataset, 9, {"false_alarms": 0.1}, ""),
        (tiny_dataset, 8, {}, ""),
        (several_dataset, 40, {"false_alarms": 0.1}, "several classes, and none"),
    ],
)
def test_who_asks_for_what_cannot_be_fitted_is_told(data, held_out, options, words):
    settings = ["schedule.iterations=3", "batch_size=8", f"data.holdout={held_out}"]
    lines = package.plan(data(80), model="resnet8", settings=settings, **options).lines
    said = [line for line in lines if "held out to cal" in line or "marked as unknown" in line]
    assert len(said) == bool(words)
    assert words in "".join(said)


@pytest.mark.parametrize("asked", [0.5, 0.1, 0.05, 0.03, 0.001])
def test_so_many_images_show_a_threshold_and_one_less_does_not(asked):
    count = fewest(asked)
    assert Unknown.fitted(logits(0, count), asked)
    assert not Unknown.fitted(logits(0, count - 1), asked)


@pytest.mark.parametrize("share", [-0.1, 0.6, 5])
def test_false_alarms_are_a_share(share):
    with pytest.raises(UsageError, match="a share of the known images"):
        package.train("digits", model="resnet8", false_alarms=share)
