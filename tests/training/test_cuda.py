"""What only a CUDA GPU shows: recorded steps, an epoch without waiting. Skipped without one."""

import pytest
import torch
from safetensors.torch import load_file

from conftest import tiny_dataset
from resnets.data.preprocess import measure
from resnets.machine.device import Machine
from resnets.models import create_model
from resnets.training.cuda_graph import GraphStep
from resnets.training.feed import Step, build_feed
from resnets.training.recipe import AugmentRecipe, OptimizerRecipe, Recipe, ScheduleRecipe
from resnets.training.step import build_optimizer
from resnets.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

# 45 of the 50 images are trained on, so that an epoch's last batch is shorter.
SETTINGS = ("batch_size=8", "schedule.epochs=4", "augment.padding=1", "data.holdout=5")


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
def test_recorded_steps_are_the_steps(tmp_path, settings):
    weights = []
    for name, graph in (("recorded", True), ("told", False)):
        train(
            tiny_dataset(50, 11, side=8),
            model="resnet8",
            settings=[*SETTINGS, *settings],
            out=tmp_path / name,
            machine=Machine(device="cuda", cuda_graph=graph, quiet=True),
        )
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    recorded, told = weights
    bound = 5e-2 if "precision=bfloat16" in settings else 5e-3
    for key, tensor in recorded.items():
        difference = (tensor.double() - told[key].double()).norm()
        assert difference <= bound * (told[key].double().norm() + 1e-3), key


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
    step = GraphStep(model, build_optimizer(model, recipe.optimizer), recipe)

    def update(batch):
        step(batch.images, batch.targets, batch.labels, lr=0.1)

    for epoch in range(2):  # in the first the step is recorded
        indices = feed.indices(epoch)
        batches = feed.batches(Step(epoch, index, 8) for index in indices)
        update(next(batches))
        torch.cuda.set_sync_debug_mode("error" if epoch else "default")
        try:
            for batch in batches:
                update(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert step.collect()[0] == 96
