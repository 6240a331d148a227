"""What a study is written as: a page that fetches nothing and runs nothing, and its JSON."""

import json
import re
from dataclasses import replace

import pytest

from resnets.report.charts import lines_chart
from resnets.report.plots import Line
from resnets.studies.layer_responses import found
from resnets.studies.study import Claim, Figure, MadeOf, Study, Table, colours, write

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def study() -> Study:
    chart = lines_chart("evil", EVIL, [Line(EVIL, [(0, 1.0), (1, 2.0)], 0, 0)], across="layer")
    return Study(
        name="trial",
        title=f"A trial of {EVIL}",
        question="Is it whole?",
        figures=(Figure(f"How {EVIL} goes.", (chart,)),),
        found=(f"{EVIL} has 2.",),
        paper=(Claim("It is so.", "Somebody 2015"),),
        numbers={"values": [1.0, 2.0], "name": EVIL},
        tables=(Table(("net", "value", "none"), ((EVIL, 2.5, None),)),),
        made_of=MadeOf(nets=({"name": EVIL, "source": EVIL},), seed=3, assumed=(EVIL,)),
    )


def test_the_page_escapes_names_and_fetches_nothing(study, tmp_path):
    page = write(study, tmp_path / "out").read_text("utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 8
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'" in page
    assert "url(http" not in page


def test_the_file_holds_all_but_the_drawings(study, tmp_path):
    write(study, tmp_path)
    kept = json.loads((tmp_path / "trial.json").read_text("utf-8"))
    assert kept == json.loads(json.dumps(study.to_dict()))
    assert kept["numbers"] == study.numbers
    assert kept["made_of"]["seed"] == 3
    write(replace(study, found=("Another.",)), tmp_path)
    assert json.loads((tmp_path / "trial.json").read_text("utf-8"))["found"] == ["Another."]


def test_no_two_nets_look_alike():
    """Plain and residual nets of a depth share a colour, two of a kind and a depth do not."""
    nets = [(20, True), (56, True), (20, False), (56, False), (56, False), (56, True)]
    assert colours(nets) == [0, 1, 0, 1, 2, 2]
    assert len({*zip(nets, colours(nets), strict=True)}) == len(nets)


def net(model: str, mean: float, *, depth: int, plain: bool = False) -> dict:
    kind = {"plain": plain, "normed": not model.endswith("_v2")}
    return {"name": model, "model": model, "depth": depth, "mean": mean, **kind}


def test_sentences_of_responses_follow_the_numbers():
    nets = [
        net("plain20", 1.0, depth=20, plain=True),
        net("resnet20", 0.8, depth=20),
        net("resnet56", 0.6, depth=56),
    ]
    *_, beside_plain, deeper = found(nets)
    assert beside_plain.startswith("resnet20 has smaller responses than plain20")
    assert "0.80 times" in beside_plain
    assert "as the paper found" in beside_plain
    assert deeper.startswith("resnet56 has smaller responses than resnet20")
    nets[1]["mean"], nets[2]["mean"] = 1.5, 3.0
    *_, beside_plain, deeper = found(nets)
    assert beside_plain.startswith("resnet20 has larger responses than plain20")
    assert "contrary to what the paper found" in beside_plain
    assert "2.00 times" in deeper
    nets[1]["mean"] = 1.0
    assert any("as large as plain20" in line for line in found(nets))
    beside = [*nets, net("resnet110_v2", 9.0, depth=110)]  # no norm has set its scale
    assert "resnet110_v2 9" in found(beside)[0]
    assert found(beside)[1:] == found(nets)[1:]
