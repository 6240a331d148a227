"""What a Keras model does to its images in front of the network becomes the preprocessing."""

import copy
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_keras import Sketch, _places, archive, example, numbered, older, put, variables

from resnets import ResNet
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.dialects import IMAGENET_INPUT, Input
from resnets.weights.keras.front import read_front
from resnets.weights.keras.graph import build_graph
from resnets.weights.keras.topology import read_topology
from resnets.weights.stated_spec import MALFORMED

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE = (103.939, 116.779, 123.68)
ELLIPSIS = {"class_name": "__ellipsis__", "config": {}}


def tensor(name: str, output: int = 0) -> dict:
    """What an operation of Keras 3 reads."""
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, output]}}


def constant(*values: float, kind: str = "__tensor__") -> dict:
    """As float32 numbers are written, with the digits of the nearest one."""
    value = np.array(values, "f4").reshape(1, 1, 1, -1).tolist()
    return {"class_name": kind, "config": {"value": value, "dtype": "float32"}}


def reverse(kind: str = "__slice__") -> dict:
    parts = {"start": None, "stop": None, "step": -1}
    return {"class_name": kind, "config": parts} if kind else parts


def operation(sketch: Sketch, kind: str, *arguments, **config) -> str:
    """A layer of Keras 3 that is an operation on layers' outputs and constants."""
    name = sketch(kind, **config)
    sketch.layers[-1]["inbound_nodes"] = [{"args": list(arguments), "kwargs": {}}]
    return name


def function(sketch: Sketch, name: str, x, kind: str = "TFOpLambda", /, **named) -> str:
    """The same in tf.keras 2."""
    made = sketch(kind, function=name)
    first = x if isinstance(x, list) else [x, 0, 0]
    several = isinstance(first[0], list)
    call = [[*one, named] for one in first] if several else [*first, named]
    sketch.layers[-1]["inbound_nodes"] = [call]
    return made


def getitem(sketch, x, *index) -> str:
    return operation(sketch, "GetItem", tensor(x), [ELLIPSIS, *index])


def caffe_mode(sketch, x):
    """keras.applications.resnet.preprocess_input in Keras 3."""
    planes = [tensor(getitem(sketch, x, number)) for number in (2, 1, 0)]
    x = operation(sketch, "Stack", planes, axis=-1)
    return operation(sketch, "Add", tensor(x), constant(*(-value for value in CAFFE)))


def caffe_mode_2(sketch, x):
    """The same in tf.keras 2."""
    spec = [{"class_name": "__ellipsis__"}, reverse("")]
    x = function(sketch, "__operators__.getitem", x, "SlicingOpLambda", slice_spec=spec)
    bias = np.array([-value for value in CAFFE], "f4").tolist()
    return function(sketch, "nn.bias_add", x, bias=bias, data_format="NHWC", name=None)


def tensorflow_mode(sketch, x):
    x = operation(sketch, "TrueDivide", tensor(x), 127.5)
    return operation(sketch, "Subtract", tensor(x), 1.0)


def tensorflow_mode_2(sketch, x):
    x = function(sketch, "math.truediv", x, y=127.5, name=None)
    return function(sketch, "math.subtract", x, y=1.0, name=None)


def torch_mode(sketch, x):
    x = operation(sketch, "TrueDivide", tensor(x), 255.0)
    x = operation(sketch, "Add", tensor(x), constant(*(-value for value in MEAN)))
    return operation(sketch, "TrueDivide", tensor(x), constant(*STD))


def gathered_2(sketch, x):
    """As TensorFlow 2.15 writes it."""
    x = function(sketch, "math.truediv", x, y=255.0, name=None)
    arguments = {"indices": [2, 1, 0], "validate_indices": None, "axis": -1, "batch_dims": 0}
    return function(sketch, "compat.v1.gather", x, **arguments, name=None)


