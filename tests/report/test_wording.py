import pytest

from resnets import formatting as wording


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.98888, "98.9 %"),
        (1.0, "100.0 %"),
        (0.0, "0.0 %"),
        (0.9996, "99.96 %"),
        (0.0002, "0.02 %"),
        (None, "–"),
    ],
)
def test_percent(fraction: float | None, text: str) -> None:
    assert wording.percent(fraction) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.7, "1 min"),
        (95.2, "1 min 35 s"),
        (599.8, "10 min"),
        (3480, "58 min"),
        (3599, "1 h"),
        (7500, "2 h 5 min"),
        (200_000, "2 d 7 h"),
        (None, "–"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(650, "650"), (269_434, "0.27 M"), (40_256_128, "40.3 M"), (3_857_973_248, "3.86 G")],
)
def test_short(number: int, text: str) -> None:
    assert wording.short(number) == text


def test_plural() -> None:
    assert wording.plural(1, "epoch") == "1 epoch"
    assert wording.plural(3.4, "epoch") == "3.4 epochs"
    assert wording.plural(64_000, "step") == "64,000 steps"


def test_moment() -> None:
    assert wording.moment("2026-11-22T18:00:00+01:00") == "2026-11-22 17:00 UTC"
    assert wording.moment("yesterday") == "yesterday"


def test_facts_read_as_words():
    settings = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    assert wording.fact(True) == "yes"
    assert wording.fact(settings) == "OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive"
    assert wording.fact({}) == "none"
    assert wording.fact(2) == "2"
