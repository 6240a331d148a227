import pytest

from resnets.report.score import class_scores, interval


def test_interval_is_wilsons() -> None:
    # Wilson 1927, as in Newcombe 1998, Table I: 81 of 263.
    low, high = interval(81 / 263, 263)
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert interval(1.0, 10)[1] == 1.0
    assert interval(0.0, 10)[0] == 0.0


def test_classes_come_weakest_first() -> None:
    weak, strong = class_scores([[8, 0, 0], [3, 5, 1], [0, 0, 0]], ["a", "b", "c"])
    assert (weak.name, weak.samples, weak.right, weak.taken_for) == ("b", 9, 5, "a")
    assert weak.precision == 1.0
    assert (strong.name, strong.recall, strong.taken_for) == ("a", 1.0, "")
    assert strong.precision == pytest.approx(8 / 11)


def test_classes_without_names_are_numbered() -> None:
    assert [score.name for score in class_scores([[1, 0], [0, 1]], ["only one"])] == ["0", "1"]
