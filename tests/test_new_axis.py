"""What CONTRIBUTING promises of a new axis: a field in `spec.py` and one file of `nn/`, no more.

Two toy axes are added to a copy of the package: one that neither keys nor shapes show, and one with
parameters of its own. All else has to follow from the fields.
"""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import resnets

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PACKAGE = Path(resnets.__file__).parent
FIELDS = """\
    ceiling: float = told(0.0, "unseen")  # above which activations are cut off; 0: nowhere
    gain: bool = False  # a learnt factor for each channel of a residual
"""
EDITS = {
    "spec.py": {"    # Convolutions with a bias": FIELDS + "    # Convolutions with a bias"},
    "nn/layers.py": {
        '    if spec.activation == "gelu"': "    if spec.ceiling:\n"
        "        return nn.Hardtanh(0, spec.ceiling, inplace=inplace)\n"
        '    if spec.activation == "gelu"'
    },
    "nn/attention.py": {
        '    if spec.attention == "none"': "    if spec.gain:\n"
        "        return nn.Conv2d(channels, channels, 1, groups=channels, bias=False)\n"
        '    if spec.attention == "none"'
    },
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A folder with the package, and the two axes in it."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(PACKAGE, folder / "resnets", ignore=ignored)
    for name, edits in EDITS.items():
        text = (package / name).read_text()
        for old, new in edits.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        (package / name).write_text(text)
    return folder


WORKS = """
import json
import torch
import resnets
from resnets import Spec, cli
from resnets.errors import CheckpointError, SpecError
from resnets.training.state import differences
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.load import LoadError

x, answers_then = torch.load("old.pt")


def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except (CheckpointError, SpecError) as error:
        return f"{error.message} | {error.hint}"


def command(*words):
    try:
        cli.main([*map(str, words)])
    except SystemExit as end:
        assert not end.code, words


plain = resnets.create_model("resnet8", num_classes=3).eval()
old = resnets.open_model("old.safetensors")  # the package without the axes wrote it
assert (old.spec.ceiling, old.spec.gain) == (0, False)
assert torch.equal(old(x), answers_then)
assert refusal(Spec.from_dict, {"ceilings": 1.5}).endswith("did you mean ceiling?")
assert refusal(Spec, ceiling="high") == "spec: ceiling must be a number | "

for name, value, default in (("ceiling", 0.5, 0.0), ("gain", True, False)):
    net = resnets.create_model("resnet8", num_classes=3, **{name: value}).eval()
    spec, answers = net.spec, net(x)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec != plain.spec
    assert f"{name}={value}" in repr(spec)
    # Its own file says it, to whoever opens the file, and refuses what it does not fit.
    resnets.save_weights(net, f"{name}.safetensors")
    opened = resnets.open_model(f"{name}.safetensors")
    assert opened.spec == spec and torch.equal(opened(x), answers)
    assert not open_checkpoint(f"{name}.safetensors").unknown
    call = f'create_model("resnet8", {name}={value}, num_classes=3)'
    assert call in refusal(resnets.load_weights, plain, f"{name}.safetensors")
    assert refusal(resnets.load_weights, net, "old.safetensors")
    assert torch.equal(net(x), answers)
    backbone = resnets.create_backbone("resnet8", weights=f"{name}.safetensors", **{name: value})
    assert torch.equal(backbone.eval()(x)["c4"], net.forward_features(x))
    # Other people's networks do not have it.
    refused = refusal(resnets.save_weights, net, "x.pth", dialect="torchvision")
    assert f"its {name} is {value}, not {default}" in refused
    # A run from before the axis is what its default is.
    now = {f"model.{key}": value for key, value in plain.spec.to_dict().items()}
    before = {key: value for key, value in now.items() if key != f"model.{name}"}
    assert differences(before, now) == {}
    assert differences(before, {**now, f"model.{name}": value})
    command("inspect", f"{name}.safetensors")
    command("export", f"{name}.safetensors", "--to", "torch", "--out", f"{name}.pt2")

# What a file of others cannot show is told to be unknown, and what it was taken as.
torch.save(plain.state_dict(), "theirs.pth")
assert "ceiling" in open_checkpoint("theirs.pth").unknown
net = resnets.create_model("resnet8", num_classes=3, ceiling=0.5)
assert any("ceiling 0.5" in note for note in resnets.load_weights(net, "theirs.pth").notes)
assert "ceiling" in net.assumed
print("whole")
"""


def changed(compared: filecmp.dircmp, below: str = "") -> set[str]:
    found = {below + name for name in (*compared.diff_files, *compared.left_only)}
    found |= {below + name for name in compared.right_only}
    return found.union(*(changed(c, f"{below}{n}/") for n, c in compared.subdirs.items()))


def test_a_new_axis_touches_its_field_and_one_file_of_nn(copy):
    compared = filecmp.dircmp(PACKAGE, copy / "resnets", ignore=["__pycache__"])
    assert changed(compared) == {"spec.py", "nn/layers.py", "nn/attention.py"}
    old = resnets.create_model("resnet8", num_classes=3).eval()
    resnets.save_weights(old, copy / "old.safetensors")
    torch.save((X, old(X).detach()), copy / "old.pt")
    variables = {**os.environ, "PYTHONPATH": str(copy)}
    ended = subprocess.run(
        [sys.executable, "-c", WORKS], cwd=copy, env=variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("whole\n")
