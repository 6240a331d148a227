"""8-bit exports: ranges, which layers stay in float, and what decides whether a file is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import NAMES, network
from PIL import Image

from conftest import tiny_dataset
from resnets import export
from resnets.data.dataset import Split
from resnets.errors import DataError, ExportError, UsageError
from resnets.exporting.examples import generated
from resnets.exporting.int8 import Accuracy, compare, quantize
from resnets.exporting.ranges import LEVELS, best_range
from resnets.exporting.sampling import CALIBRATION, Samples, choose_samples
from resnets.inference.runtimes import open_runtime
from resnets.weights.calibration import Calibration, Unknown


def cost(values: np.ndarray, low: float, high: float) -> float:
    """The mean squared error of rounding to 8 bits between low and high."""
    step = (high - low) / LEVELS
    rounded = (np.rint((values.clip(low, high) - low) / step)) * step + low
    return float(np.square(rounded - values).mean())


@pytest.mark.parametrize("signed", [True, False])
def test_the_best_range_costs_the_least(signed):
    random = np.random.default_rng(0)
    values = random.standard_t(5, 200_000)  # with outliers
    values = values if signed else np.abs(values)
    limits = min(0.0, values.min()), values.max()
    counts = np.histogram(values, 2048, limits)[0]
    found = best_range(counts, *limits)
    assert cost(values, *found) < 0.9 * cost(values, *limits)
    for share in (0.8, 0.9, 1.1, 1.2):
        other = found[0] * share, min(found[1] * share, limits[1])
        assert cost(values, *found) <= 1.05 * cost(values, *other)


def test_even_values_keep_their_limits():
    low, high = best_range(np.full(2048, 100), -1.0, 3.0)
    assert low == -1.0
    assert 2.9 < high <= 3.0
    assert best_range(np.zeros(2048, int), 0.0, 0.0) == (0.0, 0.0)


class Fake:
    """A network of layers of which some, in 8 bits, make answers wrong."""

    method = "pretended"

    def __init__(self, harm: dict[str, int]) -> None:
        self.layers, self.harm, self.kept = list(harm), harm, None

    def write(self, path: Path, kept) -> None:
        self.kept = set(kept)
        path.write_text(json.dumps(sorted(self.kept)))

    def answers(self, path: Path, split: Split) -> torch.Tensor:
        wrong = 0
        if path.name != "whole":
            kept = json.loads(path.read_text())
            wrong = sum(bad for layer, bad in self.harm.items() if layer not in kept)
        logits = torch.nn.functional.one_hot(split.labels, 2).double()
        logits[:wrong] = logits[:wrong].flip(1)
        return logits


@pytest.fixture
def samples() -> Samples:
    data = tiny_dataset(train=3000, test=1000)
    order = torch.arange(3000)
    train = data.train
    parts = (train.subset(order[:500]), train.subset(order[500:2500]), data.test)
    return Samples("tiny", "0" * 64, *parts, "test")


def judged(harm: dict[str, int], samples: Samples, folder: Path):
    fake = Fake(harm)
    result = quantize(
        fake, folder / "net", folder / "whole", samples, fake.answers, lambda line: None
    )
    assert set(result.float_layers) == fake.kept  # what was written last
    return result


def test_what_harms_nothing_is_all_in_8_bits(samples, tmp_path):
    result = judged({"a": 1, "b": 1, "c": 1}, samples, tmp_path)
    assert result.float_layers == ()
    assert (result.test.before, result.test.after, result.test.of) == (1000, 997, 1000)


def test_the_most_harmful_layers_stay_in_float(samples, tmp_path):
    harm = {"a": 1, "b": 60, "c": 0, "d": 90, "e": 2, "f": 0}
    result = judged(harm, samples, tmp_path)
    assert result.float_layers == ("d", "b")
    assert result.layers == 6
    assert result.to_dict()["float_layers"] == ["d", "b"]


def test_a_file_that_nothing_helps_is_not_kept(samples, tmp_path):
    class Hopeless(Fake):
        def answers(self, path, split):
            return super().answers(path, split) * (1 if path.name == "whole" else -1)

    fake = Hopeless({"a": 0, "b": 0})
    with pytest.raises(ExportError, match="of its 2,000 answers are right") as caught:
        quantize(fake, tmp_path / "n", tmp_path / "whole", samples, fake.answers, lambda line: None)
    assert caught.value.exit_code == 5


def test_the_test_part_has_the_last_word(samples, tmp_path):
    class Overfitted(Fake):
        def answers(self, path, split):
            right = split.labels is not samples.test.labels or path.name == "whole"
            return super().answers(path, split) * (1 if right else -1)

    fake = Overfitted({"a": 0})
    with pytest.raises(ExportError, match="on the test split 0 of its 1,000 answers are right"):
        quantize(fake, tmp_path / "n", tmp_path / "whole", samples, fake.answers, lambda line: None)


def test_the_limit_is_three_in_a_thousand_or_one_picture():
    assert Accuracy(before=9146, after=9116, agree=9900, of=10000).within
    assert not Accuracy(before=9146, after=9115, agree=9900, of=10000).within
    assert Accuracy(before=20, after=19, agree=19, of=20).within
    assert not Accuracy(before=20, after=18, agree=19, of=20).within
    assert Accuracy(before=5, after=9, agree=14, of=20).within  # a gain is no loss


def test_what_chance_explains_is_no_loss():
    """Not more of few images than of many, and never more than a point."""
    two = Accuracy(before=450, after=448, agree=498, of=500)
    assert two.within
    assert two.sentence() == "2 of 500 fewer correct, within chance"
    assert not Accuracy(before=450, after=445, agree=495, of=500).within  # 1 in 32
    assert Accuracy(before=450, after=445, agree=485, of=500, gained=5).within  # 10 against 5
    assert not Accuracy(before=450, after=444, agree=470, of=500, gained=12).within  # 1.2 points
    assert not Accuracy(before=36, after=34, agree=34, of=36).within
    assert Accuracy(before=9146, after=9116, agree=9900, of=10000).sentence() == (
        "30 of 10,000 fewer correct, within 0.3 points"
    )
    assert Accuracy(before=5, after=6, agree=5, of=10).sentence() == "no fewer correct"


@pytest.mark.parametrize("limit", [0.0, 0.5, 5.0])
def test_a_limit_that_is_set_is_the_limit(limit):
    at = int(10 * limit)
    assert Accuracy(before=900, after=900 - at, agree=900, of=1000, limit=limit).within
    assert not Accuracy(before=900, after=899 - at, agree=900, of=1000, limit=limit).within


def test_the_hint_of_a_refusal_works_as_typed(samples, tmp_path):
    class Lossy(Fake):
        def answers(self, path, split):
            logits = super().answers(path, split)
            if path.name != "whole" and split is samples.test:
                logits[:47] = logits[:47].flip(1)
            return logits

    fake = Lossy({"a": 0})
    places = (tmp_path / "n", tmp_path / "whole", samples, fake.answers, lambda line: None)
    with pytest.raises(ExportError) as caught:
        quantize(fake, *places)
    assert caught.value.hint.endswith("or let it lose more: --max-loss 4.7")
    result = quantize(fake, *places, max_loss=4.7)
    assert result.test.sentence() == "47 of 1,000 fewer correct, within --max-loss 4.7"
    assert result.to_dict()["limit_points"] == 4.7


def test_accuracy_counts():
    labels = torch.tensor([0, 1, 2, 2])
    one, other = torch.eye(3)[[0, 1, 1, 2]], torch.eye(3)[[0, 2, 1, 1]]
    assert compare(one, other, labels) == Accuracy(before=3, after=1, agree=2, of=4)


def test_samples_share_none():
    data = tiny_dataset(train=3000, test=100)
    model = network()
    model.reset_classifier(2)
    made = {
        "data": {"fingerprint": data.fingerprint},
        "recipe": {"data": {"holdout": 0.1, "split_seed": 3}},
    }
    chosen = choose_samples(model, data, made)
    ids = [set(part.ids.tolist()) for part in (chosen.calibration, chosen.search)]
    assert len(ids[0]) == CALIBRATION
    assert len(ids[1]) == 2048
    assert not ids[0] & ids[1]
    assert chosen.part == "test"
    again = choose_samples(model, data, made)
    assert again.calibration.ids.equal(chosen.calibration.ids)
    small = choose_samples(model, tiny_dataset(train=20), {})
    assert (len(small.calibration), len(small.search)) == (10, 10)
    with pytest.raises(DataError, match="its classes are top, bottom"):
        choose_samples(network(), data, {})


def test_a_batch_has_to_be_filled():
    model = network()
    model.reset_classifier(2)
    assert len(choose_samples(model, tiny_dataset(train=20), {}, 10).calibration) == 10
    with pytest.raises(UsageError, match="a batch of 11 is more than the 10 images"):
        choose_samples(model, tiny_dataset(train=20), {}, 11)


def test_without_a_test_part_others_judge():
    from dataclasses import replace

    data = replace(tiny_dataset(train=100), test=None)
    model = network()
    model.reset_classifier(2)
    assert choose_samples(model, data, {}).part == "search"
    held = replace(data, validation=data.train)
    assert choose_samples(model, held, {}).part == "validation"


def fair() -> torch.nn.Module:
    """A small network that does not answer the same to all images."""
    model = network()
    with torch.no_grad():
        pictures = model.preprocess(torch.from_numpy(generated(100, 3, (18, 18))))
        model.fc.bias -= model(pictures).mean(0)
    return model


@pytest.fixture(scope="module")
def sure(tmp_path_factory) -> Path:
    """A folder of images that the small network is sure of, labelled by itself."""
    model, root = fair(), tmp_path_factory.mktemp("sure")
    images = generated(500, 3, (18, 18))
    pixels = torch.from_numpy(images)
    with torch.no_grad():
        best = model(model.preprocess(pixels)).topk(2)
    margin = best.values[:, 0] - best.values[:, 1]
    for number in torch.nonzero(margin > margin.quantile(0.7)).flatten().tolist():
        name = model.classes[int(best.indices[number, 0])]
        folder = root / ("test" if number % 4 == 0 else "train") / name
        folder.mkdir(parents=True, exist_ok=True)
        array = images[number].transpose(1, 2, 0)
        Image.fromarray(array).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("to", "form"),
    [
        ("onnx", "normalized"),
        ("openvino", "normalized"),
        pytest.param("onnx", "pictures", marks=pytest.mark.slow),
        pytest.param("openvino", "pictures", marks=pytest.mark.slow),
    ],
)
def test_an_8_bit_network(tmp_path, sure, to, form, capfd):
    model = fair()
    unknown = Unknown("energy", 0.0, 0.05)
    model.calibration = Calibration(9, (0.5,), (), unknown) if form == "normalized" else None
    written = export(
        model, tmp_path / NAMES[to], to=to, int8=True, input=form, data=sure, batch="dynamic"
    )
    assert capfd.readouterr() == ("", "")  # what the tools say is not for users
    found = written.quantized
    assert found is not None
    assert found.test.before == found.test.of > 30
    assert found.test.within
    record = json.loads(written.certificate.read_text())
    assert record["export"]["precision"] == "int8"
    assert record["int8"]["test"]["accuracy_after"] == found.test.after / found.test.of
    assert record["int8"]["samples"]["fingerprint"] == found.samples.fingerprint
    assert record["float32"]["share_of_bound"] <= 1
    assert "in 8 bits: " in "\n".join(written.sentences())
    weights = tmp_path / ("net.onnx" if to == "onnx" else "net.bin")
    floats = sum(p.numel() for p in model.parameters()) * 4
    assert weights.stat().st_size < 0.7 * floats + (30_000 if to == "onnx" else 0)
    runtime = open_runtime(written.path)
    pixels = torch.from_numpy(generated(4, 3, (18, 18)))
    with torch.no_grad():
        expected = model(model.preprocess(pixels)).numpy()
    if form == "pictures":
        logits = runtime.logits(pixels.permute(0, 2, 3, 1).contiguous().numpy())
    else:
        logits = runtime.logits(model.preprocess(pixels).contiguous().numpy())
    off = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 1e-4 < off < 0.2  # in 8 bits, and the network all the same
    assert ("answers" in record) == (form == "normalized")
    if form == "normalized":  # what follows from the logits does so in float32
        again, p, score = runtime.answers(model.preprocess(pixels).contiguous().numpy())
        assert np.array_equal(again, logits)
        assert np.abs(p - runtime.probabilities(logits)).max() < 1e-5
        assert np.abs(score - unknown.of(logits)).max() < 1e-5


def test_8_bits_need_pictures_of_the_networks_classes(tmp_path, photos):
    with pytest.raises(DataError, match="its classes are apple, basil, ceramic"):
        export(network(), tmp_path / "net.onnx", int8=True, data=photos)
    own = {"data": {"source": "nowhere/at-all"}}
    with pytest.raises(UsageError, match="none are at hand"):
        export(network(), tmp_path / "net.onnx", int8=True, made=own)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_layers_in_float_are_called_as_in_the_network(tmp_path, sure, to, monkeypatch):
    verdicts = iter([False, False, False])  # of no layer in float, asked twice, and of one
    monkeypatch.setattr(Accuracy, "within", property(lambda self: next(verdicts, True)))
    model = fair()
    written = export(model, tmp_path / NAMES[to], to=to, int8=True, data=sure)
    kept = written.quantized.float_layers
    assert len(kept) == 2
    assert all(model.get_submodule(name).weight.ndim in (2, 4) for name in kept)
    assert f"in float stayed 2 of 8 layers: {kept[0]}, {kept[1]}" in written.sentences()
