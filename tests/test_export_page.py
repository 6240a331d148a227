"""The code on docs/export.md, run in its order."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from conftest import coloured
from resnets import cli

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def run(line: str, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


def test_the_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    coloured(2, 0, 50).save("ship.png")
    names: dict[str, object] = {}
    for language, text in BLOCKS:
        if language == "python":
            exec(text, names)  # the page is ours
            assert capsys.readouterr().out
        elif language == "sh":
            for line in text.splitlines():
                assert run(line, monkeypatch) == 0, line
                assert capsys.readouterr().out
    assert {"model.onnx", "pictures.onnx", "model.pt2"} <= set(os.listdir())
    assert names["passport"]["classes"][8] == "ship"


def test_commands_that_need_data_are_commands():
    """Their options exist; what they print is from a machine with CIFAR-10."""
    shown = [text for language, text in BLOCKS if language == "console"]
    words = shlex.split(shown[0].splitlines()[0].removeprefix("$ "))
    from typer.main import get_command

    options = get_command(cli.app).commands[words[1]].params
    known = {name for option in options for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known
