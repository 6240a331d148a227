"""README and docs/start.md say what is so: commands and Python run, tables are fresh."""

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from resnets.training.recipe import list_recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
START = (ROOT / "docs/start.md").read_text(encoding="utf-8")


def test_the_model_tables_are_fresh():
    script = runpy.run_path(str(ROOT / "docs/model_table.py"))
    for page, text in script["pages"]().items():
        assert text == page.read_text(encoding="utf-8"), "run `make table`"
    assert len(script["CHOSEN"]) == 8


WHOLE = '"schedule.epochs=1"'
SHORT = '"schedule.epochs=null", "schedule.iterations=2"'


@pytest.mark.parametrize("length", [SHORT, pytest.param(WHOLE, marks=pytest.mark.slow)])
@pytest.mark.pages
def test_the_python_runs(tmp_path, length):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert WHOLE in code
    code = code.replace(WHOLE, length)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "4089184256" in result.stdout
    assert (tmp_path / "runs/digits/report.html").exists()


def commands(page: str) -> list[list[str]]:
    """Return the commands on a page, as the shell splits them; those of pip are not ours."""
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.S)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words for words in lines if words[0] != "pip"]


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Two classes of images under photos/ and more/, and one image beside them."""
    for folder in ("photos", "more"):
        for label, colour in (("dusk", 60), ("noon", 200)):
            for i in range(10):
                path = tmp_path / folder / label / f"{i}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 32), (colour, 20 * i, 5)).save(path)
    Image.new("RGB", (40, 32), (60, 7, 5)).save(tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_readme_are_the_first_steps():
    assert len(commands(README)) == 2
    assert [words for words in commands(README) if words not in commands(START)] == []


@pytest.mark.pages
def test_the_first_steps_can_be_gone(photographs, resnets):
    # As they are typed, but for the length of the training and what opens an exported file, which
    # has a process of its own.
    shorter = ["schedule.iterations=2", "data.image_size=32", "batch_size=8"]
    for command, *words in commands(START):
        assert command == "resnets"
        if words[0] == "train":
            words += [part for setting in shorter for part in ("--set", setting)]
        if "runs/photos-resnet18/model.onnx" in words or words[0] == "export":
            typed = [sys.executable, "-m", "resnets", *words]
            done = subprocess.run(typed, capture_output=True, text=True)
            code, err = done.returncode, done.stderr
        else:
            code, _, err = resnets(*words)
        assert code == 0, (words, err)
    made = ("report.html", "model.safetensors", "model.onnx")
    assert all((photographs / "runs/photos-resnet18" / name).exists() for name in made)
    assert (photographs / "vectors.npz").exists()
    assert len((photographs / "photos.csv").read_text().splitlines()) == 1 + 20


def test_the_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    folders = ("*.md", "docs/**/*.md", "results/*.md", "benchmarks/*.md")
    for page in (page for folder in folders for page in ROOT.glob(folder)):
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, re.M), (page, target)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_names_of_the_code_are_the_codes_own(page):
    prose = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    named = {name for name in re.findall(r"`([A-Za-z_]\w+)`", prose) if re.search("_|[A-Z]", name)}
    folders = ("src", "tests", "docs/website")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    words = {word for path in files for word in re.findall(r"\w+", path.read_text("utf-8"))}
    assert len(named) > 10
    assert named - words == set()


def test_the_extras_are_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (sentence,) = re.findall(r"has the extras (.*?)\.\n", START, re.S)
    within, beside = (re.findall(r"`(\w+)`", part) for part in sentence.split("not in it"))
    assert ",".join(within) == re.search(r"\[(.*)\]", extras["all"][0])[1]
    assert {*within, *beside} == {*extras} - {"all", "dev", "download"}


def test_every_recipe_stands_with_the_recipes():
    training = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Recipes\n(.*?)^## ", training, re.S | re.M)
    rows = re.findall(r"^\| (`.*?) \|", section, re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == list_recipes()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
def test_the_links_lead_somewhere(page):
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)|(?:src|href)=\"([^\"#]+)\"", text):
        target = link[0] or link[1]
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_readme_is_one_screen_with_small_pictures():
    assert len(README.splitlines()) <= 70
    pictures = list((ROOT / "docs/pictures").glob("*.*"))
    named = {"alignment.svg", "page.png", "report.png", "resnet50.svg"}
    assert {path.name for path in pictures} == named
    assert all(path.stat().st_size < 150_000 for path in pictures)
