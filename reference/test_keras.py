"""Same weights, same output as Keras 3 on its torch backend, in float64.

keras.applications' nets are Keras's own; the nets of the CIFAR example are rebuilt here, in Keras,
from their description: biased convolutions, projections without norm, v2 widths 16, 64, 128, 256.
"""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from resnets import ResNet, get_spec

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")


@pytest.fixture(autouse=True)
def float64_throughout(monkeypatch):
    """Keras computes norms, means and products in float32 whatever the policy; here it obeys."""
    for module in (keras.src.backend, keras.src.backend.common.dtypes):
        monkeypatch.setattr(module, "result_type", lambda *_: "float64")


def scramble(model: keras.Model) -> keras.Model:
    generator = np.random.default_rng(0)
    for layer in model.layers:
        values = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            low = {"gamma": 0.5, "moving_variance": 0.5}
            names = [weight.name for weight in layer.weights]
            values = [
                generator.uniform(low.get(name, -0.2), 1.0 if name in low else 0.2, value.shape)
                for name, value in zip(names, values, strict=True)
            ]
        elif values and len(values) == 2:
            values[1] = generator.normal(0, 0.2, values[1].shape)
        layer.set_weights(values)
    return model


def tensors(layer: keras.Layer) -> dict[str, torch.Tensor]:
    """A layer's weights in torch's layouts and under its names."""
    values = [torch.from_numpy(np.array(value)) for value in layer.get_weights()]
    if isinstance(layer, layers.BatchNormalization):
        names = ("weight", "bias", "running_mean", "running_var")
        return dict(zip(names, values, strict=True)) | {"num_batches_tracked": torch.tensor(0)}
    values[0] = values[0].permute(3, 2, 0, 1) if values[0].ndim == 4 else values[0].T
    return dict(zip(("weight", "bias"), values, strict=False))


def assert_equal(theirs: keras.Model, names: dict[str, str], spec, size: int) -> None:
    """``names`` says which of our modules each Keras layer is."""
    state = {
        f"{names[layer.name]}.{key}": tensor
        for layer in theirs.layers
        if layer.weights
        for key, tensor in tensors(layer).items()
    }
    ours = ResNet(spec).double().eval()
    ours.load_state_dict(state)
    x = np.random.default_rng(1).normal(size=(2, size, size, 3))
    expected = torch.from_numpy(keras.ops.convert_to_numpy(theirs(x, training=False)))
    with torch.no_grad():
        result = ours(torch.from_numpy(x).permute(0, 3, 1, 2))
    assert (result - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize("depth", [50, 101, 152])
@pytest.mark.parametrize("version", [1, 2])
def test_applications(depth, version):
    build = getattr(keras.applications, f"ResNet{depth}{'V2' if version == 2 else ''}")
    theirs = scramble(build(weights=None, classifier_activation=None, input_shape=(64, 64, 3)))
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1", "post_bn": "norm", "predictions": "fc"}
    for layer in theirs.layers:
        if layer.weights and "_block" in layer.name:
            stage, block, *rest = layer.name.split("_")
            where = f"layer{int(stage[4:]) - 1}.{int(block[5:]) - 1}"
            if rest[0] == "preact":
                names[layer.name] = f"{where}.bn1"
            elif rest[0] == "0":
                names[layer.name] = f"{where}.downsample.{0 if rest[1] == 'conv' else 1}"
            else:  # V2 counts its norms from the one before the first convolution
                number = int(rest[0]) + (version == 2 and rest[1] == "bn")
                names[layer.name] = f"{where}.{rest[1]}{number}"
    suffix = "_v2" if version == 2 else ""
    spec = get_spec(f"keras_applications_resnet{depth}{suffix}")
    assert_equal(theirs, names, spec, 64)


def builders(names: dict[str, str]):
    """Return functions that apply a new convolution or norm and note which module of ours it is."""

    def conv(x, filters, size, stride, name):
        layer = layers.Conv2D(filters, size, strides=stride, padding="same")
        names[layer.name] = name
        return layer(x)

    def norm(x, name):
        layer = layers.BatchNormalization()
        names[layer.name] = name
        return layer(x)

    return conv, norm


def example_v1(depth: int, front=lambda x: x) -> tuple[keras.Model, dict[str, str]]:
    """conv-bn-relu, then three stages of basic blocks; projections where a stage begins."""
    names: dict[str, str] = {}

    conv, norm = builders(names)

    inputs = layers.Input((32, 32, 3))
    x = layers.ReLU()(norm(conv(front(inputs), 16, 3, 1, "conv1"), "bn1"))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            where = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(norm(conv(x, filters, 3, stride, f"{where}.conv1"), f"{where}.bn1"))
            y = norm(conv(y, filters, 3, 1, f"{where}.conv2"), f"{where}.bn2")
            if stride == 2:
                x = conv(x, filters, 1, 2, f"{where}.downsample.0")
            x = layers.ReLU()(layers.add([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    dense = layers.Dense(10)
    names[dense.name] = "fc"
    return keras.Model(inputs, dense(x)), names


def example_v2(depth: int) -> tuple[keras.Model, dict[str, str]]:
    """bn-relu-conv bottlenecks; the first follows the stem's own activation."""
    names: dict[str, str] = {}

    conv, norm = builders(names)

    def activated(x, name):
        return layers.ReLU()(norm(x, name))

    inputs = layers.Input((32, 32, 3))
    x = activated(conv(inputs, 16, 3, 1, "conv1"), "bn1")
    narrow = 16
    for stage in range(3):
        wide = narrow * (4 if stage == 0 else 2)
        for block in range((depth - 2) // 9):
            where = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            y = x if stage == block == 0 else activated(x, f"{where}.bn1")
            y = conv(y, narrow, 1, stride, f"{where}.conv1")
            y = conv(activated(y, f"{where}.bn2"), narrow, 3, 1, f"{where}.conv2")
            y = conv(activated(y, f"{where}.bn3"), wide, 1, 1, f"{where}.conv3")
            if block == 0:
                x = conv(x, wide, 1, stride, f"{where}.downsample.0")
            x = layers.add([x, y])
        narrow = wide
    x = layers.Flatten()(layers.AveragePooling2D(8)(activated(x, "norm")))
    dense = layers.Dense(10)
    names[dense.name] = "fc"
    return keras.Model(inputs, dense(x)), names


@pytest.mark.parametrize("depth", [8, 20, 32])
def test_example_v1(depth):
    theirs, names = example_v1(depth)
    assert_equal(scramble(theirs), names, get_spec(f"keras_resnet{depth}_v1"), 32)


@pytest.mark.parametrize("depth", [11, 20, 29, 56])
def test_example_v2(depth):
    theirs, names = example_v2(depth)
    assert_equal(scramble(theirs), names, get_spec(f"keras_resnet{depth}_v2"), 32)
