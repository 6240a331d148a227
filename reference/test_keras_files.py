"""Files that Keras itself saved give its logits here, and files written here load in Keras."""

import gc
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import torch
from keras import layers
from test_keras import example_v1, example_v2, scramble

from resnets import ResNet, create_model, get_spec, load_weights, open_model, save_weights
from resnets.errors import CheckpointError
from resnets.readers.content import Content
from resnets.readers.reader import read
from resnets.weights.dialects import Input
from resnets.weights.keras.front import Front
from resnets.weights.keras.keras_variables import to_ours
from resnets.weights.keras.keras_write import write_keras
from resnets.weights.keras.modules import layer_order
from resnets.weights.keras.names import application_names, ordered_names
from resnets.weights.keras.topology import read_topology

FORMATS = ("keras", "weights.h5", "h5")


@pytest.fixture(autouse=True)
def float32():
    """As users have it; the tests of the networks themselves compute in float64."""
    before = keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)
    keras.utils.clear_session()
    gc.collect()


def application(depth: int, version: int, **options) -> keras.Model:
    build = getattr(keras.applications, f"ResNet{depth}{'V2' if version == 2 else ''}")
    options = {"weights": None, "classifier_activation": None, "classes": 10, **options}
    return build(**{"input_shape": (64, 64, 3), **options})


def application_spec(depth: int, version: int):
    suffix = "_v2" if version == 2 else ""
    return replace(
        get_spec(f"keras_applications_resnet{depth}{suffix}"), num_classes=10, image_size=64
    )


def trained(model: keras.Model, side: int) -> keras.Model:
    """A few steps, so that statistics, norms and biases are no longer what they started as."""
    generator = np.random.default_rng(0)
    images = generator.normal(0.5, 1, (24, side, side, 3)).astype("float32")
    labels = generator.integers(0, 10, 24)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    model.fit(images, labels, batch_size=8, epochs=1, verbose=0)
    return model


def save(model: keras.Model, folder, kind: str):
    path = folder / f"model.{kind}"
    model.save_weights(path) if kind == "weights.h5" else model.save(path)
    return path


def config_of(model: keras.Model) -> dict:
    return json.loads(model.to_json())