def concatenated_2(sketch, x):
    x = function(sketch, "split", x, num_or_size_splits=3, axis=-1)
    x = function(sketch, "concat", [[x, 0, 2], [x, 0, 1], [x, 0, 0]], axis=-1)
    name = sketch("TFOpLambda", function="math.multiply")
    sketch.layers[-1]["inbound_nodes"] = [["_CONSTANT_VALUE", -1, 0.02, {"y": [x, 0, 0]}]]
    return name


def rescaling(sketch, x):
    return sketch("Rescaling", sketch("RandomFlip", x), scale=1 / 255, offset=0.0)


def rescaling_each(sketch, x):
    scales, offsets = [1 / 50, 1 / 60, 1 / 70], [-1.0, -1.5, -2.0]
    return sketch("Rescaling", x, scale=scales, offset=offsets)


def stated_normalization(sketch, x):
    x = sketch("Rescaling", x, scale=1 / 255, offset=0)
    variance = [value**2 for value in STD]
    return sketch("Normalization", x, axis=[-1], mean=list(MEAN), variance=variance, invert=False)


def measured_normalization(sketch, x):
    return sketch("Normalization", x, axis=[-1], mean=None, variance=None, invert=False)


def numpy_arithmetic(sketch, x):
    x = operation(sketch, "Cast", tensor(x), dtype="float32")
    x = operation(sketch, "Multiply", constant(1 / 255, kind="__numpy__"), tensor(x))
    x = operation(sketch, "Subtract", tensor(x), constant(*MEAN, kind="__numpy__"))
    return operation(sketch, "Divide", tensor(x), constant(*STD, kind="__numpy__"))


MEASURED = {
    "mean": np.array([120.5, 110.25, 100.0], "f4"),
    "variance": np.array([3600.0, 3025.0, 2500.0], "f4"),
    "count": np.int64(12),
}
# What is in front of the network, and what it computes of an image (N, H, W, C) in 0..255.
FRONTS = [
    (caffe_mode, lambda x: x[..., ::-1] - np.array(CAFFE)),
    (caffe_mode_2, lambda x: x[..., ::-1] - np.array(CAFFE)),
    (tensorflow_mode, lambda x: x / 127.5 - 1),
    (tensorflow_mode_2, lambda x: x / 127.5 - 1),
    (gathered_2, lambda x: x[..., ::-1] / 255),
    (concatenated_2, lambda x: x[..., ::-1] * 0.02),
    (torch_mode, lambda x: (x / 255 - MEAN) / STD),
    (rescaling, lambda x: x / 255),
    (rescaling_each, lambda x: x / [50, 60, 70] - [1, 1.5, 2]),
    (stated_normalization, lambda x: (x / 255 - MEAN) / STD),
    (measured_normalization, lambda x: (x - [120.5, 110.25, 100.0]) / [60, 55, 50]),
    (numpy_arithmetic, lambda x: (x / 255 - MEAN) / STD),
]


def saved(folder, kind: str, front=None):
    """A whole model as Keras saves it, and the names of its layers."""
    sketch = Sketch(tf_keras=bool(front) and front.__name__.endswith("_2"), first_number=4)
    model, names = example(sketch, 8, {"front": front} if front else {})
    stored = variables(names)
    if front is measured_normalization:
        stored = {"normalization_4": MEASURED} | stored
    data = numbered(model, stored) if kind == "keras" else older(stored, model)
    return put(folder, archive(model, data) if kind == "keras" else data, f"m.{kind}")


