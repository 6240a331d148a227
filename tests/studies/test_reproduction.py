"""A table reproduced: lengths, names, statistics, parts, what is written and what is resumed."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from conftest import coloured, signal_at, tiny_dataset
from resnets import create_model, get_spec
from resnets.errors import ResourceError, Stopped, UsageError
from resnets.inference.partition import Part
from resnets.machine.device import Machine
from resnets.papers.paper_tables import TABLES
from resnets.papers.published import IMAGES, Published, Row, Small, Table
from resnets.report.reproduced import markdown
from resnets.report.score import mean_interval, student
from resnets.run_folder.directory import RunFolder
from resnets.studies.experiments import (
    Asked,
    Experiment,
    Images,
    experiments,
    iterations,
    jobs,
    parse_scale,
    scaled,
    share,
)
from resnets.studies.measured import same_experiment
from resnets.studies.reproduction import reproduce, shared
from resnets.studies.row_costs import RowCost, plan
from resnets.training.recipe import load_recipe
from resnets.training.schedule import RateMemory, Schedule

QUIET = Machine(quiet=True, calibrate=None, false_alarms=0)
PAPER = Published(
    *("Tiny 2020", "1", "cifar10", "median of 3"),
    iterations=64_000,
    batch=128,
    recipe="he2015_cifar",
)
TINY = Table(
    "tiny.table1",
    "Tiny nets",
    "nothing",
    (
        Row("8 layers", replace(PAPER, model="resnet8", error_percent=9.0)),
        Row("8 plain", replace(PAPER, model="plain8", note="fails: error above 20 %")),
        Row("a net of no kind", replace(PAPER, model="none", error_percent=5.0), lacks="no Spec"),
    ),
    small=Small("one block a stage less", {"depths": (1, 1)}, ("resnet8",)),
)
SETTINGS = ("batch_size=8", "data.holdout=10")


def named(key: str, **asked) -> dict[str, Experiment]:
    return {each.row.key: each for each in experiments(Asked(TABLES[key], **asked))}


RECIPES = {
    (row.recipe or row.figure.recipe, row.settings, row.figure.dataset)
    for table in TABLES.values()
    for row in table.rows
    if not row.lacks
}


@pytest.mark.parametrize(("name", "settings", "dataset"), sorted(RECIPES), ids=str)
def test_a_scaled_schedule_keeps_its_fractions(name, settings, dataset):
    whole = load_recipe(name, settings)
    short = scaled(whole, Fraction(1, 40), IMAGES[dataset])
    steps = iterations(whole, IMAGES[dataset]), iterations(short, IMAGES[dataset])
    assert steps[1] == pytest.approx(steps[0] / 40, abs=0.5)
    rates = [
        Schedule(recipe.schedule, recipe.optimizer.peak, length, RateMemory())
        for recipe, length in zip((whole, short), steps, strict=True)
    ]
    for fraction in (0.002, 0.01, 0.3, 0.49, 0.51, 0.7, 0.76, 0.85, 0.95):
        long, brief = (rate.rate(int(fraction * n)) for rate, n in zip(rates, steps, strict=True))
        assert brief == pytest.approx(long), fraction
    own = {"schedule.iterations", "schedule.epochs"}
    assert {k for k, v in short.flat().items() if whole.flat()[k] != v} <= own


def test_what_does_not_scale_is_said():
    def said(key, **asked):
        (sentence,) = Asked(TABLES[key], Fraction(1, 160), **asked).changes
        return sentence.partition(" of the run")[2]

    assert said("he2016.table1") == said("he2015.table6", rows=("resnet20",)) == "."
    assert said("he2015.table6") == ", but for a warm-up that waits for an error."
    assert said("he2015.table2") == ", but for drops that wait for epochs without progress."


def test_lengths_are_the_papers():
    assert iterations(load_recipe("keras_cifar"), 50_000) == 200 * 1407  # 45,000 in batches of 32
    assert iterations(load_recipe("resnext_cifar"), 50_000) == 300 * 391
    assert scaled(load_recipe("he2015_cifar"), Fraction(1), 50_000) == load_recipe("he2015_cifar")


def test_scales_are_said_and_read():
    said = {Fraction(1, 160): "a 160th", Fraction(1, 2): "half", Fraction(1, 80): "an 80th"}
    said |= {Fraction(1, 11): "an 11th", Fraction(1, 42): "a 42nd", Fraction(3, 40): "7.5 %"}
    assert [share(scale) for scale in said] == list(said.values())
    assert parse_scale("0.025") == parse_scale("1/40") == Fraction(1, 40)
    assert parse_scale(str(1e-5)) == Fraction(1, 100_000)
    for text in ("0", "2", "-1/4", "1/0", "nan", "a", "1/99999999", "1e-999999999"):
        with pytest.raises(UsageError, match="is no part of a schedule"):
            parse_scale(text)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 101])
def test_students_t_is_scipys(freedom):
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


def test_the_interval_of_a_mean_is_scipys():
    values = [0.4837, 0.4984, 0.4756, 0.51]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected, rel=1e-8)


def test_the_experiments_of_results_are_found_by_what_they_are(tmp_path):
    """`resnets reproduce he2015.table6 --scale 1/160 --seeds 3` is what results/ holds."""
    results = Path(__file__).parents[2] / "results"
    found = named("he2015.table6", scale=Fraction(1, 160))
    assert found["resnet20"].name == "resnet20-he2015_cifar-400"
    kept = same_experiment(found["resnet20"], results)
    there = json.loads((results / found["resnet20"].name / "seeds.json").read_text())
    assert [1 - error for error in kept.errors] == [s["accuracy"] for s in there["seeds"]]
    name = found["resnet20"].name  # as a kept table has it
    shutil.copytree(results / name, tmp_path / "table" / name)
    assert same_experiment(found["resnet20"], tmp_path).errors == kept.errors
    assert kept.differences == ("400 iterations, not 64,000",)
    assert same_experiment(found["resnet32"], results) is None
    quarter = ("batch_size=32", "optimizer.lr=0.025")
    deep = named("he2015.table6", scale=Fraction(1, 40), settings=quarter)["plain56"]
    assert Path(same_experiment(deep, results).where).name == "plain56-he2015_cifar-1600x32"


def test_names_say_what_is_changed():
    small = named("he2016.table1", small=True, settings=("precision=bfloat16",))
    assert small["resnet110"].name == "resnet20-he2016_cifar-bfloat16"
    assert named("he2016.table4")["resnet1001_v2-batch64"].name.endswith("he2016_cifar-batch64")
    narrow = named("xie2017.table3", small=True)["resnext50_2x40d"]
    assert (narrow.name, narrow.dataset) == ("resnext20_2x40d_narrow-resnext_cifar", "cifar10")
    for key in TABLES:
        for each in experiments(Asked(TABLES[key], scale=Fraction(1, 160))):
            assert each.row.lacks or "/" not in each.name


ROWS = [each for key in ("he2016.table3", "he2016.table5") for each in named(key).values()]


@given(st.integers(1, 9), st.integers(1, 5), st.sets(st.sampled_from(range(len(ROWS)))))
def test_parts_have_each_job_once(count, seeds, chosen):
    found = [ROWS[place] for place in sorted(chosen)]
    every = [(s, e.name) for s, e in jobs(found, seeds)]
    trained = {each.name for each in found if not each.row.lacks}
    assert len(every) == seeds * len(trained)
    parts = [shared(every, Part(k, count)) for k in range(1, count + 1)]
    assert sorted(job for part in parts for job in part) == sorted(every)
    assert len(set(every)) == len(every)
    assert [s for s, _ in every] == sorted(s for s, _ in every)  # a seed of all rows, then the next
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.slow
def test_plan_of_what_there_is_nothing_to_train_on(tmp_path):
    found = plan(Asked(TABLES["he2015.table2"], rows=("resnet18_a",)), images=Images())
    (row,) = [each.to_dict() for each in found]
    assert row["lacks"] == "no images of ImageNet: name their folder with --data"
    assert (row["iterations"], row["seconds_each"]) == (600_000, None)
    assert 5e9 < row["memory"] < 3e10
    assert list(tmp_path.iterdir()) == []


def test_without_images_rows_stay_empty(tmp_path, resnets):
    words = ["reproduce", "he2015.table6", "--root", tmp_path / "none", "--out", tmp_path / "out"]
    code, out, _ = resnets(*words, "--scale", "1/160", "--rows", "resnet20", "--kept", "results")
    assert code == 0
    row = "| ResNet, 20 layers | 8.75 | resnet20, scaled 1/160 |  | not measured |"
    assert any(line.startswith(row) for line in out.splitlines())
    assert "ResNet, 20 layers: no cifar10 here: resnets data get cifar10" in out
    assert "48.59 ± 1.16 (3)" in out
    code, _, err = resnets(*words, "--rows", "resnet20")
    assert code == 2
    assert "is of he2015.table6 --scale 1/160" in err
    code, _, err = resnets("reproduce", "he2015.tabel6")
    assert (code, "did you mean he2015.table6" in err) == (2, True)
    words = ["reproduce", "he2015.table6", "--out", tmp_path / "refused"]
    for wrong, message in (
        (("--kept", tmp_path / "none"), f"error: {tmp_path / 'none'}: no such folder of results"),
        (("--rows", ","), 'error: --rows "," names no row'),
        (("--data", tmp_path), f"error: {tmp_path}: no row that is asked for is of ImageNet"),
        (("--data", tmp_path, "--plan"), f"error: {tmp_path}: no row that is asked for is of"),
        (("--weights-for", "a=b", "--plan"), "error: no row of he2015.table6 is called"),
        (("--scale", "1e-999999999"), 'error: "1e-999999999" is no part of a schedule'),
        (("--set", "schedule.no=3"), 'error: recipe he2015_cifar: unknown key "schedule.no"'),
        (("--set", "batch_size=0"), "error: recipe he2015_cifar: batch_size: Input should be"),
    ):
        code, out, err = resnets(*words, *wrong)
        assert (code, out, len(err.splitlines())) == (2, "", 2)
        assert err.startswith(message)
    assert not (tmp_path / "refused").exists()
    code, out, _ = resnets("reproduce", "--list", "--root", tmp_path / "none")
    assert (code, out.count("he2016.table")) == (0, 7)


def test_lines_of_a_plan_fit_a_terminal(tmp_path, resnets):
    """All tables, whose images are not here; of a step nothing is counted for rows without nets."""
    words = ["--plan", "--rows", "ensemble"]
    code, out, _ = resnets("reproduce", "he2015.table5", *words, "--scale", "1/7")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert out.splitlines()[-1] == "nothing was written"
    for table in TABLES.values():
        for each in experiments(Asked(table, scale=Fraction(3, 7))):
            if not each.row.lacks:
                told = RowCost(each, 86_400 * 33.3, 12_345_678_901, "", 7).sentences()
                assert max(map(len, told)) <= 96
                assert told[-1].endswith("images at once") == (each.recipe.batch_size > 7)


@pytest.mark.slow
def test_a_plan_measures_few_images_of_large_nets(tmp_path):
    """A thousand layers in batches of 128 keep 12 GB, which a plan does not."""
    deep = Row("110 layers", replace(PAPER, model="resnet110", error_percent=6.0))
    again = replace(deep, figure=replace(deep.figure, protocol="1-crop at 320"))
    table = replace(TINY, rows=(deep, again, TINY.rows[0]))
    data, lines = tiny_dataset(train=400, side=8), []
    found = plan(
        Asked(table, Fraction(1, 64_000), settings=("batch_size=300", "data.holdout=10")),
        images=Images(data),
        weights={"resnet8": ["a.pth"]},
        machine=QUIET,
        each=lambda cost: lines.extend(cost.sentences()),
    )
    deep, same, weights = found
    assert 100 < deep.images < 300
    assert f"timed with {deep.images} of its 300 images at once" in lines[1]
    assert (same.like, same.seconds) == ("resnet110", deep.seconds)
    assert lines[3] == "the runs of resnet110, measured in another way"
    assert (weights.seconds, lines[4]) == (None, "evaluated, not trained: a.pth")


@pytest.mark.slow
def test_how_long_it_takes_is_said_before_it_begins(tmp_path, capsys):
    trained(tmp_path / "out", seeds=2, machine=replace(QUIET, quiet=False))
    told = capsys.readouterr()
    lines = [line.strip() for line in (told.out + told.err).splitlines()]
    place = next(i for i, line in enumerate(lines) if line.startswith("4 runs: about "))
    assert "of them: 8 layers" in lines[place + 1]
    assert lines[place + 2].startswith("(from a few steps of resnet8")
    assert not any("seed 0: 1 of 4 runs" in line for line in lines[:place])
    trained(tmp_path / "out", seeds=2, machine=replace(QUIET, quiet=False))
    assert "on this machine as busy" not in "".join(capsys.readouterr())


def trained(out, seeds=2, **options):
    given = {"scale": Fraction(1, 32_000), "settings": SETTINGS, "machine": QUIET, **options}
    return reproduce(TINY, seeds=seeds, out=out, data=tiny_dataset(), **given)


def figures(found) -> list:
    own = ("minutes", "where")
    rows = [{**row["measured"]} if row["measured"] else None for row in found.values()["rows"]]
    return [row and {k: v for k, v in row.items() if k not in own} for row in rows]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_table(tmp_path):
    whole = trained(tmp_path / "whole")
    assert [row and row["n"] for row in figures(whole)] == [2, 2, None]
    with signal_at(3), pytest.raises(Stopped) as caught:  # of two steps a run
        trained(tmp_path / "parts", command="resnets reproduce tiny")
    assert (caught.value.exit_code, caught.value.hint) == (
        75,
        "resume with: resnets reproduce tiny",
    )
    there = json.loads((tmp_path / "parts/table.json").read_text())
    assert [bool(row["measured"]) for row in there["rows"]] == [True, False, False]
    assert figures(trained(tmp_path / "parts")) == figures(whole)
    seeds = json.loads(
        (tmp_path / "whole/resnet8-he2015_cifar-2x8-holdout10/seeds.json").read_text()
    )
    assert seeds["median"] == pytest.approx(1 - figures(whole)[0]["median"])
    page = whole.report.read_text()
    assert "Scaled: a 32,000th of the paper&#39;s iterations" in page
    assert "8 plain" in page


@pytest.mark.slow
def test_parts_make_one_table(tmp_path):
    trained(tmp_path / "out", part=Part(1, 2))
    assert not (tmp_path / "out/table.json").exists()
    (run,) = (tmp_path / "out").glob("resnet8*/seed-0")
    with RunFolder(run).lock():  # as another part has it that sums up its own seeds
        trained(tmp_path / "out", part=Part(2, 2))
    last = trained(tmp_path / "out", part=Part(2, 2))
    assert figures(last) == figures(trained(tmp_path / "whole"))
    assert (tmp_path / "out/table.md").exists()


@pytest.mark.slow
def test_a_part_passes_over_seeds_that_are_held_alone(tmp_path):
    trained(tmp_path / "out", part=Part(1, 2))
    (seeds,) = (tmp_path / "out").glob("resnet8*/seeds.json")
    seeds.unlink()
    seeds.mkdir()  # where nothing can be written
    with pytest.raises(ResourceError, match="is a folder"):
        trained(tmp_path / "out", seeds=3, part=Part(1, 2))


def made_up(**changes):
    measured = {
        "errors": [0.5, 0.52],
        "n": 2,
        "median": 0.51,
        "mean": 0.51,
        "sd": 0.01414,
        "interval": [0.383, 0.637],
        "top5": None,
        "minutes": 1.5,
        "differences": ["400 iterations, not 64,000", "precision bfloat16, not float32"],
    }
    row = {
        "label": "ResNet | 20",
        "published": {
            "model": "resnet20",
            "dataset": "cifar10",
            "protocol": "test",
            "printed": "8.75",
        },
        "model": "resnet20",
        "dataset": "cifar10",
        "recipe": "he2015_cifar",
        "iterations": 400,
        "folder": "resnet20-he2015_cifar-400",
        "measured": measured,
        "before": None,
        "lacks": "",
    }
    lacking = {**row, "label": "ResNet, 32", "measured": None, "lacks": "not trained yet"}
    return {
        "table": "he2015.table6",
        "source": "He et al. 2015, Table 6",
        "title": "Nets",
        "shows": "depth",
        "left_out": "",
        "scale": "1/160",
        "changes": ["Scaled: a 160th of the paper's iterations."],
        "command": "resnets reproduce he2015.table6",
        "rows": [row, lacking],
        **changes,
    }


def test_the_markdown_of_a_made_up_record():
    lines = markdown(made_up()).splitlines()
    assert lines[0] == "# He et al. 2015, Table 6: Nets, scaled to 1/160"
    assert "**Scaled: a 160th of the paper's iterations.**" in lines
    row = "| ResNet \\| 20 | 8.75 | resnet20, scaled 1/160 | 2 | 51.00 | 51.00 ± 1.41 | "
    assert f"{row}38.30 to 63.70 | 1.5 |" in lines
    assert "| ResNet, 32 | 8.75 | resnet20, scaled 1/160 |  | not measured |  |  |  |" in lines
    assert "- ResNet | 20: 400 iterations, not 64,000; precision bfloat16, not float32" in lines
    assert "- ResNet, 32: not trained yet" in lines
    assert lines[-1] == "    resnets reproduce he2015.table6"


CROPS = replace(PAPER, paper="He 2015", dataset="imagenet", protocol="10-crop", recipe="")
PHOTOS = Table(
    "tiny.table2",
    "Tiny nets on photographs",
    "nothing",
    (
        Row(
            "8 layers",
            replace(CROPS, model="resnet8", error_percent=25.0, top5_percent=7.0),
            recipe="he2015_cifar",
        ),
        Row("weights", replace(CROPS, model="plain8", error_percent=28.0), recipe="he2015_cifar"),
    ),
)


@pytest.mark.slow
def test_photographs_are_measured_by_the_protocol_of_the_table(tmp_path):
    for split, count in (("train", 6), ("val", 2)):
        for label, name in enumerate(("brick", "cork", "fern")):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                coloured(label, 10 * len(split) + number).save(folder / f"{number}.png")
    spec = replace(get_spec("plain8"), num_classes=3)
    torch.save(create_model(spec).state_dict(), tmp_path / "plain8.pth")
    options = {
        "scale": Fraction(1, 64_000),
        "settings": ("batch_size=6", "data.image_size=32"),
        "out": tmp_path / "out",
        "machine": QUIET,
    }
    empty = reproduce(PHOTOS, **options).values()["rows"]
    assert {row["lacks"] for row in empty} == {
        "no images of ImageNet: name their folder with --data"
    }
    found = reproduce(
        PHOTOS,
        data=str(tmp_path / "imagenet"),
        weights={"plain8": [str(tmp_path / "plain8.pth")]},
        **options,
    )
    trained, given = (row["measured"] for row in found.values()["rows"])
    assert (trained["n"], trained["images"], trained["split"]) == (1, 6, "validation")
    assert not any("crop" in line for line in trained["differences"])
    evaluation = json.loads((tmp_path / "out/resnet8-seed-0/evaluation.json").read_text())
    assert evaluation["protocol"]["name"] == "he2015-ten-crops"
    assert trained["mean"] == pytest.approx(1 - evaluation["accuracy"])
    few = "measured on 6 images, not on ImageNet's 50,000"
    assert given["differences"] == (f"not trained here: {tmp_path / 'plain8.pth'}", few)
    other_data = "18 training images and 3 classes, not ImageNet's 1,281,167 and 1,000"
    assert {few, other_data} <= {*trained["differences"]}
    text = found.markdown.read_text()
    assert "of ImageNet" in text
    assert "| 8 layers | 25.00, top-5 7.00 | resnet8, scaled 1/64000 | 1 |" in text
    assert "| weights | 28.00 | plain8 | 1 |" in text  # nothing was scaled there
    # Without images nothing is said of other weights.
    others = reproduce(PHOTOS, weights={"plain8": ["other.pth"]}, **options).values()["rows"][1]
    assert (others["measured"], others["lacks"][:9]) == (None, "no images")
    kept = reproduce(PHOTOS, kept=tmp_path / "out", **options).values()["rows"]
    assert kept[0]["before"] is None  # on one crop, where the table has ten
