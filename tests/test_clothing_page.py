"""docs/clothing.md: what it says of the network in examples/clothing, and what that answers."""

import json
import re
import shlex
from hashlib import sha256
from pathlib import Path

import pytest

from conftest import coloured
from resnets import evaluate
from resnets.inference.runtimes import open_runtime

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples/clothing/clothing.onnx"
PAGE = (ROOT / "docs/clothing.md").read_text("utf-8")
FIGURES = json.loads(MODEL.with_name("evaluation.json").read_text("utf-8"))
PHOTOGRAPHS = ROOT.parent / "shared/data/clothing"


def percent(value):
    return f"{100 * value:.1f} %"


def test_the_figures_are_those_measured():
    low, high = (f"{100 * value:.1f}" for value in FIGURES["interval"])
    assert f"| {percent(FIGURES['accuracy'])} (95 % interval {low} to {high} %)" in PAGE
    (sets,) = (
        each for each in FIGURES["label_sets"] if (each["method"], each["coverage"]) == ("lac", 0.9)
    )
    for said in (
        percent(FIGURES["top5_accuracy"]),
        f"{percent(FIGURES['balanced_accuracy'])}, {percent(FIGURES['f1_macro'])}",
        f"{percent(FIGURES['ece'])}, before calibration {percent(FIGURES['uncalibrated']['ece'])}",
        f"in {percent(sets['covered'])} of cases, with {sets['size']:.2f} classes",
        f"| {percent(FIGURES['called_unknown'])}, where",
        *(
            f"| {each['name']} | {each['samples']} | {each['recall']:.0%} | {each['precision']:.0%}"
            for each in FIGURES["classes"]
        ),
    ):
        assert said.replace("%", " %").replace("  %", " %") in PAGE, said


def test_the_file_is_the_certified_one_and_small():
    certificate = json.loads(MODEL.with_name("clothing.onnx.certificate.json").read_text("utf-8"))
    assert certificate["passed"]
    assert certificate["files"][MODEL.name] == sha256(MODEL.read_bytes()).hexdigest()
    assert certificate["int8"]["test"]["accuracy_after"] == FIGURES["accuracy"]
    assert f"the same class on {certificate['int8']['test']['top1']['agree']} of 372" in PAGE
    assert MODEL.stat().st_size < 12e6


def test_it_knows_the_classes_of_the_page():
    runtime = open_runtime(MODEL)
    assert ", ".join(runtime.classes) in " ".join(PAGE.split())
    assert [each["name"] for each in FIGURES["classes"]] == list(runtime.classes)


@pytest.mark.pages
def test_the_commands_can_be_typed(tmp_path, monkeypatch, resnets):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    coloured(1, 77).save("photo.jpg")
    for line in re.search(r"```sh\n(.*?)```", PAGE, re.S)[1].splitlines():
        _, *words = shlex.split(line, comments=True)
        if words[0] not in ("serve", "page"):  # ends when stopped; fetches
            code, out, err = resnets(*words)
            assert code == 0, (words, err)
            assert out.startswith("photo.jpg")


@pytest.mark.pages
@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not here")
def test_its_accuracy_is_found_again():
    found = evaluate(MODEL, PHOTOGRAPHS)
    assert found.to_dict()["samples"] == FIGURES["samples"]
    # Processors round differently where an image is scaled; a few images stand on the edge.
    assert abs(found.accuracy - FIGURES["accuracy"]) <= 2 / 372
