"""The memory of a step: against the allocator's own account, autograd's, and a sum by hand."""

import gc
import json
import re
from collections import defaultdict
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import profile

from resnets.errors import UsageError
from resnets.nn import ResNet
from resnets.training.memory import most_memory, peak_memory
from resnets.training.recipe import OptimizerRecipe, Recipe, ScheduleRecipe
from resnets.training.step import build_optimizer, training_step
from resnets.zoo import get_spec

# Every kind of block, small: with full widths the optimizer's step alone would be the peak.
THIN = {"widths": (8, 16, 32, 64), "stem_width": 8, "image_size": 64, "depths": (1, 2, 1, 1)}
SPECS = {
    "basic": replace(get_spec("resnet20"), depths=(1, 2, 1)),
    "bottleneck": replace(get_spec("resnet50"), **THIN),
    "preactivation": replace(get_spec("resnet18_v2"), **THIN),
    "attention": replace(get_spec("se_resnet50"), **THIN),
    "gated": replace(get_spec("resnet20"), depths=(1, 2, 1), gate="exclusive", activation="silu"),
    "wide": replace(get_spec("wrn16_4"), depths=(1, 2, 1), image_size=16),
    "random": replace(get_spec("resnet50d"), **THIN, drop_path=0.2, dropout=0.1, activation="silu"),
}
ALIKE = [  # to what "bottleneck" is
    ("preactivation", {"batch_size": 4}),
    ("preactivation", {"checkpointing": True}),
    ("basic", {"accumulate": 3}),
]
CASES = [
    *((name, {}) for name in SPECS),
    *(pytest.param(*case, marks=pytest.mark.slow, id=f"{case[0]}-{case[1]}") for case in ALIKE),
    ("basic", {"batch_size": 4}),
    ("basic", {"checkpointing": True}),
    ("bottleneck", {"accumulate": 3, "checkpointing": True}),
    ("bottleneck", {"batch_size": 4, "optimizer": "adam"}),
    ("preactivation", {"batch_size": 4, "optimizer": "muon"}),
    ("basic", {"precision": "bfloat16"}),
    ("attention", {"precision": "float16"}),
]


class Step:
    """A real step on the CPU, and what `peak_memory` says of it."""

    def __init__(
        self,
        spec,
        batch_size=16,
        precision="float32",
        optimizer="sgd",
        accumulate=1,
        checkpointing=False,
    ):
        parts = OptimizerRecipe(kind=optimizer, accumulate=accumulate)
        self.recipe = Recipe(
            name="step",
            batch_size=batch_size,
            precision=precision,
            optimizer=parts,
            schedule=ScheduleRecipe(iterations=1),
        )
        self.network = ResNet(spec)
        if checkpointing:
            self.network.recompute_stages()
        self.network.to(memory_format=torch.channels_last)
        self.images = pictures(spec, batch_size)
        self.labels = torch.zeros(batch_size, dtype=torch.int64)
        self.optimizer = build_optimizer(self.network, self.recipe.optimizer)

    def run(self):
        labels = self.labels
        training_step(
            self.network,
            self.optimizer,
            self.images,
            labels,
            labels,
            lr=0.01,
            recipe=self.recipe,
        )


def pictures(spec, count: int) -> Tensor:
    images = torch.randn(count, spec.in_channels, spec.image_size, spec.image_size)
    return images.to(memory_format=torch.channels_last)


