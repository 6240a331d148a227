"""What each stage of a network computes for images, and where in them it finds a class.

Hooks listen while the network runs as it always does; afterwards it is as it was before: hooks,
mode, weights, statistics, gradients and what requires them.
"""

import torch
from torch import Tensor, nn

from resnets.analysis.responses import heard
from resnets.nn import ResNet


def stage_maps(model: ResNet, images: Tensor) -> dict[str, Tensor]:
    """Return the maps (N, C, H, W) of each stage, "stem", "layer1" and so on, in evaluation mode.

    The stem's are those before its pooling. A stage of a pre-activation net ends in a sum that the
    next block activates, so its maps may be negative; the last stage's are what the classifier
    reads, after the last norm and activation. ``images`` is a float batch (N, in_channels, H, W).
    """
    with heard(model, _stages(model)) as maps, torch.no_grad():
        model(images)
    return maps


def of_answers(logits: Tensor, answers: int) -> Tensor:
    """Return the logits of so many answers: one sigmoid of two classes speaks for and against."""
    return torch.cat([-logits, logits], 1) if (logits.shape[1], answers) == (1, 2) else logits


def grad_cam(model: ResNet, images: Tensor, classes: Tensor, answers: int = 0) -> dict[str, Tensor]:
    """Return where each stage finds each class, (N, K, H, W) at the size of the stage's maps.

    Selvaraju et al. 2017, eq. 1 and 2: a channel's weight is the mean over its map of the gradient
    of the class's logit; the weighted sum of the maps is cut off below zero, and not scaled.
    ``images`` is a float batch (N, in_channels, H, W), ``classes`` int64 (N, K) of so many
    ``answers``, where these are not the outputs.
    """
    # Also inside no_grad() and inference_mode(); and where all parameters are frozen, for the
    # gradient is asked of the maps, which depend on the images.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        heard(model, _stages(model)) as maps,
    ):
        logits = of_answers(model(images.detach().clone().requires_grad_()), answers)
        found: dict[str, list[Tensor]] = {name: [] for name in maps}
        # In evaluation mode images do not influence each other, so one sum serves them all.
        for total in logits.gather(1, classes.clone()).sum(0):
            gradients = torch.autograd.grad(total, list(maps.values()), retain_graph=True)
            for (name, values), gradient in zip(maps.items(), gradients, strict=True):
                weights = gradient.mean((2, 3), keepdim=True)
                found[name].append((weights * values).detach().sum(1).relu())
    return {name: torch.stack(cams, 1) for name, cams in found.items()}


def telling(cams: dict[str, Tensor]) -> Tensor:
    """Return the maps of the last stage that tells places apart: of 4 x 4 and more, or the first's.

    Of small images the last stages have a position or four left, which say nothing of where.
    """
    stages = [cam for name, cam in cams.items() if name != "stem"]
    return next((cam for cam in reversed(stages) if min(cam.shape[2:]) >= 4), stages[0])


def _stages(model: ResNet) -> dict[str, nn.Module]:
    """Return for each stage the module whose output is the stage's maps."""
    found: dict[str, nn.Module] = {"stem": model.activation}
    found |= {f"layer{i + 1}": stage for i, stage in enumerate(model.stages)}
    found[f"layer{len(model.stages)}"] = model.last_activation
    return found
