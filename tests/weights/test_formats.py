"""Formats of other frameworks: tensors come out under their own names, in the order of the file."""

import io

import h5py
import numpy
import pytest
import torch
from test_reader import refusal

from resnets.readers.reader import read

RANDOM = numpy.random.default_rng(0)


def values(*shape):
    return RANDOM.standard_normal(shape, dtype="float32")


# Keras 1 and plain HDF5

KERAS_1 = {
    "conv1": {"W": values(7, 7, 3, 8), "b": values(8)},
    "bn_conv1": {name: values(8) for name in ("gamma", "beta", "running_mean", "running_std")},
    "res2a_branch2a": {"W": values(1, 1, 8, 16), "b": values(16)},
    "fc1000": {"W": values(16, 10), "b": values(10)},
}
LATER = {"W": "kernel", "b": "bias", "running_mean": "moving_mean"}
LATER |= {"running_std": "moving_variance", "gamma": "gamma", "beta": "beta"}


def keras_1(layers, *, suffix=":0", order=(0, 1, 2, 3), turn=False, **attributes):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update(attributes, layer_names=[name.encode() for name in layers])
        for layer, variables in layers.items():
            group = file.create_group(layer)
            names = {variable: f"{layer}_{variable}{suffix}" for variable in variables}
            group.attrs["weight_names"] = [name.encode() for name in names.values()]
            for variable, value in variables.items():
                if value.ndim == 4:
                    value = (value[::-1, ::-1] if turn else value).transpose(order)
                group[names[variable]] = value
    return buffer.getvalue()


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"order": (3, 2, 0, 1)},  # out, in, H, W
        {"order": (3, 2, 0, 1), "suffix": "", "turn": True},  # by Theano
        {"suffix": "", "turn": True},
        {"backend": "theano", "turn": True},
        {"suffix": "", "backend": "tensorflow"},
    ],
)
def test_keras_1_reads_like_its_successors(tmp_path, written):
    (tmp_path / "k1.h5").write_bytes(keras_1(KERAS_1, **written))
    content = read(tmp_path / "k1.h5")
    assert content.format == "Keras .h5"
    expected = {
        f"{layer}/{LATER[variable]}": value
        for layer, variables in KERAS_1.items()
        for variable, value in variables.items()
    }
    assert list(content.tree) == list(expected)
    for key, value in expected.items():
        assert numpy.array_equal(content.tree[key].numpy(), value), key


def test_arrays_in_hdf5_of_anybody_keep_their_order(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name in ("stem/conv", "block.1/w", "a", "note"):
            file[name] = values(2, 3) if name != "note" else numpy.arange(3)
        file["epoch"] = 3
    content = read(tmp_path / "plain.h5")
    assert (content.format, list(content.tree)) == ("HDF5", ["stem/conv", "block.1/w", "a"])
    assert content.tree["a"].dtype == torch.float32
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["note"] = numpy.arange(3)
    assert "without arrays" in refusal(tmp_path / "plain.h5").message


def test_what_keras_counts_is_no_weight(tmp_path):
    with h5py.File(tmp_path / "n.weights.h5", "w") as file:
        for name, value in {"0": values(3), "1": values(3), "2": numpy.int64(5)}.items():
            file[f"layers/normalization/vars/{name}"] = value
    content = read(tmp_path / "n.weights.h5")
    assert list(content.tree) == ["normalization/0", "normalization/1"]
