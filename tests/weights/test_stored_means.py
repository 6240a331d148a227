"""Norms that neither names nor order tell apart are told by the means that they have stored."""

import re

import pytest
import torch
from safetensors.torch import load_file

from resnets import create_model, load_weights
from resnets.errors import CheckpointError
from resnets.weights.shipped import shipped
from resnets.weights.structure.moments import agreement
from resnets.weights.structure.tensor_modules import group

TRAINED = load_file(shipped("resnet20", "cifar10"))
FRESH = create_model("resnet20").state_dict()


def nameless(state, first="omega", second="alpha"):
    """The norms of blocks without numbers, in a file that is sorted by name."""
    words = {"1": first, "2": second}
    names = {
        re.sub(r"(layer\d\.\d)\.bn([12])", lambda m: f"{m[1]}.{words[m[2]]}", key): tensor
        for key, tensor in state.items()
    }
    return dict(sorted(names.items()))


def crossed(state):
    """Names that pair convolutions with norms, and each norm stored behind the other's."""
    rows = {}
    for key, tensor in state.items():
        if match := re.fullmatch(r"(layer\d\.\d)\.(conv|bn)([12])\.(\w+)", key):
            block, kind, number, leaf = match.groups()
            place = int(number) if kind == "conv" else 3 - int(number)
            rows[block, place, kind != "conv", leaf] = (
                f"{block}.{'ab'[int(number) - 1]}.{kind}.{leaf}",
                tensor,
            )
        else:
            rows[key, 0, False, ""] = key, tensor
    blocks = {key[0]: number for number, key in reversed(list(enumerate(rows)))}
    ordered = sorted(rows, key=lambda row: (blocks[row[0]], *row[1:3]))
    return dict(rows[row] for row in ordered)


@pytest.mark.parametrize("change", [nameless, lambda s: nameless(s, "alpha", "omega"), crossed])
def test_the_means_of_a_trained_net_decide_and_those_of_a_fresh_one_do_not(change):
    model = create_model("resnet20")
    load_weights(model, change(TRAINED))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in TRAINED.items())
    with pytest.raises(CheckpointError, match=r"which norm is which|several networks"):
        load_weights(model, change(FRESH))


def test_a_mean_follows_from_the_norm_before_it_and_from_no_other():
    modules = {module.name: module for module in group(TRAINED)}
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            names = (f"layer{stage}.{block}.{name}" for name in ("bn1", "conv2", "bn2"))
            first, second, behind = (modules[name] for name in names)
            assert agreement(first, second, behind) > 0.95
            assert abs(agreement(behind, second, first)) < 0.6


def test_it_is_exact_without_borders_and_for_groups():
    """Of 1x1 convolutions of what the first norm lets through, a normal variable."""
    torch.manual_seed(0)
    scale, shift, kernel = torch.rand(6) + 0.5, torch.randn(6), torch.randn(4, 3, 1, 1)
    images = torch.randn(200_000, 6, dtype=torch.float64) * scale + shift
    made = torch.einsum("ngi,goi->ngo", images.relu().view(-1, 2, 3), kernel.view(2, 2, 3).double())
    one, zero = torch.ones(4), torch.zeros(4)
    tensors = {
        **{"a.weight": scale, "a.bias": shift},
        **{"a.running_mean": torch.zeros(6), "a.running_var": torch.ones(6)},
        "b.weight": kernel,
        **{"c.weight": one, "c.bias": zero},
        **{"c.running_mean": made.flatten(1).mean(0), "c.running_var": one},
    }
    assert agreement(*group(tensors)) > 0.9999
