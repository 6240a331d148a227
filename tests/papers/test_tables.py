import pytest

from resnets.report.published import TABLES, published
from resnets.training.recipe import load_recipe


def test_the_number_of_the_paper_is_found() -> None:
    (row,) = published("resnet20", "cifar10")
    assert (row.source, row.error_percent, row.accuracy_percent) == (
        "He et al. 2015, Table 6",
        8.75,
        91.25,
    )
    assert (row.protocol, row.iterations, row.batch) == ("test", 64_000, 128)


def test_papers_come_in_their_order() -> None:
    errors = [row.error_percent for row in published("resnet110", "cifar10")]
    assert errors == [6.43, 6.61, 6.61]
    assert [row.table for row in published("resnet34_a", "imagenet")] == ["2", "3"]


def test_the_dataset_may_be_written_as_in_the_paper() -> None:
    assert published("resnet164", "CIFAR-100") == published("resnet164", "cifar100") != []


@pytest.mark.parametrize(("model", "dataset"), [("resnet20", "digits"), ("nothing", "cifar10")])
def test_no_number_is_an_empty_list(model: str, dataset: str) -> None:
    assert published(model, dataset) == []


def test_every_row_is_well_formed() -> None:
    assert len(set(TABLES)) == len(TABLES)
    for row in TABLES:
        assert row.dataset in {"cifar10", "cifar100", "imagenet"}
        assert row.model
        if row.error_percent is None:
            assert "fails" in row.note
        else:
            assert 2 < row.error_percent < 35
            assert row.accuracy_percent == pytest.approx(100 - row.error_percent)


def test_deeper_is_better_within_a_table() -> None:
    rows = {r.model: r.error_percent for r in TABLES if r.source == "He et al. 2015, Table 6"}
    errors = [rows[f"resnet{depth}"] for depth in (20, 32, 44, 56, 110)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("row", [row for row in TABLES if row.recipe], ids=str)
def test_the_recipe_of_a_row_is_as_long_as_it_says(row) -> None:
    recipe = load_recipe(row.recipe)
    assert (recipe.schedule.iterations, recipe.schedule.epochs) == (row.iterations, row.epochs)
    assert recipe.batch_size == row.batch or row.batch is None
