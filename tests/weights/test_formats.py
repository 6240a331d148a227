"""Formats of other frameworks: tensors come out under their own names, in the order of the file."""

import io
import os
import pickle
import struct

import h5py
import numpy
import pytest
import torch
from test_reader import Attack, refusal

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


# Flax


def packed(value):
    """Return the MessagePack of a tree, as flax.serialization.to_bytes writes it."""
    if isinstance(value, dict):
        entries = b"".join(packed(key) + packed(item) for key, item in value.items())
        return b"\xde" + struct.pack(">H", len(value)) + entries
    if isinstance(value, str):
        data = value.encode()
        return (
            bytes([0xA0 + len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])
        ) + data
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, bool | None):
        return {True: b"\xc3", False: b"\xc2", None: b"\xc0"}[value]
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, torch.Tensor):  # bfloat16
        return packed_array(value.shape, "bfloat16", value.view(torch.int16).numpy().tobytes())
    scalar = isinstance(value, numpy.generic)
    return packed_array(value.shape, value.dtype.name, value.tobytes(), 3 if scalar else 1)


def packed_array(shape, name, data, code=1):
    content = packed([list(shape), name, data])
    return b"\xc9" + struct.pack(">IB", len(content), code) + content


FLAX = {
    "params": {
        "conv_init": {"kernel": values(3, 3, 3, 8)},
        "bn_init": {"scale": values(8), "bias": values(8)},
        "wide": {"kernel": torch.arange(6.0).reshape(2, 3).bfloat16()},
    },
    "batch_stats": {"bn_init": {"mean": values(8), "var": values(8)}},
    "step": numpy.int32(5),
    "rate": numpy.float32(0.5),
    "others": {"none": None, "yes": True, "text": "x" * 40, "number": -(2**40), "list": [1, 2]},
}


def test_flax_is_read_with_its_tree(tmp_path):
    (tmp_path / "flax_model.msgpack").write_bytes(packed(FLAX))
    content = read(tmp_path / "flax_model.msgpack")
    assert content.format == "flax msgpack"
    assert list(content.tree) == list(FLAX)
    assert (content.tree["step"], content.tree["rate"]) == (5, 0.5)
    assert content.tree["others"] == FLAX["others"]
    params = content.tree["params"]
    assert numpy.array_equal(params["conv_init"]["kernel"].numpy(), values_of("conv_init"))
    assert params["wide"]["kernel"].equal(FLAX["params"]["wide"]["kernel"])
    assert list(params["bn_init"]) == ["scale", "bias"]


def values_of(layer):
    return FLAX["params"][layer]["kernel"]


def test_large_arrays_of_flax_come_in_chunks(tmp_path):
    whole = values(3, 4)
    chunks = {str(n): whole.ravel()[5 * n : 5 * n + 5] for n in range(3)}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": chunks}
    (tmp_path / "model.msgpack").write_bytes(packed({"params": {"kernel": chunked}}))
    kernel = read(tmp_path / "model.msgpack").tree["params"]["kernel"]
    assert numpy.array_equal(kernel.numpy(), whole)


FLAX_BOMBS = {
    "a list without end": b"\x81\xa1a\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
    "deep": b"\x81\xa1a" + b"\x91" * 100_000,
    "a shape": packed({"a": values(1)}).replace(packed(1), packed(2**40), 1),
    "an array of objects": packed({"a": values(1)}).replace(b"float32", b"objectX"),
    "twins": b"\x82\xa1a\xc0\xa1a\xc0",
    "an unknown extension": b"\x81\xa1a\xd4\x07\xc0",
    "bytes after the end": b"\x81\xa1a\xc0\xc0",
    "many values": b"\x81\xa1a\xdd\x00\x30\x00\x00" + b"\xc0" * 0x300000,
    "a map as a key": b"\x82\xa1a\xc0\x80\xc0",
    "chunks of text": packed(
        {"__msgpack_chunked_array__": True, "shape": {}, "chunks": {"0": "a"}}
    ),
}


@pytest.mark.parametrize("name", FLAX_BOMBS)
def test_damaged_files_of_flax_are_refused(tmp_path, peak_memory, name):
    (tmp_path / "x.msgpack").write_bytes(FLAX_BOMBS[name])
    with peak_memory(below=200 << 20):
        refusal(tmp_path / "x.msgpack")


