"""Keras's files, made by hand; files of Keras's own are read in reference/test_keras_files.py."""

import copy
import io
import json
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnets import ResNet, get_spec, load_weights
from resnets.errors import CheckpointError, ResourceError
from resnets.readers.keras_config import snake_case, stored_paths
from resnets.readers.keras_file import NORM
from resnets.readers.reader import read
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.keras.front import Front
from resnets.weights.keras.keras_variables import to_keras, to_ours
from resnets.weights.keras.keras_write import write_keras
from resnets.weights.keras.modules import layer_order
from resnets.weights.keras.names import application_layer, application_names, ordered_names
from resnets.weights.keras.topology import read_topology

MIB = 1024**2


class Sketch:
    """A functional model's config, layer by layer, with Keras's automatic names."""

    def __init__(self, tf_keras: bool = False, first_number: int = 0) -> None:
        self.layers, self.shapes, self.counts = [], {}, {}
        self.tf_keras, self.first_number = tf_keras, first_number

    def __call__(self, kind: str, *inputs: str, name: str = "", **config) -> str:
        stem = snake_case(kind)
        number = self.counts[stem] = self.counts.get(stem, self.first_number - 1) + 1
        name = name or (f"{stem}_{number}" if number else stem)
        layer = {"class_name": kind, "name": name, "config": {"name": name, **config}}
        self.layers.append({**layer, "inbound_nodes": self.calls(inputs)})
        return name

    def calls(self, inputs: tuple[str, ...]) -> list:
        if not inputs:
            return []
        if self.tf_keras:
            return [[[name, 0, 0, {}] for name in inputs]]
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}
            for name in inputs
        ]
        return [{"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}}]

    def input(self, *shape) -> str:
        return self("InputLayer", **{self.shape_name: [None, *shape]})

    @property
    def shape_name(self) -> str:
        return "batch_input_shape" if self.tf_keras else "batch_shape"

    def conv(self, x, filters, size=3, stride=1, **config) -> str:
        config = {"padding": "same", "use_bias": True, **config}
        sizes = {"kernel_size": [size, size], "strides": [stride, stride]}
        return self("Conv2D", x, filters=filters, **sizes, **config)

    def norm(self, x, **config) -> str:
        return self("BatchNormalization", x, **{"epsilon": 1e-3, "momentum": 0.99, **config})

    def model(self, end: str, name: str = "functional") -> dict:
        source = self.layers[0]["name"]
        ends = ([source, 0, 0], [end, 0, 0])
        first, last = ([[e] for e in ends]) if self.tf_keras else ends
        config = {"name": name, "layers": self.layers, "input_layers": first, "output_layers": last}
        return {"class_name": "Functional", "config": config}


def example(sketch: Sketch, depth: int = 8, changes=None, side: int = 32) -> tuple[dict, dict]:
    """The Keras example's v1 net, and which layer is which module of ours."""
    names, changes = {}, changes or {}

    def relu(x):
        return sketch(*changes.get("activation", ("ReLU",))[:1], x, **changes.get("options", {}))

    def conv(module, *args, **config):
        made = sketch.conv(*args, **config)
        names[made] = module
        return made

    def norm(module, x):
        made = sketch.norm(x)
        names[made] = module
        return made

    x = changes.get("front", lambda _, x: x)(sketch, sketch.input(side, side, 3))
    x = relu(norm("bn1", conv("conv1", x, 16)))
    for stage, width in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            where, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = relu(norm(f"{where}.bn1", conv(f"{where}.conv1", x, width, stride=stride)))
            y = changes.get("within", lambda _, y: y)(sketch, y)
            y = norm(f"{where}.bn2", conv(f"{where}.conv2", y, width))
            if stride == 2:
                x = conv(f"{where}.downsample.0", x, width, 1, 2)
            x = relu(sketch("Add", x, y))
    if "head" in changes:
        return sketch.model(changes["head"](sketch, x)), names
    x = sketch("Flatten", sketch("AveragePooling2D", x, pool_size=[side // 4, side // 4]))
    dense = sketch("Dense", x, units=10, activation="softmax")
    names[dense] = "fc"
    return sketch.model(dense), names


SPEC = get_spec("keras_resnet8_v1")


def weights(spec=SPEC) -> dict[str, torch.Tensor]:
    """A state dict in which no two tensors are alike."""
    torch.manual_seed(0)
    return {
        key: value if value.dtype == torch.int64 else torch.rand(value.shape)
        for key, value in ResNet(spec).state_dict().items()
    }


def variables(names: dict[str, str], spec=SPEC) -> dict[str, dict[str, np.ndarray]]:
    """What each layer stores, in the model's order."""
    kinds, state = dict(layer_order(spec)), weights(spec)
    return {
        layer: {
            name: tensor.contiguous().numpy()
            for name, tensor in to_keras(state, module, kinds[module]).items()
        }
        for layer, module in names.items()
    }


def numbered(model: dict, stored: dict, *, named: bool = True, front: str = "layers/") -> bytes:
    """A Keras 3 .weights.h5."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for place, layer in stored_paths(model):
            group = file.create_group(f"{front}{place.removeprefix('layers/')}/vars")
            if named:
                group.attrs["name"] = layer["config"]["name"]
            for number, value in enumerate(stored.get(layer["config"]["name"], {}).values()):
                group[str(number)] = value
        file["optimizer/vars/0"] = np.int64(3)
        file["optimizer/vars/1"] = np.ones(5, "f4")
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "u4")
    return buffer.getvalue()


def archive(model: dict, data: bytes, compression=zipfile.ZIP_STORED, **more) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(model))
        file.writestr("model.weights.h5", data)
        for name, content in more.items():
            file.writestr(name, content)
    return buffer.getvalue()


def older(stored: dict, model: dict | None = None, suffix: str = ":0", scope: str = "") -> bytes:
    """An .h5 of weights, or of a whole model."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file
        if model:
            file.attrs["model_config"] = json.dumps(model)
            file["optimizer_weights/SGD/momentum:0"] = np.ones(3, "f4")
            group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"input_1", *(layer.encode() for layer in stored)]
        group.create_group("input_1").attrs["weight_names"] = []
        for layer, values in stored.items():
            inner = group.create_group(layer)
            names = [f"{scope or layer}/{name}{suffix}" for name in values]
            inner.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, values.values(), strict=True):
                inner[name] = value
    return buffer.getvalue()


def put(folder: Path, data: bytes, name: str = "model.weights.h5") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def assert_tree(tree: dict, stored: dict) -> None:
    expected = {f"{layer}/{name}": v for layer, vs in stored.items() for name, v in vs.items()}
    assert tree.keys() == expected.keys()
    assert all(np.array_equal(tree[key].numpy(), value) for key, value in expected.items())


def test_three_formats(tmp_path):
    model, names = example(Sketch(first_number=5))
    stored = variables(names)
    files = {
        "Keras .keras": archive(model, numbered(model, stored)),
        "Keras .weights.h5": numbered(model, stored),
        "Keras .h5": older(stored, model),
    }
    for kind, data in files.items():
        content = read(put(tmp_path, data, "whatever.bin"))
        assert content.format == kind
        assert content.config == (None if kind == "Keras .weights.h5" else model)
        assert_tree(content.tree, stored)
        state = to_ours(content.tree, names)
        assert all(torch.equal(state[key], value) for key, value in weights().items())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_names_from_the_config(compression, tmp_path):
    """An archive of an earlier Keras 3 does not say the names beside the weights."""
    model, names = example(Sketch(first_number=5))
    data = numbered(model, variables(names), named=False)
    content = read(put(tmp_path, archive(model, data, compression)))
    assert_tree(content.tree, variables(names))


@pytest.mark.parametrize("front", ["layers/", "_layer_checkpoint_dependencies/", "layers\\"])
def test_only_counters(front, tmp_path):
    """Without names and config, the order of the layers says which is which."""
    model, names = example(Sketch(), depth=20)
    spec = get_spec("keras_resnet20_v1")
    ordered = sorted(names.items(), key=lambda n: [m for m, _ in layer_order(spec)].index(n[1]))
    model["config"]["layers"].sort(
        key=lambda layer: (
            [n for n, _ in ordered].index(layer["name"]) if layer["name"] in names else 0
        )
    )
    data = numbered(model, variables(names, spec), named=False, front=front)
    content = read(put(tmp_path, data))
    found = ordered_names(content.tree, spec)
    state = to_ours(content.tree, found)
    assert all(torch.equal(state[key], value) for key, value in weights(spec).items())
    with pytest.raises(CheckpointError, match="has 21 conv2d layers, keras_resnet32_v1 has 33"):
        ordered_names(content.tree, get_spec("keras_resnet32_v1"))


@pytest.mark.parametrize("suffix", [":0", "", "_1:0"])
@pytest.mark.parametrize("scope", ["", "conv1_1"])
def test_variable_names_of_all_times(suffix, scope, tmp_path):
    stored = {"conv1": {"kernel": np.ones((3, 3, 3, 4), "f4"), "bias": np.ones(4, "f4")}}
    content = read(put(tmp_path, older(stored, suffix=suffix, scope=scope)))
    assert_tree(content.tree, stored)


def test_layers_of_a_model_within_a_model(tmp_path):
    """The older format names the inner model's variables after its layers."""
    buffer = io.BytesIO()
    names = ["conv1_conv/kernel:0", "deep/conv1_bn/gamma:0", "conv1_bn/beta_3:0", "seed:0"]
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names0"] = [b"resnet50"]  # long lists come in parts
        file.attrs["layer_names1"] = [b"dense"]
        for number, name in enumerate(names):
            file[f"resnet50/{name}"] = np.full(2, number, "u4" if "seed" in name else "f4")
        file["resnet50"].attrs["weight_names"] = names
        file["dense/sequential/dense/kernel"] = np.ones((2, 3), "f4")
        file["dense"].attrs["weight_names"] = [b"sequential/dense/kernel"]
    tree = read(put(tmp_path, buffer.getvalue())).tree
    assert list(tree) == ["conv1_conv/kernel", "conv1_bn/gamma", "conv1_bn/beta", "dense/kernel"]
    assert tree["conv1_bn/beta"].tolist() == [2, 2]


def scope_in_a_class(module: str) -> str:
    """Return the scope of a layer whose blocks are of a class that calls its layers alike."""
    outside = {"conv1": "conv2d", "bn1": "batch_normalization", "fc": "dense"}
    if not module.startswith("layer"):
        return outside.get(module, "batch_normalization_1")
    layer, block, rest = module.split(".", 2)
    return f"sequential_{layer[5:]}/unit_{int(block) + 1}/{rest.replace('.', '_')}"


@pytest.mark.parametrize("net", ["resnet20_b", "resnet20_b_v2", "resnet20"])
@pytest.mark.parametrize("above", ["", "net/"])
def test_blocks_of_a_class_whose_layers_are_called_alike(tmp_path, net, above):
    """As save_weights of a subclassed model has them: first what learns, then the statistics."""
    spec = replace(get_spec(net), depths=(2, 2, 2), widths=(4, 8, 16), stem_width=4, num_classes=5)
    torch.manual_seed(0)
    state = {key: torch.rand_like(t) for key, t in ResNet(spec).state_dict().items() if t.ndim}
    listed: dict[str, dict] = {}
    for module, kind in layer_order(spec):
        scope = scope_in_a_class(module)
        variables = NORM if kind == "batch_normalization" else ("kernel", "bias")
        tensors = [t for key, t in state.items() if key.rpartition(".")[0] == module]
        for variable, tensor in zip(variables, tensors, strict=False):
            array = tensor.permute(*range(2, tensor.ndim), 1, 0) if tensor.ndim > 1 else tensor
            arrays = listed.setdefault(scope.split("/")[0], {})
            arrays[f"{above}{scope}/{variable}:0"] = array.numpy()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in listed]
        for layer, arrays in listed.items():
            names = sorted(arrays, key=lambda name: "moving" in name)
            file.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                file[f"{layer}/{name}"] = arrays[name]
    model = ResNet(spec)
    load_weights(model, put(tmp_path, buffer.getvalue(), "model.h5"))
    assert all(model.state_dict()[key].equal(tensor) for key, tensor in state.items())


def test_two_layers_of_one_name(tmp_path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for tower in ("functional", "functional_1"):
            group = file.create_group(f"layers/{tower}/layers/conv2d/vars")
            group.attrs["name"] = "conv1_conv"
            group["0"] = np.ones((1, 1, 2, 2), "f4")
    with pytest.raises(CheckpointError, match='two layers have "conv1_conv/kernel"'):
        read(put(tmp_path, buffer.getvalue()))


@pytest.mark.parametrize("tf_keras", [False, True])
@pytest.mark.parametrize("depth", [8, 20])
def test_topology_of_the_example(depth, tf_keras):
    model, names = example(Sketch(tf_keras, first_number=3), depth)
    topology = read_topology(model)
    assert topology.spec == get_spec(f"keras_resnet{depth}_v1")
    assert topology.names == names
    assert topology.front == Front()


def changed(**changes):
    return read_topology(example(Sketch(), 8, changes)[0])


def head(*kinds, **dense):
    def build(sketch, x):
        for kind in kinds:
            options = {"units": 4, "rate": 0.25, "activation": "linear"}
            x = sketch(kind, x, **{"filters": 3, "kernel_size": [1, 1], **options, **dense})
        return x

    return build


@pytest.mark.parametrize(
    ("kinds", "num_classes", "dropout"),
    [
        (["GlobalAveragePooling2D", "Dense"], 4, 0),
        (["GlobalAveragePooling2D", "Dropout", "Dense", "Softmax"], 4, 0.25),
        (["Dropout", "GlobalAveragePooling2D", "Flatten", "Dense"], 4, 0),
        (["GlobalAveragePooling2D"], 1000, 0),
        ([], 1000, 0),
    ],
)
def test_heads(kinds, num_classes, dropout):
    topology = changed(head=head(*kinds))
    assert topology.spec == replace(SPEC, num_classes=num_classes, dropout=dropout)
    assert ("fc" in topology.names.values()) == ("Dense" in kinds)


@pytest.mark.parametrize(
    ("units", "activation", "after", "outputs"),
    [
        (4, "softmax", [], "softmax"),
        (4, "sigmoid", [], "sigmoid"),
        (1, "sigmoid", [], "sigmoid"),
        (4, "linear", [], None),
        (1, None, [], None),
        (4, {"class_name": "function", "config": "sigmoid"}, [], "sigmoid"),
        (4, "linear", [("Activation", "softmax")], "softmax"),
        (1, "linear", [("Activation", "sigmoid")], "sigmoid"),
        (4, None, [("Softmax", None)], "softmax"),
        (4, "softmax", [("Activation", "linear")], "softmax"),
        (4, "sigmoid", [("Softmax", None)], None),
    ],
)
def test_what_the_outputs_mean(units, activation, after, outputs, tmp_path):
    """The last activation says it, also where it is a layer of its own; logits do not."""

    def build(sketch, x):
        x = sketch("Dense", sketch("GlobalAveragePooling2D", x), units=units, activation=activation)
        for kind, word in after:
            x = sketch(kind, x, activation=word) if word else sketch(kind, x)
        return x

    assert changed(head=build).outputs == outputs


def test_the_meaning_travels_from_the_file(tmp_path):
    model, names = example(Sketch(first_number=5))
    path = put(tmp_path, archive(model, numbered(model, variables(names))), "m.keras")
    checkpoint = open_checkpoint(path)
    assert (checkpoint.outputs, checkpoint.unknown) == ("softmax", ())


@pytest.mark.parametrize(
    "kinds",
    [
        ["GlobalMaxPooling2D", "Dense"],
        ["Flatten", "Dense"],
        ["GlobalAveragePooling2D", "Dense", "Dense"],
        ["Conv2D", "GlobalAveragePooling2D"],
    ],
)
def test_heads_that_are_not_ours(kinds):
    """The body is read all the same."""
    topology = changed(head=head(*kinds))
    assert topology.spec == replace(SPEC, num_classes=1000)
    assert "fc" not in topology.names.values()


def test_average_over_less_than_the_map_is_not_our_head():
    def build(sketch, x):
        x = sketch("Flatten", sketch("AveragePooling2D", x, pool_size=[4, 4]))
        return sketch("Dense", x, units=10)

    assert "fc" not in changed(head=build).names.values()


def test_inert_layers_within_blocks():
    topology = changed(within=lambda sketch, y: sketch("SpatialDropout2D", y, rate=0.1))
    assert topology.spec == SPEC


def test_convolutions_that_lack_a_bias_get_zeros():
    """Our nets have all of them, none, or those without a norm."""
    model, names = example(Sketch())
    first = model["config"]["layers"][1]
    assert first["class_name"] == "Conv2D"
    first["config"]["use_bias"] = False
    topology = read_topology(model)
    assert topology.spec == SPEC
    tree = {
        f"{n}/{k}": torch.from_numpy(v) for n, vs in variables(names).items() for k, v in vs.items()
    }
    del tree[f"{first['name']}/bias"]
    state = to_ours(tree, topology.names, topology.spec)
    assert torch.equal(state["conv1.bias"], torch.zeros(16))
    ResNet(topology.spec).load_state_dict(state)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("SeparableConv2D", {}, 'SeparableConv2D "separable_conv2d"'),
        ("Conv2DTranspose", {}, "Conv2DTranspose"),
        ("ReLU", {"max_value": 6.0}, "max_value 6.0"),
        ("PReLU", {}, 'PReLU "p_re_lu"'),
        ("LayerNormalization", {}, "LayerNormalization"),
        ("MaxPooling2D", {"pool_size": [2, 2]}, 'in an order .* the block of Conv2D "conv2d_1"'),
        ("Activation", {"activation": "tanh"}, "tanh"),
        ("BatchNormalization", {"epsilon": 0.5}, "epsilon 0.5 beside 0.001"),
        ("Reshape", {}, "Reshape"),
    ],
)
def test_layers_that_have_no_place_are_named(kind, config, message):
    with pytest.raises(CheckpointError, match=message):
        changed(within=lambda sketch, y: sketch(kind, y, **config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dilation_rate": [2, 2]}, "dilation"),
        ({"padding": "valid"}, "padded in an unusual way"),
        ({"kernel_size": [3, 5]}, r"kernel_size \[3, 5\]"),
        ({"kernel_size": [5, 5]}, "kernels"),
        ({"strides": [2, 2]}, "stem of kernels and strides"),
        ({"filters": "many"}, "filters many"),
        ({"activation": "softplus"}, "softplus"),
    ],
)
def test_convolutions_that_are_unlike_ours(config, message):
    model, _ = example(Sketch())
    model["config"]["layers"][1]["config"] |= config
    with pytest.raises(CheckpointError, match=message):
        read_topology(model)


def chain(*kinds):
    sketch = Sketch()
    x = sketch.input(32, 32, 3)
    for kind in kinds:
        x = sketch.conv(x, 8) if kind == "Conv2D" else sketch(kind, x, units=2)
    return sketch.model(x)


def densely_connected():
    sketch = Sketch()
    x = sketch.input(32, 32, 3)
    for _ in range(3):
        x = sketch("Concatenate", x, sketch.conv(x, 8))
    return sketch.model(sketch("Add", x, sketch.conv(x, 8)))


def two_inputs():
    model, _ = example(Sketch())
    model["config"]["layers"][1]["inbound_nodes"] = []
    return model


def one_layer_twice():
    model, _ = example(Sketch())
    model["config"]["layers"][1]["inbound_nodes"] *= 2
    return model


def fed_by_nothing():
    model, _ = example(Sketch())
    model["config"]["layers"][3]["inbound_nodes"] = Sketch().calls(("elsewhere",))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (chain("Conv2D", "ReLU", "GlobalAveragePooling2D", "Dense"), "no residual network: none"),
        (densely_connected(), 'Concatenate "concatenate_2" before the first block'),
        (two_inputs(), 'Conv2D "conv2d" before the first block'),
        (one_layer_twice(), 'layer "conv2d" is used 2 times'),
        (fed_by_nothing(), 'nothing feeds layer "re_lu"'),
        ({"class_name": "Functional", "config": {}}, "damaged"),
        ({"class_name": "Functional", "config": {"layers": [{}]}}, "damaged"),
    ],
)
def test_no_residual_networks(model, message):
    with pytest.raises(CheckpointError, match=message):
        read_topology(model)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("depth", [50, 101, 152])
