"""Images a second, by a fake clock and one small real run."""

import json
import subprocess
import sys

import pytest
import torch

from resnets.training.throughput import Spread, job, ours, spread, timed
from resnets.zoo import get_spec


def test_spread():
    assert spread([4, 1, 3, 2]) == Spread(1.75, 2.5, 3.25)
    assert spread([7]) == Spread(7, 7, 7)


class Clock:
    """Time that passes only when something is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float, calls: list[str] | None = None, name: str = ""):
        def call():
            self.now += seconds
            if calls is not None:
                calls.append(name)

        return call


def test_a_measurement_repeats_until_its_time_is_filled():
    clock, calls = Clock(), []
    measure = timed(clock.takes(0.25, calls), 8, seconds=0.6, warm_up=2, clock=clock)
    assert len(calls) == 3  # two to warm up, one to see how long it takes
    assert measure() == pytest.approx(8 / 0.25)
    assert len(calls) == 3 + 3
    assert timed(clock.takes(2), 8, seconds=0.6, clock=clock)() == 4


def test_our_step_learns_and_our_inference_answers():
    training = job(get_spec("resnet8"), "training", 4, 16)
    step = ours(training)
    assert step().loss > step().loss
    assert ours(job(get_spec("resnet8"), "inference", 3, 16))().shape == (3, 10)
    assert job(get_spec("resnet8"), "training", None, None).batch_size == 128
    assert job(get_spec("resnet18"), "training", None, None).title == (
        "resnet18 training, batch 16, 224x224"
    )


def test_the_command(resnets):
    words = ["resnet20", "--batch-size", "2", "--image-size", "8", "--rounds", "2"]
    code, out, err = resnets("bench", *words)
    assert code == 0
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [
        ["resnet20", "training", "2", "8"],
        ["resnet20", "inference", "2", "8"],
    ]
    assert "resnet20 training, batch 2, 8x8: 2 rounds\n" in err


def test_the_command_for_programs(resnets):
    words = ["resnet8", "--inference", "--image-size", "8", "--rounds", "3", "--json"]
    code, out, _ = resnets("bench", *words)
    assert code == 0
    report = json.loads(out)
    assert report["environment"]["torch"] == torch.__version__
    assert [result["batch_size"] for result in report["results"]] == [1, 128]
    for result in report["results"]:
        assert (result["model"], result["work"]) == ("resnet8", "inference")
        low, middle, high = (result["rate"][key] for key in ("low", "median", "high"))
        assert 0 < low <= middle <= high
        assert sorted(result["rates"])[1] == middle


def test_what_cannot_be_meant(resnets):
    code, _, err = resnets("bench", "resnet5O")
    assert code == 2
    assert "resnet50" in err


def test_help_is_light():
    code = (
        "import sys; from resnets.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, "bench", "--help"]
    assert "Examples:" in subprocess.run(words, check=True, capture_output=True, text=True).stdout
