"""Containers and prefixes: what lies around a network in other people's files."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch

from resnets import ResNet, create_model
from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.containers import unwrap as raw
from resnets.weights.translate import to_dialect, translate

SPEC = Spec("small", depths=(1, 1), widths=(4, 8), stem="3x3", stem_width=4, num_classes=10)
NETWORK = ResNet(SPEC).state_dict()
PAIR = {"teacher": "resnet14_b", "student": "resnet8_b"}
AVERAGE = {key: tensor + 1 for key, tensor in NETWORK.items()}
OPTIMIZER = {
    "state": {0: {"exp_avg": torch.ones(4, 3, 3, 3), "step": torch.tensor(1.0)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
}


def unwrap(tree, *, container=None, ema=False):
    return translate(raw(tree, container=container, ema=ema), ema=ema)


def beneath(prefix: str, tensors: dict = NETWORK) -> dict:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def is_network(state, tensors: dict = NETWORK) -> bool:
    return state.tensors.keys() == tensors.keys() and all(
        state.tensors[key].equal(tensors[key]) for key in tensors
    )


@pytest.mark.parametrize(
    "container",
    [
        "state_dict",
        "model",
        "model_state",
        "net",
        "model_state_dict",
        "network",
        "params",
        "module",
    ],
)
def test_a_known_container_is_taken_off_and_stated(container):
    tree = {container: NETWORK, "optimizer": OPTIMIZER, "epoch": 3, "args": {"lr": 0.1}}
    state = unwrap(tree)
    assert is_network(state)
    assert state.container == container
    assert state.prefix == ""
    assert state.ignored == ("optimizer", "epoch", "args")


def test_a_bare_dict_is_a_network_and_stays_as_it_is():
    state = unwrap(NETWORK)
    assert is_network(state)
    assert (state.container, state.prefix, state.ignored) == ("", "", ())


@pytest.mark.parametrize("tree", [[NETWORK], [[NETWORK]], [{"state_dict": NETWORK}], [[], NETWORK]])
def test_lists_are_looked_into(tree):
    assert is_network(unwrap(tree))


@pytest.mark.parametrize("average", ["ema", "state_dict_ema", "model_ema", "ema_state"])
def test_the_choice_between_weights_and_average_is_stated(average):
    averaged = {"n_averaged": torch.tensor(5), **beneath("module.", AVERAGE)}
    tree = {"state_dict": NETWORK, average: averaged, "optimizer": OPTIMIZER}
    plain = unwrap(tree)
    assert is_network(plain)
    assert plain.container == f"state_dict (not {average})"
    assert plain.ignored == (average, "optimizer")
    ema = unwrap(tree, ema=True)
    assert is_network(ema, AVERAGE)
    assert ema.container == f"{average} (not state_dict)"
    assert ema.prefix == "module."
    assert ema.ignored == ("state_dict", "optimizer", "n_averaged")


def test_an_average_alone_is_taken_and_one_that_is_missing_is_an_error():
    assert is_network(unwrap({"ema": {"model": AVERAGE}}), AVERAGE)
    with pytest.raises(CheckpointError, match="no running average"):
        unwrap({"model": NETWORK}, ema=True)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "backbone.",
        "encoder.",
        "encoder_q.",
        "student.",
        "teacher.",
        "base_encoder.",
        "net.",
        "network.",
        "resnet.",
        "module.model.backbone.",
        "model.model.module.encoder.",
        "backbone.0.body.",
    ],
)
def test_any_chain_of_prefixes_is_taken_off_and_stated(prefix):
    state = unwrap({"state_dict": beneath(prefix)})
    assert is_network(state)
    assert sorted(state.prefix.split(".")) == sorted(prefix.split("."))


def test_a_compiled_part_inside_a_network_is_found():
    tensors = {key.replace("layer1.", "layer1._orig_mod."): t for key, t in NETWORK.items()}
    state = unwrap(tensors)
    assert is_network(state)
    assert state.dialect == "torchvision"


def test_moco_takes_the_query_encoder_and_says_so():
    tree = {
        "arch": "resnet50",
        "state_dict": {
            **beneath("module.encoder_q."),
            **beneath("module.encoder_k.", AVERAGE),
            "module.queue": torch.ones(128, 65536 // 64),
            "module.queue_ptr": torch.tensor([0]),
        },
    }
    state = unwrap(tree)
    assert is_network(state)
    assert state.container == "state_dict, encoder_q (not encoder_k)"
    assert state.prefix == "module.encoder_q."
    assert state.ignored == (
        "arch",
        "module.queue",
        "module.queue_ptr",
        f"module.encoder_k ({len(NETWORK)} tensors)",
    )
    other = unwrap(tree, container="encoder_k")
    assert is_network(other, AVERAGE)
    assert other.prefix == "module.encoder_k."


def test_an_average_in_the_same_dict_is_left_aside():
    tensors = {**beneath("model."), **beneath("ema_model.module.", AVERAGE)}
    state = unwrap({"state_dict": tensors})
    assert is_network(state)
    assert state.container == "state_dict, model (not ema_model)"


def test_moco_v3_keeps_the_predictor_as_keys_of_its_own():
    predictor = {"predictor.0.weight": torch.ones(4, 4)}
    tree = {"state_dict": {**beneath("base_encoder."), **beneath("momentum_encoder."), **predictor}}
    state = unwrap(tree)
    assert is_network(state)
    assert state.unexpected == ("predictor.0.weight",)


def test_simsiam_heads_are_not_dropped():
    heads = {
        "module.encoder.fc.3.weight": torch.ones(4, 4),
        "module.predictor.0.weight": torch.ones(4, 4),
    }
    tensors = {k: v for k, v in beneath("module.encoder.").items() if ".fc." not in k}
    state = unwrap({"state_dict": {**tensors, **heads}})
    assert state.unexpected == tuple(heads)
    assert state.prefix == "module.encoder."


def test_dino_takes_the_teacher_and_keeps_its_head():
    head = {"head.mlp.0.weight": torch.ones(4, 4)}  # which reads another width here
    tree = {
        "student": {**beneath("module.backbone."), "module.head.mlp.0.weight": torch.ones(4, 4)},
        "teacher": {**beneath("backbone.", AVERAGE), **head},
        "dino_loss": {"center": torch.ones(1, 8)},
        "optimizer": OPTIMIZER,
    }
    state = unwrap(tree)
    assert is_network(state, AVERAGE)
    assert state.unexpected == tuple(head)
    assert state.container == "teacher (not student, dino_loss)"
    assert is_network(unwrap(tree, container="student"))


@pytest.mark.parametrize("apart", [True, False])
def test_a_student_that_is_another_network_than_its_teacher_is_asked_for(apart):
    """As in files of knowledge distillation, whose teachers are no averages of their students."""
    nets = {word: create_model(name).state_dict() for word, name in PAIR.items()}
    joined = {f"{word}.{key}": t for word, net in nets.items() for key, t in net.items()}
    tree = nets if apart else joined
    with pytest.raises(CheckpointError, match=r"it holds several networks.*: teacher, student"):
        open_checkpoint(tree)
    for word, name in PAIR.items():
        assert open_checkpoint(tree, container=word).spec.name == name


def test_a_detector_gives_its_backbone_and_counts_the_rest():
    tree = {
        "meta": {"epoch": 12},
        "state_dict": {
            **beneath("backbone."),
            "neck.lateral_convs.0.conv.weight": torch.ones(4, 4, 1, 1),
            "neck.lateral_convs.0.conv.bias": torch.ones(4),
            "bbox_head.conv_cls.weight": torch.ones(4, 4, 3, 3),
        },
    }
    state = unwrap(tree)
    assert is_network(state)
    assert state.prefix == "backbone."
    assert state.ignored == ("meta", "neck (2 tensors)", "bbox_head.conv_cls.weight")


def test_torchvisions_and_detectron2s_detectors_have_two_layers():
    torchvision = {
        **beneath("backbone.body."),
        "backbone.fpn.inner_blocks.0.0.weight": torch.ones(4, 4, 1, 1),
        "rpn.head.conv.0.0.weight": torch.ones(4, 4, 3, 3),
        "roi_heads.box_head.fc6.weight": torch.ones(4, 4),
    }
    state = unwrap(torchvision)
    assert is_network(state)
    assert state.ignored == (
        "backbone.fpn.inner_blocks.0.0.weight",
        "rpn.head.conv.0.0.weight",
    )
    assert state.unexpected == ("roi_heads.box_head.fc6.weight",)
    detectron2 = {
        "model": {
            **beneath("backbone.bottom_up."),
            "backbone.fpn_lateral2.weight": torch.ones(4, 4, 1, 1),
            "proposal_generator.rpn_head.conv.weight": torch.ones(4, 4, 3, 3),
            "pixel_mean": torch.ones(3, 1, 1),
        },
        "__author__": "Caffe2",
        "matching_heuristics": True,
    }
    state = unwrap(detectron2)
    assert is_network(state)
    assert state.container == "model, by Caffe2"
    assert state.prefix == "backbone.bottom_up."
    assert "matching_heuristics" in state.ignored


def test_a_classifier_that_is_a_convolution_may_stand_first():
    """As in timm's pre-activation nets, whose safetensors are sorted by name."""
    spec = replace(SPEC, stem="7x7", activation_order="preactivation", first_shortcut_input="raw")
    tensors = ResNet(spec).state_dict()
    theirs = to_dialect(tensors, spec, "timm")
    state = unwrap({key: theirs[key] for key in sorted(theirs)})
    assert is_network(state, tensors)


