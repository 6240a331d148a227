import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folders import RECIPE, summary, write_run

from resnets.errors import CheckpointError, UsageError
from resnets.report.page import write_report
from resnets.report.style import layers

VOID = {"input", "meta", "link", "img", "br"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a page holds: its tags, addresses and text; checks that tags are closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def check_alone(self) -> None:
        """Check that nothing is fetched and nothing runs."""
        assert not {"script", "iframe", "object", "embed", "base", "form"} & set(self.tags)
        for name, value in self.attributes:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                assert value.startswith(("data:", "#"))
            if name == "style":
                assert "url(" not in value.replace("url(#", "")
        assert "@import" not in self.html
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))


def test_the_drawing_is_shown_as_a_picture(tmp_path: Path) -> None:
    """So that nothing in the file can run."""
    folder = write_run(tmp_path / "run")
    assert "drawing" not in write_report([folder]).read_text().split("</style>")[1]
    (folder / "architecture.svg").write_text("<svg><script>alert(1)</script></svg>")
    page = Page(write_report([folder]))
    page.check_alone()
    assert "<script>alert" not in page.html
    encoded = base64.b64encode(b"<svg><script>alert(1)</script></svg>").decode()
    assert f'src="data:image/svg+xml;base64,{encoded}"' in page.html


def test_one_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    out = write_report([folder])
    assert out == folder / "report.html"
    page = Page(out)
    page.check_alone()
    assert "<title>resnet20 on digits: 97.8 % test accuracy, 30 epochs, 1 min 35 s" in page.html
    for words in (
        "352 of 360",
        "Most confident mistakes",
        "3×3, 16",
        "269,434",
        "410 images/s",
        "AMD EPYC",
        "momentum: 0.9",
        "resnets train digits --model resnet20 --out runs/demo",
    ):
        assert words in page.text
    assert page.tags.count("img") == 12
    assert page.tags.count("svg") == 4
    assert page.html.count('class="small"') == 12
    assert all(value for name, value in page.attributes if name == "alt")


def test_where_it_looked_lies_over_the_mistakes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    without = write_report([folder]).read_text()
    assert "Grad-CAM" not in without
    mistakes = json.loads((folder / "mistakes.json").read_text())
    mistakes[0]["heat"] = mistakes[1]["picture"]
    mistakes[1]["heat"] = "https://example.com/pixel.png"
    (folder / "mistakes.json").write_text(json.dumps(mistakes))
    page = Page(write_report([folder]))
    page.check_alone()
    assert "Grad-CAM" in page.text
    assert page.tags.count("img") == 12 + 1
    assert page.html.count(f'class="heat" src="{mistakes[1]["picture"]}"') == 1
    assert "example.com" not in page.html


def test_what_label_sets_cover(tmp_path: Path) -> None:
    classes = ["ant", EVIL, "cow", "never seen"]
    values = summary(classes)
    test = values["results"]["test"]
    test["label_sets"] = [
        {"method": method, "coverage": coverage, "covered": coverage + 0.004, "size": 1.3}
        | ({"class_covered": [0.95, 0.75, 0.9, None], "class_size": [1.25, 2.5, 1.0, None]}
           if method == "lac" else {})
        for coverage in (0.8, 0.9) for method in ("lac", "aps", "raps")
    ]  # fmt: skip
    page = Page(write_report([write_run(tmp_path / "run", classes, results=values["results"])]))
    page.check_alone()
    assert "asked for LAC classes APS classes RAPS classes" in page.text
    assert "80 % 80.4 % 1.30 80.4 % 1.30 80.4 % 1.30" in page.text
    assert "LAC, asked for 90 %;" in page.text
    least = page.text.split("classes in a set")[1]
    assert f"{EVIL} 75.0 % 2.50 cow 90.0 % 1.00 ant 95.0 % 1.25" in least
    assert "never seen 0" not in least
    plain = Page(write_report([write_run(tmp_path / "plain")]))
    assert "Label sets" not in plain.text


def test_it_needs_no_more_than_a_run_json(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1, "status": "failed"}')
    page = Page(write_report([tmp_path]))
    page.check_alone()
    assert "The run failed before its end." in page.text
    assert "no metrics.jsonl" in page.text


@pytest.mark.parametrize("part", sorted(summary(["a", "b"]).keys() - {"schema_version"}))
def test_any_part_may_be_missing(tmp_path: Path, part: str) -> None:
    folder = write_run(tmp_path / "run", **{part: None})
    Page(write_report([folder])).check_alone()
    other = write_run(tmp_path / "other")
    Page(write_report([folder, other])).check_alone()


