"""CIFAR from its four official layouts, at a few records, and from files that lie."""

import io
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resnets.data.cifar import LAYOUTS, data_root, open_cifar
from resnets.errors import DataError, UsageError

TRAIN, TEST = 6, 4  # records in a file
SMALL = {
    name: [replace(layout, records=(TRAIN, TEST)) for layout in layouts]
    for name, layouts in LAYOUTS.items()
}
FOLDERS = {layout.folder: (name, layout) for name in SMALL for layout in SMALL[name]}
NAMES = [f"class_{i:02}" for i in range(100)]


def records(file: str, count: int) -> tuple[np.ndarray, list[int]]:
    """The same records for a file whatever its layout: planes (N, 3072) and labels."""
    random = np.random.default_rng(sum(file.removesuffix(".bin").encode()))
    return random.integers(0, 256, (count, 3072), np.uint8), random.integers(0, 10, count).tolist()


def python2(content: dict) -> bytes:
    """Pickle as Python 2 did, opcode by opcode: byte strings, and arrays of them."""

    def write(value) -> bytes:
        match value:
            case str():
                value = value.encode("latin1")
                return b"T" + struct.pack("<I", len(value)) + value
            case int():
                return b"J" + struct.pack("<i", value)
            case list():
                return b"](" + b"".join(map(write, value)) + b"e"
            case np.ndarray():
                shape = b"(" + b"".join(map(write, value.shape)) + b"t"
                kind = (
                    b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
                    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
                )
                return (
                    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
                    b"(K\x01" + shape + kind + b"\x89" + write(value.tobytes().decode("latin1"))
                ) + b"tb"
        raise TypeError(value)

    items = b"".join(write(key) + write(value) for key, value in content.items())
    return b"\x80\x02}(" + items + b"u."


def build(root: Path, folder: str, dump=python2) -> Path:
    """Write one official layout at TRAIN and TEST records a file."""
    name, layout = FOLDERS[folder]
    target = root / folder
    target.mkdir(parents=True)
    for file in (*layout.train, layout.test):
        planes, labels = records(file, TEST if file == layout.test else TRAIN)
        if layout.labels:
            content = dump({"data": planes, layout.labels: labels, "batch_label": file})
        else:
            columns = [np.array(labels, np.uint8)[:, None]]
            if layout.label_bytes == 2:
                columns.insert(0, np.full((len(labels), 1), 255, np.uint8))  # coarse: not used
            content = np.concatenate([*columns, planes], axis=1).tobytes()
        (target / file).write_bytes(content)
    if name == "cifar100":
        text = "".join(f"{n}\n" for n in NAMES).encode()
        (target / layout.names).write_bytes(
            dump({"fine_label_names": NAMES}) if layout.labels else text
        )
    return target


