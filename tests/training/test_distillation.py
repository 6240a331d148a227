"""Distillation: the loss against a plain loop, the teacher's view of images, and whole runs."""

import copy
import json
import shlex
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.nn.functional as F
import typer
from forks import forked, launched_together
from runs import NARROW, STEPS, left, run
from safetensors.torch import load_file
from torch import Tensor, nn

from conftest import coloured, signal_at, tiny_dataset
from resnets import create_model, open_model, save_weights
from resnets.cli import app
from resnets.cli.arguments import typed_again
from resnets.data.dataset import Dataset
from resnets.data.preprocess import Preprocess, imagenet
from resnets.errors import CheckpointError, ResnetsError, Stopped, UsageError
from resnets.nn import ResNet
from resnets.report.page import write_report
from resnets.run_folder.directory import RunFolder
from resnets.training.distillation import Teacher, distilled, open_teacher
from resnets.training.recipe import DistillRecipe, OptimizerRecipe, Recipe
from resnets.training.step import build_optimizer, training_step
from resnets.training.train import train


def network(seed: int, kind: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    return nn.Sequential(*layers).to(kind)


def batch(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (count,), generator=generator)
    return images, labels, labels


def recipe(weight: float, heat: float, **values) -> Recipe:
    taught = DistillRecipe(weight=weight, temperature=heat)
    return Recipe(name="test", batch_size=12, schedule={"epochs": 1}, distill=taught, **values)


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("weight", "heat"), [(0.0, 4.0), (0.3, 1.0), (0.9, 4.0), (1.0, 2.5)])
def test_a_step_is_that_of_a_plain_loop(weight, heat, mixed, parts):
    """Written out sample by sample, in probabilities, as Hinton et al. 2015 has it."""
    images, targets, labels = batch()
    if mixed:
        targets = torch.rand(12, 5, dtype=torch.float64).softmax(1)
    net, theirs, teacher = network(0), network(0), network(1)
    before = copy.deepcopy(teacher.state_dict())
    loss = torch.zeros((), dtype=torch.float64)
    factors = None if parts == 1 else torch.linspace(0.5, 1.5, 12, dtype=torch.float64)
    each = torch.ones(12) if factors is None else factors
    for image, target, factor in zip(images, targets, each, strict=True):
        logits, taught = theirs(image[None])[0], teacher(image[None])[0].detach()
        wanted = target if mixed else F.one_hot(target, 5)
        labelled = -(wanted * logits.softmax(0).log()).sum()
        p, q = (taught / heat).softmax(0), (logits / heat).softmax(0)
        divergence = (p * (p / q).log()).sum()
        loss = loss + factor * ((1 - weight) * labelled + weight * heat**2 * divergence)
    (loss / 12).backward()
    plan = recipe(weight, heat, optimizer=OptimizerRecipe(accumulate=parts))
    optimizer = build_optimizer(net, plan.optimizer)
    options = {"lr": 0.1, "recipe": plan, "teacher": teacher, "weights": factors}
    outcome = training_step(net, optimizer, images, targets, labels, **options)
    assert outcome.loss == pytest.approx(loss.item() / 12, rel=1e-12)
    for mine, other in zip(net.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-11, atol=1e-13)
    assert all(value.equal(before[key]) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_student_and_teacher_compute_in_the_runs_precision(precision):
    images, labels, _ = batch()
    images, kind = images.float(), getattr(torch, precision)
    net, theirs, teacher = (network(seed, torch.float32) for seed in (0, 0, 1))
    with torch.autocast("cpu", kind):
        logits, taught = theirs(images), teacher(images).detach()
    heat, seen = 3.0, []
    teacher.register_forward_hook(lambda _, given, answer: seen.append(answer.dtype))
    student, answers = (logits.float() / heat).log_softmax(1), (taught.float() / heat).softmax(1)
    divergence = (answers * (answers.log() - student)).sum()
    loss = 0.25 * F.cross_entropy(logits.float(), labels, reduction="sum")
    ((loss + 0.75 * heat**2 * divergence) / 12).backward()
    plan = recipe(0.75, heat, precision=precision)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if precision == "float16" else None
    data = (images, labels, labels)
    options = {"scaler": scaler, "teacher": teacher, "recipe": plan, "lr": 0.1}
    training_step(net, build_optimizer(net, plan.optimizer), *data, **options)
    assert seen == [kind]
    # A last bit in float32 may be one in these types, on the way back through two layers.
    for mine, other in zip(net.parameters(), theirs.parameters(), strict=True):
        assert (mine.grad - other.grad).norm() <= 2 * torch.finfo(kind).eps * other.grad.norm()


def test_the_limits_of_the_temperature():
    """Hot: half the mean square of centred logits (sec. 2.1); cold: how far the student's answer
    is above the teacher's class, times the temperature."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7, 5, dtype=torch.float64)
    nothing = torch.zeros((), dtype=torch.float64)

    def loss(heat: float, scale: float = 1.0) -> float:
        alone = DistillRecipe(temperature=heat, weight=1)
        return float(distilled(nothing, scale * student, scale * teacher, alone))

    apart = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    hot = float(apart.square().sum() / 10)
    assert abs(loss(50) - hot) < 0.05 * hot
    assert abs(loss(100) - hot) == pytest.approx(abs(loss(50) - hot) / 2, rel=0.1)
    chosen = student.gather(1, teacher.argmax(1, keepdim=True))[:, 0]
    cold = float((student.amax(1) - chosen).sum())  # of logits without ties, at this temperature
    assert loss(0.01, scale=100) / 0.01 == pytest.approx(100 * cold, rel=0.001)


def small(classes: tuple[str, ...] = ("top", "bottom"), channels: int = 3, seed: int = 7) -> ResNet:
    """Return a network that has learnt nothing, with its classes and ImageNet's normalisation."""
    torch.manual_seed(seed)
    spec = replace(NARROW, num_classes=len(classes), in_channels=channels, image_size=12)
    model = ResNet(spec).eval()
    model.classes = classes
    if channels == 3:
        model.preprocess = imagenet(3, 12)
    else:
        model.preprocess = Preprocess(channels, 12, 12, (0.4,) * channels, (0.2,) * channels)
    return model


MEAN_IMAGE = tuple(torch.linspace(0.2, 0.7, 3 * 12 * 12).tolist())


@pytest.mark.parametrize("students", [(0.3, 0.5, 0.6), MEAN_IMAGE], ids=["channels", "mean image"])
@pytest.mark.parametrize("own", [(0.485, 0.456, 0.406), MEAN_IMAGE], ids=["channels", "mean image"])
def test_the_teacher_sees_images_as_it_wants_them(students, own):
    images = torch.randint(0, 256, (4, 3, 12, 12), dtype=torch.uint8)
    theirs = Preprocess(3, 12, 12, students, (0.2, 0.25, 0.3))
    model = small()
    model.preprocess = Preprocess(3, 12, 12, own, (0.229, 0.224, 0.225))
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    Teacher(model, "it", theirs, (0, 1))(theirs.normalize(images))
    torch.testing.assert_close(seen[0], model.preprocess.normalize(images), rtol=1e-6, atol=2e-6)


def test_alike_images_are_left_alone_and_classes_put_in_order():
    model = small(("bottom", "left", "top"))
    images = model.preprocess.normalize(torch.randint(0, 256, (4, 3, 12, 12), dtype=torch.uint8))
    answers = model(images)
    teacher = open_teacher(model, tiny_dataset(side=12), model.preprocess, 12)
    assert teacher(images).equal(answers[:, [2, 0]])
    assert not any(module.training for module in teacher.train().modules())
    assert teacher.network is not model


GREY = replace(tiny_dataset(side=12), name="grey")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("top", "left", "right")}, "the teacher does not know bottom"),
        ({"channels": 1}, "sees images of 1 channel, and those of tiny have 3"),
        ({"outputs": "sigmoid"}, "a teacher chooses one of all classes, and here"),
        ({"preprocess": None}, "nothing says how images must be prepared"),
        ({"means": MEAN_IMAGE}, "a mean image of 12x12 cannot be taken off or put back"),
    ],
)
def test_who_cannot_teach(change, message):
    asked = {key: change[key] for key in ("classes", "channels") if key in change}
    model = small(**asked)
    model.outputs = change.get("outputs", model.outputs)
    if "preprocess" in change:
        model.preprocess = None
    if "means" in change:
        model.preprocess = Preprocess(3, 12, 12, change["means"], (0.2,) * 3)
    with pytest.raises(ResnetsError, match=message) as caught:
        open_teacher(model, tiny_dataset(side=8), imagenet(3, 8), 8)
    assert isinstance(caught.value, UsageError | CheckpointError)
    assert "\n" not in caught.value.message
    assert caught.value.hint


