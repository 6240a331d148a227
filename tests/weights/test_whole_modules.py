"""Modules and objects in a file: they become state dicts and plain data, and no class is needed."""

import functools
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
from test_mutations import Attack
from test_reader import refusal, same_bits, saver  # noqa: F401  (saver is a fixture)
from torch import nn

from resnets import create_model, load_weights
from resnets.readers.reader import read

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2))
        self.absent = None
        self.register_parameter("nothing", None)
        self.register_buffer("mean", torch.tensor([1.0, 2.0]))
        self.register_buffer("grid", torch.arange(3), persistent=False)
        self.plain = torch.ones(5)  # no state dict has it
        self.norm_layer = functools.partial(nn.BatchNorm2d, eps=0.5)
        self.activation = nn.functional.relu
        self.conv1 = nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, bias=False)
        self.bn1 = self.norm_layer(4)
        self.shortcut = None
        self.twice = self.bn1


def model():
    blocks = nn.ModuleList([Block(), nn.Linear(3, 2)])
    return nn.Sequential(OrderedDict(stem=nn.Conv2d(1, 2, 1), layer=blocks))


@pytest.fixture
def strange(monkeypatch):
    """Let a class come from a module that nobody has who reads the file."""

    def made(module, named):
        for end, letter in enumerate(f"{module}."):
            if letter == ".":
                stand_in = sys.modules.get(module[:end]) or type(sys)(module[:end])
                monkeypatch.setitem(sys.modules, module[:end], stand_in)
        setattr(stand_in, named.__name__, named)
        named.__module__, named.__qualname__ = module, named.__name__

    return made


def assert_same(tree, state):
    assert list(tree) == list(state)
    for key, tensor in state.items():
        assert same_bits(tree[key], tensor), key


def test_a_whole_model_is_its_state_dict(tmp_path, saver, strange):  # noqa: F811
    strange("authors.net", Block)
    whole = model()
    saver[1](whole, tmp_path / "model.pth")
    sys.modules.pop("authors.net")
    content = read(tmp_path / "model.pth")
    assert_same(content.tree, whole.state_dict())
    assert content.layers[""]["class"] == "torch.nn.modules.container.Sequential"
    block = content.layers["layer.0"]
    assert block["class"] == "authors.net.Block"
    assert block["activation"] == "torch.nn.functional.relu"
    convolution = content.layers["layer.0.conv1"]
    expected = {"stride": [2, 2], "padding": [1, 1], "dilation": [2, 2], "kernel_size": [3, 3]}
    assert expected.items() <= convolution.items()
    assert (convolution["groups"], convolution["class"]) == (2, "torch.nn.modules.conv.Conv2d")
    norm = content.layers["layer.0.bn1"]
    assert (norm["eps"], norm["momentum"], norm["num_features"]) == (0.5, 0.1, 4)


def test_models_within_dicts_and_wrappers(tmp_path, saver):  # noqa: F811
    whole = nn.DataParallel(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))
    tree = {"model": whole, "ema": [whole], "epoch": 3}
    saver[1](tree, tmp_path / "model.pth")
    content = read(tmp_path / "model.pth")
    assert_same(content.tree["model"], whole.state_dict())
    assert content.tree["ema"][0] is content.tree["model"]
    assert content.tree["epoch"] == 3
    assert content.layers["model.module.1"]["eps"] == 1e-5
    assert read_layers(tmp_path, whole.state_dict()) == {}


def read_layers(folder, value):
    torch.save(value, folder / "state.pth")
    return read(folder / "state.pth").layers


def test_a_whole_network_of_ours_loads_like_its_state_dict(tmp_path):
    whole = create_model("resnet20_b")
    torch.save(nn.DataParallel(whole), tmp_path / "whole.pth")
    loaded = create_model("resnet20_b")
    report = load_weights(loaded, tmp_path / "whole.pth")
    assert report.prefix == "module."
    assert_same(loaded.state_dict(), whole.state_dict())