def test_a_file_of_flax_that_is_cut_is_called_truncated(tmp_path):
    data = packed({"params": {"a": values(2)}})
    for length in range(6, len(data)):
        (tmp_path / "x").write_bytes(data[:length])
        assert "truncated" in refusal(tmp_path / "x").message


# NumPy


def test_dicts_and_names_with_slashes_of_numpy(tmp_path):
    weights = {"conv1/kernel:0": values(3, 3, 1, 2), "bn/beta:0": values(2)}
    numpy.savez(tmp_path / "net.npz", **weights, dict=numpy.array({"a": values(2)}, dtype=object))
    numpy.save(tmp_path / "net.npy", weights, allow_pickle=True)
    numpy.save(tmp_path / "list.npy", numpy.array([weights, None], dtype=object))
    archive = read(tmp_path / "net.npz").tree
    assert list(archive) == [*weights, "dict"]
    assert list(archive["dict"]) == ["a"]
    content = read(tmp_path / "net.npy")
    assert content.format == "NumPy npy"
    for tree in (archive, content.tree, read(tmp_path / "list.npy").tree[0]):
        assert all(numpy.array_equal(tree[key].numpy(), value) for key, value in weights.items())


def test_code_in_npy_is_refused(tmp_path):
    code = numpy.array({"a": Attack(os.system, "touch MARKER")}, dtype=object)
    numpy.save(tmp_path / "net.npy", code)
    assert "system, which could run code" in refusal(tmp_path / "net.npy").message


# ONNX


def onnx_model(nodes, tensors, **options):
    """Return a model as bytes; nodes are (kind, name, inputs, attributes), each with an output."""
    import onnx
    from onnx import helper, numpy_helper

    made = [
        helper.make_node(kind, inputs, [f"out {index}"], name=name, **attributes)
        for index, (kind, name, inputs, attributes) in enumerate(nodes)
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(made, "g", [], [], kept)
    model = helper.make_model(graph, **{"producer_name": "pytorch", **options})
    return onnx.ModelProto.SerializeToString(model)


NORM = ("bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var")
CONVOLUTION = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "group": 1}
ONNX_TENSORS = {
    "onnx::Conv_193": values(4, 3, 3, 3),
    "onnx::Conv_194": values(4),
    **{name: values(4) for name in NORM},
    "fc.weight": values(5, 4),
    "fc.bias": values(5),
    "onnx::MatMul_9": values(5, 2),
    "scores": values(2),
    "shape": numpy.array([1, -1]),
    "pixel_mean": values(3),
}
ONNX_NODES = [
    ("Constant", "", [], {"value_string": b"\xff" * 2000}),
    ("Conv", "/layer1/layer1.0/conv1/Conv", ["x", "onnx::Conv_193", "onnx::Conv_194"], CONVOLUTION),
    ("BatchNormalization", "", ["out 1", *NORM], {"epsilon": 1e-3, "momentum": 0.9}),
    ("MaxPool", "/pool/MaxPool", ["out 2"], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}),
    ("Gemm", "/fc/Gemm", ["out 3", "fc.weight", "fc.bias"], {"transB": 1}),
    ("MatMul", "", ["out 4", "onnx::MatMul_9"], {}),
    ("Add", "", ["scores", "out 5"], {}),
]


def test_initialisers_of_onnx_are_named_in_the_order_of_the_graph(tmp_path):
    (tmp_path / "net.onnx").write_bytes(onnx_model(ONNX_NODES, ONNX_TENSORS))
    content = read(tmp_path / "net.onnx")
    assert content.format == "ONNX"
    names = {
        "layer1.0.conv1.weight": "onnx::Conv_193",
        "layer1.0.conv1.bias": "onnx::Conv_194",
        **{name: name for name in (*NORM, "fc.weight", "fc.bias")},
        "MatMul_5.weight": "onnx::MatMul_9",
        "MatMul_5.bias": "scores",
        "pixel_mean": "pixel_mean",
    }
    assert list(content.tree) == list(names)
    for ours, theirs in names.items():
        value = ONNX_TENSORS[theirs].T if theirs == "onnx::MatMul_9" else ONNX_TENSORS[theirs]
        assert numpy.array_equal(content.tree[ours].numpy(), value), ours
    convolution = {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1], "groups": 1}
    assert content.layers["layer1.0.conv1"] == {"class": "Conv", **convolution}
    assert content.layers["bn1"] == {"class": "BatchNormalization", "eps": 1e-3, "momentum": 0.1}
    assert content.layers["pool"]["padding"] == [0, 0, 1, 1]  # after only, as TensorFlow has it