def logits(model: keras.Model, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, H, W) and what Keras makes of them."""
    x = np.random.default_rng(1).normal(0.5, 1, (2, side, side, 3)).astype("float32")
    values = keras.ops.convert_to_numpy(model(x, training=False))
    return torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(np.array(values))


def network(content: Content, names, spec) -> ResNet:
    model = ResNet(spec).eval()
    model.load_state_dict(to_ours(content.tree, names, spec))
    return model


def assert_same(ours: ResNet, x: torch.Tensor, expected: torch.Tensor) -> None:
    with torch.no_grad():
        difference = (ours(x) - expected).abs().max()
    assert difference <= 1e-4 * expected.abs().max().clamp(min=1)


def names_of(content: Content, spec) -> dict[str, str]:
    """Which layer is which, from what the file has: a config, telling names, or the order."""
    if content.config:
        topology = read_topology(content.config)
        assert topology.spec == spec
        return topology.names
    layers = dict.fromkeys(key.rsplit("/", 1)[0] for key in content.tree)
    return application_names(layers) or ordered_names(content.tree, spec)


def check_reading(model, spec, folder, kinds=FORMATS) -> dict[str, torch.Tensor]:
    x, expected = logits(model, spec.image_size)
    states = []
    for kind in kinds:
        content = read(save(model, folder, kind))
        assert content.format == f"Keras .{kind}"
        ours = network(content, names_of(content, spec), spec)
        assert_same(ours, x, expected)
        states.append(ours.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[key], value) for key, value in states[0].items())
    return states[0]


def check_writing(state, spec, fresh: keras.Model, folder) -> None:
    """Both formats load strictly, agree, and come back bit for bit."""
    ours = ResNet(spec).eval()
    ours.load_state_dict(state)
    x = torch.randn(2, 3, spec.image_size, spec.image_size)
    for kind in ("h5", "weights.h5"):
        path = folder / f"ours.{kind}"
        write_keras(path, state, spec)
        scramble(fresh)
        fresh.load_weights(path)
        values = keras.ops.convert_to_numpy(fresh(x.permute(0, 2, 3, 1).numpy(), training=False))
        assert_same(ours, x, torch.from_numpy(np.array(values)))
        content = read(path)
        again = to_ours(content.tree, names_of(content, spec), spec)
        assert again.keys() == state.keys()
        assert all(torch.equal(again[key], value) for key, value in state.items())


@pytest.mark.parametrize("version", [1, 2])
def test_applications(version, tmp_path):
    spec = application_spec(50, version)
    model = trained(application(50, version), 64)
    state = check_reading(model, spec, tmp_path)
    check_writing(state, spec, application(50, version), tmp_path)


@pytest.mark.parametrize(
    ("depth", "version", "kind"),
    [(101, 1, "keras"), (101, 2, "h5"), (152, 1, "weights.h5"), (152, 2, "keras")],
)
def test_deeper_applications(depth, version, kind, tmp_path):
    spec = application_spec(depth, version)
    check_reading(scramble(application(depth, version)), spec, tmp_path, [kind])


EXAMPLES = [(example_v1, 1, 20), (example_v1, 1, 32), (example_v2, 2, 20), (example_v2, 2, 29)]


@pytest.mark.parametrize(("build", "version", "depth"), EXAMPLES)
def test_example(build, version, depth, tmp_path):
    build(8 if version == 1 else 11)  # so that automatic names do not begin at zero
    spec = get_spec(f"keras_resnet{depth}_v{version}")
    model, names = build(depth)
    assert read_topology(config_of(model)).names == names
    state = check_reading(trained(model, 32), spec, tmp_path)
    check_writing(state, spec, build(depth)[0], tmp_path)


@pytest.mark.parametrize(("build", "version", "depth"), EXAMPLES)
def test_order_of_the_example(build, version, depth):
    model, names = build(depth)
    listed = [names[layer.name] for layer in model.layers if layer.weights]
    assert listed == [
        module for module, _ in layer_order(get_spec(f"keras_resnet{depth}_v{version}"))
    ]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("depth", [50, 101, 152])
def test_order_and_names_of_applications(depth, version):
    listed = [layer.name for layer in application(depth, version).layers if layer.weights]
    names = application_names(listed)
    assert names.keys() == set(listed)
    modules = [module for module, _ in layer_order(application_spec(depth, version))]
    assert [names[layer] for layer in listed] == modules


def older(value):
    """A config as tf.keras 2 writes it."""
    if isinstance(value, list):
        return [older(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":
        return [*value["config"]["keras_history"], {}]
    value = {key: older(item) for key, item in value.items()}
    if "batch_shape" in value:
        value["batch_input_shape"] = value.pop("batch_shape")
    if value.get("inbound_nodes"):
        calls = [call["args"][0] for call in value["inbound_nodes"]]
        value["inbound_nodes"] = [[call] if isinstance(call[0], str) else call for call in calls]
    for name in ("input_layers", "output_layers"):
        if name in value:
            value[name] = [value[name]]
    return value


@pytest.mark.parametrize("build", [lambda: application(50, 1), lambda: example_v2(20)[0]])
def test_config_of_tf_keras(build):
    config = config_of(build())
    assert "inbound_nodes" in str(older(config))
    assert "__keras_tensor__" not in str(older(config))
    assert read_topology(older(config)) == read_topology(config)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("functional", [False, True])
def test_transfer_learning(functional, kind, tmp_path):
    """A pretrained net as one layer of a model with preprocessing and a head of its own."""
    base = scramble(application(50, 2, include_top=False))
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.3), layers.Dense(10)]
    front = layers.Rescaling(1 / 127.5, offset=-1)
    if functional:
        inputs = layers.Input((64, 64, 3))
        x = base(front(inputs), training=False)
        for layer in head:
            x = layer(x)
        model = keras.Model(inputs, x)
    else:
        model = keras.Sequential([layers.Input((64, 64, 3)), front, base, *head])
    x, expected = logits(model, 64)
    content = read(save(trained_optimizer(model), tmp_path, kind))
    config = content.config or config_of(model)
    topology = read_topology(config)
    assert topology.front == Front(Input((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    assert replace(topology.spec, dropout=0.0) == application_spec(50, 2)
    assert_same(network(content, topology.names, topology.spec), x / 127.5 - 1, expected)


def measured(x):
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(2).uniform(20, 240, (8, 32, 32, 3)).astype("float32"))
    return layer(x)


def measured_as_one(x):
    layer = layers.Normalization(axis=None)
    layer.adapt(np.random.default_rng(2).uniform(20, 240, (8, 32, 32, 3)).astype("float32"))
    return layer(layers.RandomFlip()(x))


MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
FRONTS = {
    "caffe": keras.applications.resnet.preprocess_input,
    "tf": keras.applications.resnet_v2.preprocess_input,
    "torch": lambda x: keras.applications.imagenet_utils.preprocess_input(x, mode="torch"),
    "rescaling": lambda x: layers.Rescaling([1 / 50, 1 / 60, 1 / 70], offset=[-1, -1.5, -2])(x),
    "normalization": lambda x: layers.Normalization(mean=255 * MEAN, variance=3600 * STD)(x),
    "measured": measured,
    "measured as one": measured_as_one,
    "arithmetic": lambda x: (x / 255.0 - MEAN) / STD,
    "flip": lambda x: keras.ops.flip(layers.Rescaling(1 / 255)(x), -1),
    "take": lambda x: keras.ops.take(x * (1 / 127.5) - 1, [2, 1, 0], axis=-1),
    "split": lambda x: keras.ops.concatenate(keras.ops.split(x / 255, 3, -1)[::-1], axis=-1),
}


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_preprocessing_within_the_model(front, kind, tmp_path):
    """Pixels go into Keras's model, and through our preprocessing into ours."""
    model = trained(example_v1(8, front)[0], 32)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    expected = keras.ops.convert_to_numpy(model(pixels.astype("float32"), training=False))
    ours = open_model(save(model, tmp_path, kind))
    x = ours.preprocess(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert_same(ours, x, torch.from_numpy(np.array(expected)))


def trained_optimizer(model: keras.Model) -> keras.Model:
    """With variables of an optimizer, which are no weights of the network."""
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def features_only():
    return application(50, 1, include_top=False, input_shape=(None, None, 3))


def pooled_grey():
    inputs = layers.Input((64, 64, 1))
    base = application(50, 1, include_top=False, pooling="avg")
    return keras.Model(inputs, base(layers.Concatenate()([inputs, inputs, inputs])))


def two_layer_head():
    base = application(50, 1, include_top=False, pooling="avg")
    return keras.Sequential([base, layers.Dense(32, "relu"), layers.Dense(3)])


@pytest.mark.parametrize("build", [features_only, pooled_grey, two_layer_head])
def test_without_a_classifier_of_ours(build, tmp_path):
    keras.utils.clear_session()
    content = read(save(scramble(build()), tmp_path, "keras"))
    topology = read_topology(content.config)
    assert "fc" not in topology.names.values()
    assert len(topology.names) == 106
    state = to_ours(content.tree, topology.names, topology.spec)
    missing = ResNet(topology.spec).load_state_dict(state, strict=False).missing_keys
    assert missing == ["fc.weight", "fc.bias"]


def bottleneck(x, filters, stride):
    """A torchvision-like block in Keras: no biases, stride on the 3x3, norms before additions."""
    y = x
    for width, size, step in ((filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)):
        y = layers.ZeroPadding2D(1)(y) if size == 3 else y
        y = layers.Conv2D(width, size, strides=step, use_bias=False)(y)
        y = layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(y)
        y = layers.Activation("relu")(y) if width == filters else y
    if stride > 1 or x.shape[-1] != 4 * filters:
        x = layers.Conv2D(4 * filters, 1, strides=stride, use_bias=False)(x)
        x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x)
    return layers.ReLU()(y + x)


