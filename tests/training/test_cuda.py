"""What only a CUDA GPU shows: recorded steps, an epoch without waiting. Skipped without one."""

import pytest
import torch
from safetensors.torch import load_file

from conftest import tiny_dataset
from resnets.data.preprocess import measure
from resnets.models import create_model
from resnets.training import experiment
from resnets.training.captured import CapturedStep
from resnets.training.feed import build_feed
from resnets.training.recipe import AugmentRecipe, OptimizerRecipe, Recipe, ScheduleRecipe
from resnets.training.seeds import train_seeds
from resnets.training.step import build_optimizer
from resnets.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

# 45 of the 50 pictures are trained on, so that an epoch's last batch is shorter.
SETTINGS = ("batch_size=8", "schedule.epochs=4", "augment.padding=1", "data.holdout=5")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(experiment, "open_dataset", lambda *_, **__: tiny_dataset(50, 11, side=8))


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("optimizer.clip=0.5",),
        ("optimizer.kind=adam", "optimizer.nesterov=false", "optimizer.lr=0.001"),
        ("optimizer.kind=muon", "optimizer.matrix_lr=0.02"),
        ("augment.mixup=0.2", "augment.cutmix=1.0"),
        ("precision=bfloat16",),
    ],
)
@pytest.mark.filterwarnings("error")
def test_recorded_steps_are_the_steps(tmp_path, tiny, settings):
    weights = []
    for name, capture in (("recorded", True), ("told", False)):
        train(
            "digits",
            model="resnet8",
            settings=[*SETTINGS, *settings],
            out=tmp_path / name,
            capture=capture,
            device="cuda",
            quiet=True,
        )
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    recorded, told = weights
    bound = 5e-2 if "precision=bfloat16" in settings else 5e-3
    for key, tensor in recorded.items():
        difference = (tensor.double() - told[key].double()).norm()
        assert difference <= bound * (told[key].double().norm() + 1e-3), key


def test_seeds_side_by_side_are_those_one_after_another(tmp_path, tiny):
    means = []
    for parallel in (1, 2):
        out = tmp_path / str(parallel)
        train_seeds(
            "digits",
            2,
            parallel=parallel,
            out=out,
            model="resnet8",
            settings=SETTINGS,
            device="cuda",
            quiet=True,
        )
        means.append([load_file(out / f"seed-{i}" / "model.safetensors") for i in (0, 1)])
    for one, other in zip(*means, strict=True):
        for key, tensor in one.items():
            torch.testing.assert_close(tensor, other[key], rtol=5e-2, atol=5e-3, msg=key)


def test_an_epoch_does_not_wait_for_the_device():
    """From its second batch to its last, augmentation and steps."""
    recipe = Recipe(
        name="test",
        batch_size=8,
        schedule=ScheduleRecipe(epochs=1),
        augment=AugmentRecipe(padding=2, cutout=2),
        optimizer=OptimizerRecipe(lr=0.1),
    )
    dataset, device = tiny_dataset(48), torch.device("cuda")
    preprocess = measure(dataset.train, 8, "channel")
    feed = build_feed(dataset, recipe, preprocess, device)
    model = create_model("resnet8").to(device, memory_format=torch.channels_last).train()
    step = CapturedStep(model, build_optimizer(model, recipe.optimizer), recipe)
    for epoch in range(2):  # in the first the step is recorded
        indices = feed.indices(epoch)
        batches = feed.batches(indices, epoch, [8] * len(indices))
        step(next(batches), 0.1)
        torch.cuda.set_sync_debug_mode("error" if epoch else "default")
        try:
            for batch in batches:
                step(batch, 0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert step.collect()[0] == 96