def test_parameters_of_the_first_pytorch(tmp_path):
    """Until 0.3 a parameter was an object of a tensor, with its flags as state."""
    torch.save(torch.arange(3.0), tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "new.pth").read_bytes()
    rebuild = data.index(b"ctorch._utils\n_rebuild_tensor_v2")
    end = data.index(b"Rq\x0b.", rebuild)
    parameter = data[rebuild : end + 1]
    parameter = b"ctorch.nn.parameter\nParameter\n" + parameter + b"\x85R(\x88\x89}tb"
    named = b"}X\x06\x00\x00\x00weight" + parameter + b"s"
    state = b"}(X\x0b\x00\x00\x00_parameters" + named + b"X\x08\x00\x00\x00_modules}u"
    source = b"(X\x06\x00\x00\x00modulecauthor\nNet\nX\x01\x00\x00\x00fX\x01\x00\x00\x00stQ"
    whole = source + b")\x81" + state + b"b"
    (tmp_path / "old.pth").write_bytes(data[:rebuild] + whole + data[end + 3 :])
    content = read(tmp_path / "old.pth")
    assert content.tree["weight"].tolist() == [0, 1, 2]
    assert content.layers[""]["class"] == "author.Net"


def test_a_module_that_holds_itself_or_grows_without_end_is_refused(tmp_path, peak_memory):
    itself = nn.Sequential()
    itself._modules["again"] = itself
    torch.save(itself, tmp_path / "model.pth")
    with peak_memory(below=200 << 20):
        assert "without end" in refusal(tmp_path / "model.pth").message
    layer = nn.Linear(1, 1)
    for _ in range(40):  # 2^40 linear layers
        layer = nn.Sequential(layer, layer)
    torch.save(layer, tmp_path / "model.pth")
    with peak_memory(below=200 << 20):
        refusal(tmp_path / "model.pth")


def test_objects_of_unknown_classes_never_block_the_tensors(tmp_path, saver, strange):  # noqa: F811
    class Trainer:
        def __init__(self):
            self.itself = self
            self.step = self.advance

        def advance(self):
            return self

    class Choice(dict):
        pass

    strange("framework.trainer", Trainer)
    strange("framework.trainer", Choice)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    tree = {
        "state_dict": {"model.w": torch.ones(2)},
        "loss": nn.CrossEntropyLoss(weight=torch.ones(3)),
        "trainer": Trainer(),
        "choice": Choice(lr=0.1),
        "optimizer": optimizer,
        "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3),
        "activation": torch.relu,
        "layer": nn.Linear,
        "partial": functools.partial(nn.BatchNorm2d, eps=1e-3),
        "path": Path("a/b"),
    }
    if saver[0] == "pickle":  # torch.relu is a method of a class without a name there
        tree.pop("activation")
    saver[1](tree, tmp_path / "last.ckpt")
    loaded = read(tmp_path / "last.ckpt").tree
    assert loaded["state_dict"]["model.w"].tolist() == [1, 1]
    assert loaded["loss"]["weight"].tolist() == [1, 1, 1]
    assert loaded["trainer"]["itself"] == "framework.trainer.Trainer"
    assert loaded["choice"] == {"lr": 0.1}
    assert loaded["optimizer"]["param_groups"][0]["lr"] == 0.1
    assert loaded["layer"] == "torch.nn.modules.linear.Linear"
    assert list(loaded) == list(tree)


def test_weights_beside_hyper_parameters_load(tmp_path):
    whole = create_model("resnet20_b")
    state = {f"model.{key}": tensor for key, tensor in whole.state_dict().items()}
    beside = {"loss": nn.CrossEntropyLoss(), "cutoff": nn.functional.relu}
    torch.save({"state_dict": state, "hyper_parameters": beside}, tmp_path / "last.ckpt")
    loaded = create_model("resnet20_b")
    report = load_weights(loaded, tmp_path / "last.ckpt")
    assert "hyper_parameters" in report.ignored
    assert_same(loaded.state_dict(), whole.state_dict())


def author_calls(name):
    return b"\x80\x02c" + name.replace(".", "\n", 1).encode() + b"\n(X\x01\x00\x00\x00xtR."


