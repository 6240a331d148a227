"""How far reading is: said when it takes long, a line at times where there is no terminal."""

import pytest

from resnets.data import open_dataset
from resnets.data.check import check_folder
from resnets.formatting import pace
from resnets.training.progress import RunProgress


def test_pace():
    assert pace(500, 20_000, 10) == "500 of 20,000 images, 50 a second, 6 min 30 s left"
    assert pace(0, 1, 0) == "0 of 1 image"


@pytest.mark.parametrize("read", [open_dataset, check_folder])
def test_reading_tells_how_far_it_is(photos, read):
    told = []
    read(photos, report=lambda done, total: told.append((done, total)))
    assert told == [(number, 30) for number in range(1, 31)]


def test_only_what_takes_long_is_said(capsys):
    clock = iter([0.0, 0.0, 1.0, 4.0, 5.0, 40.0, 50.0])
    shown = RunProgress(clock=lambda: next(clock))
    for done in (1, 2, 30, 40, 400, 1000):
        shown.reading(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "read 30 of 1,000 images, 7.5 a second, 2 min 9 s left",
        "read 400 of 1,000 images, 10 a second, 1 min left",
    ]