def opened(root: Path, name: str = "cifar10"):
    return open_cifar(name, root, layouts=SMALL[name])


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_layout_gives_the_records(tmp_path, folder):
    name, layout = FOLDERS[folder]
    build(tmp_path, folder)
    data = opened(tmp_path, name)
    assert (len(data.train), len(data.test)) == (TRAIN * len(layout.train), TEST)
    assert data.train.images.shape == (3, 32, 32)
    images, labels = data.train.batch(torch.arange(len(data.train)))
    for i, file in enumerate(layout.train):
        planes, expected = records(file, TRAIN)
        part = slice(i * TRAIN, (i + 1) * TRAIN)
        assert np.array_equal(images[part].numpy(), planes.reshape(-1, 3, 32, 32))
        assert labels[part].tolist() == expected
    assert data.mirror
    assert (data.name, data.validation) == (name, None)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_fingerprint_is_of_the_data_not_of_the_layout(tmp_path, name):
    prints = set()
    for layout in LAYOUTS[name]:
        build(tmp_path / layout.folder, layout.folder)
        prints.add(opened(tmp_path / layout.folder, name).fingerprint)
    assert len(prints) == 1
    file = tmp_path / LAYOUTS[name][0].folder / LAYOUTS[name][0].folder / LAYOUTS[name][0].test
    content = file.read_bytes()
    for changed in (-1, LAYOUTS[name][0].label_bytes - 1):  # a pixel, a label
        other = bytearray(content)
        other[changed] ^= 1
        file.write_bytes(other)
        prints.add(opened(tmp_path / LAYOUTS[name][0].folder, name).fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("binary_keys", [False, True])
def test_pickles_that_python3_wrote(tmp_path, protocol, binary_keys):
    def dump(content):
        if binary_keys:
            content = {k.encode(): v for k, v in content.items()}
        return pickle.dumps(content, protocol)

    build(tmp_path / "py", "cifar-10-batches-py", dump)
    build(tmp_path / "bin", "cifar-10-batches-bin")
    assert opened(tmp_path / "py").fingerprint == opened(tmp_path / "bin").fingerprint


def test_the_older_spelling_of_numpy(tmp_path):
    def dump(content):
        return pickle.dumps(content, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")

    build(tmp_path, "cifar-10-batches-py", dump)
    assert len(opened(tmp_path).train) == 5 * TRAIN


def test_labels_may_be_an_array(tmp_path):
    def dump(content):
        return pickle.dumps(content | {"labels": np.array(content["labels"])}, 3)

    build(tmp_path, "cifar-10-batches-py", dump)
    assert opened(tmp_path).train.labels[:TRAIN].tolist() == records("data_batch_1", TRAIN)[1]


def test_class_names(tmp_path):
    build(tmp_path, "cifar-10-batches-bin")
    assert " ".join(opened(tmp_path).classes) == (
        "airplane automobile bird cat deer dog frog horse ship truck"
    )
    for folder in ("cifar-100-binary", "cifar-100-python"):
        build(tmp_path / folder, folder)
        assert opened(tmp_path / folder, "cifar100").classes == tuple(NAMES)


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, ("touch {marker}",)), r"(posix|nt)\.system"),
        ((eval, ("open({marker!r}, 'w')",)), r"builtins\.eval"),
        ((np.array, ([1, 2],)), r"numpy\.array"),
        ((getattr, ("text", "join")), r"builtins\.getattr"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_pickle_is_run(tmp_path, call, name, protocol):
    marker = tmp_path / "marker"
    function, arguments = call
    arguments = tuple(a.format(marker=str(marker)) if isinstance(a, str) else a for a in arguments)
    target = build(tmp_path, "cifar-10-batches-py")
    bad = target / "data_batch_1"
    bad.write_bytes(pickle.dumps({"data": Evil(function, arguments)}, protocol))
    with pytest.raises(DataError, match=rf"data_batch_1: it (asks for|holds .*) {name}, "):
        opened(tmp_path)
    assert not marker.exists()


def state(array: np.ndarray, **changes: object) -> bytes:
    """A pickled CIFAR dictionary whose array was given another state."""
    _, _, full = array.__reduce__()
    keys = ("version", "shape", "dtype", "fortran", "data")
    values = tuple((dict(zip(keys, full, strict=True)) | changes).values())
    call, arguments, _ = array.__reduce__()

    class Stub:
        def __reduce__(self):
            return call, arguments, values

    buffer = io.BytesIO()
    pickle.Pickler(buffer, 2).dump({"data": Stub(), "labels": [0] * len(array)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"data": b"\0" * 10},
        {"data": b"\0" * (TRAIN * 3072 + 1)},
        {"data": [1, 2, 3]},
        {"shape": (TRAIN, -1)},
        {"shape": (1 << 40, 1 << 40)},
        {"shape": (TRAIN, 3071)},
        {"dtype": np.dtype("O")},
        {"dtype": np.dtype("f8")},
        {"dtype": np.dtype("i8")},
        {"dtype": 3},
    ],
)
def test_arrays_that_lie_are_refused(tmp_path, changes):
    target = build(tmp_path, "cifar-10-batches-py")
    planes, _ = records("data_batch_1", TRAIN)
    (target / "data_batch_1").write_bytes(state(planes))
    assert len(opened(tmp_path).train) == 5 * TRAIN  # the unchanged state is sound
    (target / "data_batch_1").write_bytes(state(planes, **changes))
    with pytest.raises(DataError, match="data_batch_1: ") as caught:
        opened(tmp_path)
    assert caught.value.hint == "`resnets data get cifar10` fetches it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x80\x02}", "is truncated"),
        (b"words", "data_batch_1: "),
        (pickle.dumps([1, 2]), "does not hold a dictionary"),
        (pickle.dumps({"labels": [1]}), 'holds no uint8 array "data"'),
        (python2({"data": np.zeros((TRAIN, 3072), np.uint8)}), 'holds no list "labels"'),
        (
            python2({"data": np.zeros((TRAIN, 3072), np.uint8), "labels": ["cat"] * TRAIN}),
            "something that is no label",
        ),
        (
            python2({"data": np.zeros((TRAIN, 3072), np.uint8), "labels": [10] * TRAIN}),
            "label 10, but there are 10 classes",
        ),
    ],
)
def test_pickles_without_the_data(tmp_path, content, message):
    target = build(tmp_path, "cifar-10-batches-py")
    (target / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_missing_file(tmp_path, folder):
    name, layout = FOLDERS[folder]
    (build(tmp_path, folder) / layout.test).unlink()
    with pytest.raises(DataError, match=f"{layout.test}: is missing") as caught:
        opened(tmp_path, name)
    assert f"resnets data get {name}" in caught.value.hint


@pytest.mark.parametrize("change", [-1, 1, -3073])
def test_a_file_of_another_size(tmp_path, change):
    file = build(tmp_path, "cifar-10-batches-bin") / "test_batch.bin"
    content = file.read_bytes()
    file.write_bytes((content + b"\0")[: len(content) + change])
    size = f"{len(content) + change:,} bytes, not {len(content):,}"
    with pytest.raises(DataError, match=rf"test_batch\.bin: has {size}"):
        opened(tmp_path)


def test_a_label_out_of_range(tmp_path):
    file = build(tmp_path, "cifar-10-batches-bin") / "data_batch_3.bin"
    file.write_bytes(b"\x0a" + file.read_bytes()[1:])
    with pytest.raises(DataError, match="label 10, but there are 10 classes"):
        opened(tmp_path)


def test_the_official_size_is_the_default(tmp_path):
    build(tmp_path, "cifar-10-batches-bin")
    with pytest.raises(DataError, match="bytes, not 30,730,000"):
        open_cifar("cifar10", tmp_path)


def test_the_root_holds_the_layout_or_is_it(tmp_path):
    target = build(tmp_path, "cifar-10-batches-bin")
    assert opened(tmp_path).fingerprint == opened(target).fingerprint


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("RESNETS_DATA", raising=False)
    monkeypatch.delenv("RESNETS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "cache" / "resnets" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root() == tmp_path / ".cache" / "resnets" / "data"
    monkeypatch.setenv("RESNETS_DATA", str(tmp_path / "named"))
    assert data_root() == tmp_path / "named"
    assert data_root(tmp_path) == tmp_path
    build(tmp_path / "named", "cifar-10-batches-bin")
    assert len(open_cifar("cifar10", layouts=SMALL["cifar10"]).test) == TEST


def test_not_there(tmp_path):
    with pytest.raises(DataError, match=r"cifar10 is not in .*no folder cifar-10-batches-bin or"):
        opened(tmp_path)


def test_another_name(tmp_path):
    with pytest.raises(UsageError, match='called "cifar11"'):
        open_cifar("cifar11", tmp_path)
