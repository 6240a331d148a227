"""The README says what is so: its Python runs, its table is fresh, its commands exist."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_model_table_is_fresh():
    script = runpy.run_path(str(ROOT / "docs/model_table.py"))
    assert script["readme"]() == README, "run `make table`"


WHOLE = '"schedule.epochs=1"'
SHORT = '"schedule.epochs=null", "schedule.iterations=2"'


@pytest.mark.parametrize("length", [SHORT, pytest.param(WHOLE, marks=pytest.mark.slow)])
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


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
