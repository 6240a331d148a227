"""docs/trust.md: its commands, as they are typed."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/trust.md").read_text("utf-8")
SHORT = ("--set", "schedule.epochs=1", "--set", "data.image_size=32", "--model", "resnet8")


def _commands(title):
    """Return the commands of a section, without what they say."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.S | re.M)[1]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_calibration(photos, monkeypatch, resnets):
    monkeypatch.chdir(photos.parent)
    for place, words in enumerate(_commands("Calibrated probabilities")):
        code, out, err = resnets(*words, *SHORT, "--out", f"run-{place}")
        assert code == 0, err
        said = "calibrated: " in out or "probabilities are as they come" in out
        assert said == ("--no-calibrate" not in words)