def test_a_lateral_convolution_is_no_classifier():
    """A pyramid's reads the last stage too; a classifier may be one, where it is alone."""
    body = {key: tensor for key, tensor in NETWORK.items() if not key.startswith("fc.")}
    pyramid = {
        "fpn.inner.1.weight": torch.ones(6, 8, 1, 1),
        "fpn.layer.1.weight": torch.ones(6, 6, 3, 3),
    }
    assert is_network(unwrap({**beneath("body.", body), **pyramid}), body)
    alone = {"head.weight": torch.ones(6, 8, 1, 1)}
    state = unwrap({**beneath("body.", body), **alone})
    assert state.tensors["fc.weight"].shape == (6, 8)


def test_a_classifier_of_mmpretrain_keeps_its_head():
    body = {key: tensor for key, tensor in NETWORK.items() if not key.startswith("fc.")}
    head = {"head.fc.weight": NETWORK["fc.weight"], "head.fc.bias": NETWORK["fc.bias"]}
    state = unwrap({"state_dict": {**beneath("backbone.", body), **head}})
    assert is_network(state)
    assert (state.dialect, state.prefix) == ("mmlab", "backbone.")


@pytest.mark.parametrize("prefix", ["", "resnet.", "model."])
def test_hugging_faces_own_encoder_is_no_prefix(prefix):
    spec = replace(SPEC, stem="7x7", image_size=224)
    tensors = to_dialect(NETWORK | {"conv1.weight": torch.ones(4, 3, 7, 7)}, spec, "huggingface")
    tensors = {prefix + key.removeprefix("resnet."): tensor for key, tensor in tensors.items()}
    state = unwrap(tensors)
    assert state.dialect == "huggingface"
    assert state.prefix == prefix
    assert state.tensors.keys() == NETWORK.keys()


