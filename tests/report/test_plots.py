import re
from xml.etree import ElementTree

import pytest
from run_folders import confusion, metrics

from resnets.report.plots import confusion_matrix, curves, overlay
from resnets.run_folder.record import Epoch


def epochs(count: int) -> list[Epoch]:
    return [Epoch(**row) for row in metrics(count)]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_curves_are_well_formed_and_need_nothing_from_outside(count: int) -> None:
    plots = curves(epochs(count))
    assert [plot.title for plot in plots] == ["Loss", "Accuracy, %", "Learning rate"]
    for plot in plots:
        root = ElementTree.fromstring(plot.svg)
        assert root.tag == "svg"
        assert root.get("aria-label", "").startswith(plot.title)
        assert "http" not in plot.svg
        assert "<style" not in plot.svg  # it would reach the whole page
        assert "font-family" not in plot.svg


def test_every_colour_follows_the_page() -> None:
    drawings = [*curves(epochs(5)), confusion_matrix(confusion(10, 9), [])]
    for plot in drawings:
        assert plot is not None
        # Near-black stays: it stands on cells that are light in both modes.
        assert set(re.findall(r"#[0-9a-f]{6}\b", plot.svg)) <= {"#1d1d1b"}
        assert "var(--" in plot.svg


def test_ids_do_not_clash_and_references_lead_somewhere() -> None:
    matrix = confusion_matrix(confusion(3, 9), ["a", "b", "c"])
    assert matrix is not None
    ids: list[str] = []
    for plot in [*curves(epochs(30)), matrix]:
        own = re.findall(r'\bid="([^"]+)"', plot.svg)
        used = re.findall(r'(?:url\(#|href="#)([^")]+)', plot.svg)
        assert set(used) <= set(own)
        ids.extend(own)
    assert len(ids) == len(set(ids))


def test_equal_data_gives_equal_drawings() -> None:
    assert curves(epochs(9)) == curves(epochs(9))
    assert confusion_matrix(confusion(4, 9), []) == confusion_matrix(confusion(4, 9), [])


def test_what_was_not_recorded_is_not_drawn() -> None:
    assert curves([]) == []
    only_loss = [Epoch(epoch=i, step=i, train_loss=1 / i) for i in (1, 2, 3)]
    (plot,) = curves(only_loss)
    assert [key.label for key in plot.keys] == ["training"]


def test_flat_and_zero_curves_are_drawn() -> None:
    flat = [Epoch(epoch=i, step=i, lr=0.0, train_loss=0.0, train_accuracy=1.0) for i in (1, 2, 3)]
    assert len(curves(flat)) == 3


def test_runs_are_told_apart_beyond_the_colours() -> None:
    plot = overlay([(f"run {i}", epochs(3)) for i in range(20)])[0]
    assert len({(key.colour, key.dash) for key in plot.keys}) == 20


@pytest.mark.parametrize("classes", [1, 2, 10, 20, 21, 100, 200])
def test_confusion_matrix_of_any_size(classes: int) -> None:
    plot = confusion_matrix(confusion(classes, 50), [f"class {i}" for i in range(classes)])
    assert plot is not None
    root = ElementTree.fromstring(plot.svg)
    assert len(plot.svg) < 200_000
    _, _, width, height = map(int, root.get("viewBox", "").split())
    assert 60 < width < 700
    assert 60 < height < 700
    texts = [text.text for text in root.iter("text")]
    assert texts.count("48") == (len(range(0, classes, 3)) if 2 <= classes <= 20 else 0)
    assert ("class 1" in texts) == (2 <= classes <= 30) == (plot.named and classes > 1)


def test_a_matrix_too_large_to_see_is_not_drawn() -> None:
    assert confusion_matrix(confusion(201, 5), []) is None
    assert confusion_matrix([], []) is None


@pytest.mark.parametrize(
    "name",
    [
        "$x^",
        "<script>alert(1)</script>",
        "a & b",
        "\x00\x1b",
        "狗",
        "two\nlines",
        "",
        "#000001",
        "x" * 90,
    ],
)
def test_any_class_name_can_stand_in_a_matrix(name: str) -> None:
    plot = confusion_matrix([[3, 1], [0, 4]], [name, "fill: #000001"])
    assert plot is not None
    texts = [text.text or "" for text in ElementTree.fromstring(plot.svg).iter("text")]
    assert "fill: #000001" in texts
    assert "<script" not in plot.svg
    assert max(map(len, texts)) <= 18