@pytest.mark.parametrize(
    "name", ["author.run", "pandas.read_pickle", "torch._make", "posix.system", "builtins.print"]
)
def test_a_function_may_be_named_but_not_called(tmp_path, name):
    (tmp_path / "model.pkl").write_bytes(author_calls(name))
    error = refusal(tmp_path / "model.pkl")
    assert f"asks for {name}, which could run code" in error.message
    if name != "posix.system":
        named = b"\x80\x02]c" + name.replace(".", "\n", 1).encode() + b"\na."
        (tmp_path / "model.pkl").write_bytes(named)
        assert read(tmp_path / "model.pkl").tree == [name]


def test_what_makes_objects_again_is_a_record(tmp_path):
    (tmp_path / "table.pkl").write_bytes(author_calls("pandas._unpickle_block"))
    assert read(tmp_path / "table.pkl").tree == "pandas._unpickle_block"


def test_dill_is_no_obstacle(tmp_path):
    """It changes torch.save where it is imported: this is how a set looks then."""
    kind = b"cdill._dill\n_load_type\nX\x03\x00\x00\x00set\x85R"
    (tmp_path / "model.pkl").write_bytes(b"\x80\x02}X\x01\x00\x00\x00s" + kind + b"]\x85Rs.")
    assert read(tmp_path / "model.pkl").tree == {"s": []}


def test_code_deep_in_a_module_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = nn.Sequential(nn.Linear(1, 1))
    whole[0].hook = Attack(os.system, "touch MARKER")
    torch.save({"model": whole}, tmp_path / "model.pth")
    assert "system, which could run code" in refusal(tmp_path / "model.pth").message
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


def test_arrays_of_jax(tmp_path, strange):
    def _reconstruct_array(*_):
        raise AssertionError

    class Value:
        def __reduce__(self):
            return _reconstruct_array, (*numpy.arange(3.0).__reduce__(), {"weak_type": False})

    strange("jax._src.array", _reconstruct_array)
    (tmp_path / "params.pkl").write_bytes(pickle.dumps({"kernel": Value()}, 2))
    assert read(tmp_path / "params.pkl").tree["kernel"].tolist() == [0, 1, 2]


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([1.0, 2.0]))
        self.conv1 = nn.Conv2d(2, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(2)
        self.words, self.sizes, self.rate = ["a"], [1, 2], 0.5

    def forward(self, x):
        scale = len(self.words) + self.sizes[0] + self.rate
        return self.bn1(self.conv1(x)) * scale + self.mean[:, None, None]


@pytest.mark.filterwarnings("ignore")  # torch's: TorchScript is deprecated
@pytest.mark.parametrize("made", ["script", "trace"])
def test_parameters_and_buffers_of_torchscript(tmp_path, made):
    whole = nn.Sequential(nn.Sequential(Scripted()), nn.Conv2d(2, 1, 1)).eval()
    images = torch.ones(1, 2, 3, 3)
    program = torch.jit.script(whole) if made == "script" else torch.jit.trace(whole, images)
    torch.jit.save(program, tmp_path / "model.pt")
    content = read(tmp_path / "model.pt")
    assert content.format == "TorchScript"
    assert_same(content.tree, program.state_dict())
    assert content.layers["0.0.bn1"]["class"] == "torch.nn.modules.batchnorm.BatchNorm2d"
    torch.jit.save(torch.jit.freeze(program), tmp_path / "frozen.pt")
    frozen = read(tmp_path / "frozen.pt").tree
    shapes = [tuple(t.shape) for t in frozen.values() if t.ndim > 1]
    assert (2, 2, 1, 1) in shapes
    assert all(key.startswith("c") for key in frozen)


@pytest.mark.filterwarnings("ignore")
def test_a_network_in_torchscript_loads(tmp_path):
    whole = create_model("resnet20_b").eval()
    torch.jit.save(torch.jit.trace(whole, torch.ones(1, 3, 32, 32)), tmp_path / "model.pt")
    loaded = create_model("resnet20_b")
    load_weights(loaded, tmp_path / "model.pt")
    assert_same(loaded.state_dict(), whole.state_dict())


def test_code_in_torchscript_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Attack(os.system, "touch MARKER"), 2))
        archive.writestr("x/code/__torch__.py", b"")
    assert "system, which could run code" in refusal(tmp_path / "model.pt").message