def test_names_of_keras_applications(depth, version):
    spec = get_spec(f"keras_applications_resnet{depth}{'_v2' if version == 2 else ''}")
    modules = [module for module, _ in layer_order(spec)]
    layers = [application_layer(module, spec) for module in modules]
    assert application_names(layers) == dict(zip(layers, modules, strict=True))
    known = {"conv5_block3_3_conv", "conv4_block2_1_bn", "conv2_block1_0_conv", "predictions"}
    known |= {"post_bn", "conv2_block1_preact_bn"} if version == 2 else {"conv1_bn"}
    assert known <= set(layers)


def test_names_of_the_first_release():
    layers = [
        "conv1",
        "bn_conv1",
        "res2a_branch1",
        "bn2a_branch1",
        "res5c_branch2b",
        "bn3d_branch2c",
    ]
    assert application_names([*layers, "fc1000", "flatten_1"]) == {
        "conv1": "conv1",
        "bn_conv1": "bn1",
        "res2a_branch1": "layer1.0.downsample.0",
        "bn2a_branch1": "layer1.0.downsample.1",
        "res5c_branch2b": "layer4.2.conv2",
        "bn3d_branch2c": "layer2.3.bn3",
        "fc1000": "fc",
    }
    assert application_names(["conv1", "conv2d_7", "predictions"]) == {}


