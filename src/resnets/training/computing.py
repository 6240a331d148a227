"""What a run computes with: the state before its first step, what takes steps, and of what."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnets.data.dataset import Dataset
from resnets.models import create_model
from resnets.nn.sync_batch_norm import synchronize
from resnets.run_folder.record import UNDECIDED
from resnets.training.ema import Average, decays
from resnets.training.feed import Feed, Step
from resnets.training.prepare import Plan
from resnets.training.schedule import image_size
from resnets.training.state import RunState
from resnets.training.step import build_optimizer


def initial_state(plan: Plan) -> RunState:
    """Return the state before the first step: weights drawn with the seed, or those given."""
    recipe, machine = plan.recipe, plan.machine
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = create_model(plan.spec)
    if plan.start and plan.start.tensors:
        model.load_state_dict(plan.start.tensors)
    model.preprocess, model.classes = plan.preprocess, plan.dataset.classes
    # Where an image has one class that is so whichever loss.
    model.outputs = "sigmoid" if plan.dataset.several else "softmax"
    if plan.dataset.several:
        model.thresholds = (UNDECIDED,) * len(model.classes)
        new = plan.start is None or plan.start.new_classifier
        if new and recipe.loss == "binary_cross_entropy":
            # Begun at the classes' frequencies, it need not first learn that most are rare.
            with torch.no_grad():
                model.fc.bias.copy_(_frequencies(plan.dataset).logit())
    if machine.checkpointing:
        model.recompute_stages()
    if machine.processes.count > 1 and recipe.sync_batch_norm:
        synchronize(model)
    model.to(machine.where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scales = recipe.precision == "float16"
    thawing = plan.thawing
    return RunState(
        model,
        build_optimizer(model, recipe.optimizer, thawing.place if thawing.divides else None),
        plan.identity,
        average=Average(model, decays(recipe, plan.steps, plan.batches)) if recipe.ema else None,
        scaler=torch.amp.GradScaler(machine.where.type) if scales else None,
    )


def _frequencies(dataset: Dataset) -> Tensor:
    """Return the share of training images with each class, and of none 0 or 1, (classes,)."""
    counts = torch.tensor(dataset.counts, dtype=torch.float64)
    return (counts + 1) / (len(dataset.train) + 2)


@contextmanager
def computing(plan: Plan, model: nn.Module) -> Iterator[nn.Module]:
    """Yield what computes a step of the model here: in several processes, compiled."""
    several = plan.machine.processes.count > 1
    if several and plan.recipe.sync_batch_norm:
        synchronize(model)  # norms that learn again are plain ones
    network = DistributedDataParallel(model) if several else model
    try:
        if several:
            # It lays out the order of its sums anew after the first backward pass. To sum alike
            # before and after a stop, have that behind us.
            image = torch.zeros(1, plan.spec.in_channels, *2 * (plan.spec.image_size,))
            network.eval()(image.to(plan.machine.where)).sum().backward()
            network.zero_grad()
        yield torch.compile(network) if plan.machine.compile else network  # type: ignore[misc]
    finally:
        # Who keeps an error of the loop keeps its frames, and so the network, whose reducer must
        # not outlive the process group: it would wait for gloo's thread without letting go of the
        # interpreter, for which that thread may be waiting.
        if several:
            del network.logger, network.reducer, network.process_group


def steps_of(plan: Plan, feed: Feed, first: int, last: int) -> Iterator[Step]:
    """Yield what this process sees in each step of a run from ``first`` on, to before ``last``."""
    batches = len(feed)
    for epoch in range(first // batches, -(-last // batches)):
        for number, index in enumerate(feed.indices(epoch), start=epoch * batches):
            if first <= number < last:
                size = image_size(plan.recipe.augment, feed.augment.size, number, plan.steps)
                yield feed.step(epoch, index, plan.machine.processes.part(len(index)), size)
