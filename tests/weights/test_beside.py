"""Names of classes and the meaning of outputs, as files have them beside a network."""

import json

import pytest
import torch

from resnets.weights.beside import labels, stated_outputs

PETS = ("cat", "dog", "horse")
NUMBERED = dict(enumerate(PETS))
BY_NAME = {name: number for number, name in NUMBERED.items()}


@pytest.mark.parametrize(
    "tree",
    [
        {"classes": list(PETS)},
        {"class_names": PETS, "state_dict": {"fc.weight": torch.zeros(3, 8)}},
        {"labels": list(PETS)},
        {"idx_to_class": NUMBERED},
        {"class_to_idx": BY_NAME},
        {"class_to_idx": dict(sorted(BY_NAME.items(), reverse=True))},
        {"id2label": {str(number): name for number, name in NUMBERED.items()}},
        {"label2id": BY_NAME, "id2label": NUMBERED},
        {"CLASSES": PETS},
        {"meta": {"CLASSES": PETS, "epoch": 12}},
        {"meta": {"dataset_meta": {"classes": list(PETS), "palette": [[0, 0, 0]]}}},
        {"hyper_parameters": {"class_names": list(PETS), "lr": 0.1}},
        {"hyper_parameters": {"data": {"classNames": list(PETS)}}},
        {"args": {"categories": [{"id": n, "name": name} for n, name in NUMBERED.items()]}},
        {"names": NUMBERED},
        {"classes": json.dumps(PETS)},  # as the metadata of a safetensors file have it
        {"id2label": json.dumps(NUMBERED)},
        {"classes": 3, "labels": [0, 2, 1, 1], "class_names": list(PETS)},
        {"classes": list(PETS), "teacher": {"classes": ["other", "number"]}},
    ],
)
def test_lists_of_names(tree):
    assert labels(tree, 3) == (PETS, [])


@pytest.mark.parametrize(
    "value",
    [
        3,
        None,
        "cat",
        "[not JSON",
        '{"a": [1, 2]}',
        [0, 1, 2],
        ["cat", "dog", 3],
        [{"id": n, "name": PETS[n]} for n in (1, 0, 2)],
        [{"id": n} for n in (0, 1, 2)],
        ["cat", "dog", "\x1b[31mred"],
        {1: "cat", 2: "dog", 3: "horse"},  # what is 0?
        {"cat": 0, "dog": 0, "horse": 1},
        {"cat": 0, "dog": 2, "horse": 3},
        {"cat": 0, "dog": 1, "horse": 2.0},
        {"0": "cat", 0: "dog", 1: "horse"},
        torch.zeros(3),
        {},
        [],
    ],
)
def test_what_names_no_outputs(value):
    assert labels({"classes": value}, 3) == ((), [])


def test_names_of_other_things():
    assert labels({"names": list(PETS), "param_names": PETS}, 3) == ((), [])


def test_contradictions_are_named():
    found, (note,) = labels({"classes": list(PETS), "args": {"labels": list(PETS[::-1])}}, 3)
    assert found == ()
    assert note == (
        "classes (cat, dog, …) and args.labels (horse, dog, …) name its classes differently: "
        "left out"
    )


def test_lists_that_do_not_fit_are_named():
    assert labels({"classes": list(PETS)}, 10) == (
        (),
        ["classes names 3 classes for 10 outputs: left out"],
    )
    assert labels({"meta": {"CLASSES": ("a", "a")}}, 2) == (
        (),
        ["meta.CLASSES names a class twice: left out"],
    )
    assert labels({"classes": list(PETS)}, 0) == ((), [])  # a backbone's file


def test_one_output():
    """It tells two classes apart, or has a name of its own."""
    assert labels({"classes": ["no", "yes"]}, 1) == (("no", "yes"), [])
    assert labels({"classes": ["yes"]}, 1) == (("yes",), [])


@pytest.mark.parametrize(
    ("tree", "count", "expected"),
    [
        ({"problem_type": "multi_label_classification"}, 5, "sigmoid"),
        ({"config": {"problem_type": "regression"}}, 1, "regression"),
        ({"problem_type": None}, 5, None),
        ({"hyper_parameters": {"multi_label": True}}, 5, "sigmoid"),
        ({"hyper_parameters": {"multi_label": False}}, 5, None),
        ({"args": {"final_activation": "sigmoid"}}, 1, "sigmoid"),
        ({"args": {"head_activation": "log_softmax"}}, 5, "softmax"),
        ({"config": {"output_activation": {"type": "Softmax", "dim": 1}}}, 5, "softmax"),
        ({"args": {"activation": "sigmoid"}}, 5, None),  # of the hidden layers
        ({"layers": ["Conv2d", "Linear", {"class_name": "Sigmoid"}]}, 2, "sigmoid"),
        ({"layers": ["Sigmoid", "Linear"]}, 2, None),
        ({"layers": [3, 4, 6, 3]}, 2, None),
        ({"hyper_parameters": {"loss": "torch.nn.modules.loss.CrossEntropyLoss"}}, 5, "softmax"),
        ({"args": {"criterion": "cross_entropy"}}, 1, None),
        ({"args": {"loss_fn": "BCEWithLogitsLoss"}}, 1, "sigmoid"),
        ({"args": {"loss_fn": "BCEWithLogitsLoss"}}, 1000, None),  # ResNet strikes back
        ({"args": {"loss": "sparse_categorical_crossentropy"}}, 5, "softmax"),
        ({"loss": 0.25}, 5, None),
        ({}, 5, None),
    ],
)
def test_what_outputs_mean(tree, count, expected):
    assert stated_outputs(tree, count) == (expected, [])


def test_outputs_that_are_said_to_be_two_things():
    tree = {"args": {"final_activation": "sigmoid", "loss": "cross_entropy"}}
    found, (note,) = stated_outputs(tree, 4)
    assert found is None
    assert "args.final_activation says sigmoid, args.loss says softmax" in note
