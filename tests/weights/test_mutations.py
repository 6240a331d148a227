"""Damage and malice at random: whatever bytes a file has, it is read or refused, and never run."""

import io
import os
import pickle
import struct
import sys
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from random import Random

import h5py
import numpy
import pytest
import safetensors.torch
import torch
from test_formats import FLAX, MXNET, ONNX_NODES, ONNX_TENSORS, mxnet_file, onnx_model, packed

from resnets.errors import CheckpointError
from resnets.readers.content import Content
from resnets.readers.paths import at
from resnets.readers.reader import read
from resnets.weights.containers import unwrap

MIB = 1024**2
WEIGHTS = {
    "conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "bn1.weight": torch.ones(2).half(),
    "fc.weight": torch.arange(8.0).reshape(2, 4).t(),
    "bn1.num_batches_tracked": torch.tensor(3),
}


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(protocol):
    tree = OrderedDict(w=[1.5, Attack(os.system, "touch MARKER")], b=Attack(open, "MARKER", "w"))
    return pickle.dumps(tree, protocol)


def saved(value, zipped):
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def tree():
    return {"state_dict": OrderedDict(WEIGHTS), "epoch": 3, "accuracy": numpy.float64(0.5)}


def whole():
    norm = torch.nn.BatchNorm2d(2)
    return {"model": torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), norm), "loss": torch.nn.L1Loss()}


def script():
    stream = io.BytesIO()
    norm = torch.nn.BatchNorm2d(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        program = torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), norm))
        torch.jit.save(program, stream)
    return members(stream.getvalue())


def hdf5():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1_W"]
        group["conv1_W"] = numpy.ones((2, 1, 3, 3), "f4")
    return stream.getvalue()


def arrays():
    return {key: tensor.numpy() for key, tensor in WEIGHTS.items()}


def npz(write):
    stream = io.BytesIO()
    write(stream, **arrays())
    return stream.getvalue()


def npy(value):
    stream = io.BytesIO()
    numpy.save(stream, value, allow_pickle=True)
    return stream.getvalue()


def as_it_is(data):
    return data


def zipped_again(member, files):
    """Return what puts a changed member into an archive whose checksums are right."""

    def assemble(data):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, data if name == member else content)
        return stream.getvalue()

    return assemble


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_header(data):
    return struct.pack("<Q", len(data)) + data + bytes(140)


def seeds():
    """Return (bytes to change, how they become a file) for every format, also below checksums."""
    archive = saved(tree(), True)
    files = members(archive)
    pickled = next(name for name in files if name.endswith("data.pkl"))
    scripted = script()
    module = next(name for name in scripted if name.endswith("data.pkl"))
    arrays_files = members(npz(numpy.savez))
    array = next(iter(arrays_files))
    safe = safetensors.torch.save({key: t.contiguous() for key, t in WEIGHTS.items()})
    header = safe[8 : 8 + struct.unpack("<Q", safe[:8])[0]]
    return {
        "zip": (archive, as_it_is),
        "zip, its pickle": (files[pickled], zipped_again(pickled, files)),
        "zip, a hostile pickle": (hostile(2), zipped_again(pickled, files)),
        "legacy": (saved(tree(), False), as_it_is),
        "legacy, hostile": (saved(Attack(os.system, "touch MARKER"), False), as_it_is),
        "a whole model": (saved(whole(), False), as_it_is),
        "TorchScript, its pickle": (scripted[module], zipped_again(module, scripted)),
        "Keras 1": (hdf5(), as_it_is),
        "HDF5": (hdf5().replace(b"layer_names", b"layer_namez"), as_it_is),
        "flax": (b"\x81\xa6params" + packed(FLAX["params"]), as_it_is),
        "ONNX": (onnx_model(ONNX_NODES, ONNX_TENSORS), as_it_is),
        "MXNet": (mxnet_file(MXNET), as_it_is),
        "npy": (npy(arrays()), as_it_is),
        "npz": (npz(numpy.savez), as_it_is),
        "npz, packed": (npz(numpy.savez_compressed), as_it_is),
        "npz, an array": (arrays_files[array], zipped_again(array, arrays_files)),
        "safetensors": (safe, as_it_is),
        "safetensors, its header": (header, with_header),
        "pickle of protocol 0": (pickle.dumps(arrays(), 0), as_it_is),
        "pickle of protocol 2": (pickle.dumps(arrays(), 2), as_it_is),
        "pickle of protocol 5": (pickle.dumps({**tree(), **arrays()}, 5), as_it_is),
        "hostile, protocol 0": (hostile(0), as_it_is),
        "hostile, protocol 4": (hostile(4), as_it_is),
    }


