"""Studies of runs: what they say follows from what run folders hold."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from resnets import create_model
from resnets.errors import UsageError
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.reading import RunRecord
from resnets.run_folder.record import Data, Epoch, Model, Record, Results, Score, Speed
from resnets.studies import degradation, stochastic_depth
from resnets.studies.trained_runs import Training, cautions, read_runs
from resnets.zoo import get_spec


def run(model: str, errors: list[float], *, seed: int = 0, drop: float = 0.0) -> RunRecord:
    """A run with these training errors by epoch; held out they are a tenth more."""
    spec = replace(get_spec(model), drop_path=drop, name=model)
    epochs = tuple(
        Epoch(epoch, 10 * epoch, train_accuracy=1 - e, validation_accuracy=0.9 - e)
        for epoch, e in enumerate(errors, start=1)
    )
    test = Score(100, 1.0, 0.9 - errors[-1])
    return RunRecord(
        status="finished",
        seed=seed,
        model=Model(name=model, spec=spec.to_dict()),
        data=Data(name="tiny", fingerprint="f"),
        results=Results(train=Speed(seconds=60.0), test=test),
        path=Path(f"runs/{model}/seed-{seed}"),
        epochs=epochs,
        settings={"optimizer.lr": 0.1, "seed": seed},
    )


def test_curves_are_means_of_what_all_seeds_have():
    runs = [run("plain20", [0.5, 0.2]), run("plain20", [0.7, 0.4, 0.2], seed=1)]
    (net,) = degradation.curves(runs)
    assert net.training == [(10.0, pytest.approx(0.6)), (20.0, pytest.approx(0.3))]
    assert net.held_out[0] == (10.0, pytest.approx(0.7))
    assert net.finals == pytest.approx([0.2, 0.2])
    assert net.test == pytest.approx([0.3, 0.3])
    assert (net.plain, net.depth) == (True, 20)
    with pytest.raises(UsageError, match="no finished epoch"):
        degradation.curves([replace(runs[0], epochs=())])


def test_trainings_of_one_model_are_no_seeds_of_another():
    """Other recipes, data or nets of one name are not averaged; the same run counts once."""
    one, seed = run("plain20", [0.5]), run("plain20", [0.6], seed=1)
    assert [len(net.finals) for net in degradation.curves([one, seed])] == [2]
    rate = replace(seed, settings={"optimizer.lr": 0.2, "seed": 1})
    data = replace(seed, data=Data(name="tiny", fingerprint="g"))
    wider = {**one.model.spec, "widths": (32, 64, 128)}
    net = replace(seed, model=Model(name="plain20", spec=wider))
    for other in (rate, data, net):
        found = degradation.curves([one, other])
        assert [curve.model for curve in found] == ["plain20 seed-0", "plain20 seed-1"]
        measured = stochastic_depth.by_survival([one, other])
        assert [each.model for each in measured] == ["plain20 seed-0", "plain20 seed-1"]
    dropping = replace(run("plain20", [0.5], drop=0.5), settings={"seed": 0, "drop_path": 0.5})
    plain = replace(one, settings={"seed": 0, "drop_path": None})
    found = stochastic_depth.by_survival([dropping, plain])
    assert [(each.model, each.survival) for each in found] == [("plain20", 1), ("plain20", 0.5)]


def test_a_run_that_is_named_twice_is_one(tmp_path):
    folder = RunFolder(tmp_path / "plain20/seed-0")
    folder.create()
    folder.write_record(Record(status="finished", model=Model(name="plain20")))
    assert len(read_runs([tmp_path / "plain20", folder.path, str(folder.path)])) == 1


def said(plain20: float, plain56: float, resnet20: float, resnet56: float) -> list[str]:
    errors = {"plain20": plain20, "plain56": plain56, "resnet20": resnet20, "resnet56": resnet56}
    runs = [
        run(model, [error + seed / 100], seed=seed)
        for model, error in errors.items()
        for seed in (0, 1)
    ]
    return degradation.found(degradation.curves(runs))


def test_sentences_of_degradation_follow_the_numbers():
    plain, residual, at20, at56 = said(0.3, 0.5, 0.2, 0.1)
    assert "plain56 has a training error 20.0 points higher than plain20" in plain
    assert "the degradation that the paper found" in plain
    assert "(2 seeds, all of them so)" in plain
    assert "depth helps, as the paper found" in residual
    assert "10.0 points of training error less" in at20
    assert "40.0 points of training error less" in at56
    plain, residual, at20, at56 = said(0.3, 0.295, 0.35, 0.5)
    assert "lower than plain20" in plain
    assert "which overlap" in plain
    assert "no degradation here, contrary to what the paper found" in plain
    assert "depth costs here" in residual
    assert "more: resnet20" in at20


def test_sentences_of_stochastic_depth_follow_the_numbers():
    def told(dropped: list[float]) -> list[str]:
        whole = [run("resnet20", [0.2 + s / 100], seed=s) for s in range(len(dropped))]
        some = [run("resnet20", [e], seed=s, drop=0.5) for s, e in enumerate(dropped)]
        return stochastic_depth.found(stochastic_depth.by_survival([*some, *whole]))

    error, cost = told([0.1, 0.11])
    assert "survival 0.5: error 20.50 ± 0.71 % where survival 1 has 30.50" in error
    assert error.endswith("10.0 points lower: as the paper found.")
    assert "passes 72 % of the blocks" in cost  # 1 - (1 + ... + 9) / 9 * 0.5 / 9
    assert "28 % of their computing" in cost
    assert "contrary to what the paper found" in told([0.3, 0.31])[0]
    assert "which overlap" in told([0.195, 0.215])[0]
    assert "cannot tell that from chance" in told([0.1])[0]


def test_how_small_runs_are_trained():
    assert "schedule.iterations=200" in Training().settings
    assert "schedule.iterations=1600" in Training(data="cifar10").settings
    assert "schedule.iterations=6400" in Training("cifar10", scale=Fraction(1, 40)).settings
    assert Training("cifar10", scale=Fraction(1)).settings == []
    assert "1/160 of the paper's schedule" in Training("cifar10").sentence


def test_runs_that_differ_are_said_to():
    one, other = run("plain20", [0.5]), run("plain56", [0.5], seed=1)
    assert cautions([one, other]) == []
    other = replace(other, settings={"optimizer.lr": 0.2, "seed": 1}, status="stopped")
    other = replace(other, data=Data(name="tiny", fingerprint="g"))
    different, recipes, unfinished = cautions([one, other])
    assert "different data" in different
    assert recipes == "Their recipes differ in optimizer.lr."
    assert "seed-1" in unfinished
    with pytest.raises(UsageError, match="one class an image and with several"):
        cautions([one, replace(other, data=replace(one.data, several=True))])


def test_weights_that_are_no_numbers_are_refused(resnets, tmp_path):
    weights = create_model("resnet20_b").state_dict()
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    torch.save(weights, tmp_path / "diverged.pth")
    code, _, err = resnets("study", "responses", tmp_path / "diverged.pth", "--out", tmp_path / "o")
    assert (code, len(err.splitlines()), (tmp_path / "o").exists()) == (6, 2, False)
    assert "layer1.0.conv1.weight has a value that is NaN or infinite" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["degradation", "--scale", "2"], '"2" is no part of a schedule'),
        (["depth", "--survival", "0"], "a survival of 0 is no probability"),
        (["depth", "--survival", "1,a"], '--survival "1,a": no probabilities'),
        (["depth", "--survival", "0.8,0.8"], "one survival probability shows nothing"),
        (["landscape", "--span", "inf"], "a span of inf is none"),
        (["depth", "--model", "plain20"], "a plain net has nothing left"),
        (["responses"], "there is no net to look at"),
        (["responses", "resnet50"], "a name alone has fresh weights"),
        (["gradients", "--images", "4"], "4 lines between two images take 8 images, not 4"),
    ],
)
def test_what_cannot_be_meant_is_one_line(resnets, tmp_path, words, message):
    code, out, err = resnets("study", *words, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err.splitlines()[0]
    assert len(err.splitlines()) == 2
    assert not (tmp_path / "out").exists()