def network(checkpoint) -> ResNet:
    model = ResNet(checkpoint.spec).eval()
    model.load_state_dict(checkpoint.tensors)
    return model


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize(("front", "computes"), FRONTS, ids=lambda value: value.__name__)
def test_same_logits_of_pixels(front, computes, kind, tmp_path):
    """The network after our preprocessing is the bare network after theirs."""
    bare = network(open_checkpoint(saved(tmp_path, kind)))
    checkpoint = open_checkpoint(saved(tmp_path, kind, front))
    assert checkpoint.preprocess == Preprocess(
        3, 32, 32, checkpoint.state.input.mean, checkpoint.state.input.std
    )
    assert checkpoint.state.notes == ()
    assert not checkpoint.state.unexpected
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    theirs = torch.from_numpy(np.ascontiguousarray(computes(pixels.astype("f8")))).float()
    ours = checkpoint.preprocess(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    with torch.no_grad():
        expected = bare(theirs.permute(0, 3, 1, 2))
        result = network(checkpoint)(ours)
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


def read(front, **options):
    return read_topology(example(Sketch(**options), 8, {"front": front})[0]).front


def test_constants_are_as_they_were_written():
    assert read(torch_mode).input == IMAGENET_INPUT
    assert read(stated_normalization).input == IMAGENET_INPUT
    assert read(rescaling).input == Input((0.0,) * 3, (1.0,) * 3)
    assert read(tensorflow_mode).input == Input((0.5,) * 3, (0.5,) * 3)
    found = read(caffe_mode)
    assert (found.is_bgr, found.notes) == (True, ())
    assert found.input.bgr
    assert found.input.mean == pytest.approx([value / 255 for value in CAFFE[::-1]], rel=1e-9)
    assert found.input.std == pytest.approx([1 / 255] * 3, rel=1e-9)


FLIPS = {
    "slice": lambda s, x: getitem(s, x, reverse()),
    "whole index": lambda s, x: operation(
        s,
        "GetItem",
        tensor(x),
        [{"class_name": "__slice__", "config": dict.fromkeys(("start", "stop", "step"))}] * 3
        + [reverse()],
    ),
    "flip": lambda s, x: operation(s, "Flip", tensor(x), axis=-1),
    "take": lambda s, x: operation(s, "Take", tensor(x), [2, 1, 0], axis=-1),
    "split": lambda s, x: operation(
        s,
        "Concatenate",
        [
            tensor(part, n)
            for part in [operation(s, "Split", tensor(x), indices_or_sections=3, axis=-1)]
            for n in (2, 1, 0)
        ],
        axis=-1,
    ),
}


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_blue_first_without_constants(flip, tmp_path):
    """The network is made for red first, as all here are; what is not known stays so."""
    bare = open_checkpoint(saved(tmp_path, "keras"))
    flipped = open_checkpoint(saved(tmp_path, "keras", flip))
    assert flipped.preprocess is None
    ours, theirs = (c.tensors["conv1.weight"] for c in (flipped, bare))
    assert torch.equal(ours, theirs.flip(1))
    assert flipped.state.adapted == {
        "conv1.weight": "input channels from blue-green-red to red first"
    }


def test_reversed_flips_are_none():
    found = read(lambda s, x: FLIPS["flip"](s, FLIPS["take"](s, rescaling(s, x))))
    assert found.input == Input((0.0,) * 3, (1.0,) * 3)
    assert not found.is_bgr


def test_pixels_in_0_to_1():
    """What was measured of images in 0..1 says so by its size."""
    found = read(lambda s, x: sketch_normalization(s, x, list(MEAN), [value**2 for value in STD]))
    assert found.input == IMAGENET_INPUT


def sketch_normalization(sketch, x, mean, variance, **config) -> str:
    return sketch(
        "Normalization", x, **{"axis": [-1], "mean": mean, "variance": variance, **config}
    )


def test_layers_that_only_augment():
    def front(sketch, x):
        for kind in ("RandomFlip", "RandomRotation", "RandomContrast", "GaussianNoise"):
            x = sketch(kind, x)
        return x

    found = read(front)
    assert (found.input, found.notes) == (None, ())


@pytest.mark.parametrize(
    ("config", "frame"),
    [
        ({"width": 32}, (32, 32, "squash", "bilinear")),
        ({"width": 32, "crop_to_aspect_ratio": True}, (32, 32, "crop", "bilinear")),
        ({"width": 32, "interpolation": "bicubic"}, (32, 32, "squash", "bicubic")),
        ({"width": 40}, ()),
        ({"width": 32, "interpolation": "nearest"}, ()),
        ({"width": 32, "pad_to_aspect_ratio": True}, ()),
    ],
)
def test_sizes_are_used_where_they_can_be_and_named(config, frame):
    found = read(lambda s, x: rescaling(s, s("Resizing", x, height=32, **config)))
    assert found.input == Input((0.0,) * 3, (1.0,) * 3)
    assert tuple(found.frame.values()) == frame
    what = "is not used: images are scaled and cropped as model.preprocess says"
    if frame:
        what = f"is what model.preprocess does (32 x 32, {frame[2]}, {frame[3]}), antialiased"
    assert found.notes == (f'Resizing "resizing" in front of its first convolution {what}',)


def test_several_sizes_or_unknown_constants_are_named_only():
    for build in (
        lambda s, x: s("CenterCrop", s("Resizing", rescaling(s, x), height=40, width=40)),
        lambda s, x: s("Whatever", s("Resizing", x, height=32, width=32)),
    ):
        found = read(build)
        assert found.frame == {}
        assert 'Resizing "resizing" in front of its first convolution is not used' in found.notes[0]


def test_a_resizing_is_the_size_of_the_preprocessing(tmp_path):
    front = {"front": lambda s, x: rescaling(s, s("Resizing", x, height=48, width=48))}
    model, names = example(Sketch(), changes=front)
    path = put(tmp_path, archive(model, numbered(model, variables(names))), "m.keras")
    found = open_checkpoint(path).preprocess
    assert found == Preprocess(3, 48, 48, (0.0,) * 3, (1.0,) * 3, fit="squash")


def mean_image(*shape: int):
    """A front that subtracts another number from each pixel."""
    value = np.random.default_rng(0).uniform(0, 255, shape).tolist()
    image = {"class_name": "__numpy__", "config": {"value": value, "dtype": "float64"}}
    return lambda sketch, x: operation(sketch, "Subtract", tensor(x), image)


@pytest.mark.parametrize(
    ("front", "named"),
    [
        (lambda s, x: s("Whatever", x), 'Whatever "whatever"'),
        (lambda s, x: sketch_normalization(s, x, None, None), "does not have its mean"),
        (mean_image(2, 3, 3), "other than a mean and a deviation of each channel"),
        (mean_image(32, 32, 3), 'Subtract "subtract"'),
        (mean_image(64, 64, 3), "a constant of 12,288 numbers"),
        (lambda s, x: operation(s, "Multiply", tensor(x), tensor(x)), 'Multiply "multiply"'),
        (lambda s, x: operation(s, "TrueDivide", 1.0, tensor(x)), 'TrueDivide "true_divide"'),
        (lambda s, x: operation(s, "Multiply", tensor(x), 0.0), 'Multiply "multiply"'),
        (lambda s, x: operation(s, "Multiply", tensor(x), float("nan")), 'Multiply "multiply"'),
        (lambda s, x: operation(s, "Flip", tensor(x), axis=1), 'Flip "flip"'),
        (lambda s, x: operation(s, "GetItem", tensor(x), [{"a": 1}]), 'GetItem "get_item"'),
        (lambda s, x: operation(s, "GetItem", tensor(x), [[0, 1]]), 'GetItem "get_item"'),
        (lambda s, x: operation(s, "Cast", tensor(x), dtype="uint8"), 'Cast "cast"'),
        (lambda s, x: operation(s, "Add", tensor(x)), 'Add "add"'),
        (lambda s, x: operation(s, "Take", tensor(x), [0, 0, 0], axis=-1), "mix the channels"),
        (lambda s, x: operation(s, "Take", tensor(x), [1, 0, 2], axis=-1), "mix the channels"),
        (lambda s, x: operation(s, "Subtract", 1.0, tensor(x)), "no images are divided by these"),
        (
            lambda s, x: sketch_normalization(s, x, [123.0, 117.0, 104.0], [0.05, 0.05, 0.05]),
            "a mean of pixels in 0..255 and a deviation of some in 0..1",
        ),
    ],
)
def test_what_is_not_understood_is_named(front, named):
    """It stands in the way of nothing else: the network is read."""
    topology = read_topology(example(Sketch(), 8, {"front": front})[0])
    assert topology.front.input is None
    (note,) = topology.front.notes
    assert named in note


def test_results_do_not_grow_without_end():
    """Each of these would double the channels: 2 to the power of 60."""

    def front(sketch, x):
        for _ in range(60):
            x = operation(sketch, "Concatenate", [tensor(x), tensor(x)], axis=-1)
        return x

    (note,) = read(front).notes
    assert "very many channels" in note


def test_channels_are_not_taken_many_times():
    (note,) = read(lambda s, x: operation(s, "Take", tensor(x), [0] * 100_000, axis=0)).notes
    assert "taken several times" in note


def test_all_results_together_are_few():
    """Each is kept until the end, and of those that are broadcast a config can ask for many."""
    large = np.ones((200, 2, 3, 3)).tolist()

    def front(sketch, x):
        for _ in range(300):
            x = operation(sketch, "Add", tensor(x), large)
        return x

    (note,) = read(front).notes
    assert 'is not understood (Add "add_277")' in note


def test_a_large_constant_is_not_computed_with():
    def front(sketch, x):
        return operation(sketch, "Add", tensor(x), [[0.0] * 3] * 100_000)

    (note,) = read(front).notes
    assert "a constant of 300,000 numbers" in note


def test_channels_first():
    """A constant of each channel has the shape (3, 1, 1) there."""

    def front(sketch, x):
        mean = np.array(MEAN).reshape(1, 3, 1, 1).tolist()
        x = operation(sketch, "TrueDivide", tensor(x), 255.0)
        return operation(sketch, "Subtract", tensor(x), mean)

    sketch = Sketch()
    model, _ = example(sketch, 8, {"front": front})
    for layer in sketch.layers:
        if layer["class_name"] == "Conv2D":
            layer["config"]["data_format"] = "channels_first"
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"] = [None, 3, 32, 32]
    assert read_topology(model).front.input == Input(MEAN, (1.0, 1.0, 1.0))


def test_numbers_in_front_of_layers_in_tf_keras():
    """1.0 - x, of which the first argument is no layer."""

    def front(sketch, x):
        x = function(sketch, "math.truediv", x, y=255.0)
        name = sketch("TFOpLambda", function="math.subtract")
        call = ["_CONSTANT_VALUE", -1, 1.0, {"y": [x, 0, 0], "name": None}]
        sketch.layers[-1]["inbound_nodes"] = [call]
        return name

    (note,) = read(front, tf_keras=True).notes
    assert "no images are divided by these" in note


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JUNK |= st.sampled_from(
    [
        *(
            [],
            {},
            [None],
            [["a", 0, 0]],
            ["a", 1, 2, {}],
            "Concatenate",
            "GetItem",
            "Split",
            10**400,
        ),
        *(constant(1, 2), tensor("input_layer", 5), reverse(), {"class_name": "__tensor__"}),
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([front for front, _ in FRONTS]),
    st.lists(st.tuples(st.integers(0, 10**9), JUNK), min_size=1, max_size=3),
)
def test_mutated_configs(front, mutations):
    """Whatever stands in front of a network, it is understood, named or refused."""
    sketch = Sketch(tf_keras=front.__name__.endswith("_2"))
    x = front(sketch, sketch.input(32, 32, 3))
    sketch.conv(x, 8)
    before = copy.deepcopy(sketch.layers[1:-1])
    for number, value in mutations:
        places = list(_places(before))
        container, key = places[number % len(places)]
        container[key] = copy.deepcopy(value)
    sketch.layers[1:-1] = before
    graph, entries = {}, ()
    with suppress(CheckpointError, *MALFORMED):
        graph = build_graph(sketch.model("conv2d"))
        entries = graph["conv2d"].inputs
    if len(entries) == 1:
        with suppress(CheckpointError):
            found = read_front(graph, entries[0], 3, {})
            assert found.input is None or all(value > 0 for value in found.input.std)
