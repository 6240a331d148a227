"""Nets without blocks, or with blocks in other places, against nets that are computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import scramble, tiny_dataset
from resnets import create_model
from resnets.data.preprocess import measure as measure_preprocess
from resnets.evaluation.network import evaluate
from resnets.studies.block_orders import answers, deletions, kendall_tau, reorderings, without
from resnets.studies.block_parts import head, parts_of, stem
from resnets.studies.lesion import measure
from resnets.zoo import get_spec

NARROW = {"widths": (4, 8, 16), "stem_width": 4}
KINDS = [
    *("resnet8", "resnet8_b_v2", "resnet11", "resnet11_v2", "plain8", "keras_resnet11_v2"),
    replace(get_spec("se_resnet18"), depths=(1, 2), widths=(8, 16), stem_width=8),
    replace(get_spec("resnext50_32x4d"), depths=(1, 2), widths=(16, 32), stem_width=8, groups=4),
    *(
        replace(get_spec("resnet8"), activation_order=order, **NARROW)
        for order in ("bn_after_addition", "relu_before_addition", "relu_only_preactivation")
    ),
    replace(get_spec("resnet8"), gate="exclusive", activation="leaky_relu", **NARROW),
    replace(get_spec("resnet8"), shortcut_scale=0.5, shortcut="C", **NARROW),
]


def net(kind, **options):
    """A narrow net in float64, in evaluation mode, whose norms are not trivial."""
    torch.manual_seed(0)
    options = {**(NARROW if isinstance(kind, str) else {}), **options}
    return scramble(create_model(kind, num_classes=5, **options).double()).eval()


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(6, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@torch.no_grad()
def test_the_parts_are_the_net(kind, images):
    model = net(kind)
    x = stem(model, images)
    for parts in parts_of(model):
        read = parts.read(x)
        y = parts.joined(parts.shortcut(read), parts.branch(read))
        x = parts.block(x)
        assert torch.equal(x, y)
    assert torch.equal(head(model, x), model(images))


def test_an_untouched_net_answers_as_it_does(images):
    model = net("resnet14_v2")
    whole, again = without(6, []), tuple(range(6))
    found = answers(model, images.split(4), [whole, again])
    assert (found == model(images).argmax(1).numpy()).all()


@torch.no_grad()
def test_without_its_branch_a_preactivated_block_adds_nothing(images):
    """x_(l+1) = x_l + F(x_l): what is missing is F, to the rounding of one addition."""
    model = net("resnet14_v2")
    x = stem(model, images)
    for parts in parts_of(model):
        missing = parts.block(x) - parts.without_branch(x)
        branch = parts.branch(parts.read(x))
        torch.testing.assert_close(missing, branch, rtol=0, atol=1e-13)
        assert branch.abs().max() > 0.01
        x = parts.block(x)


@pytest.mark.parametrize("kind", ["resnet14", "resnet14_v2", "resnet20_b"])
@torch.no_grad()
def test_a_lesion_changes_nothing_where_the_branch_is_zero(kind, images):
    model = net(kind)
    for parts in parts_of(model):
        last = parts.block.get_submodule(parts.block.last_weighted)
        for parameter in last.parameters():
            torch.nn.init.zeros_(parameter)
        x = stem(model, images)
    for parts in parts_of(model):
        assert torch.equal(parts.block(x), parts.without_branch(x))
        x = parts.block(x)


@torch.no_grad()
def test_lesions_are_those_of_a_net_run_block_by_block(images):
    """What orders share is computed once; each must come out as if it were alone."""
    model = net("resnet14")
    parts = parts_of(model)
    orders = [
        without(6, []),
        *(without(6, [place]) for place in range(6)),
        *deletions(parts, 3, seed=0),
        *reorderings(parts, 3, seed=0),
    ]
    found = answers(model, images.split(4), orders)
    assert found.shape == (len(orders), 6)
    assert len({tuple(row) for row in found.tolist()}) > 3
    for order, row in zip(orders, found, strict=True):
        x = stem(model, images)
        for step in order:
            x = parts[step].block(x) if step >= 0 else parts[~step].without_branch(x)
        assert head(model, x).argmax(1).tolist() == row.tolist()


def test_a_plain_net_can_lose_what_keeps_the_shape(images):
    model = net("plain14")
    parts = parts_of(model)
    assert [each.can_go for each in parts] == [True, True, False, True, False, True]
    dropped = {~step for order in deletions(parts, 5, seed=0) for step in order if step < 0}
    assert dropped == {0, 1, 3, 5}
    found = answers(model, [images], [without(6, [1, 3])])
    del model.layer1[1], model.layer2[1]
    assert found.tolist() == [model(images).argmax(1).tolist()]


def test_of_some_plain_nets_nothing_can_go(images):
    model = net(replace(get_spec("resnet11"), shortcut="none", **NARROW))
    found = measure(model, images, torch.arange(6) % 5, draws=2, seed=0)
    assert [row["error"] for row in found["dropped"]] == [None] * 3
    assert found["deleted"] == found["reordered"] == []


def test_deletions_and_reorderings_are_drawn_as_they_say():
    parts = parts_of(net("resnet56"))
    orders = deletions(parts, 4, seed=3)
    assert orders == deletions(parts, 4, seed=3) != deletions(parts, 4, seed=4)
    counts = [sum(step < 0 for step in order) for order in orders]
    assert counts[0] == 1
    assert counts[-1] == 27
    assert len(set(counts)) == 9
    assert all(counts.count(count) == 4 for count in counts)
    for order in reorderings(parts, 4, seed=3):
        assert sorted(order) == [*range(27)]
        for place, moved in enumerate(order):
            assert parts[place].stage == parts[moved].stage
            assert place == moved or (parts[place].keeps_shape and parts[moved].keeps_shape)
    assert reorderings(parts_of(net("resnet8")), 4, seed=3) == []


def test_kendall_tau():
    assert kendall_tau((0, 1, 2, 3)) == 1
    assert kendall_tau((3, 2, 1, 0)) == -1
    assert kendall_tau((1, 0, 2, 3)) == pytest.approx(1 - 2 / 6)
    assert kendall_tau((0,)) == 1
    order = tuple(np.random.default_rng(0).permutation(9).tolist())
    assert kendall_tau(order) == pytest.approx(
        np.mean([np.sign(order[j] - order[i]) for i in range(9) for j in range(i + 1, 9)])
    )


def test_the_whole_nets_error_is_evaluations(images):
    split = tiny_dataset(train=150).train
    model, preprocess = net("resnet8").float(), measure_preprocess(split, 8, "channel")
    inputs = preprocess(split.batch(torch.arange(150))[0])
    found = measure(model, inputs, split.labels, draws=2, seed=0)
    own = evaluate(model, split, preprocess)
    assert found["images"] == 150
    assert found["error"] == 1 - own.accuracy
    assert [row["block"] for row in found["dropped"]] == ["layer1.0", "layer2.0", "layer3.0"]
    assert [row["keeps_shape"] for row in found["dropped"]] == [True, False, False]
    assert [row["blocks"] for row in found["deleted"]] == [1, 1, 2, 2, 3, 3]
    # All draws of one block are among those that were dropped alone.
    alone = {row["error"] for row in found["dropped"]}
    assert {row["error"] for row in found["deleted"][:2]} <= alone
    assert found["deleted"][4]["error"] == found["deleted"][5]["error"]
    assert found["reordered"] == []
