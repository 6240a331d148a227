"""What strangers' names can do to a terminal, and to a run whose log nobody reads: nothing."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import resnets as package
from conftest import coloured
from resnets import create_model
from resnets.cli import output
from resnets.errors import DataError
from resnets.weights.save import save_weights

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\rb\x9bm\u202egnp\u2066x\x7f"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ROOT = Path(package.__file__).parent


def test_nothing_but_one_place_prints():
    """Every other `print` would be a way around it."""
    for path in sorted((ROOT / "cli").glob("*.py")):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and hasattr(node.func, "id") else ""
            streams = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")
            assert name != "print", f"{path}:{node.lineno}"
            assert not streams, f"{path}:{node.lineno}"


def test_every_way_to_print_escapes(capsys):
    output.tell(HOSTILE, f"{HOSTILE}\nerror: forged")
    output.say(HOSTILE)
    output.say_error(f"{HOSTILE}\nerror: forged", HOSTILE, where=HOSTILE)
    output.print_table([HOSTILE], [[HOSTILE], [HOSTILE]])
    output.print_json({HOSTILE: [HOSTILE]})
    out, err = capsys.readouterr()
    assert not OBEYED.search(out + err)
    assert not re.search("^error: forged", out + err, re.MULTILINE)
    assert json.loads(out[out.index("{") :]) == {HOSTILE: [HOSTILE]}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_ends_a_command_has_a_line_of_its_own():
    """The line that says how far it is has no end, and an error would stand behind it."""
    with redirect_stderr(Terminal()) as shown, suppress(DataError), output.Progress() as progress:
        progress.show(1, 3)
        raise DataError("broken")
    assert re.fullmatch(r"\r\x1b\[K.+\r\x1b\[K", shown.getvalue())


@pytest.fixture
def hostile(tmp_path):
    """Files with one and the same name in every place that has one."""
    folder = tmp_path / HOSTILE.replace("/", "")
    for label in range(2):
        (folder / "data" / f"{label}{HOSTILE}").mkdir(parents=True)
        for number in range(2):
            picture = folder / "data" / f"{label}{HOSTILE}" / f"{number}{HOSTILE}.png"
            coloured(label, number, 16).save(picture)
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=2, image_size=16)
    model.classes = (f"0{HOSTILE}", f"1{HOSTILE}")
    save_weights(model, folder / "net.safetensors", made={"name": HOSTILE})
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + HOSTILE.encode())
    state = {**model.state_dict(), HOSTILE: torch.zeros(1)}
    save_file(state, folder / "keys.safetensors", {HOSTILE: HOSTILE})
    np.savez(folder / "array.npz", **{HOSTILE.replace("/", ""): np.zeros(3)})
    return folder


def test_commands_escape_what_files_say(hostile, resnets):
    net, data, keys = hostile / "net.safetensors", hostile / "data", hostile / "keys.safetensors"
    said = ""
    for words in (
        ["inspect", net, keys, hostile / "array.npz"],
        ["inspect", net, keys, "--json"],
        ["verify", net, keys],
        ["convert", keys, hostile / "out.pth", "--to", "torchvision", "--model", "resnet8"],
        ["diff", net, keys],
        ["data", "check", data],
        ["predict", net, data, hostile / "broken.png", "--preprocess", "imagenet"],
        ["evaluate", net, data, "--preprocess", "imagenet"],
        ["embed", data, "--model", net, "--out", hostile / "t.npz", "--preprocess", "imagenet"],
        ["export", net, "--out", hostile / "no" / f"{HOSTILE}.txt"],
        ["report", hostile],
        ["audit", hostile],
        ["train", data, "--recipe", hostile / "no.yaml"],
        ["train", data, "--set", f"{HOSTILE}=1"],
        ["train", "--resume", hostile],
        ["show", HOSTILE],
        [HOSTILE],
        [f"--{HOSTILE}"],
    ):
        code, out, err = resnets(*words)
        assert not OBEYED.search(out + err), (words, out + err)
        assert code != 1, (words, err)
        said += out + err
    assert r"\x1b]0;owned\x07" in said


@pytest.mark.parametrize("closed", [">&- 2>&-", "2>&1 | head -c 1"])
def test_a_run_goes_on_without_a_listener(tmp_path, closed):
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            picture = tmp_path / "data" / label / f"{number}.png"
            coloured("ab".index(label), number, 16).save(picture)
    command = (
        f"{sys.executable} -m resnets train data --model resnet8 --out run --set schedule.epochs=2 "
        f"--set batch_size=4 --set data.image_size=16 {closed}; echo ${{PIPESTATUS[0]}} > code"
    )
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=os.environ, capture_output=True)
    assert (tmp_path / "code").read_text() == "0\n"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
