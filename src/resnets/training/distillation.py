"""Learning from another network's answers: the teacher, fitted to a run's images and classes."""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.data.dataset import Dataset
from resnets.data.preprocess import Preprocess, known, preprocess_of
from resnets.errors import CheckpointError, UsageError
from resnets.evaluation.labels import label
from resnets.formatting import plural
from resnets.models import create_model, restore
from resnets.nn import ResNet
from resnets.training.recipe import DistillRecipe
from resnets.weights.tensors import digest_of_tensors

IN_PYTHON = "a model in Python"  # the source of a teacher that has no other
TeacherSource = str | Path | ResNet


class Teacher(nn.Module):
    """A network whose answers a run learns from, to images as the run normalises its own.

    (N, C, H, W) -> logits (N, classes), of the data's classes in their order. It is in evaluation
    mode whatever is asked of it, and has no gradients.
    """

    def __init__(
        self, network: ResNet, source: str, images: Preprocess, outputs: tuple[int, ...]
    ) -> None:
        """``images`` is the run's preprocessing; ``outputs`` are the network's for each class."""
        super().__init__()
        self.source = source
        self.network = network.requires_grad_(False)
        own = preprocess_of(network)
        (mean, deviation), (own_mean, own_deviation) = _constants(images), _constants(own)
        self.scale: Tensor | None
        self.places: Tensor | None
        self.shift: Tensor
        same = mean.equal(own_mean) and deviation.equal(own_deviation)
        self.register_buffer("scale", None if same else (deviation / own_deviation).float())
        self.register_buffer("shift", ((mean - own_mean) / own_deviation).float())
        every = outputs == tuple(range(network.fc.out_features))
        self.register_buffer("places", None if every else torch.tensor(outputs))
        self.digest = digest_of_tensors(self.state_dict())  # what its answers follow from
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the data's classes."""
        if self.scale is not None:
            images = images * self.scale + self.shift
        logits: Tensor = self.network(images)
        return logits if self.places is None else logits.index_select(1, self.places)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode."""
        return super().train(False)


def distilled(
    loss: Tensor,
    logits: Tensor,
    taught: Tensor,
    recipe: DistillRecipe,
    weights: Tensor | None = None,
) -> Tensor:
    """Return (1 - weight) loss + weight T^2 KL(teacher || student), both sums over samples.

    ``logits`` and ``taught``, the teacher's, are (N, classes), and divided by the temperature T
    (Hinton et al. 2015, sec. 2). ``weights`` (N,) are factors of the samples, as ``loss`` has them.
    """
    weight, heat = recipe.weight, recipe.temperature
    student, teacher = ((x / heat).log_softmax(1) for x in (logits, taught.to(logits.dtype)))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    if weights is not None:
        divergence = divergence * weights
    return (1 - weight) * loss + weight * heat**2 * divergence.sum()


def open_teacher(
    source: TeacherSource, dataset: Dataset, images: Preprocess, training_size: int
) -> Teacher:
    """Return the teacher of a data set's classes for images that are prepared as ``images`` says.

    ``source`` is a run folder, a weights file, the name of a model and its weights such as
    resnet50@torchvision.IMAGENET1K_V2 (or resnet50@FILE, where the file does not say which network
    it holds), or a model. Raises UsageError or CheckpointError, in a line, where it cannot teach.
    """
    name, network = _opened(source)
    own = known(network.preprocess)
    if own is None:
        raise CheckpointError(
            f"{name}: nothing says how images must be prepared for this teacher",
            hint="in Python, set model.preprocess and give teacher=model",
        )
    if own.channels != images.channels:
        raise UsageError(
            f"{name}: the teacher sees images of {plural(own.channels, 'channel')}, and those of "
            f"{dataset.name} have {images.channels}",
            hint="give a teacher that was trained on such images",
        )
    for means in (own, images):
        if len(means.mean) > means.channels and not means.size == training_size == images.size:
            raise UsageError(
                f"{name}: a mean image of {means.size}x{means.size} cannot be taken off or put "
                f"back where images have {training_size} pixels",
                hint="set data.normalize to channel, or train at the teacher's size",
            )
    if dataset.depth and own.range and own.range != images.range:
        raise UsageError(
            f"{name}: the teacher's images span {own.range}, and these {images.range}",
            hint=f"--set data.range=[{own.range[0]:g},{own.range[1]:g}] shows both the same",
        )
    if network.outputs == "sigmoid" or dataset.several:
        raise UsageError(
            f"{name}: a teacher chooses one of all classes, and here an image may have several",
            hint="give a teacher and data of one class an image",
        )
    count = network.fc.out_features
    found = label(name, dict.fromkeys(dataset.classes, 1), network.classes, count, "listed")
    if found.strange:
        raise UsageError(
            f"{name}: the teacher does not know {', '.join(found.strange[:8])}"
            + (f" and {len(found.strange) - 8} more" if len(found.strange) > 8 else ""),
            hint="give a teacher of all the data's classes, called alike",
        )
    return Teacher(network, name, images, tuple(found.outputs[c] for c in dataset.classes))


def _opened(source: TeacherSource) -> tuple[str, ResNet]:
    if isinstance(source, ResNet):
        return IN_PYTHON, deepcopy(source)
    if not isinstance(source, str | Path):
        raise UsageError(
            f"teacher is a {type(source).__name__}",
            hint="give a run folder, a file, a model, or a name such as resnet20@cifar10",
        )
    name, there = str(source), Path(source).exists()
    model, at, weights = name.partition("@")
    if at and not there:
        if Path(weights).exists():
            weights = str(Path(weights).resolve())
        return f"{model}@{weights}", create_model(model, weights=weights).eval()
    return str(Path(source).resolve()) if there else name, restore(source)[0]


def _constants(images: Preprocess) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation in float64, in shapes that broadcast over a batch."""
    side = images.size if len(images.mean) > images.channels else 1
    mean = torch.tensor(images.mean, dtype=torch.float64).view(1, images.channels, side, side)
    return mean, torch.tensor(images.std, dtype=torch.float64).view(1, -1, 1, 1)