def test_names_are_only_names(tmp_path: Path) -> None:
    parts = summary([EVIL, "b"])
    parts["model"].update(name=EVIL, description=EVIL)
    parts["model"]["stages"][0].update(name=EVIL, layers=EVIL)
    parts["data"].update(name=EVIL)
    folder = write_run(
        tmp_path / "run",
        [EVIL, '" onload="alert(1)'],
        name=EVIL,
        command=f"train </pre>{EVIL}",
        recipe_text=f"model: '</pre>{EVIL.replace(chr(39), '')}'\n",
        status=EVIL,
        model=parts["model"],
        data=parts["data"],
        environment={EVIL: EVIL},
    )
    (folder / "data.json").write_text(json.dumps({"skipped": [{"path": EVIL, "reason": EVIL}]}))
    mistakes = json.loads((folder / "mistakes.json").read_text())
    mistakes[0]["picture"] = "https://example.com/pixel.png"
    mistakes[1]["picture"] = 'x" onerror="alert(1)'
    (folder / "mistakes.json").write_text(json.dumps(mistakes))
    other = write_run(tmp_path / f"{EVIL.replace('/', '')}", recipe_text=f'"{EVIL}": 1\n')
    for runs in ([folder], [folder, other]):
        page = Page(write_report(runs))
        page.check_alone()
        assert "example.com" not in page.html
        assert EVIL in page.text


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "data.json").write_text(json.dumps({"skipped": [{"path": "\udcff.jpg"}]}))
    assert "?.jpg" in Page(write_report([folder])).text


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    first = write_report([folder], tmp_path / "one.html").read_bytes()
    assert write_report([folder], tmp_path / "two.html").read_bytes() == first


def test_many_classes_fold_away(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [f"kind {i}" for i in range(250)])
    page = Page(write_report([folder]))
    assert "The other 230 classes" in page.text
    assert page.tags.count("svg") == 3  # no matrix of 250 classes


def test_large_pictures_are_smoothed(tmp_path: Path) -> None:
    page = Page(write_report([write_run(tmp_path / "run", side=224)]))
    assert 'class="small"' not in page.html


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / f"runs/group/s{seed}",
            seed=seed,
            pace=1 + seed / 5,
            recipe_text=RECIPE.replace("seed: 0", f"seed: {seed}"),
        )
        for seed in range(3)
    ]
    runs.append(write_run(tmp_path / "runs/warm", recipe_text=RECIPE + "warm_up: 400\n"))
    out = write_report(runs)
    assert out == tmp_path / "runs/report.html"
    page = Page(out)
    page.check_alone()
    assert "<title>4 runs on digits: at best 97.8 % test accuracy, resnet20" in page.html
    assert "resnet20, 3 seeds: 97.78" in page.text
    assert "warm_up" in page.text
    assert "optimizer.lr" not in page.text  # the same in all
    assert page.tags.count("svg") == 3
    assert page.tags.count("tr") == 1 + 4 + 1 + 2
    for name in ("s0", "s1", "s2", "warm"):
        assert name in page.text


def test_runs_that_cannot_be_compared_are_said_so(tmp_path: Path) -> None:
    data = summary(["a", "b"])["data"]
    one = write_run(tmp_path / "a/run")
    two = write_run(tmp_path / "b/run", data={**data, "name": "cifar10"}, status="stopped")
    three = write_run(tmp_path / "c/run", data={**data, "fingerprint": "cd"})
    text = Page(write_report([one, two])).text
    assert "different data" in text
    assert "1 of the 2 runs is not finished" in text
    assert "91.25 % (He et al. 2015, Table 6; 64,000 iterations, this run: 630)" in (
        text.replace("\xa0", " ")
    )
    assert "a/run" in text
    assert "same fingerprint" in Page(write_report([one, three])).text


def test_the_same_run_twice_is_one_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert write_report([folder, tmp_path / "run/../run"]) == folder / "report.html"


def test_out_may_be_a_file_or_a_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert write_report([folder], tmp_path / "new/page.html") == tmp_path / "new/page.html"
    assert write_report([folder], tmp_path) == tmp_path / "report.html"


@pytest.mark.parametrize("text", ["3x3, 16 / 3x3, 16", "3x3, 16; 3x3, 16"])
def test_layers_stand_one_below_the_other(text: str) -> None:
    assert layers(text) == ["3×3, 16", "3×3, 16"]


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_report([])
    with pytest.raises(CheckpointError):
        write_report([tmp_path])