def test_a_net_of_ones_own(tmp_path):
    """resnet50 as torchvision has it, with plus signs for Adds and the residual first."""
    inputs = layers.Input((64, 64, 3))
    x = layers.Conv2D(64, 7, strides=2, use_bias=False)(layers.ZeroPadding2D(3)(inputs))
    x = layers.Activation("relu")(layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    for stage, count in enumerate((3, 4, 6, 3)):
        for block in range(count):
            x = bottleneck(x, 64 << stage, 2 if stage and not block else 1)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    model = scramble(keras.Model(inputs, outputs))
    check_reading(
        model, replace(get_spec("resnet50"), num_classes=10, image_size=64), tmp_path, ["keras"]
    )


def test_norm_without_scale(tmp_path):
    """Whether the first of three variables is gamma or beta is told by the config."""
    inputs = layers.Input((32, 32, 3))

    def conv(x, filters, size=3, stride=1):
        return layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)

    def norm(x, **options):
        return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, **options)(x)

    x = layers.ReLU()(norm(conv(inputs, 16), scale=False))
    y = layers.ReLU()(norm(conv(x, 16), center=False))
    y = norm(conv(y, 16), center=False, scale=False)
    x = layers.ReLU()(layers.add([x, y]))
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    for layer in model.layers:
        layer.set_weights(
            [np.random.default_rng(0).uniform(0.5, 1, v.shape) for v in layer.get_weights()]
        )
    spec = replace(get_spec("resnet8"), depths=(1,), widths=(16,), shortcut="B")
    check_reading(model, spec, tmp_path, ["keras", "h5"])
    with pytest.raises(CheckpointError, match="3 variables") as error:
        read(save(model, tmp_path, "weights.h5"))
    assert "model.save" in error.value.hint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("VGG16", "no residual network: none of its 23 layers"),
        ("MobileNetV2", 'ReLU "Conv1_relu" with max_value 6'),
        ("DenseNet121", "no residual network"),
        ("ConvNeXtTiny", "ConvNeXt|LayerScale|LayerNormalization|Conv2D"),
    ],
)
def test_other_architectures_are_refused(name, message):
    model = getattr(keras.applications, name)(weights=None, include_top=True)
    with pytest.raises(CheckpointError, match=message):
        read_topology(config_of(model))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype, tmp_path):
    inputs = layers.Input((8, 8, 3), dtype=dtype)
    model = keras.Model(inputs, layers.Conv2D(4, 3, dtype=dtype)(inputs))
    for kind in FORMATS:
        if (dtype, kind) == ("bfloat16", "h5"):
            continue  # Keras cannot read its own
        tree = read(save(model, tmp_path, kind)).tree
        (kernel,) = (tensor for key, tensor in tree.items() if key.endswith("kernel"))
        assert kernel.dtype == getattr(torch, dtype)
        expected = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[1].kernel, "float64"))
        assert torch.equal(kernel.double(), torch.from_numpy(np.array(expected)))