@pytest.mark.parametrize("name", ["keras_resnet8_v1", "keras_resnet20_v2", "resnet50", "resnet18d"])
@pytest.mark.parametrize("kind", ["h5", "weights.h5"])
def test_written_and_read_again(name, kind, tmp_path):
    spec = replace(get_spec(name), num_classes=3)
    if "50" in name:
        spec = replace(spec, depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem_width=8)
    state, path = weights(spec), tmp_path / f"weights.{kind}"
    write_keras(path, state, spec)
    tree = read(path).tree
    layers = dict.fromkeys(key.split("/")[0] for key in tree)
    names = application_names(layers) or ordered_names(tree, spec)
    again = to_ours(tree, names)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], value) for key, value in state.items())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_long_lists_of_names_are_written_in_parts(tmp_path):
    spec = replace(SPEC, depths=(900,), widths=(1,), stem_width=1)
    path = tmp_path / "deep.h5"
    write_keras(path, weights(spec), spec)
    with h5py.File(path) as file:
        assert "layer_names" not in file.attrs
        assert len(file.attrs["layer_names0"]) > 100
    tree = read(path).tree
    assert len(ordered_names(tree, spec)) == 2 * 1801 + 1


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match="se_resnet18 has layers"):
        write_keras(tmp_path / "x.h5", {}, get_spec("se_resnet18"))
    with pytest.raises(CheckpointError, match=r"there is no 'conv1\.weight'"):
        write_keras(tmp_path / "x.h5", {}, SPEC)
    with pytest.raises(CheckpointError, match=r'"extra\.weight" is no tensor of keras_resnet8_v1'):
        write_keras(tmp_path / "x.h5", {**weights(), "extra.weight": torch.ones(1)}, SPEC)
    assert not list(tmp_path.iterdir())


