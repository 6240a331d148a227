"""How far reading is: said when it takes long, a line at times where there is no terminal."""

import pytest

from resnets.data import open_dataset
from resnets.data.check import check_folder
from resnets.formatting import pace
from resnets.training.progress import RunProgress


def test_pace():
    assert pace(500, 20_000, 10) == "500 of 20,000 images, 50 a second, 6 min 30 s left"
    assert pace(0, 1, 0) == "0 of 1 image"
    assert pace(20_000, 0, 10) == "20,000 images found"


@pytest.mark.parametrize("read", [open_dataset, check_folder])
def test_reading_tells_how_far_it_is(photos, read):
    told = []
    read(photos, report=lambda done, total: told.append((done, total)))
    found = [done for done, total in told if not total]
    assert found == sorted(found)
    assert found[-1] == 30
    assert told[len(found) :] == [(number, 30) for number in range(1, 31)]


def test_what_is_found_slowly_is_said_and_reading_begins_after(capsys):
    clock = iter([0.0, 0.0, 9.0, 100.0, 104.0, 105.0])
    shown = RunProgress(clock=lambda: next(clock))
    for done, total in ((20, 0), (4000, 0), (1, 9000), (40, 9000), (9000, 9000)):
        shown.reading(done, total)
    assert capsys.readouterr().err.splitlines() == [
        "4,000 images found",
        "read 40 of 9,000 images, 10 a second, 15 min left",
    ]


def test_only_what_takes_long_is_said(capsys):
    clock = iter([0.0, 0.0, 1.0, 4.0, 5.0, 40.0, 50.0])
    shown = RunProgress(clock=lambda: next(clock))
    for done in (1, 2, 30, 40, 400, 1000):
        shown.reading(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "read 30 of 1,000 images, 7.5 a second, 2 min 9 s left",
        "read 400 of 1,000 images, 10 a second, 1 min left",
    ]