def test_every_type_of_numbers_in_onnx(tmp_path):
    from onnx import TensorProto, helper

    kinds = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "float64"}
    numbers = [1.0, -2.5, 0.25, 3.0]
    tensors = [
        helper.make_tensor(f"{kind}.weight", getattr(TensorProto, kind), [2, 2], numbers)
        for kind in kinds
    ]
    nodes = [helper.make_node("Conv", ["x", tensor.name], ["y"]) for tensor in tensors]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    tree = read(tmp_path / "net.onnx").tree
    for kind, dtype in kinds.items():
        tensor = tree[f"{kind}.weight"]
        assert tensor.dtype == getattr(torch, dtype)
        assert tensor.flatten().tolist() == numbers


def test_names_of_other_exporters_and_tied_layers(tmp_path):
    tensors = {"resnetv17_conv0_weight": values(2, 1, 1, 1), "onnx::w": values(2, 2)}
    tensors |= {f"resnetv17_batchnorm0_{name}": values(2) for name in ("gamma", "beta")}
    tensors |= {f"resnetv17_batchnorm0_running_{name}": values(2) for name in ("mean", "var")}
    first, _, *norm = tensors
    nodes = [
        ("Conv", "resnetv17_conv0_fwd", ["x", first], {}),
        ("BatchNormalization", "resnetv17_batchnorm0_fwd", ["out 0", *norm], {}),
        ("Identity", "", ["onnx::w"], {}),
        ("MatMul", "/a/MatMul", ["out 1", "out 2"], {}),
        ("MatMul", "/a/MatMul", ["out 3", "out 2"], {}),
    ]
    (tmp_path / "net.onnx").write_bytes(onnx_model(nodes, tensors))
    content = read(tmp_path / "net.onnx")
    assert list(content.tree) == [first, *norm, "a.weight", "a_4.weight"]
    assert list(content.layers)[:2] == ["resnetv17_conv0", "resnetv17_batchnorm0"]


def test_what_is_refused_of_onnx(tmp_path, peak_memory):
    from onnx import TensorProto, helper

    path = tmp_path / "net.onnx"
    outside = TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    outside.external_data.add(key="location", value="/etc/passwd")
    graph = helper.make_graph([], "g", [], [], [outside])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert "another file" in refusal(path).message
    path.write_bytes(onnx_model([("QLinearConv", "", ["x"], {})], {}))
    assert "quantised" in refusal(path).message
    path.write_bytes(onnx_model([("Gemm", "", ["x", "w"], {"alpha": 0.5})], {"w": values(2, 2)}))
    assert "factors" in refusal(path).message
    large = numpy.zeros((1000, 1000), "f4")  # 4 MB, and 400 times that
    path.write_bytes(onnx_model([("MatMul", "", ["x", "w"], {})] * 400, {"w": large}))
    with peak_memory(below=200 << 20):
        assert "far more data" in refusal(path).message
    data = onnx_model(ONNX_NODES, ONNX_TENSORS)
    for length in range(20, len(data), 9):
        path.write_bytes(data[:length])
        assert "truncated" in refusal(path).message
    tiny = b"\x08\x07\x3a\x84\x80\x80\x04" + b"\x0a\x00" * (4 << 20)  # nodes of nothing
    path.write_bytes(tiny)
    with peak_memory(below=250 << 20):
        refusal(path)


# MXNet and Paddle


def mxnet_file(arrays, version=0xF993FAC9):
    """Return a file of mxnet.nd.save; before 0.12 arrays had no version, and 32-bit shapes."""
    data = struct.pack("<3Q", 0x112, 0, len(arrays))
    for array in arrays.values():
        kind = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"]
        if version:
            data += struct.pack("<I", version)
        if version in (0xF993FAC9, 0xF993FACA):
            data += struct.pack("<i", 0)
        letter = "q" if version else "I"
        data += struct.pack(f"<I{array.ndim}{letter}", array.ndim, *array.shape)
        data += struct.pack("<2iI", 1, 0, kind.index(array.dtype.name)) + array.tobytes()
    names = [name.encode() for name in arrays]
    return data + struct.pack("<Q", len(names)) + b"".join(map(prefixed, names))


