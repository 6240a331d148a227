"""`resnets distill`: what a network knows, learnt by a smaller one."""

from inspect import signature
from typing import Annotated, Any

import typer

from resnets.cli.options import option, with_parameters
from resnets.cli.train import train

_TEACHER = Annotated[
    str,
    typer.Argument(
        help="Whose answers are learnt: a run folder, a checkpoint in any format, or a model's "
        "name and weights, such as resnet50@torchvision.IMAGENET1K_V2 or resnet50@FILE.",
    ),
]


def distill(**given: Any) -> None:
    """Train a model on a teacher's answers beside the labels, and leave it in a run folder.

    The loss is (1 - w) that of the labels + w T^2 KL(teacher || model), w and T being the settings
    distill.weight and distill.temperature (Hinton et al. 2015). The teacher sees the very images
    that the model sees, augmented alike, and must know all of the data's classes by name. With
    --recipe beyer2022_imagenet it is patient: its answers alone, mixed images, 1,200 epochs. All
    else is as in `resnets train`.

    \b
    Examples:
      resnets distill runs/photos-resnet50 photos/ --model resnet18
      resnets distill runs/photos-resnet50 photos/ --model resnet18 --set distill.temperature=2
      resnets distill resnet50@torchvision.IMAGENET1K_V2 imagenet/ --recipe beyer2022_imagenet
    """
    train(**given)


# Those of `train`, its option ``teacher`` being the first argument.
_OTHERS = [each for name, each in signature(train).parameters.items() if name != "teacher"]
with_parameters(distill, [option("teacher", _TEACHER), *_OTHERS])