def test_files_open_without_being_told_what_they_are(tmp_path):
    """The whole road: file, reader, topology, network."""
    for model, side in ((example_v2(20)[0], 32), (application(50, 1), 64)):
        x, expected = logits(trained(model, side), side)
        for kind in ("keras", "h5"):
            assert_same(open_model(save(model, tmp_path, kind)), x, expected)
    # Into the paper's net, which has no biases: they are folded into its norms.
    v1 = create_model("resnet50_v1", num_classes=10).eval()
    report = load_weights(v1, tmp_path / "model.keras")
    assert any("folded" in how for how in report.adapted.values())
    assert_same(v1, x, expected)
    with pytest.raises(CheckpointError, match="bottleneck_stride 1x1 for 3x3"):
        load_weights(create_model("resnet50", num_classes=10), tmp_path / "model.keras")


def test_our_v1_goes_into_keras_applications(tmp_path):
    """Zero biases, and variances that make up for another epsilon."""
    ours = create_model("resnet50_v1", num_classes=10).eval()
    with torch.no_grad():
        for module in ours.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    theirs = application(50, 1)
    for kind in ("h5", "weights.h5"):
        save_weights(ours, tmp_path / f"ours.{kind}", dialect="keras")
        scramble(theirs)
        theirs.load_weights(tmp_path / f"ours.{kind}")
        assert_same(ours, *logits(theirs, 64))
    with pytest.raises(CheckpointError, match="stride on the 3x3"):
        save_weights(create_model("resnet50"), tmp_path / "x.h5", dialect="keras")
