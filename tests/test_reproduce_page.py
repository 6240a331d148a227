"""docs/reproduce.md: its commands and its Python, as they are typed but for the length."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[1] / "docs/reproduce.md").read_text("utf-8")
SHORTER = {
    "1/160": "1/64000",
    "resnet20,plain20": "resnet20",
    '"resnet20", "plain20"': '"resnet20"',
    "--seeds 3": "--seeds 1",
    "seeds=3": "seeds=1",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where noise lies in CIFAR-10's files."""
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    records = np.random.default_rng(0).integers(0, 256, (10_000, 3073), np.uint8)
    records[:, 0] %= 10
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    monkeypatch.setenv("RESNETS_DATA", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page(place, resnets, capsys):
    text = PAGE
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    said = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, re.S):
        if language == "python":
            exec(block, {})  # the page is ours
            said.append(capsys.readouterr().out)
            continue
        for line in block.splitlines():
            code, out, err = resnets(*shlex.split(line)[1:])
            assert code == 0, (line, err)
            said.append(out)
    listed, planned, made, read = said
    assert "can be trained" in listed
    assert planned.startswith("He et al. 2015, Table 6: ")
    assert "resnet20: ResNet, 20 layers\n    resnet20 on cifar10 by he2015_cifar, 64,000" in planned
    assert planned.endswith("nothing was written\n")
    assert "| ResNet, 20 layers | 8.75 | resnet20, scaled 1/64000 | 1 |" in made
    folder = place / "runs/reproduce-he2015.table6-1-64000"
    (row,) = json.loads((folder / "table.json").read_text())["rows"]
    key, mean, low, high = re.fullmatch(r"(\S+) (\S+) \[(\S+), (\S+)\]\n", read).groups()
    assert (key, float(mean), [float(low), float(high)]) == (
        "resnet20",
        row["measured"]["mean"],
        row["measured"]["interval"],
    )
    assert row["measured"]["differences"] == ["1 iteration, not 64,000"]
