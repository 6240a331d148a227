"""The reader: every format gives what was saved, and nothing that a file says is ever run."""

import argparse
import collections
import datetime
import io
import itertools
import json
import os
import pathlib
import pickle
import pickletools
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import OrderedDict
from contextlib import suppress

import numpy
import pytest
import safetensors.torch
import torch

from resnets.errors import CheckpointError
from resnets.readers.reader import read

MIB = 1024**2


def save_zip(value, path):
    torch.save(value, path)


def save_legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickle(value, path):
    path.write_bytes(pickle.dumps(value, protocol=4))


SAVERS = {"PyTorch zip": save_zip, "PyTorch legacy": save_legacy, "pickle": save_pickle}


@pytest.fixture(params=SAVERS)
def saver(request):
    return request.param, SAVERS[request.param]


def tensors():
    base = torch.randn(4, 6)
    return {
        "float": torch.randn(3, 4),
        "double": torch.randn(3, dtype=torch.float64),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(3, 2).bfloat16(),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "long": torch.tensor([2**62, -5]),
        "int": torch.arange(7, dtype=torch.int32),
        "short": torch.arange(7, dtype=torch.int16),
        "char": torch.arange(-3, 3, dtype=torch.int8),
        "byte": torch.arange(9, dtype=torch.uint8),
        "uint16": torch.ones(3, dtype=torch.uint16),
        "bool": torch.tensor([[True, False], [False, True]]),
        "complex": torch.randn(3, dtype=torch.complex64),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "slice": base[1:3, 2:5],
        "transposed": base.t(),
        "steps": torch.arange(20.0)[3::4],
        "expanded": torch.tensor([[2.0]]).expand(3, 4),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }


