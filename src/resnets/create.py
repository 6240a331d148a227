"""From a name, a spec or a file to a model that is ready to use."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.data.preprocess import Preprocess, identity
from resnets.errors import CheckpointError, UsageError, nearest
from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.weights import passport
from resnets.zoo import get_spec


def create_model(model: str | Spec, *, weights: str | Path | None = None, **options: Any) -> ResNet:
    """Return the network of a name or spec, its weights fresh or from one of our own files.

    Options are fields of the spec: ``num_classes``, ``in_channels``, ``zero_init_residual`` and
    the rest. ``weights`` is a run folder or its model.safetensors. Raises UsageError for an unknown
    name or option and CheckpointError for weights that do not fit.
    """
    spec = get_spec(model) if isinstance(model, str) else model
    names = [f.name for f in fields(Spec)]
    for option in options:
        if option not in names:
            close = nearest(option, names)
            raise UsageError(
                f'create_model: unknown option "{option}"',
                hint=f"did you mean {close}?" if close else f"options are {', '.join(names)}",
            )
    spec = replace(spec, **options)
    network = ResNet(spec)
    network.preprocess = identity(spec.in_channels, spec.image_size)
    if weights is not None:
        _fill(network, Path(weights), *passport.load(Path(weights)))
    return network


def open_model(path: str | Path) -> ResNet:
    """Return the model that a run folder or weights file holds, in evaluation mode.

    Raises CheckpointError when there is none or it is damaged.
    """
    return restore(path)[0]


def restore(path: str | Path) -> tuple[ResNet, passport.Passport]:
    """Return the model that ``open_model`` returns, and its passport."""
    tensors, travel = passport.load(Path(path))
    network = create_model(travel.spec)
    _fill(network, Path(path), tensors, travel)
    return network.eval(), travel


def _function(spec: Spec) -> Spec:
    """Return the spec without what does not change the function that given weights compute."""
    return replace(spec, image_size=224, zero_init_residual=False)


def _fill(
    network: ResNet, path: Path, tensors: dict[str, Tensor], travel: passport.Passport
) -> None:
    """Put the weights of a file into a network, with what travels with them."""
    made_for = travel.spec
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys()) + [
        f"{key} {tuple(tensors[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in tensors and tensors[key].shape != tensor.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: its weights do not fit {network.spec.name}: {len(wrong)} tensors differ, "
            f"such as {wrong[0]}",
            hint=f"the file holds {made_for.name} with {made_for.num_classes} classes "
            f"and {made_for.in_channels} input channels",
        )
    if _function(made_for) != _function(network.spec):
        # Such as resnet50 and resnet50_v1: the same keys and shapes, another function.
        raise CheckpointError(
            f"{path}: its weights are for {made_for.name}, {made_for!r}, not for "
            f"{network.spec.name}, which has the same shapes and computes something else",
            hint=f'create_model("{made_for.name}", weights=...) is what they were trained as',
        )
    network.load_state_dict(tensors)
    network.classes = tuple(travel.classes)
    if travel.preprocess:
        network.preprocess = Preprocess.from_dict(travel.preprocess)