def allocated(run) -> int:
    """The most bytes that torch's CPU allocator gives out in ``run`` at once.

    What a convolution allocates and frees before it returns, its workspace, is left out.
    """
    gc.collect()
    with profile(profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    names = ("aten::convolution", "aten::convolution_backward")
    inside = [(e.start_ns(), e.end_ns()) for e in events if e.name() in names]
    changes: dict[int, int] = defaultdict(int)
    for event in events:
        if event.name() == "[memory]":
            time = event.start_ns()
            until = next((end for start, end in inside if start <= time <= end), time)
            changes[until] += event.nbytes()
    return max(accumulate(change for _, change in sorted(changes.items())))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_step_takes_what_the_allocator_gives(name, options):
    options = {"batch_size": 16, **options}
    step = Step(SPECS[name], **options)
    step.run()  # which makes the optimizer's memory
    step.optimizer.zero_grad()
    found = peak_memory(SPECS[name], **options)
    before = found.whole.weights + found.whole.optimizer + found.whole.batch
    # Within operators, norms allocate some rows and checkpoints the generator's state (5 kB each).
    assert 0 <= allocated(step.run) - (found.peak.total - before) < 2**16
    # What needs no counting: a step whose bound fits.
    at_once = -(-options["batch_size"] // options.get("accumulate", 1))
    assert found.peak.total < most_memory(SPECS[name], at_once)


@pytest.mark.parametrize("name", SPECS)
def test_a_prediction_takes_what_the_allocator_gives(name):
    network, images = ResNet(SPECS[name]).eval(), pictures(SPECS[name], 16)
    network.to(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            network(images)

    run()
    found = peak_memory(SPECS[name], batch_size=16, training=False)
    before = found.whole.weights + found.whole.batch
    assert 0 <= allocated(run) - (found.peak.total - before) < 2**16


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["basic", "preactivation"])
def test_activations_are_what_autograd_saves(name, checkpointing):
    step = Step(SPECS[name], checkpointing=checkpointing)
    known = (*step.network.parameters(), *step.network.buffers(), step.images, step.labels)
    own = {tensor.untyped_storage().data_ptr() for tensor in known}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(step.network(step.images), step.labels)
    assert loss.requires_grad  # whose graph has kept all of it until here
    kept = sum(size for place, size in saved.items() if place not in own)
    found = peak_memory(SPECS[name], batch_size=16, checkpointing=checkpointing)
    logits = 4 * 16 * SPECS[name].num_classes
    # The logits are alive and not saved; so are four numbers around the loss.
    assert found.whole.activations - kept == logits + 4 * 4


def test_a_step_by_hand():
    """ResNet-8: a stem and three basic blocks of two convolutions, each with a norm."""
    count = 16
    found = peak_memory("resnet8", batch_size=count)
    channels = (16, 16, 16, 32, 32, 64, 64)
    weights = 27 * 16 + 9 * 2 * 16 * 16 + 9 * (16 * 32 + 32 * 32) + 9 * (32 * 64 + 64 * 64)
    parameters = weights + 2 * sum(channels) + 64 * 10 + 10
    assert found.whole.weights == 4 * parameters + sum(2 * 4 * c + 8 for c in channels)
    assert found.whole.gradients == found.whole.optimizer == 4 * parameters
    assert found.whole.batch == count * (4 * 3 * 32 * 32 + 8)
    # What each convolution and each in-place activation gives, but not the norm before a sum;
    # what norms measured; what was pooled; logits and their softmax; five numbers around the loss.
    maps = 6 * 16 * 32 * 32 + 4 * 32 * 16 * 16 + 4 * 64 * 8 * 8
    rows = 64 + 10 + 10
    assert found.whole.activations == 4 * (count * (maps + rows) + 2 * sum(channels) + 5)


def test_checkpointing_and_parts_save_activations_only():
    plain, checkpointed, parts, part = (
        peak_memory("resnet20", **options)
        for options in (
            {"batch_size": 32},
            {"batch_size": 32, "checkpointing": True},
            {"batch_size": 32, "accumulate": 4},
            {"batch_size": 8},
        )
    )
    # Of four maps in a block, its input stays; and all of the stem.
    assert checkpointed.whole.activations < 0.4 * plain.whole.activations
    assert checkpointed.peak.total < 0.5 * plain.peak.total
    assert 0 <= parts.whole.activations - part.whole.activations < 50  # sums of the parts before
    for saving in (checkpointed, parts):
        assert replace(saving.whole, activations=0) == replace(plain.whole, activations=0)


def test_where_most_is():
    many, few = peak_memory("resnet20"), peak_memory("resnet18", batch_size=2, image_size=64)
    assert (many.phase, many.layer) == ("backward", "fc")
    # All weights' gradients, and once more with the decay that is added to them.
    assert (few.phase, few.layer) == ("optimizer", "")
    assert few.peak.gradients == few.whole.gradients
    assert few.peak.activations > 0.99 * few.whole.gradients
    prediction = peak_memory("resnet50", batch_size=4, training=False)
    assert (prediction.phase, prediction.layer) == ("forward", "layer1.0.bn3")
    assert prediction.peak.gradients == prediction.peak.optimizer == 0


def test_lower_precision_halves_the_maps():
    spec = SPECS["basic"]
    single, half = (peak_memory(spec, precision=p) for p in ("float32", "bfloat16"))
    assert half.whole.activations < 0.6 * single.whole.activations
    assert half.whole.weights == single.whole.weights


def test_nothing_is_drawn_or_left_behind():
    state = torch.get_rng_state()
    first = peak_memory("resnet8", checkpointing=True)
    assert torch.get_rng_state().equal(state)
    assert peak_memory("resnet8", checkpointing=True) == first
    assert type(torch.empty(1)) is Tensor


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 4, "accumulate": 8}, "a batch of 4 cannot be computed in 8 parts"),
        ({"accumulate": 0}, "in 0 parts"),
        ({"precision": "float8"}, "'bfloat16'"),
        ({"optimizer": "lion"}, "'adam'"),
        ({"batch_size": 1, "image_size": 32}, "resnet50 cannot train on this batch"),
    ],
)
def test_what_cannot_be_meant(options, words):
    with pytest.raises(UsageError, match=words):
        peak_memory("resnet50", **options)