# Whole runs, with every option.


def taught(out: Path, *settings: str, stop: int | None = None, **options) -> dict:
    """Train in a fork of its own, with a teacher; stop within a step, counted from 0."""
    teacher = options.pop("teacher", None) or small()
    if stop is None:
        return run(out, *settings, teacher=teacher, **options)
    with signal_at(stop):
        return run(out, *settings, teacher=teacher, **options)


@cache
def whole() -> dict:
    with TemporaryDirectory() as folder:
        forked(taught, Path(folder) / "run")
        return left(Path(folder) / "run")


AT = [
    step if step in (2, 4) else pytest.param(step, marks=pytest.mark.slow) for step in range(STEPS)
]


@pytest.mark.parametrize("step", AT)
def test_it_resumes_to_the_bit_at_every_step(tmp_path, step):
    found = forked(partial(taught, stop=step), tmp_path / "run")
    assert isinstance(found, Stopped) or step == STEPS - 1
    forked(partial(taught, resume="auto"), tmp_path / "run")
    assert left(tmp_path / "run") == whole()


def test_the_teacher_is_what_makes_the_difference(tmp_path):
    forked(run, tmp_path / "alone")
    forked(partial(taught, teacher=small(seed=8)), tmp_path / "other")
    weights = [left(tmp_path / name)["weights"] for name in ("alone", "other")]
    assert whole()["weights"] not in weights


