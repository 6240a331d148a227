import csv
from pathlib import Path

import pytest

from resnets.analysis.profiling import profile
from resnets.errors import UsageError
from resnets.papers.paper_tables import FIGURES, TABLES, find_table, published
from resnets.training.recipe import load_recipe

FACTS = Path(__file__).parents[1] / "reference/errors.csv"
ROWS = [(table, row) for table in TABLES.values() for row in table.rows]


def test_every_figure_is_as_the_papers_print_it() -> None:
    """The facts were written down apart from the tables, row by row."""
    with FACTS.open(encoding="utf-8") as file:
        facts = list(csv.DictReader(file))
    assert [(f["table"], f["dataset"], f["row"]) for f in facts] == [
        (table.key, row.figure.dataset, row.key) for table, row in ROWS
    ]
    for fact, (_, row) in zip(facts, ROWS, strict=True):
        figure = row.figure
        printed = ">20" if "above 20" in figure.note else figure.error_percent or ""
        assert printed in (fact["error_top1_percent"], *map(float, _numbers(fact, 1))), row.key
        assert [figure.top5_percent or ""] == (_numbers(fact, 5) or [""]), row.key
        printed = [fact["error_top1_percent"], fact["error_top5_percent"]]
        printed[1] = printed[1] and f"top-5 {printed[1]}"
        assert figure.printed == ", ".join(filter(None, printed)).replace(">20", "above 20")
        assert fact["protocol"] in figure.protocol
        if fact["note"].startswith("accuracy "):
            assert figure.accuracy_percent == float(fact["note"].split()[1])
        else:
            assert fact["note"] in figure.note


def _numbers(fact: dict[str, str], top: int) -> list[float]:
    text = fact[f"error_top{top}_percent"]
    return [float(text)] if text and text != ">20" else []


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
    assert published("resnet34_a", "imagenet")[1].remarks == "top-5 7.76"


def test_the_dataset_may_be_written_as_in_the_paper() -> None:
    assert published("resnet164", "CIFAR-100") == published("resnet164", "cifar100") != []


@pytest.mark.parametrize(("model", "dataset"), [("resnet20", "digits"), ("nothing", "cifar10")])
def test_no_number_is_an_empty_list(model: str, dataset: str) -> None:
    assert published(model, dataset) == []


def test_every_row_is_well_formed() -> None:
    assert len(set(FIGURES)) == len(FIGURES)
    for table in TABLES.values():
        assert len({row.key for row in table.rows}) == len(table.rows)
        assert {row.figure.source for row in table.rows} >= {table.source}
        assert set(table.small.rows if table.small else ()) <= {row.key for row in table.rows}
    for row in FIGURES:
        assert row.dataset in {"cifar10", "cifar100", "imagenet"}
        assert row.model
        if row.error_percent is None:
            assert "fails" in row.note or row.top5_percent
        else:
            assert 2 < row.error_percent < 35
            assert row.accuracy_percent == pytest.approx(100 - row.error_percent)


def test_deeper_is_better_within_a_table() -> None:
    rows = {r.model: r.error_percent for r in FIGURES if r.source == "He et al. 2015, Table 6"}
    errors = [rows[f"resnet{depth}"] for depth in (20, 32, 44, 56, 110)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda each: each.key)
def test_every_row_has_a_network_and_a_recipe(table, row) -> None:
    if row.lacks:
        with pytest.raises(UsageError, match=row.lacks[:20]):
            _ = row.spec
        return
    recipe = load_recipe(row.recipe or row.figure.recipe, row.settings)
    assert row.figure.batch in (None, recipe.batch_size)
    if row.figure.recipe:
        length = recipe.schedule.iterations, recipe.schedule.epochs
        assert length == (row.figure.iterations, row.figure.epochs)
    spec = row.spec
    depth = "".join(c if c.isdigit() else " " for c in row.label.split("(")[0]).split()
    assert spec.name == row.figure.model
    assert spec.num_classes == {"cifar10": 10, "cifar100": 100}.get(row.figure.dataset, 1000)
    if depth and int(depth[0]) > 9:  # those of shortcuts have none in their labels
        assert spec.depth == int(depth[0])
    if row.parameters:
        found = profile(spec).parameters / 1e6
        # The 10.2 M of 1,001 layers leave out batch norm's (He et al. 2016, Table 4).
        norms = 0.15 if spec.depth == 1001 else 0
        printed = row.parameters.removesuffix("M")  # rounded, or cut off (68.155: 68.1)
        assert abs(found - norms - float(printed)) < 0.1 ** len(printed.partition(".")[2])


def test_the_stand_ins_are_small() -> None:
    small = {key: table for key, table in TABLES.items() if table.small}
    assert {"he2016.table1", "he2016.table2", "xie2017.table3"} == set(small)
    for table in small.values():
        for row in table.chosen(small=True):
            spec = table.small.spec(row)
            assert spec.depth == 20
            assert "20" in spec.name
            assert profile(spec).macs < 3e8
    names = [small["he2016.table1"].small.spec(r).name for r in small["he2016.table1"].rows]
    assert names[:4] == ["resnet20", "plain20", "resnet20_scaled_0.5_1", "resnet20_scaled_0.5_0.5"]
    costs = {
        profile(small["xie2017.table3"].small.spec(row)).macs
        for row in small["xie2017.table3"].chosen(small=True)
    }
    assert max(costs) / min(costs) < 1.06  # as in the paper, cardinality costs nothing


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r'no table is called "he2015\.table7"'):
        find_table("he2015.table7")
    with pytest.raises(UsageError, match=r"no row of he2015\.table6 is called"):
        find_table("he2015.table6").chosen(("resnet21",))
    with pytest.raises(UsageError, match="has no smaller stand-in"):
        find_table("he2015.table6").chosen(small=True)