def test_show(resnets):
    code, out, _ = resnets("show", "resnet8", "--memory", "--batch-size", 128)
    found = peak_memory("resnet8", batch_size=128)
    assert code == 0
    peak = found.peak.total / 2**20
    line = f"training step (batch 128, float32, sgd): {peak:.1f} MiB, in the backward pass, at fc"
    assert line in out.splitlines()
    row = [round(part.gradients / 2**20, 1) for part in (found.whole, found.peak)]
    assert ["gradients", *map(str, row), "0.0"] in [line.split() for line in out.splitlines()]
    assert "memory" not in json.loads(resnets("show", "resnet8", "--json")[1])


def test_show_for_programs(resnets):
    chosen = {"batch_size": 8, "precision": "bfloat16", "optimizer": "adam", "accumulate": 2}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    out = resnets("show", "resnet8", "--memory", "--checkpointing", *words, "--json")[1]
    shown = json.loads(out)["memory"]
    training = peak_memory("resnet8", checkpointing=True, **chosen)
    assert shown["training"] == training.to_dict()
    assert shown["training"]["total"] == training.peak.total
    assert (
        shown["prediction"]["total"]
        == peak_memory("resnet8", batch_size=8, training=False).peak.total
    )
    assert {name: shown[name] for name in chosen} == chosen
    assert shown["checkpointing"] is True


def test_show_refuses_options_that_would_do_nothing(resnets):
    code, _, err = resnets("show", "resnet20", "--batch-size", 8)
    assert (code, err) == (2, "error: --batch-size is about memory\n hint: add --memory\n")


PAGE = (Path(__file__).parents[1] / "docs" / "memory.md").read_text(encoding="utf-8")


ROWS = re.findall(r"^\| `(\w+) (.*?)` \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.M)


@pytest.mark.parametrize(
    "part", [slice(1, None, 3), pytest.param(slice(None), marks=pytest.mark.slow)]
)
def test_the_figures_on_the_page_are_these(part):
    assert len(ROWS) > 5
    for model, words, *figures in ROWS[part]:
        options = {
            name.replace("-", "_"): {"": True}.get(value, value)
            for name, value in re.findall(r"--([\w-]+) ?(\w*)", words)
        }
        for name in {"batch_size", "accumulate"} & options.keys():
            options[name] = int(options[name])
        found = peak_memory(model, **options)
        sizes = (found.whole.activations, found.peak.total)
        assert [f"{size / 2**20:.1f}" for size in sizes] == figures, (model, words)


def test_the_table_on_the_page_is_what_show_prints(resnets):
    (printed,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    assert resnets("show", "resnet50", "--memory")[1].endswith(printed)


def test_the_python_on_the_page():
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(code, names)  # the page is ours
    assert names["model"].state_dict().keys() == ResNet(get_spec("resnet20")).state_dict().keys()
    assert names["memory"].phase in ("backward", "optimizer")