def test_caffe2_blobs_lose_their_momenta():
    spec = replace(SPEC, stem="7x7", image_size=224)
    blobs = to_dialect(NETWORK | {"conv1.weight": torch.ones(4, 3, 7, 7)}, spec, "caffe2")
    momenta = {"conv1_w_momentum": torch.ones(4, 3, 7, 7)}
    state = unwrap({"blobs": {**blobs, **momenta}, "cfg": "text"})
    assert state.dialect == "caffe2"
    assert state.ignored == ("cfg", "conv1_w_momentum")


def test_statistics_beside_a_container_are_not_taken_for_a_network():
    tree = {"net": NETWORK, "confusion": torch.ones(10, 10), "losses": torch.ones(90), "acc": 0.9}
    assert is_network(unwrap(tree))


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"model": NETWORK, "net": AVERAGE}, ("model", "net")),
        ({"generator": NETWORK, "critic": AVERAGE}, ("generator", "critic")),
        ([NETWORK, AVERAGE], ("0", "1")),
        ({**beneath("net."), **beneath("model.", AVERAGE)}, ("net", "model")),
        ({**NETWORK, **beneath("module.", AVERAGE)}, ("names without a prefix", "module")),
    ],
)
def test_what_is_ambiguous_is_listed_and_can_be_chosen(tree, names):
    with pytest.raises(CheckpointError) as caught:
        unwrap(tree)
    assert all(name in caught.value.message for name in names)
    assert "container=" in caught.value.hint
    second = names[1].split(".")[0]
    assert is_network(unwrap(tree, container=second), AVERAGE)


def test_one_network_under_two_names_is_not_ambiguous():
    assert is_network(unwrap({"model": NETWORK, "net": dict(NETWORK)}))


def test_a_container_that_is_not_there_is_an_error_that_lists_what_is():
    with pytest.raises(CheckpointError, match="there is no ema") as caught:
        unwrap({"model": NETWORK}, container="ema")
    assert "model" in caught.value.hint
    tree = {**beneath("rgb."), **beneath("depth.", AVERAGE)}
    with pytest.raises(CheckpointError, match="no network in it begins with rbg") as caught:
        unwrap(tree, container="rbg")
    assert caught.value.hint == "there are networks below rgb, depth"


@pytest.mark.parametrize(
    "tree",
    [
        {},
        [],
        None,
        3,
        torch.ones(3),
        "text",
        {"epoch": 3},
        {"optimizer": OPTIMIZER},
        {"a": {"b": {}}},
    ],
)
def test_a_file_without_weights_is_an_error(tree):
    with pytest.raises(CheckpointError, match="there are no weights in it"):
        unwrap(tree)


def test_arrays_without_names_are_called_so():
    """As nets of Theano and Keras are pickled."""
    with pytest.raises(CheckpointError, match="a list of 2 arrays, which have no names"):
        unwrap([torch.ones(8, 3, 3, 3), torch.ones(8)])


def test_a_container_that_holds_itself_ends():
    tree: dict = OrderedDict(state_dict=NETWORK)
    tree["self"] = [tree]
    assert is_network(unwrap(tree))