def test_without_h5py(tmp_path, monkeypatch):
    """It is needed to write; reading does without."""
    path = tmp_path / "x.h5"
    write_keras(path, weights(), SPEC)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert read(path).tree
    with pytest.raises(ResourceError) as error:
        write_keras(path, weights(), SPEC)
    assert error.value.hint == 'pip install "resnets[keras]"'


def test_norms_without_scale_or_center(tmp_path):
    model, names = example(Sketch())
    stored = variables(names)
    norms = [layer for layer in model["config"]["layers"] if "batch" in layer["name"]]
    for layer, flags in zip(norms, ("scale", "center", "both"), strict=False):
        for flag, variable in (("scale", "gamma"), ("center", "beta")):
            if flags in (flag, "both"):
                layer["config"][flag] = False
                del stored[layer["name"]][variable]
    data = numbered(model, stored)
    tree = read(put(tmp_path, archive(model, data))).tree
    assert_tree(tree, stored)
    state = to_ours(tree, names)
    assert torch.equal(state["bn1.weight"], torch.ones(16))
    assert torch.equal(state["layer1.0.bn1.bias"], torch.zeros(16))
    with pytest.raises(CheckpointError, match="has 3 variables and it is unknown which"):
        read(put(tmp_path, data))


def keras_archive(**changes) -> bytes:
    model, names = example(Sketch())
    return archive(changes.pop("model", model), numbered(model, variables(names)), **changes)


