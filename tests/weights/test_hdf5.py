"""HDF5 is read as h5py reads it, and what leads out of a file or blows it up is refused."""

import io
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from resnets.errors import CheckpointError
from resnets.readers.hdf5.tree import Group, read_tree

MIB = 1024**2


def made(write, **options) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        write(file)
    return buffer.getvalue()


def refusal(data: bytes) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        everything(read_tree(data))
    assert error.value.hint
    return error.value


def everything(group: Group) -> dict[str, torch.Tensor]:
    found = {}
    for name, child in group.children.items():
        if isinstance(child, Group):
            found |= {f"{name}/{key}": value for key, value in everything(child).items()}
        else:
            found[name] = child.read()
    return found


VALUES = np.random.default_rng(0).normal(size=(5, 7))


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": (3, 2)},
        {"chunks": (5, 7), "compression": "gzip"},
        {"chunks": (1, 1), "fletcher32": True},
        {"chunks": (2, 3), "shuffle": True, "compression": "gzip", "fletcher32": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_arrays(dtype, storage):
    values = VALUES.astype(dtype)
    found = everything(
        read_tree(made(lambda f: f.create_dataset("a/b", data=values, dtype=dtype, **storage)))
    )
    assert list(found) == ["a/b"]
    assert np.array_equal(found["a/b"].numpy(), values)
    assert (
        found["a/b"].dtype
        == {2: torch.float16, 4: torch.float32, 8: torch.float64}[values.itemsize]
    )


def test_scalar_and_compact():
    def write(file):
        file["scalar"] = np.float32(2.5)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space, kind = h5py.h5s.create_simple((3,)), h5py.h5t.IEEE_F32LE
        h5py.h5d.create(file.id, b"compact", kind, space, plist).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.arange(3, dtype="f4")
        )

    found = everything(read_tree(made(write)))
    assert found["scalar"] == 2.5
    assert found["compact"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_versions_of_the_format(libver):
    def write(file):
        file["layers/conv/vars/0"] = VALUES
        file["layers/conv/vars"].attrs["name"] = "conv2d_7"

    found = read_tree(made(write, libver=libver))
    assert torch.equal(everything(found)["layers/conv/vars/0"], torch.from_numpy(VALUES))
    variables = found.children["layers"].children["conv"].children["vars"]
    assert variables.attributes == {"name": ["conv2d_7"]}


def test_dense_groups_of_later_versions_are_refused():
    def write(file):
        for number in range(9):
            file[f"w{number}"] = VALUES

    assert "densely stored groups" in refusal(made(write, libver="v108")).message


def test_many_children_and_chunks():
    """More than fit into one node of an index."""

    def write(file):
        for number in range(700):
            file[f"layers/{number}"] = np.float32([number])
        file.create_dataset("chunked", data=np.arange(3000.0), chunks=(2,))

    found = everything(read_tree(made(write)))
    assert [found[f"layers/{number}"].item() for number in range(700)] == list(range(700))
    assert torch.equal(found["chunked"], torch.arange(3000.0, dtype=torch.float64))


def test_attributes():
    def write(file):
        file.attrs["text"] = "größer" * 20_000
        file.attrs["fixed"] = [b"conv1", b"batch_normalization"]
        file.attrs["listed"] = np.array(["a", "", "bc"], dtype=h5py.string_dtype())
        file.attrs["number"] = 3.5
        file.attrs["empty"] = []

    assert read_tree(made(write)).attributes == {
        "text": ["größer" * 20_000],
        "fixed": ["conv1", "batch_normalization"],
        "listed": ["a", "", "bc"],
    }


def test_numbers_that_are_no_weights_are_seen_and_not_read():
    counter = read_tree(made(lambda file: file.create_dataset("iterations", data=7))).children[
        "iterations"
    ]
    assert counter.type.name == "integer"
    with pytest.raises(CheckpointError, match='"iterations" made of integer elements'):
        counter.read()


def external_storage(file):
    file.create_dataset("w", (4,), "f4", external=[("secret.bin", 0, 16)])


def external_link(file):
    file["w"] = h5py.ExternalLink("secret.h5", "/w")


def soft_link(file):
    file["w"] = h5py.SoftLink("/elsewhere")


def link_loop(file):
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


def group_in_itself(file):
    group = file.create_group("a/b")
    group["c"] = file["a"]


def one_array_many_names(file):
    file["w"] = np.ones(1000, "f4")
    for number in range(100):
        file[f"again{number}"] = file["w"]


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "w", (4,))
    file.create_virtual_dataset("w", layout)


def references(file):
    file["a"] = np.ones(1)
    file.create_dataset("w", data=[file["a"].ref], dtype=h5py.ref_dtype)


def region_references(file):
    file["a"] = np.ones(4)
    file.create_dataset("w", data=[file["a"].regionref[1:2]], dtype=h5py.regionref_dtype)


def ragged(file):
    file.create_dataset("w", (2,), h5py.vlen_dtype("f4"))


def texts(file):
    file.create_dataset("w", data=["a", "b"], dtype=h5py.string_dtype())


