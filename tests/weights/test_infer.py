"""Which net tensors look like: every net of the zoo, parts of nets, and what is no net."""

from dataclasses import fields, replace

import pytest
import torch

from every_model import each_model
from resnets import ResNet, get_spec
from resnets.spec import Spec
from resnets.weights.infer import UNSEEN, looks_like
from resnets.zoo import ZOO


def state(spec: Spec) -> dict[str, torch.Tensor]:
    """A network's tensors, as shapes without values."""
    with torch.device("meta"):
        return ResNet(spec).state_dict()


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def unseen(spec: Spec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in (*UNSEEN, "shortcut")}


@pytest.mark.parametrize("name", each_model())
def test_every_net_of_the_zoo(name):
    spec, tensors = ZOO[name], state(ZOO[name])
    guess = looks_like(tensors)
    assert name in guess.names
    assert guess.name == guess.names[0]
    assert shapes(state(guess.spec)) == shapes(tensors)
    # Nets of these names differ only in what the guess calls unknown.
    for other in guess.names:
        differing = {
            f.name
            for f in fields(Spec)
            if getattr(ZOO[other], f.name) != getattr(ZOO[guess.name], f.name)
        } - {"name", "norm_momentum"}
        assert differing <= set(guess.unknown), other
    # Told what cannot be seen, it is the very net.
    told = looks_like(tensors, unseen(spec))
    assert (told.name, told.spec) == (name, spec)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet101", "resnet101, stride on the 1x1 or 3x3 unknown, 1000 classes"),
        ("resnet18", "resnet18, 1000 classes"),
        ("resnet20", "resnet20, option A or no shortcuts unknown, 10 classes"),
        ("plain20", "resnet20, option A or no shortcuts unknown, 10 classes"),
        ("resnet20_b", "resnet20_b, 10 classes"),
        ("keras_resnet20_v1", "keras_resnet20_v1, 10 classes"),
    ],
)
def test_words(name, words):
    assert looks_like(state(get_spec(name))).words == words


def test_classes_and_channels():
    guess = looks_like(state(replace(get_spec("resnet50"), num_classes=10, in_channels=4)))
    assert guess.words == (
        "resnet50, stride on the 1x1 or 3x3 unknown, 4 input channels, 10 classes"
    )
    assert (guess.spec.num_classes, guess.spec.in_channels) == (10, 4)


@pytest.mark.parametrize(
    "name", ["resnet98_b", "plain14", "wrn22_2", "resnet26", "keras_resnet38_v2"]
)
def test_families_beyond_the_table(name):
    spec = get_spec(name)
    assert name not in ZOO
    assert name in looks_like(state(spec)).names


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnext50_32x4d", "resnet50d", "wrn16_8"]
)
def test_a_backbone_without_classifier(name):
    body = {k: v for k, v in state(get_spec(name)).items() if not k.startswith("fc.")}
    guess = looks_like(body)
    assert guess.name == name
    assert "num_classes" in guess.unknown
    assert guess.words.endswith("no classifier")


def test_the_first_stages():
    part = {
        key: tensor
        for key, tensor in state(get_spec("resnet152")).items()
        if not key.startswith(("layer4", "fc."))
    }
    guess = looks_like(part)
    assert guess.name == "resnet152"
    assert guess.spec.depths == (3, 8, 36, 3)
    assert "its first 3 of 4 stages" in guess.words


def test_a_net_of_no_name():
    spec = Spec("mine", "bottleneck", (1, 2), (24, 40), stem_width=20, groups=4, width_per_group=16)
    guess = looks_like(state(spec))
    assert (guess.name, guess.names) == ("custom", ())
    assert guess.spec == replace(spec, groups=4)
    assert guess.words.startswith("bottleneck blocks 1-2 of no named net")


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "se", "attention_reduction": 8},
        {"attention": "eca"},
        {"norm": "group"},
        {"projection_norm": False},
        {"conv_bias": "all"},
        {"gate": "exclusive"},
        {"stem": "deep_tiered"},
        {"stem": "3x3", "image_size": 32},
        {"activation_order": "preactivation"},
        {"activation_order": "preactivation", "stem_activation": True},
        {"activation_order": "preactivation", "conv_bias": "without_norm"},
        {"shortcut": "C"},
        {"shortcut": "D"},
        {"out_channels": (48, 96)},
        {"width_per_group": 128},
    ],
    ids=str,
)
def test_one_choice_at_a_time(changes):
    wider = {"out_channels", "width_per_group", "attention_reduction"} & changes.keys()
    block = "bottleneck" if wider else "basic"
    spec = Spec("mine", block, (2, 3), (32, 64), stem_width=32, num_classes=5, **changes)
    guess = looks_like(state(spec))
    assert guess.spec == spec
    assert guess.names == ()


def test_hints_decide_and_are_told():
    tensors = state(get_spec("resnet50"))
    assert looks_like(tensors, {"bottleneck_stride": "1x1"}).name == "resnet50_v1"
    guess = looks_like(tensors, {"bottleneck_stride": "3x3", "norm_eps": 0.001})
    assert guess.name == "resnet50"
    assert guess.words == "resnet50, norm_eps 0.001, 1000 classes"
    assert guess.spec == replace(get_spec("resnet50"), norm_eps=0.001)
    guess = looks_like(state(get_spec("resnet20")), {"shortcut": "A", "zero_pad": "both"})
    assert guess.words == "resnet20, zero_pad both, 10 classes"


def test_pre_activation_without_a_last_norm_is_no_net_of_ours():
    """kuangliu's pre-activation nets."""
    spec = replace(get_spec("resnet18_cifar"), activation_order="preactivation")
    tensors = {k: v for k, v in state(spec).items() if not k.startswith("norm.")}
    guess = looks_like(tensors)
    assert guess.spec is None
    assert "without a norm after the last addition" in guess.words


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("layer1.0.conv1.weight", None),
        ("layer1.1.conv2.weight", None),
        ("layer2.0.conv1.weight", None),
        ("layer1.0.conv2.weight", (64,)),
        ("layer1.0.conv2.weight", (0, 64, 3, 3)),
        ("layer99999.0.conv1.weight", (64, 64, 3, 3)),
        ("layer1.99999.conv1.weight", (64, 64, 3, 3)),
        ("layer1.0.conv3.weight", (64, 64, 3, 3)),
        ("layer1.0.se.fc1.weight", (5, 64, 1, 1)),
        ("conv1.weight", (64, 3, 5, 5)),
        ("conv1.weight", ()),
        ("fc.weight", ()),
        ("norm.weight", (64,)),
    ],
)
def test_damaged_nets_are_no_crash(key, shape):
    tensors = state(get_spec("resnet18"))
    if shape is None:
        tensors = {k: v for k, v in tensors.items() if not k.startswith(key.rpartition(".")[0])}
    else:
        tensors[key] = torch.empty(shape, device="meta")
    assert looks_like(tensors).words


def test_no_net_at_all():
    assert looks_like({}).spec is None
    assert looks_like({"fc.weight": torch.zeros(2, 3)}).spec is None
