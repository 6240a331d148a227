"""Steps whose sums stay on the device: the same updates as the step that tells the host."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from conftest import tiny_dataset
from resnets.errors import NonFiniteError
from resnets.machine.device import Machine
from resnets.machine.processes import ALONE, Processes
from resnets.models import create_model
from resnets.training.cuda_graph import GraphStep, why_no_graph
from resnets.training.feed import Batch
from resnets.training.recipe import OptimizerRecipe, Recipe, ScheduleRecipe
from resnets.training.step import build_optimizer, training_step
from resnets.training.train import train
from resnets.zoo import get_spec

OPTIMIZERS = {
    "nesterov": {"kind": "sgd", "nesterov": True, "lr": 0.1},
    "clipped": {"kind": "sgd", "clip": 0.5, "lr": 0.1},
    "accumulating": {"kind": "sgd", "accumulate": 2, "lr": 0.1},
    "caffe": {"kind": "sgd", "nesterov": False, "momentum_form": "caffe", "lr": 0.1},
    "adam": {"kind": "adam", "nesterov": False, "lr": 0.01},
    "adamw": {"kind": "adamw", "nesterov": False, "lr": 0.01},
    "lamb": {"kind": "lamb", "nesterov": False, "lr": 0.01},
    "muon": {"kind": "muon", "lr": 0.1, "matrix_lr": 0.02},
}


SPEC = get_spec("resnet8")


def batches(count: int, size: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    shapes = [size] * (count - 1) + [size - 2]  # an epoch's last batch is shorter
    images = [torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64) for n in shapes]
    labels = [torch.randint(10, (n,), generator=generator) for n in shapes]
    return [Batch(x, y, y) for x, y in zip(images, labels, strict=True)]


def plan(**optimizer) -> Recipe:
    return Recipe(
        name="test",
        batch_size=6,
        schedule=ScheduleRecipe(epochs=1),
        optimizer=OptimizerRecipe(**optimizer),
        label_smoothing=0.1,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_same_weights_and_sums_as_the_step_that_tells(options, weighted):
    """In float64: only the order of a product and of a sum differs, by 1e-16 of each step."""
    recipe = plan(**options)
    torch.manual_seed(0)
    told = create_model("resnet8").double()
    silent = copy.deepcopy(told)
    optimizer = build_optimizer(told, recipe.optimizer)
    step = GraphStep(silent, build_optimizer(silent, recipe.optimizer), recipe)
    samples, loss, correct = 0, 0.0, 0
    for number, data in enumerate(batches(6)):
        rate = recipe.optimizer.lr / (number + 1)
        weights = torch.rand(len(data.labels)) * 2 if weighted else None
        columns = data.images, data.targets, data.labels, weights
        outcome = training_step(told, optimizer, *columns, lr=rate, recipe=recipe)
        samples += outcome.samples
        loss += outcome.loss * outcome.samples
        correct += outcome.correct
        step(*columns, lr=rate)
    found = step.collect()
    assert found == (samples, pytest.approx(loss, rel=1e-9), correct, True)
    assert step.collect() == (0, 0.0, 0, True)
    for (name, a), b in zip(silent.state_dict().items(), told.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_is_told_when_asked(where):
    recipe = plan(lr=0.1)
    model = create_model("resnet8").double()
    step = GraphStep(model, build_optimizer(model, recipe.optimizer), recipe)
    first, *others = batches(4)
    step(first.images, first.targets, first.labels, lr=0.1)
    if where == "loss":
        first.images[0, 0, 0, 0] = float("nan")
    else:
        model.fc.weight.register_hook(lambda gradient: gradient / 0)
    step(first.images, first.targets, first.labels, lr=0.1)
    for data in others:
        step(data.images, data.targets, data.labels, lr=0.1)
    assert not step.collect()[3]


def test_what_must_be_told_or_drawn_is_not_recorded():
    recipe = plan(lr=0.1)

    def why(recipe=recipe, spec=SPEC, processes=ALONE, checkpointing=False):
        return why_no_graph(recipe, spec, processes, checkpointing)

    assert not why()
    assert "float16" in why(recipe.model_copy(update={"precision": "float16"}))
    schedule = ScheduleRecipe(epochs=1, warmup_until_error=0.5, warmup_rate=0.1, warmup=0)
    assert "error" in why(recipe.model_copy(update={"schedule": schedule}))
    assert "random" in why(spec=replace(get_spec("resnet8"), dropout=0.5))
    assert "processes" in why(processes=Processes(0, 2))
    assert "checkpointing" in why(checkpointing=True)


def test_that_the_step_is_not_recorded_is_said(tmp_path, capsys):
    settings = ["schedule.iterations=1", "batch_size=8"]
    model = replace(SPEC, dropout=0.5)
    how = Machine(device="cpu", cuda_graph=True)
    train(tiny_dataset(), model=model, settings=settings, out=tmp_path / "run", machine=how)
    said = capsys.readouterr().err
    assert "the step is not recorded as a CUDA graph: the network draws at random" in said


SETTINGS = ("batch_size=8", "schedule.epochs=3", "augment.padding=1", "data.holdout=5")


def outcome(path):
    record = json.loads((path / "run.json").read_text())
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return record["results"], lines, (path / "ledger.jsonl").read_text()


def test_a_run_whose_steps_tell_nothing_is_the_run_without(tmp_path):
    """On the CPU, where they run as a GPU would record them."""
    for name, graph in (("silent", True), ("told", False)):
        train(
            tiny_dataset(40, 11, side=8),
            model="resnet8",
            settings=SETTINGS,
            out=tmp_path / name,
            machine=Machine(device="cpu", cuda_graph=graph, quiet=True),
        )
    (silent, lines, ledger), (told, others, books) = (
        outcome(tmp_path / name) for name in ("silent", "told")
    )
    assert ledger == books
    for line, other in zip(lines, others, strict=True):
        assert line["samples"] == other["samples"]
        assert line["train_accuracy"] == pytest.approx(other["train_accuracy"], abs=0.06)
        assert line["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
    assert silent["test"]["loss"] == pytest.approx(told["test"]["loss"], rel=1e-2)


def test_such_a_run_that_breaks_says_how_to_look(tmp_path):
    with pytest.raises(NonFiniteError, match=r"in a step up to \d+") as caught:
        train(
            tiny_dataset(40, 11, side=8),
            model="resnet8",
            settings=[
                *SETTINGS,
                "optimizer.lr=100",
                "optimizer.clip=null",
                "optimizer.weight_decay=0.9",
            ],
            out=tmp_path / "run",
            machine=Machine(device="cpu", cuda_graph=True, quiet=True),
        )
    assert "without --cuda-graph" in caught.value.hint