def structures(file):
    file["w"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def integers(file):
    file["w"] = np.zeros(3, "i8")


def lzf(file):
    file.create_dataset("w", data=np.zeros(100), compression="lzf")


def scaled(file):
    file.create_dataset("w", data=np.zeros(100, "f4"), scaleoffset=2)


def deep(file):
    file["/".join("g" * 100)] = np.ones(1)


def empty(file):
    file["w"] = np.zeros((0, 3), "f4")


def never_written(file):
    file.create_dataset("w", (1000,), "f4")


def partly_written(file):
    file.create_dataset("w", (1000,), "f4", chunks=(10,))[:50] = 1


REFUSED = {
    external_storage: "external storage",
    external_link: "external link",
    soft_link: "soft link",
    link_loop: "soft link",
    group_in_itself: "two names",
    one_array_many_names: "two names",
    virtual: "virtual dataset",
    references: "reference elements",
    region_references: "reference elements",
    ragged: "variable length elements",
    texts: "text elements",
    structures: "compound elements",
    integers: "integer elements",
    lzf: "filter 32000",
    scaled: "filter 6",
    deep: "groups within each other",
    empty: "without elements",
    never_written: "declares 4,000 bytes and does not store them",
    partly_written: "declares 4,000 bytes and does not store them",
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_refused(write, tmp_path, monkeypatch):
    """Where it can be, before the first element is read."""
    monkeypatch.chdir(tmp_path)
    Path("secret.bin").write_bytes(b"secret bytes, 16")
    with h5py.File("secret.h5", "w") as file:
        file["w"] = np.ones(4, "f4")
    assert REFUSED[write] in refusal(made(write)).message


def refused_at_once(write) -> CheckpointError:
    data = made(write)
    with pytest.raises(CheckpointError) as error:
        read_tree(data)
    return error.value


@pytest.mark.parametrize(
    "write", [external_storage, external_link, soft_link, virtual, references, ragged, lzf]
)
def test_refused_before_anything_is_read(write):
    assert REFUSED[write] in refused_at_once(write).message


@pytest.mark.parametrize("storage", [{}, {"chunks": (1024,), "compression": "gzip"}], ids=str)
def test_ten_to_the_sixteenth_bytes(storage, peak_memory):
    data = made(lambda file: file.create_dataset("w", (25 * 10**14,), "f4", **storage))
    assert len(data) < 10_000
    with peak_memory(below=16 * MIB), pytest.raises(CheckpointError) as error:
        read_tree(data)
    assert f'"w" of shape (2500000000000000,) declares {10**16:,} bytes' in error.value.message


def test_many_small_declarations_add_up():
    def write(file):
        for number in range(100):
            array = file.create_dataset(
                f"w{number}", (MIB,), "f4", chunks=(1024,), compression="gzip"
            )
            array[:1024] = 0

    assert "declares 4,194,304 bytes in a file of" in refused_at_once(write).message


def test_chunk_that_unpacks_to_more_than_it_says(peak_memory):
    """A gzip chunk of 200 MB in the place of one of 4 KB."""
    import zlib

    bomb = zlib.compress(bytes(200 * MIB), 9)

    def write(file):
        array = file.create_dataset("w", (1024,), "f4", chunks=(1024,), compression="gzip")
        array.id.write_direct_chunk((0,), bomb)

    data = made(write)
    with peak_memory(below=16 * MIB):
        assert "has a chunk of" in refusal(data).message


def test_chunks_larger_than_the_array(peak_memory):
    def write(file):
        file.create_dataset("w", (1,), "f4", maxshape=(None,), chunks=(MIB * 256,))

    with peak_memory(below=16 * MIB):
        assert "chunks of 1,073,741,824 bytes" in refusal(made(write)).message


def test_wrong_checksum_and_damaged_compression():
    def checked(file):
        file.create_dataset("w", data=np.arange(64.0), chunks=(64,), fletcher32=True)

    data = made(checked)
    place = data.index(np.float64(3).tobytes() + np.float64(4).tobytes())
    damaged = data[:place] + b"\1" + data[place + 1 :]
    assert "does not have its checksum" in refusal(damaged).message

    def packed(file):
        file.create_dataset("w", data=np.arange(64.0), chunks=(64,), compression="gzip")

    data = made(packed)
    place = data.index(b"\x78\x5e")
    assert '"w": Error' in refusal(data[:place] + b"\0\0" + data[place + 2 :]).message


def small(file):
    file.attrs["layer_names"] = [b"conv1", b"bn1"]
    for layer in ("conv1", "bn1"):
        file[f"{layer}/{layer}/kernel:0"] = np.ones((3, 3, 2, 4), "f4")
        file[layer].attrs["weight_names"] = [f"{layer}/kernel:0"]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_truncated(libver):
    data = made(small, libver=libver)
    for length in [*range(8, len(data), 64), len(data) - 1]:
        message = refusal(data[:length]).message
        assert "it is truncated" in message or "it points to byte" in message


def test_no_hdf5():
    assert "does not begin like one" in refusal(b"<!DOCTYPE html>").message


def test_elements_are_copies():
    """Of the file's bytes, so that they can be changed and the file's memory freed."""
    array = everything(read_tree(made(small)))["conv1/conv1/kernel:0"]
    array += 1
    assert math.isclose(array.sum().item(), 2 * array.numel())
