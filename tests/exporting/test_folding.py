"""Folded networks: the same function, to float64's rounding, for every model of the zoo."""

import pytest
import torch
from torch import nn

from conftest import scramble
from every_model import each_model
from resnets import create_model
from resnets.exporting.folding import folded
from resnets.nn.blocks import Block
from resnets.nn.freezing import FrozenBatchNorm2d

VARIANTS = [
    {"activation_order": "bn_after_addition"},
    {"activation_order": "relu_before_addition"},
    {"activation_order": "relu_only_preactivation"},
    {"norm": "frozen_batch"},
    {"norm": "group"},
    {"gate": "exclusive"},
    {"stem": "deep", "activation": "silu", "conv_bias": "all"},
    {"shortcut_dropout": 0.3, "drop_path": 0.2, "dropout": 0.5},
]
NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def check(name: str, **options) -> nn.Module:
    """Compare a network with its folded copy in float64; return the copy."""
    torch.manual_seed(0)
    model = scramble(create_model(name, **options).double()).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    copy = folded(model)
    side = 16 if model.spec.stem == "3x3" else 64
    images = torch.randn(2, model.spec.in_channels, side, side + 3, dtype=torch.float64)
    with torch.no_grad():
        expected, found = model(images), copy(images)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    after = model.state_dict()
    assert all(after[key].equal(tensor) for key, tensor in before.items())
    return copy


@pytest.mark.parametrize("name", each_model())
def test_computes_the_same_and_leaves_no_norm_behind_a_convolution(name):
    copy = check(name)
    kept = [name for name, module in copy.named_modules() if isinstance(module, NORMS)]
    if copy.spec.activation_order != "preactivation":
        assert kept == []
    else:  # those that read a sum, which the shortcut reads too
        assert all(name == "norm" or name.endswith(".bn1") for name in kept)
        assert "norm" in kept


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_other_orders_norms_and_joins(options):
    copy = check("resnet20_b", **options)
    kept = [module for module in copy.modules() if isinstance(module, NORMS)]
    assert bool(kept) == (options.get("activation_order") == "bn_after_addition")


def test_a_norm_that_reads_a_sum_stays():
    copy = check("resnet20_b", activation_order="bn_after_addition")
    blocks = [module for module in copy.modules() if isinstance(module, Block)]
    assert all(isinstance(block.bn1, nn.Identity) for block in blocks)
    assert all(isinstance(block.bn2, nn.BatchNorm2d) for block in blocks)


def test_weights_are_rounded_once():
    """In float32 a folded weight is the float64 one, rounded."""
    torch.manual_seed(0)
    model = scramble(create_model("resnet8")).eval()
    exact, copy = folded(model.double()), folded(model.float())
    for name, weight in copy.named_parameters():
        assert weight.equal(exact.get_parameter(name).float()), name
