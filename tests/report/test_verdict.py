"""What stands beside an accuracy, whoever says it: the sentences, the page, the comparison."""

from pathlib import Path

import pytest
from run_folders import score, summary, write_run

from resnets.report.page import write_report
from resnets.report.verdict import accuracy_cautions, accuracy_sentences

DOGS = [[11, 1, 0], [12, 0, 0], [12, 0, 0]]  # answers the first class for 35 of 36
CLASSES = ["dog", "bird", "fish"]


def cautions(confusion: list[list[int]]) -> list[str]:
    right, total = sum(row[i] for i, row in enumerate(confusion)), sum(map(sum, confusion))
    return accuracy_cautions(right / max(total, 1), confusion, CLASSES[: len(confusion)])


def test_the_figure_has_its_interval() -> None:
    assert accuracy_sentences(11 / 36, 36) == [
        "accuracy 0.3056 (36 images; 95 % interval 18.0 to 46.9 %)"
    ]
    assert accuracy_sentences(1.0, 1) == [
        "accuracy 1.0000 (1 image; 95 % interval 20.7 to 100.0 %)"
    ]
    assert accuracy_sentences(11 / 36, 36, DOGS, CLASSES)[1:] == cautions(DOGS)


@pytest.mark.parametrize(
    ("confusion", "said"),
    [
        pytest.param(
            [[11, 1, 0], [9, 0, 1], [9, 5, 0]],
            ["this is no better than always answering fish (38.9 %)"],
            id="below the largest class",
        ),
        pytest.param(
            [[4, 4], [2, 2]],
            ["this is no better than always answering dog (66.7 %)"],
            id="two answers, worse than one",
        ),
        pytest.param(
            [[5, 5], [5, 5]],
            ["this is no better than always answering one class, such as dog (50.0 %)"],
            id="classes of one size",
        ),
        pytest.param(
            DOGS,
            [
                "this is no better than always answering one class, such as dog (33.3 %)",
                "the model answers dog for 35 of 36 images",
            ],
            id="one answer but for one",
        ),
        pytest.param(
            [[0, 2], [0, 5]],
            [
                "this is no better than always answering bird (71.4 %)",
                "the model answers bird for 7 of 7 images",
            ],
            id="one answer",
        ),
        pytest.param(
            [[9, 1], [1, 2]],
            [
                "with so few images this may be chance: always answering dog gives 76.9 %, which "
                "is within the interval"
            ],
            id="above, and not surely",
        ),
        pytest.param(
            [[9, 0], [0, 1]],
            [
                "with so few images this may be chance: always answering dog gives 90.0 %, which "
                "is within the interval"
            ],
            id="all right, mostly one class",
        ),
        pytest.param([[950, 0], [1, 49]], [], id="well above, mostly one class"),
        pytest.param([[30, 3], [2, 40]], [], id="well above"),
        pytest.param(
            [[0, 0], [1, 6]],
            ["only bird is measured: which others are taken for it is not known"],
            id="one class is measured",
        ),
        pytest.param([[0, 0], [0, 0]], [], id="nothing"),
    ],
)
def test_what_learning_nothing_would_have_given(
    confusion: list[list[int]], said: list[str]
) -> None:
    assert cautions(confusion) == said


def test_pages_say_it_too(tmp_path: Path) -> None:
    data = {**summary(CLASSES)["data"], "test": 36}
    poor = write_run(tmp_path / "poor", CLASSES, data=data, results={"test": score(DOGS)})
    good = write_run(tmp_path / "good", CLASSES)
    page = write_report([poor]).read_text().replace("\xa0", " ")
    assert "The model answers dog for 35 of 36 images." in page
    assert "This is no better than always answering one class, such as dog (33.3 %)." in page
    assert "always answering" not in write_report([good]).read_text()
    both = write_report([poor, good], tmp_path / "both.html").read_text()
    assert "poor: the model answers dog for 35 of 36 images." in both
    assert "good: the model" not in both