def test_a_teacher_that_counts_nothing_changes_nothing(tmp_path):
    forked(taught, tmp_path / "taught", "distill.weight=0.0")
    forked(run, tmp_path / "alone")
    found, wanted = left(tmp_path / "taught"), left(tmp_path / "alone")
    assert (found["weights"], found["metrics"]) == (wanted["weights"], wanted["metrics"])


def test_two_processes_are_one(tmp_path):
    settings = ("schedule.iterations=5", "optimizer.accumulate=1", "distill.weight=0.5")
    forked(taught, tmp_path / "one", *settings)
    launched_together(2, taught, tmp_path / "two", *settings)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for key in one:
        x, y = one[key].double(), two[key].double()
        assert (x - y).norm() <= 1e-5 * y.norm(), key
    first, second = (RunFolder(tmp_path / n).read_record().teacher for n in ("one", "two"))
    assert first == second


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    for label, name in enumerate(("blue", "red")):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            coloured(label, number, side=16).save(folder / name / f"{number}.png")
    return folder


def test_from_the_command_line_to_the_report(resnets, photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_weights(small(("red", "green", "blue")), tmp_path / "teacher.safetensors")
    words = ["--model", "resnet8", "--set", "data.image_size=12", "--set", "data.holdout=0.2"]
    words += ["--set", "schedule.iterations=8", "--set", "batch_size=8", "--device", "cpu"]
    code, _, err = resnets("distill", "teacher.safetensors", photographs, *words, "--out", "run")
    assert code == 0, err
    record = RunFolder(Path("run")).read_record()
    told = f"teacher: {tmp_path}/teacher.safetensors (resnet8), "
    assert told in err
    assert "of the held-out images; its answers, at temperature 4, count 0.9, labels 0.1" in err
    assert f"its teacher {100 * record.teacher.accuracy:.2f} % of the same images" in err
    assert record.teacher.source == str(tmp_path / "teacher.safetensors")
    held_out = record.results.validation.samples
    assert record.teacher.accuracy * held_out == pytest.approx(round(record.teacher.accuracy * 8))
    page = write_report([Path("run")]).read_text()
    assert "Distilled from" in page
    assert "teacher.safetensors" in page
    made = json.loads(json.dumps(open_model("run").preprocess.to_dict()))
    assert made["size"] == 12
    again = shlex.split(record.command)
    assert again[:2] == ["resnets", "train"]
    code, _, err = resnets(*again[1:])
    assert code == 0, err
    assert left(Path("run"))["weights"] == left(Path("run-again"))["weights"]


def test_resuming_needs_the_teacher_again(resnets, photographs, tmp_path):
    for seed, name in ((7, "teacher"), (8, "stranger")):
        save_weights(small(("red", "blue"), seed=seed), tmp_path / f"{name}.safetensors")
    settings = ("schedule.iterations=6", "batch_size=8", "data.image_size=12")
    where = {"device": "cpu", "quiet": True, "settings": settings, "out": tmp_path / "run"}
    with signal_at(2), pytest.raises(Stopped):
        train(photographs, teacher=tmp_path / "teacher.safetensors", model="resnet8", **where)
    shutil.move(tmp_path / "teacher.safetensors", tmp_path / "moved.safetensors")
    code, _, err = resnets("train", "--resume", tmp_path / "run", "--device", "cpu")
    assert code == 2
    assert "its teacher" in err
    assert f"train --resume {tmp_path}/run --teacher PLACE" in err
    words = ("train", "--resume", tmp_path / "run", "--device", "cpu", "--teacher")
    code, _, err = resnets(*words, tmp_path / "stranger.safetensors")
    assert (code, "teacher: " in err, " before, " in err) == (4, True, True)
    code, _, err = resnets(*words, tmp_path / "moved.safetensors")
    assert code == 0, err
    record = RunFolder(tmp_path / "run").read_record()
    assert record.teacher.source == str(tmp_path / "moved.safetensors")
    assert "moved.safetensors" in err


def test_a_recipe_for_a_teacher_without_one(tmp_path):
    with pytest.raises(UsageError, match="distill says how to learn from a teacher"):
        train(
            tiny_dataset(), model="resnet8", settings=["distill.weight=1.0"], out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_the_command_is_typed_again_with_the_teacher_first():
    command = typer.main.get_command(app).commands["distill"]
    context = command.make_context("distill", ["runs/big", "photos/", "--model", "resnet8"])
    again = typed_again(context, (), ["--set", "seed=1"])
    assert again == "distill runs/big photos/ --model resnet8 --set seed=1"


def test_names_say_the_network_and_its_weights():
    classes = create_model("resnet20", weights="cifar10").classes
    assert len(classes) == 10
    data = tiny_dataset(side=32)
    data = Dataset(**{**vars(data), "classes": (classes[3], classes[1])})
    teacher = open_teacher("resnet20@cifar10", data, imagenet(3, 32), 32)
    assert teacher.source == "resnet20@cifar10"
    assert teacher.places.tolist() == [3, 1]