SEEDS = seeds()
OPCODES = b"(.0123FIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x80\x81\x82\x85\x8e\x92\x93\x94\x96"
FRAGMENTS = [
    *(bytes([opcode]) for opcode in OPCODES),
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"(S'touch MARKER'\nios\nsystem\n",
    b"\x8c\x02os\x8c\x06system\x93",
    b"X\x0c\x00\x00\x00touch MARKER\x85R",
    struct.pack("<I", 2**31 - 1),
    struct.pack("<Q", 2**40),
    struct.pack("<Q", 2**64 - 1),
    b"[" * 50,
    b"99999999999",
]


def changes(random):
    """Draw a row of changes: where (as a share of the length), what, and how much it replaces."""
    return [
        (
            random.random(),
            random.choice([random.randbytes(random.randint(0, 3)), random.choice(FRAGMENTS)]),
            random.choice([0, 0, 1, 1, 1, 2, 4, 8, 10**9]),
        )
        for _ in range(random.choice([1, 1, 1, 2, 3, 6]))
    ]


def changed(data, row):
    for share, new, replaced in row:
        position = int(share * len(data))
        data = data[:position] + new + data[position + (len(new) if replaced == 1 else replaced) :]
    return data


class Watch:
    """Notes what the interpreter does, while it watches, that no reader of data has to do."""

    def __init__(self):
        self.events = []
        self.watching = False
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if not self.watching:
            return
        writes = event == "open" and set(str(arguments[1])) & set("wax+")
        runs = event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
        changes = event in ("os.remove", "os.rename", "os.mkdir", "os.chmod", "socket.connect")
        if writes or runs or changes or event == "pickle.find_class":
            self.events.append((event, arguments))

    @contextmanager
    def on(self):
        # What a reader imports for the first time is not written down, either.
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        self.watching = True
        try:
            yield
        finally:
            self.watching = False
            sys.dont_write_bytecode = before


WATCH = Watch()  # an audit hook cannot be taken away again


def outcome(path):
    """Return the error that reading gives, or None where there was something to read."""
    try:
        content = read(path)
    except CheckpointError as error:
        return error
    assert isinstance(content, Content)
    try:
        unwrap(content.tree)
    except CheckpointError as error:
        return at(content.path, error)  # as whoever opens a file does
    return None


def survive(path, data):
    path.write_bytes(data)
    with WATCH.on():
        error = outcome(path)
    assert WATCH.events == []
    if error is not None:
        assert str(path) in error.message
        assert "\n" not in error.message
        assert "weights_only" not in str(error)


def mutate(name, folder, peak_memory, examples):
    """Read changed files; every run makes the same ones, so that a failure can be repeated."""
    data, assemble = SEEDS[name]
    with peak_memory(below=200 * MIB):
        for number in range(examples):
            seed = f"{name} {number}"
            try:
                survive(folder / "model.pth", assemble(changed(data, changes(Random(seed)))))
            except BaseException as error:
                error.add_note(f"changed by changes(Random({seed!r}))")
                raise
    assert [file.name for file in folder.iterdir()] == ["model.pth"]


@pytest.fixture
def folder(monkeypatch):
    """Give an empty folder, in memory where there is one, as thousands of files are written."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        monkeypatch.chdir(name)
        yield Path(name)
        monkeypatch.undo()


def test_the_watch_sees_what_it_is_there_for(folder):
    with WATCH.on():
        os.system("touch MARKER")
        pickle.loads(pickle.dumps(OrderedDict()))
    assert [event for event, _ in WATCH.events] == ["os.system", "pickle.find_class"]
    WATCH.events.clear()


@pytest.mark.parametrize("name", SEEDS)
def test_every_seed_is_what_it_should_be(folder, name):
    data, assemble = SEEDS[name]
    (folder / "model.pth").write_bytes(assemble(data))
    if "hostile" in name:
        with pytest.raises(CheckpointError, match="could run code"):
            read(folder / "model.pth")
    else:
        assert read(folder / "model.pth").tree


@pytest.mark.parametrize("name", SEEDS)
def test_150_changes(folder, peak_memory, name):
    mutate(name, folder, peak_memory, 150)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_20000_changes(folder, peak_memory, name):
    mutate(name, folder, peak_memory, 20_000)


@pytest.mark.parametrize("count", [100, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEEDS)
def test_single_bytes_flipped(folder, name, count):
    data, assemble = SEEDS[name]
    for position in range(0, len(data), max(1, len(data) // count)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        survive(folder / "model.pth", assemble(bytes(damaged)))
