"""The code on docs/export.md, run in its order."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import coloured
from resnets import cli
from resnets.inference.prediction import predict
from resnets.inference.runtimes import open_runtime

pytestmark = pytest.mark.pages

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def run(line: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(shlex.split(line)[1:])
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
                assert run(line) == 0, line
                assert capsys.readouterr().out
    assert {"model.onnx", "pictures.onnx", "model.pt2"} <= set(os.listdir())
    assert names["metadata"]["classes"][8] == "ship"

    # What the page does with an image is what `resnets predict` does.
    said = " ".join(PAGE.read_text("utf-8").replace("\n> ", " ").split())
    assert " ".join(names["metadata"]["pictures"]["caller"][:-1]) in said
    runtime = open_runtime("pictures.onnx")
    for path in pictures():
        assert np.array_equal(names["pixels"](path)[None], runtime.prepare(path)), path
        (prediction,) = predict(runtime, path)
        assert names["answer"](path) == prediction.classes[0], path


def pictures() -> list[str]:
    """Write images whose pixels are not what is stored; return their names."""
    picture = coloured(2, 0, 50).crop((0, 0, 50, 31))
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save("turned.jpg", exif=turned)
    picture.save("turned.png", exif=turned)
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.save("clear.png")
    picture.quantize(32).save("key.png", transparency=3)
    picture.convert("CMYK").save("cmyk.jpg")
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 200).save("deep.png")
    Image.fromarray(grey.astype(np.float32) / 255).save("float.tif")
    return ["turned.jpg", "turned.png", "clear.png", "key.png", "cmyk.jpg", "deep.png", "float.tif"]


def test_commands_that_need_data_are_commands():
    """Their options exist; what they print is from a machine with CIFAR-10."""
    shown = [text for language, text in BLOCKS if language == "console"]
    words = shlex.split(shown[0].splitlines()[0].removeprefix("$ "))
    from typer.main import get_command

    options = get_command(cli.app).commands[words[1]].params
    known = {name for option in options for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known