def refusal(folder: Path, data: bytes) -> CheckpointError:
    path = put(folder, data)
    with pytest.raises(CheckpointError) as error:
        read(path)
    assert error.value.message.startswith(f"{path}: ")
    return error.value


def test_other_members_are_never_touched(tmp_path):
    """Fault 9: names that climb out of a folder."""
    data = keras_archive(**{"../../escaped": "x", "/tmp/escaped": "x", "assets/code.py": "1/0"})
    assert read(put(tmp_path, data)).tree
    assert [path.name for path in tmp_path.iterdir()] == ["model.weights.h5"]
    assert not (tmp_path.parent.parent / "escaped").exists()


def test_two_members_of_one_name(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = keras_archive(**{"config.json": "{}"})
    assert "two files of one name" in refusal(tmp_path, data).message


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_zip_bombs(name, tmp_path, peak_memory):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for member in ("config.json", "model.weights.h5"):
            content = bytes(300 * MIB) if member == name else json.dumps(example(Sketch())[0])
            file.writestr(member, content)
        del content
    data = buffer.getvalue()
    assert len(data) < MIB
    with peak_memory(below=32 * MIB):
        message = refusal(tmp_path, data).message
    assert ("314,572,800 bytes" if name == "config.json" else "far more data") in message


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEAAAA=", None, None]}},
        {
            "class_name": "Functional",
            "config": {
                "name": "inner",
                "layers": [{"class_name": "Lambda", "config": {"name": "evil"}}],
            },
        },
        {
            "class_name": "Activation",
            "config": {"name": "x", "activation": {"class_name": "__lambda__", "name": "evil"}},
        },
    ],
)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_lambda_layers(layer, kind, tmp_path):
    model, names = example(Sketch())
    model["config"]["layers"].append(layer)
    data = keras_archive(model=model) if kind == "keras" else older(variables(names), model)
    error = refusal(tmp_path, data)
    assert 'a Lambda layer ("evil"), which is code: refused' in error.message
    assert "safe_mode" not in error.hint


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"config": 3}', "null"])
def test_configs_that_are_none(text, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("config.json", text)
        file.writestr("model.weights.h5", b"")
    assert "model config" in refusal(tmp_path, buffer.getvalue()).message


def test_other_hdf5_files(tmp_path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["data"] = np.arange(3)
    assert "without arrays of numbers" in refusal(tmp_path, buffer.getvalue()).message


def test_weights_that_are_named_and_absent(tmp_path):
    stored = {"conv1": {"kernel": np.ones((1, 1, 1, 1), "f4")}}
    data = older(stored).replace(b"conv1/kernel:0", b"conv1/kernol:0", 1)
    assert '"kern' in refusal(tmp_path, data).message


def test_memory_of_a_large_file(tmp_path, peak_memory):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((3, 3, 1024, 1024), "f4")
    path = put(tmp_path, buffer.getvalue())
    size = len(buffer.getvalue())
    del buffer
    with peak_memory(below=3 * size):
        tree = read(path).tree
    assert tree["conv2d/kernel"].shape == (3, 3, 1024, 1024)


TINY = {
    "conv1_conv": {"kernel": np.ones((1, 1, 2, 2), "f4"), "bias": np.ones(2, "f4")},
    "bn": {n: np.ones(2, "f4") for n in ("gamma", "beta", "moving_mean", "moving_variance")},
}


def tiny_files() -> dict[str, bytes]:
    sketch = Sketch()
    x = sketch.input(8, 8, 2)
    x = sketch.norm(sketch.conv(x, 2, 1, name="conv1_conv"), name="bn")
    model = sketch.model(x)
    data = numbered(model, TINY)
    packed = io.BytesIO()
    with h5py.File(packed, "w") as file:
        options = {"chunks": (2, 2), "compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("layers/dense/vars/0", data=np.ones((5, 5), "f4"), **options)
    return {
        "weights": data,
        "keras": archive(model, data),
        "deflated": archive(model, data, zipfile.ZIP_DEFLATED),
        "older": older(TINY, model),
        "packed": packed.getvalue(),
        "latest": latest(),
    }


def latest() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        file["layers/conv2d/vars/0"] = np.ones((1, 1, 2, 2), "f4")
        file["layers/conv2d/vars"].attrs["name"] = "conv1"
    return buffer.getvalue()


FILES = tiny_files()
MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([b"\0", b"\xff", b"\x01", b"\x7f", b"\xff" * 8, b"\0" * 4])
        | st.binary(max_size=9),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def mutated(data: bytes, mutations) -> bytes:
    for share, new, replaces in mutations:
        at = int(share * len(data))
        data = data[:at] + new + data[at + (len(new) if replaces else 0) :]
    return data


def check_mutation(folder: Path, kind: str, mutations, inside: bool) -> None:
    """Whatever the bytes are, they are read or refused, quickly and in little memory."""
    data = FILES[kind]
    if inside and kind == "keras":  # so that the archive's checksum holds
        data = archive({"config": []}, mutated(FILES["weights"], mutations))
    else:
        data = mutated(data, mutations)
    path = put(folder, data)
    with suppress(CheckpointError):
        content = read(path)
        assert_plain(content.tree)


def assert_plain(tree: dict) -> None:
    assert all(isinstance(tensor, torch.Tensor) for tensor in tree.values())
    assert sum(tensor.nbytes for tensor in tree.values()) <= 64 * MIB


COVERED = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "database": None,
}
ARGUMENTS = {
    "kind": st.sampled_from(sorted(FILES)),
    "mutations": MUTATIONS,
    "inside": st.booleans(),
}


@settings(max_examples=150, **COVERED)
@given(**ARGUMENTS)
def test_mutated_bytes(tmp_path, kind, mutations, inside):
    check_mutation(tmp_path, kind, mutations, inside)


@pytest.mark.slow
def test_many_mutated_bytes(tmp_path, peak_memory):
    @settings(max_examples=20_000, **COVERED)
    @given(**ARGUMENTS)
    def check(kind, mutations, inside):
        check_mutation(tmp_path, kind, mutations, inside)

    with peak_memory(below=200 * MIB):
        check()


MODEL = example(Sketch())[0]
JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JUNK |= st.sampled_from(
    ["Conv2D", "Add", "InputLayer", "Functional", "same", [], {}, [None], [3, 3]]
)


@settings(max_examples=300, **COVERED)
@given(st.lists(st.tuples(st.integers(0, 10**9), JUNK), min_size=1, max_size=3))
def test_mutated_configs(mutations):
    """Whatever a config says, it is a network or it is refused."""
    model = copy.deepcopy(MODEL)
    for number, value in mutations:
        places = list(_places(model))
        container, key = places[number % len(places)]
        container[key] = copy.deepcopy(value)  # its own, so that none comes to hold itself
    with suppress(CheckpointError):
        assert len(read_topology(model).names) > 10


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def in_the_worst_order(layers: int) -> dict:
    """A config whose last layer comes first."""
    sketch = Sketch()
    x = sketch.input(32, 32, 3)
    for _ in range(layers - 1):
        x = sketch("Dropout", x)
    model = sketch.model(x)
    model["config"]["layers"].reverse()
    return model


def test_any_order_of_layers_is_read():
    with pytest.raises(CheckpointError, match="none of its 2000 layers"):
        read_topology(in_the_worst_order(2000))


@pytest.mark.quiet
def test_large_configs_take_seconds():
    model = in_the_worst_order(50_000)
    started = time.process_time()
    with pytest.raises(CheckpointError, match="none of its 50000 layers"):
        read_topology(model)
    assert time.process_time() - started < 20
