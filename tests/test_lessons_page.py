"""docs/learn/: its commands and Python are executed, and print what it says they print."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "docs/learn").glob("*.md"))
SHORT = ("schedule.epochs=null", "schedule.iterations=2", "data.holdout=0.1")
QUICK = {
    "degradation": "--scale 1/100 --seeds 1",
    "responses": "--images 16",
    "gradients": "--images 16 --draws 1 --points 9",
    "lesion": "--images 16 --draws 1",
    "paths": "--images 16 --draws 1",
    "landscape": "--images 16 --steps 5",
}


@pytest.fixture
def lessons(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_lessons

    monkeypatch.chdir(tmp_path)
    return make_lessons


@pytest.mark.pages
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_chapter_types_prints_what_it_says(chapter, lessons, resnets):
    for example in lessons.examples(chapter.read_text("utf-8")):
        if example.language == "python":
            assert lessons.fits(example.said, lessons.printed(example))
            continue
        said = ""
        for _, *words in example.commands:
            if words[0] in lessons.UNEQUAL:  # as it is typed, but for size, length and data
                words = [re.sub(r"(plain|resnet)20\b", r"\g<1>8", word) for word in words]
            if words[0] == "train":
                words = ["digits" if word == "cifar10" else word for word in words]
                words += [part for setting in SHORT for part in ("--set", setting)]
            if words[0] == "study":
                words += QUICK[words[1]].split()
            code, out, err = resnets(*words)
            assert code == 0, (words, err)
            said += out
        if example.compared:
            assert lessons.fits(example.said, said), said


def test_who_types_the_whole_course_trains_into_no_folder_twice(lessons):
    taken = set(re.findall(r'out="(.*?)"', (ROOT / "README.md").read_text("utf-8")))
    for path in CHAPTERS:
        for example in lessons.examples(path.read_text("utf-8")):
            for words in example.commands:
                if words[1] == "train" and "--out" in words and "auto" not in words:
                    folder = words[words.index("--out") + 1]
                    assert folder not in taken, (path.name, folder)
                    taken.add(folder)


def test_each_chapter_has_its_picture_a_command_and_an_exercise(lessons):
    chapters = [path for path in CHAPTERS if path.stem != "index"]
    assert len(chapters) == 8
    shown = set()
    for path in chapters:
        page = path.read_text("utf-8")
        shown |= set(re.findall(r"\]\(\.\./pictures/learn/(\w+)\.svg\)", page))
        assert lessons.examples(page), path
        assert "## Exercise" in page
        assert "<summary>Check it</summary>" in page
        for link in re.findall(r"\]\(([^)#]+)", re.sub(r"```.*?```", "", page, flags=re.S)):
            assert (path.parent / link).exists(), (path.name, link)
    kept = list((ROOT / "docs/pictures/learn").glob("*.svg"))
    assert {path.stem for path in kept} == shown
    assert all(path.stat().st_size < 90_000 for path in kept)


def test_the_pictures_of_kept_runs_are_fresh(lessons):
    for name in ("degradation", "training"):
        path = lessons.PICTURES / f"{name}.svg"
        assert path.read_text("utf-8") == lessons.picture(name)