def prefixed(name):
    return struct.pack("<Q", len(name)) + name


MXNET = {
    "arg:conv0_weight": values(4, 3, 3, 3),
    "arg:bn0_gamma": values(4),
    "aux:bn0_moving_var": numpy.ones(4),
    "arg:half": numpy.ones((2, 2), "float16"),
    "arg:steps": numpy.array([2**40]),
}


@pytest.mark.parametrize("version", [0, 0xF993FAC8, 0xF993FAC9, 0xF993FACA])
def test_params_of_every_mxnet(tmp_path, version):
    (tmp_path / "net-0000.params").write_bytes(mxnet_file(MXNET, version))
    content = read(tmp_path / "net-0000.params")
    assert content.format == "MXNet"
    assert list(content.tree) == list(MXNET)
    for key, value in MXNET.items():
        assert numpy.array_equal(content.tree[key].numpy(), value), key


def test_damaged_params_of_mxnet(tmp_path, peak_memory):
    data = mxnet_file(MXNET)
    path = tmp_path / "net.params"
    for length in range(20, len(data), 7):
        path.write_bytes(data[:length])
        assert "truncated" in refusal(path).message
    counts = struct.pack("<Q", len(MXNET))
    sparse = data[:28] + b"\1" + data[29:]
    shape = data.replace(struct.pack("<Iq", 4, 4), struct.pack("<Iq", 4, 2**60), 1)
    many = data.replace(counts, struct.pack("<Q", 2**40), 1)
    twins = mxnet_file({"a": values(1), "b": values(1)}).replace(prefixed(b"b"), prefixed(b"a"))
    for damaged in (sparse, shape, many, twins, data + b"\0"):
        path.write_bytes(damaged)
        with peak_memory(below=20 << 20):
            refusal(path)


def test_parameters_of_paddle(tmp_path):
    class Named:
        def __reduce__(self):
            return tuple, (("linear_0.w_0", weights["fc.weight"]),)

    weights = {"fc.weight": values(4, 2), "bn._mean": values(4)}
    names = {"StructuredToParameterName@@": {"fc.weight": "linear_0.w_0"}}
    (tmp_path / "model.pdparams").write_bytes(pickle.dumps({**weights, **names}, 2))
    content = read(tmp_path / "model.pdparams")
    assert content.format == "Paddle"
    assert all(numpy.array_equal(content.tree[k].numpy(), v) for k, v in weights.items())
    (tmp_path / "nested.pdparams").write_bytes(pickle.dumps({"model": {"w": Named()}}, 2))
    nested = read(tmp_path / "nested.pdparams").tree["model"]["w"]
    assert numpy.array_equal(nested.numpy(), weights["fc.weight"])


# What is not read


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("model.t7", b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x0d\0\0\0nn.Sequential", "Torch7"),
        ("model.t7", b"\3\0\0\0\1\0\0\0\5\0\0\0", "Torch7"),
        ("net.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(80) + b"\0\1IM", "MATLAB"),
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
        ("model.ckpt.index", b"\0\0\x18\x08\1\x1a\2\x08\1" + bytes(40), "TensorFlow checkpoint"),
        ("model.data-00000-of-00001", bytes(64), "TensorFlow checkpoint"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt-1"\n', "TensorFlow checkpoint"),
        ("frozen.pb", b"\x0a\x3c\x0a\x05input\x12\x0bPlaceholder" + bytes(40), "frozen graph"),
        ("saved_model.pb", b"\x08\1\x12\xb4\xf9\x02\x0a\xd1\x52" + bytes(40), "SavedModel"),
        ("m.mlmodel", b"\x08\1\x12\x65\x0a\x1b\x0a\5image" + bytes(40), "Core ML"),
        ("r.caffemodel", b"\x0a\x09ResNet-50\xa2\x06\xb7" + bytes(40), "Caffe"),
    ],
)
def test_formats_that_are_not_read_are_called_by_their_names(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)
    error = refusal(tmp_path / name)
    assert kind in error.message
    assert error.hint