def same_bits(a, b):
    """Tell whether two tensors agree in type, shape and every bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = (x.detach().contiguous().flatten().view(torch.uint8) for x in (a, b))
    return torch.equal(a, b)


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    assert "weights_only" not in str(caught.value)
    return caught.value


# What was saved comes back


def test_every_type_and_layout_comes_back_bit_for_bit(tmp_path, saver):
    name, save = saver
    saved = tensors()
    save({"state_dict": OrderedDict(saved)}, tmp_path / "anything.xyz")
    content = read(tmp_path / "anything.xyz")
    assert content.format == name
    assert content.path == tmp_path / "anything.xyz"
    loaded = content.tree["state_dict"]
    assert list(loaded) == list(saved)
    for key in saved:
        assert same_bits(loaded[key], saved[key]), key
        assert not loaded[key].requires_grad


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read(tmp_path, protocol):
    tree = {
        "conv1_w": numpy.random.default_rng(0).standard_normal((2, 3), dtype="float32"),
        "fortran": numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
        "big endian": numpy.arange(3, dtype=">i4"),
        "text": "é\n",
        "number": -(2**40),
        "none": [None, True, (1.5, False)],
    }
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(tree, protocol))
    content = read(tmp_path / "model.pkl")
    assert content.format == "pickle"
    loaded = content.tree
    for key in ("conv1_w", "fortran", "big endian"):
        assert numpy.array_equal(loaded[key].numpy(), tree[key]), key
    assert loaded["conv1_w"].dtype == torch.float32
    assert (loaded["text"], loaded["number"]) == ("é\n", -(2**40))
    assert loaded["none"] == [None, True, [1.5, False]]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_legacy_files_of_every_protocol_are_read(tmp_path, protocol):
    torch.save({"w": torch.arange(3)}, tmp_path / "x.pt", pickle_protocol=protocol, **LEGACY)
    content = read(tmp_path / "x.pt")
    assert content.format == "PyTorch legacy"
    assert content.tree["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_that_python_2_wrote_is_read(tmp_path, protocol):
    data = struct.pack("<3f", 1.0, -2.5, 3e8)
    if protocol == 2:
        text = b"U" + bytes([len(data)]) + data
    else:
        text = b"S" + repr(data)[1:].encode() + b"\n"
    kind = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    pickled = b"(dp0\nS'w'\n" + array + b"(I1\n(I3\nt" + kind + b"I00\n" + text + b"tbs."
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickled)
    assert read(path).tree["w"].tolist() == [1.0, -2.5, struct.unpack("f", data[8:])[0]]


def test_safetensors_and_npz_come_back_bit_for_bit(tmp_path):
    saved = {k: t.detach().clone().contiguous() for k, t in tensors().items() if k != "complex"}
    safetensors.torch.save_file(saved, tmp_path / "weights.bin", {"format": "pt"})
    content = read(str(tmp_path / "weights.bin"))
    assert (content.format, content.metadata) == ("safetensors", {"format": "pt"})
    assert all(same_bits(content.tree[key], saved[key]) for key in saved)
    arrays = {k: t.numpy() for k, t in saved.items() if t.dtype != torch.bfloat16}
    arrays["fortran"] = numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3))
    for write in (numpy.savez, numpy.savez_compressed):
        with (tmp_path / "arrays.pth").open("wb") as file:
            write(file, **arrays, names=numpy.array(["cat", "dog"]))
        content = read(tmp_path / "arrays.pth")
        assert content.format == "NumPy npz"
        assert content.tree.pop("names") == ["cat", "dog"]
        assert content.tree.keys() == arrays.keys()
        for key, array in arrays.items():
            assert same_bits(content.tree[key], torch.from_numpy(array)), key


def test_tied_tensors_stay_one_object(tmp_path, saver):
    tied = torch.randn(3, 2)
    model = torch.nn.ModuleList([torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)])
    model[1].weight = model[0].weight
    saver[1]({"a": tied, "b": tied, "model": model.state_dict()}, tmp_path / "tied.pt")
    tree = read(tmp_path / "tied.pt").tree
    assert tree["a"] is tree["b"]
    if saver[0] != "pickle":  # which writes the shared numbers twice
        assert tree["model"]["0.weight"] is tree["model"]["1.weight"]


def test_a_slice_does_not_keep_the_tensor_alive_that_it_was_cut_from(tmp_path, saver):
    large = torch.randn(1000, 100)
    saver[1]({"row": large[3], "columns": large[:, :2]}, tmp_path / "slices.pt")
    tree = read(tmp_path / "slices.pt").tree
    assert same_bits(tree["row"], large[3])
    assert same_bits(tree["columns"], large[:, :2])
    for tensor in tree.values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 4


def test_harmless_classes_become_plain_data(tmp_path, saver):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    tree = {
        "args": argparse.Namespace(lr=0.1, layers=[3, 4], data=pathlib.PurePosixPath("a/b")),
        "accuracy": numpy.float64(76.1),
        "count": numpy.int64(5),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "log": collections.defaultdict(list, {"loss": [1.0, 2.0]}),
        "classes": collections.Counter("aab"),
        "queue": collections.deque([1, 2], maxlen=4),
        "sets": [{3}, frozenset([4])],
        "when": datetime.datetime(2018, 1, 2),
        "size": torch.ones(2, 3).shape,
        "dtype": torch.float32,
        "objects": numpy.array([1, "a", None], dtype=object),
        "bytes": b"abc",
    }
    saver[1](tree, tmp_path / "old.pth.tar")
    loaded = read(tmp_path / "old.pth.tar").tree
    assert loaded["args"] == {"lr": 0.1, "layers": [3, 4], "data": "a/b"}
    assert (loaded["accuracy"], loaded["count"]) == (76.1, 5)
    assert loaded["optimizer"]["param_groups"][0]["lr"] == 0.1
    momentum = optimizer.state_dict()["state"][0]["momentum_buffer"]
    assert same_bits(loaded["optimizer"]["state"][0]["momentum_buffer"], momentum)
    assert loaded["scheduler"]["step_size"] == 30
    assert loaded["log"] == {"loss": [1.0, 2.0]}
    assert loaded["classes"] == {"a": 2, "b": 1}
    assert loaded["queue"] == [1, 2]
    assert loaded["sets"] == [[3], [4]]
    assert loaded["when"] == "datetime.datetime"
    assert (loaded["size"], loaded["dtype"]) == ([2, 3], "torch.float32")
    assert loaded["objects"] == [1, "a", None]
    assert loaded["bytes"] == "(3 bytes)"


def test_log_buffers_and_configs_of_training_frameworks_need_no_framework(tmp_path):
    history = b"cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}(X\x03\x00\x00\x00maxK\x05ub"
    config = b"cyacs.config\nCfgNode\n)\x81(X\x02\x00\x00\x00LRG?\xb9\x99\x99\x99\x99\x99\x9aub"
    namespace = b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR}b"
    entries = b"(X\x01\x00\x00\x00h" + history + b"X\x01\x00\x00\x00c"
    entries += config.replace(b"ub", b"u") + b"X\x01\x00\x00\x00n" + namespace + b"u"
    (tmp_path / "log.pkl").write_bytes(b"\x80\x02}" + entries + b".")
    tree = read(tmp_path / "log.pkl").tree
    assert tree["h"] == {"max": 5}
    assert tree["c"] == {"LR": 0.1}


def test_a_log_buffer_whose_state_names_its_methods_is_read(tmp_path, monkeypatch, saver):
    class HistoryBuffer:
        def __init__(self):
            self.values = numpy.arange(3.0)
            self.methods = {"mean": HistoryBuffer.mean}

        def mean(self):
            return self.values.mean()

    stand_in = type(sys)("mmengine.logging.history_buffer")
    stand_in.HistoryBuffer = HistoryBuffer
    HistoryBuffer.__module__ = "mmengine.logging.history_buffer"
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    HistoryBuffer.mean.__module__ = "mmengine.logging.history_buffer"
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
            patch.setitem(sys.modules, name, stand_in)
        saver[1]({"loss": HistoryBuffer(), "w": torch.ones(2)}, tmp_path / "epoch_12.pth")
    tree = read(tmp_path / "epoch_12.pth").tree
    assert tree["loss"]["values"].tolist() == [0, 1, 2]
    assert tree["loss"]["methods"] == {"mean": "mmengine.logging.history_buffer.HistoryBuffer.mean"}
    assert tree["w"].tolist() == [1, 1]


def test_a_name_in_a_file_cannot_garble_the_message(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04\x8c\x02o\n\x8c\x07\x1b[31mab\x93)R.")
    assert refusal(tmp_path / "x.pkl").message.isprintable()


def test_folders_of_a_run_and_of_hugging_face(tmp_path):
    weights = {"w": torch.ones(2)}
    for name, save in (
        ("model.safetensors", safetensors.torch.save_file),
        ("pytorch_model.bin", torch.save),
    ):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        save(weights, folder / name)
        assert read(folder).config is None
        (folder / "config.json").write_text('{"model_type": "resnet"}')
        assert read(folder).config == {"model_type": "resnet"}
        assert read(folder).path == folder / name
        assert read(folder / name).config is None
        (folder / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
            read(folder)
    (tmp_path / "other").mkdir()
    assert "resume" in refusal(tmp_path / "other").hint
    (tmp_path / "other" / "resnet.pth").write_bytes(b"")
    assert "resnet.pth" in refusal(tmp_path / "other").hint


# Nothing is run


class Attack:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker):
    command = f"touch {marker}"
    return {
        "system": Attack(os.system, command),
        "eval": Attack(eval, f"open({str(marker)!r}, 'w')"),
        "getattr": Attack(getattr, "a", "join"),
        "popen": Attack(subprocess.Popen, ["touch", str(marker)]),
        "open": Attack(open, str(marker), "w"),
    }


@pytest.mark.parametrize(
    ("name", "asks_for"),
    [
        ("system", f"{os.system.__module__}.system"),
        ("eval", "builtins.eval"),
        ("getattr", "builtins.getattr"),
        ("popen", "subprocess.Popen"),
        ("open", "open"),
    ],
)
@pytest.mark.parametrize("place", ["bare", "beside weights", "in an array", "as a key's value"])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path, saver, name, asks_for, place):
    marker = tmp_path / "marker"
    attack = attacks(marker)[name]
    objects = numpy.array([None], dtype=object)
    objects[0] = attack
    tree = {
        "bare": attack,
        "beside weights": {"state_dict": {"w": torch.ones(2)}, "extra": [attack]},
        "in an array": {"w": objects},
        "as a key's value": OrderedDict(w=attack),
    }[place]
    saver[1](tree, tmp_path / "model.pth")
    error = refusal(tmp_path / "model.pth")
    assert asks_for in error.message
    assert "could run code" in error.message
    assert error.hint
    assert not marker.exists()


HOSTILE = {
    "INST": b"(S'touch MARKER'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch MARKER'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "protocol 0": b"cos\nsystem\n(S'touch MARKER'\ntR.",
    "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.",
    "through sys": b"csys\nmodules\n.",
    "numpy's load": b"cnumpy\nload\n(S'x'\ntR.",
    "torch's hub": b"ctorch.hub\nload\n(S'x'\ntR.",
    "torch.load": b"ctorch\nload\n(S'x'\ntR.",
    "copyreg": b"\x80\x02ccopyreg\n__newobj__\n.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent text": b"\x80\x02Pos.system\n.",
    "persistent object": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "buffer": b"\x80\x05\x97.",
    "call a class's attribute": b"\x80\x02ccollections\nOrderedDict\n)R)R.",
    "call text": b"\x80\x02X\x06\x00\x00\x00system)R.",
    "append to a name": b"\x80\x02ccollections\nOrderedDict\nK\x01a.",
    "state of a name": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "items of a name": b"\x80\x02ccollections\nOrderedDict\nK\x01K\x02s.",
    "codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_opcode_reaches_beyond_the_list(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pkl"
    path.write_bytes(HOSTILE[name])
    refusal(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pkl"]


def test_nothing_is_imported_for_a_name_in_a_file(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x02cevil\nNamespace\n)\x81.")
    code = "import sys; from resnets.readers.reader import read; read('model.pkl'); print('fine')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert result.stdout.strip() == b"fine"


@pytest.mark.filterwarnings("ignore")  # torch's, about quantisation
def test_quantised_tensors_are_refused_by_name(tmp_path):
    weight = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    torch.save({"w": weight}, tmp_path / "model.pth")
    assert "quantised" in refusal(tmp_path / "model.pth").message


def laughs(levels):
    """Return a pickle of lists that each hold the one before twice."""
    pickled = b"\x80\x02]q\x00"
    for level in range(levels):
        pickled += b"(" + b"h" + bytes([level]) + b"h" + bytes([level]) + b"lq" + bytes([level + 1])
    return pickled + b"."


BOMBS = {
    "text length": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "bytes length": b"\x80\x05\x8e" + struct.pack("<Q", 2**40) + b"a.",
    "bytearray length": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",
    "deep tuples": b"\x80\x02)" + b"\x85" * 400_000 + b".",
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "many dicts": b"\x80\x02" + b"}" * 3_000_000 + b".",
    "many marks": b"\x80\x02" + b"(" * 3_000_000 + b".",
    "memoized often": b"\x80\x04N" + b"\x94" * 3_000_000 + b".",
    "laughs": laughs(40),
    "itself": b"\x80\x02]q\x00h\x00a.",
    "itself in a dict": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "digits": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
}
DUDS = {
    "itself in its state": b"\x80\x02cargparse\nNamespace\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.",
    "memo index": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "frame length": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "deep tuples as a key": b"\x80\x02})" + b"\x85" * 400_000 + b"Ns.",
    "long integer": b"\x80\x02\x8b" + struct.pack("<i", 500_000) + b"\x7f" * 500_000 + b".",
    "type of a wide text": b"\x80\x02cnumpy\ndtype\nX\x07\x00\x00\x00U999999\x85R.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon_and_take_little_memory(tmp_path, peak_memory, name):
    (tmp_path / "model.pkl").write_bytes(BOMBS[name])
    with peak_memory(below=200 * MIB):
        assert len(refusal(tmp_path / "model.pkl").message) < 500


@pytest.mark.parametrize("name", DUDS)
def test_what_only_looks_like_a_bomb_is_read(tmp_path, peak_memory, name):
    (tmp_path / "model.pkl").write_bytes(DUDS[name])
    with peak_memory(below=200 * MIB):
        assert len(str(read(tmp_path / "model.pkl").tree)) < 100


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(data)) + data


def stored(index, pickled):
    """Return opcodes that make a value and keep it for later."""
    return pickled + b"q" + bytes([index]) + b"0"


def repeated(count, pickled, *kept):
    """Return a pickle of a list that holds a value many times, after values to make it from."""
    before = b"".join(stored(index, value) for index, value in enumerate(kept))
    return b"\x80\x04" + before + b"](" + pickled * count + b"e."


def long(value):
    data = pickle.encode_long(value)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def module(attributes, children):
    """Return opcodes that make a module of an unknown class."""
    state = b"}(" + text("_parameters") + b"}" + text("_modules") + children + attributes + b"u"
    return b"cauthor\nNet\n)\x81" + state + b"b"


def embedded(beside):
    """Return a storage as pickle.dumps writes it: as a file of torch.save, here with a start."""
    stream = io.BytesIO()
    torch.save(torch.zeros(1).untyped_storage(), stream, **LEGACY)
    return b"\x80\x02" + beside + stream.getvalue()[2:]


LEGACY = {"_use_new_zipfile_serialization": False}
PRIME = 2**61 - 1  # all its multiples have the hash 0
# Every one is small; most took about 1 GB or more, or more than 10 seconds.
GROWTHS = {
    "bytes of one text": repeated(
        2000, b"h\x00h\x01h\x02\x86R", b"c_codecs\nencode\n", text("a" * 10**6), text("latin1")
    ),
    "copies of one dict": repeated(
        200,
        b"h\x00h\x01\x85R",
        b"ccollections\nOrderedDict\n",
        b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(100_000)) + b"u",
    ),
    "dicts of the same pairs": repeated(
        2000,
        b"h\x00h\x01\x85R",
        b"ccollections\nOrderedDict\n",
        b"](" + b"".join(b"J" + struct.pack("<i", n) + b"N\x86" for n in range(50_000)) + b"e",
    ),
    "sizes of many numbers": repeated(
        1000,
        b"h\x00(NK\x00h\x01h\x01tR",
        b"ctorch._utils\n_rebuild_tensor\n",
        b"](" + b"K\x01" * 100_000 + b"e",
    ),
    "calls with many arguments": repeated(
        100_000,
        b"h\x00h\x01R",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"(" + b"N" * 100_000 + b"t",
    ),
    "references of many parts": repeated(
        50_000,
        b"h\x00Q",
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + b"N" * 100_000 + b"t",
    ),
    "calls within calls": repeated(
        150_000,
        b"h\x00h\x02R",
        b"ctorch._tensor\n_rebuild_from_type_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"(h\x00N" * 300 + b"(h\x01N(NtNt" + b"Nt" * 300,
    ),
    "a long name that is allowed": repeated(
        100_000, b"h\x00h\x01\x930", text("torch.optim." + "a" * 10**6), text("b")
    ),
    "an attribute named by what never ends": (
        laughs(40)[:-1]
        + b"cbuiltins\ngetattr\ncmmengine.logging.history_buffer\nHistoryBuffer\nh\x28\x86R."
    ),
    "places in the memo of one hash": b"\x80\x02N"
    + b"".join(b"p%d\n" % (n * PRIME) for n in range(1, 40_000))
    + b".",
    "arrays of one long text": repeated(
        3000,
        b"h\x00h\x01h\x02\x86R",
        b"cnumpy.core.multiarray\nscalar\n",
        b"cnumpy\ndtype\n" + text("S999999") + b"\x85R",
        b"B" + struct.pack("<I", 999_999) + b"a" * 999_999,
    ),
    "one nest of dicts in many places": repeated(10_000, b"h\x00", b"}N" * 50 + b"N" + b"s" * 50),
    "one module in many places": b"\x80\x02"
    + stored(0, module(b"".join(text(f"a{n}") + b"N" for n in range(50_000)), b"}"))
    + module(b"", b"}(" + b"".join(text(str(n)) + b"h\x00" for n in range(50_000)) + b"u")
    + b".",
    "one module of many children": b"\x80\x02"
    + stored(0, module(b"", b"}(" + b"".join(text(str(n)) + b"N" for n in range(50_000)) + b"u"))
    + module(b"", b"}(" + b"".join(text(str(n)) + b"h\x00" for n in range(50_000)) + b"u")
    + b".",
    "one storage in many places": repeated(
        400_000,
        b"h\x01",
        b"ctorch.storage\n_load_from_bytes\n",
        b"h\x00B" + struct.pack("<I", len(embedded(b""))) + embedded(b"") + b"\x85R",
    ),
    "a storage that is unpacked again and again": repeated(
        400,
        b"h\x00h\x01h\x02h\x03\x86R\x85R",
        b"ctorch.storage\n_load_from_bytes\n",
        b"c_codecs\nencode\n",
        text(embedded(b"N0" * 100_000).decode("latin-1")),
        text("latin1"),
    ),
}
# What is read, as it says little, and took as long
REPEATS = {
    "wide integers as keys": b"\x80\x02"
    + stored(0, long(1 << 8_000_000))
    + b"}("
    + b"h\x00N" * 100_000
    + b"u.",
    "one text in many places": repeated(100_000, b"h\x00", text("é" * 500_000)),
    "half letters in many places": repeated(100_000, b"h\x00", text(b"\xed\xa0\x80" * 300_000)),
    "one dict with a long key": repeated(100_000, b"h\x00", b"}C\xff" + b"a" * 255 + b"Ns"),
    "keys of one hash": b"\x80\x02}("
    + b"".join(long(n * PRIME) + b"N" for n in range(1, 40_000))
    + b"u.",
    "a path of many parts": repeated(
        20_000,
        b"h\x00",
        b"cpathlib\nPosixPath\n(" + text("a/" * 1000) + b"\x94" + b"2" * 10_000 + b"tR",
    ),
}


@pytest.mark.parametrize("name", GROWTHS)
def test_a_small_file_cannot_make_much_of_itself(tmp_path, peak_memory, name):
    path = tmp_path / "model.pkl"
    path.write_bytes(GROWTHS[name])
    with peak_memory(below=max(200 * MIB, 4 * path.stat().st_size)):
        assert len(refusal(path).message) < 500


@pytest.mark.parametrize(
    ("start", "filling", "end"),
    [
        (b"\x80\x02X" + struct.pack("<I", 60_000_004) + "\U0001f600".encode(), b"a", b"."),
        (b"\x80\x02V\\U0001f600", b"a", b"\n."),
        (b"\x80\x02F", b"\0", b"\n."),
        (b"\x80\x02c", b"\0", b"\nb\n."),
    ],
    ids=["a wide text", "a wide text with escapes", "a number that is none", "a long name"],
)
def test_a_large_file_cannot_grow_fourfold(tmp_path, peak_memory, start, filling, end):
    path = tmp_path / "model.pkl"
    path.write_bytes(start + filling * 60_000_000 + end)
    with peak_memory(below=200 * MIB):
        assert len(refusal(path).message) < 500


@pytest.mark.parametrize("name", REPEATS)
def test_what_is_repeated_is_read_once(tmp_path, peak_memory, name):
    path = tmp_path / "model.pkl"
    path.write_bytes(REPEATS[name])
    with peak_memory(below=200 * MIB):
        assert read(path).tree


@pytest.mark.quiet
@pytest.mark.parametrize("name", [*GROWTHS, *REPEATS])
def test_a_small_file_takes_little_time(tmp_path, name):
    path = tmp_path / "model.pkl"
    path.write_bytes((GROWTHS | REPEATS)[name])
    start = time.process_time()
    with suppress(CheckpointError):
        read(path)
    assert time.process_time() - start < 10


def test_a_storage_that_is_named_by_what_cannot_be_hashed_is_refused(tmp_path):
    parts = torch_pickles({"w": torch.ones(2)})
    deep = b"\x80\x02])" + b"\x85" * 400_000 + b"a."
    (tmp_path / "x.pt").write_bytes(b"".join(parts[:4]) + deep + bytes(100))
    assert "without a name" in refusal(tmp_path / "x.pt").message


def torch_pickles(value):
    """Return the five pickles of a legacy file."""
    stream = io.BytesIO()
    torch.save(value, stream, **LEGACY)
    data, ends = stream.getvalue(), [0]
    stream.seek(0)
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def test_the_byte_order_of_an_archive_cannot_be_a_bomb(tmp_path, peak_memory):
    write_zip(tmp_path / "x.pt", tensor_pickle((2,)), byteorder=bytes(60 * MIB))
    with peak_memory(below=200 * MIB):
        assert "big-endian" in refusal(tmp_path / "x.pt").message


def tensor_pickle(size, stride=(1,), offset=0, count=4, key="0", kind="FloatStorage"):
    """Return a pickle, as in a zip of torch.save, of one tensor with any claims."""

    class Claim:
        def __init__(self, *identity):
            self.identity = identity

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, Claim) else None

    claim = Claim("storage", getattr(torch, kind), key, "cpu", count)
    arguments = (claim, offset, size, stride, False, OrderedDict())
    rebuilt = Attack(torch._utils._rebuild_tensor_v2, *arguments)
    stream = io.BytesIO()
    Pickler(stream, 2).dump({"w": rebuilt})
    return stream.getvalue()


def write_zip(path, pickled, data=bytes(16), **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/data/0", data)
        for name, value in members.items():
            archive.writestr(f"x/{name}", value)


def test_the_hand_made_archive_is_read(tmp_path):
    write_zip(tmp_path / "x.pt", tensor_pickle((2,), (2,), 1), byteorder=b"little")
    assert read(tmp_path / "x.pt").tree["w"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "claims",
    [
        {"size": (5,)},
        {"size": (4,), "offset": 1},
        {"size": (2,), "stride": (4,)},
        {"size": (2,), "stride": (-1,), "offset": 3},
        {"size": (2,), "offset": -1},
        {"size": (2, 2)},
        {"size": (2**62, 4), "stride": (0, 1)},
        {"size": (10**10,), "stride": (0,)},
        {"size": (2**40, 2**40), "stride": (0, 0)},
        {"size": (-1,)},
        {"size": (1.5,)},
        {"size": ("a",)},
        {"size": (1,) * 100, "stride": (1,) * 100},
        {"size": (4,), "count": 5},
        {"size": (4,), "count": -4},
        {"size": (4,), "count": 2**62},
        {"size": (4,), "key": "1"},
        {"size": (4,), "key": "../../etc/passwd"},
        {"size": (3,), "kind": "DoubleStorage"},
    ],
)
def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path, peak_memory, claims):
    write_zip(tmp_path / "x.pt", tensor_pickle(**claims))
    with peak_memory(below=20 * MIB):
        refusal(tmp_path / "x.pt")


def test_views_of_one_storage_cannot_add_up_to_a_bomb(tmp_path, peak_memory):
    storage = torch.zeros(2_000_000)
    views = {str(n): storage[n:] for n in range(1, 200)}  # 1.6 GB from 8 MB
    torch.save(views, tmp_path / "x.pt")
    with peak_memory(below=200 * MIB):
        assert "far more data" in refusal(tmp_path / "x.pt").message


# Damage


def test_a_flipped_byte_in_a_zip_is_found_and_its_place_named(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.randn(100), "b": torch.randn(100)}, path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data/1"))
        position = data.index(archive.read(name))
    data[position + 40] ^= 4
    path.write_bytes(data)
    message = refusal(path).message
    assert "checksum" in message
    assert "data/1" in message


def test_a_zip_that_was_saved_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read(tmp_path / "x.pt").tree["a"].tolist() == [0, 1, 2]


def small_files():
    """Return one valid small file of every format, by its name."""
    weights = {"w": torch.arange(300.0).reshape(3, 100), "b": torch.ones(7).half()}
    files = {}
    for name, zipped in (("zip", True), ("legacy", False)):
        stream = io.BytesIO()
        torch.save({"state_dict": weights}, stream, _use_new_zipfile_serialization=zipped)
        files[name] = stream.getvalue()
    files["safetensors"] = safetensors.torch.save(weights)
    arrays = {key: tensor.numpy() for key, tensor in weights.items()}
    files["pickle"] = pickle.dumps(arrays, 2)
    for name, write in (("npz", numpy.savez), ("npz packed", numpy.savez_compressed)):
        stream = io.BytesIO()
        write(stream, **arrays)
        files[name] = stream.getvalue()
    return files


@pytest.mark.parametrize("name", small_files())
def test_a_file_that_is_cut_anywhere_is_called_truncated(tmp_path, name):
    data = small_files()[name]
    path = tmp_path / "cut.pth"
    for length in {*range(0, len(data), 7), *range(40), *range(len(data) - 40, len(data))}:
        path.write_bytes(data[:length])
        assert "truncated" in refusal(path).message, length


def test_a_format_that_knows_its_length_says_how_much_is_missing(tmp_path):
    for name in ("legacy", "safetensors"):
        data = small_files()[name]
        (tmp_path / "cut").write_bytes(data[:-10])
        expected = f"{len(data) - 10:,} of {len(data):,} bytes"
        assert expected in refusal(tmp_path / "cut").message


@pytest.mark.parametrize(
    ("data", "kind", "hint"),
    [
        (b"", "empty", "download it again"),
        (b"<!DOCTYPE html>\n<html><title>404</title>", "an HTML page", "download"),
        (b"\n <HTML><body>sign in</body></html>", "an HTML page", "download"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102502400\n",
            "a git-LFS pointer",
            "git lfs pull",
        ),
        (b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0", "truncated", "download it again"),
        (b'{"error": "Repository not found"}', "a JSON text", "download"),
        (b'{"error": "' + b"x" * 5000 + b'"}', "a JSON text", "download"),
        (b'[{"message": "rate limit"}]', "a JSON text", "download"),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            "an XML text",
            "download",
        ),
        (json.dumps({"weight_map": {"a": "b"}}).encode(), "index of a checkpoint", "one file"),
        ("\ufeffrate limit exceeded, später".encode(), "a text that begins with", "weights' file"),
        (b"\x1f\x8b\x08\x00" + bytes(50), "a gzip archive", "gunzip"),
        (b"BZh91AY&SY" + bytes(50), "a bzip2 archive", "unpack"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "a single numpy array", ".npz"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image", "weights"),
        (bytes(300), "no checkpoint format", "safetensors"),
    ],
)
def test_a_file_in_disguise_is_called_what_it_is(tmp_path, data, kind, hint):
    (tmp_path / "resnet50.pth").write_bytes(data)
    error = refusal(tmp_path / "resnet50.pth")
    assert kind in error.message
    assert hint in error.hint


def test_archives_that_are_no_checkpoints_are_called_what_they_are(tmp_path):
    path = tmp_path / "model.pth"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    assert "tar archive" in refusal(path).message
    for member, kind in [
        ("x/archive_format", ".pt2"),
        ("serialized_exported_program.json", ".pt2"),
        ("x/.data/extern_modules", "torch.package"),
        ("readme.txt", "without data.pkl"),
    ]:
        with zipfile.ZipFile(path, "w") as archive:
            if member != "readme.txt":
                archive.writestr("x/data.pkl", pickle.dumps(Attack(os.system, "true"), 2))
            archive.writestr(member, b"")
        assert kind in refusal(path).message


@pytest.mark.filterwarnings("ignore")  # torch's, about its own exporter
def test_real_programs_are_refused_by_name(tmp_path):
    model = torch.nn.Linear(2, 2)
    program = torch.export.export(model, (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "model.pt2")
    assert ".pt2" in refusal(tmp_path / "model.pt2").message


def test_paths_that_are_no_files(tmp_path):
    assert "no such file" in refusal(tmp_path / "nothing.pth").message
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "symbolic links" in refusal(tmp_path / "loop").message
    assert "too long" in refusal(tmp_path / ("a" * 300)).message
    (tmp_path / "file").write_bytes(b"")
    assert "Not a directory" in refusal(tmp_path / "file" / "model.pth").message
    for name, shown in (
        ("a\0b", r"a\x00b: no file's name"),
        ("a\nb\x1b[31m", r"a\nb\x1b[31m: no such file"),
    ):
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / name)
        assert shown in caught.value.message
    (tmp_path / "a\nb").write_bytes(b"PK")
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "a\nb")
    assert caught.value.message.isprintable()
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe").message


def test_code_and_records_in_npz_are_refused(tmp_path):
    marker = tmp_path / "marker"
    objects = numpy.array([Attack(os.system, f"touch {marker}")], dtype=object)
    numpy.savez(tmp_path / "x.npz", w=objects)
    assert "could run code" in refusal(tmp_path / "x.npz").message
    numpy.savez(tmp_path / "x.npz", w=numpy.zeros(3, dtype=[("a", "f4")]))
    assert "no weight" in refusal(tmp_path / "x.npz").message
    assert not marker.exists()


def npy(header):
    text = header.encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_npz_bombs(tmp_path, peak_memory):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        shape = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000,)}")
        archive.writestr("w.npy", shape)
    refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(3):
            shape = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (62914560,)}")
            archive.writestr(f"{n}.npy", shape + bytes(62914560))
    with peak_memory(below=200 * MIB):
        assert "far more data" in refusal(path).message
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("w.npy", b"")
    assert "compressed as numpy and Keras never do" in refusal(path).message


def test_an_archive_with_twins_or_a_directory_without_end_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"N.")
        archive.writestr("x/data.pkX", b"N.")
    path.write_bytes(path.read_bytes().replace(b"data.pkX", b"data.pkl"))
    assert "two files of one name" in refusal(path).message
    entry = b"PK\x01\x02" + bytes(42)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 300_000 * len(entry), 4, 0)
    path.write_bytes(b"PK\x03\x04" + entry * 300_000 + end)
    assert "far more files" in refusal(path).message


def header_of(entries, data=bytes(16), length=None):
    text = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(4,), offsets=(0, 16), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS = {
    "a header of 2^40 bytes": header_of({"w": entry()}, length=2**40),
    "a header of 2^63 bytes": header_of({"w": entry()}, length=2**63),
    "a header beyond the file": header_of({"w": entry()}, length=90_000),
    "overlap": header_of({"a": entry((2,), (0, 8)), "b": entry((3,), (4, 16))}),
    "the same place": header_of({"a": entry(), "b": entry()}),
    "a gap": header_of({"a": entry((1,), (0, 4)), "b": entry((2,), (8, 16))}),
    "a shape bomb": header_of({"w": entry((2**20, 2**20, 2**20))}),
    "a shape that overflows": header_of({"w": entry((2**33, 2**33))}),
    "an offset bomb": header_of({"w": entry((2**44,), (0, 2**46))}),
    "a negative shape": header_of({"w": entry((-1,), (0, -4))}),
    "offsets that go back": header_of({"w": entry((0,), (16, 16))}),
    "an unknown type": header_of({"w": entry(dtype="F3")}),
    "another type": header_of({"w": entry(dtype="F64")}),
    "a shape of texts": header_of({"w": {**entry(), "shape": ["4"]}}),
    "a shape of booleans": header_of({"w": {**entry((1,), (0, 4)), "shape": [True]}}),
    "1000 dimensions": header_of({"w": entry((1,) * 1000, (0, 4))}, bytes(4)),
    "an entry of text": header_of({"w": "a"}),
    "no offsets": header_of({"w": {"dtype": "F32", "shape": [4]}}),
    "bytes after the end": header_of({"w": entry()}, bytes(17)),
    "twins": header_of('{"w": %s, "w": %s}' % ((json.dumps(entry()),) * 2)),
    "metadata of numbers": header_of({"__metadata__": {"a": 1}, "w": entry()}),
    "metadata of lists": header_of({"__metadata__": ["a"], "w": entry()}),
    "a deep header": header_of('{"a":' * 100_000),
    "no JSON": header_of('{"w": '),
    "no UTF-8": struct.pack("<Q", 5) + b'{"\xff"}',
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_header_is_judged_before_anything_is_allocated(tmp_path, peak_memory, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(SAFETENSORS[name])
    with peak_memory(below=50 * MIB):
        refusal(path)


def test_a_large_checkpoint_takes_little_more_memory_than_its_file(tmp_path, peak_memory, saver):
    path = tmp_path / "x.pt"
    saver[1]({str(n): torch.randn(500_000) for n in range(40)}, path)  # 80 MB
    with peak_memory(below=4 * path.stat().st_size):
        read(path)
