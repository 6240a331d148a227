"""save_weights: a network into a file, under our names or somebody else's."""

import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from resnets.data.preprocess import known
from resnets.errors import CheckpointError, UsageError
from resnets.files import followed, write_bytes, write_json
from resnets.nn import ResNet
from resnets.weights import outputs
from resnets.weights.beside import PROBLEMS
from resnets.weights.calibration import Calibration
from resnets.weights.checkpoint import NATIVE
from resnets.weights.fit import HEAD
from resnets.weights.load import Network, unwrapped
from resnets.weights.metadata import Metadata, check_made
from resnets.weights.native import write_native
from resnets.weights.translate import to_dialect

FILE_ENDINGS = (".pth", ".pt", ".bin", ".th", ".pkl", ".safetensors")


def save_weights(
    model: nn.Module,
    path: str | Path,
    *,
    dialect: str = NATIVE,
    made: dict[str, Any] | None = None,
    head: bool = True,
) -> None:
    """Write a network's weights to ``path``, whole or not at all.

    ``model`` is a ResNet, also one that DataParallel or torch.compile wraps; or a Backbone, in
    other dialects than our own.

    "native" is safetensors with metadata: spec, preprocessing, class names, what the outputs
    mean, ``made`` (how it came about), and a SHA-256 for each tensor. What nobody has said is in it
    as unknown. Other dialects are "torchvision", "timm", "detectron2",
    "mmlab", "huggingface", "keras" and the rest of `resnets.weights.dialects`: a state dict as
    torch.save writes it, or plain safetensors where ``path`` ends so; detectron2's own pickle where
    it ends in .pkl; a folder with config.json for Hugging Face where it does not end like a file;
    HDF5 for Keras. ``head=False`` leaves the classifier out.

    Raises CheckpointError, with the reason, for a net that the dialect cannot hold, UsageError for
    an unknown dialect, what `check_ending` says, layers that are no longer the spec's, class names
    that are not the outputs' and a ``made`` that could not be read again, and ResourceError.
    """
    network = unwrapped(model, "save_weights")
    path, state = Path(path), network.state_dict()
    check_ending(path, dialect)
    path = followed(path)
    if not head:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    if dialect == NATIVE:
        whole = _whole(network)
        check_classifier(whole)
        _check_meaning(whole)
        _check_layers(whole)
        try:
            check_made(made or {})
        except CheckpointError as error:
            raise UsageError(error.message, hint="give `made` as training writes it") from None
        write_native(path, state, Metadata.of(whole, made or {}, known(whole.preprocess)))
        return
    if dialect == "keras":
        from resnets.weights.keras.keras_write import for_applications, write_keras

        write_keras(path, *for_applications(state, network.spec))
        return
    folder = dialect == "huggingface" and path.suffix not in FILE_ENDINGS
    # The names are the same for either stride; in a folder the config says which it is.
    spec = replace(network.spec, bottleneck_stride="3x3") if folder else network.spec
    tensors = to_dialect(state, spec, dialect)
    if folder:
        config = _huggingface_config(_whole(network))
        write_bytes(path / "model.safetensors", _safetensors(tensors))
        write_json(path / "config.json", config)
    elif path.suffix == ".safetensors":
        write_bytes(path, _safetensors(tensors))
    elif path.suffix == ".pkl" and dialect == "detectron2":
        arrays = {key: _array(tensor) for key, tensor in tensors.items()}
        about = {"__author__": "resnets", "matching_heuristics": True}
        write_bytes(path, pickle.dumps({"model": arrays, **about}, protocol=4))
    else:
        buffer = io.BytesIO()
        torch.save(OrderedDict(tensors), buffer)
        write_bytes(path, buffer.getvalue())


def _whole(network: Network) -> ResNet:
    """Return a network that has all that is said of one. Raises UsageError for a backbone."""
    if not isinstance(network, ResNet):
        raise UsageError(
            "save_weights: a backbone is not the whole network that such a file is of",
            hint="torch.save(backbone.state_dict(), path), which load_weights reads",
        )
    return network


def _check_layers(model: ResNet) -> None:
    """Raise UsageError for layers that were put in by hand: a file without their spec is lost.

    A classifier may be missing.
    """
    with torch.device("meta"):
        spec_says = ResNet(model.spec).tensors
    planned = {key: tuple(tensor.shape) for key, tensor in spec_says.items()}
    built = {key: tuple(tensor.shape) for key, tensor in model.tensors.items()}
    odd = [key for key in {**built, **planned} if built.get(key) != planned.get(key)]
    if not odd or (set(odd) == set(HEAD) and not built.keys() & set(HEAD)):
        return
    key = odd[0]
    layer = key.rpartition(".")[0]
    hint = "torch.save(model.state_dict(), path) keeps layers of your own"
    if layer.startswith("fc"):
        hint = "model.reset_classifier(num_classes) makes a classifier that files can say"
    elif layer.startswith("conv1"):
        hint = f'create_model("{model.spec.name}", in_channels=...) makes another first layer'
    raise UsageError(
        f"{key} is {built.get(key, 'missing')}, its spec says {planned.get(key, 'none')}", hint=hint
    )


def check_classifier(model: ResNet) -> None:
    """Raise UsageError where outputs are not as many as the spec says, or as there are names."""
    count, classes = model.spec.num_classes, model.classes
    *_, last = [torch.empty(count), *model.fc.parameters()]  # of a head that may have layers
    if (found := len(last)) != count:
        raise UsageError(
            f"the classifier has {found:,} outputs, its spec says {count:,}",
            hint=f"model.spec = dataclasses.replace(model.spec, num_classes={found})",
        )
    if not outputs.fits(classes, count, outputs.checked(model.outputs)):
        raise _misnamed(classes, count)


def _misnamed(classes: Sequence[str], count: int) -> UsageError:
    return UsageError(
        f"there are {len(set(classes)):,} different class names for {count:,} outputs",
        hint="set model.classes to one name for each, or to ()",
    )


def _check_meaning(model: ResNet) -> None:
    """Raise UsageError for names, thresholds or a calibration that a file could not say."""
    count, classes, meaning = model.spec.num_classes, model.classes, model.outputs
    if len(set(classes)) < len(classes):
        raise _misnamed(classes, count)
    levels = model.thresholds
    fit = (len(levels), meaning) == (count, "sigmoid") and all(0 <= t <= 1 for t in levels)
    if levels and not fit:
        raise UsageError(
            f"{len(levels):,} thresholds are no probabilities of {count:,} classes: {meaning}",
            hint='set model.thresholds to one for each, 0 to 1, and model.outputs to "sigmoid"; '
            "or to ()",
        )
    try:
        if model.calibration:
            Calibration.from_dict(model.calibration.to_dict(), count)
    except ValueError as error:
        raise UsageError(
            f"the calibration does not fit the classifier: {error}",
            hint="set model.calibration to None",
        ) from None


def check_ending(path: Path, dialect: str) -> None:
    """Raise UsageError for a file of ours whose ending promises another format."""
    if dialect == NATIVE and path.suffix not in ("", ".safetensors"):
        raise UsageError(
            f"{path}: our own files are safetensors",
            hint="let it end so, or choose a dialect such as torchvision",
        )


def _array(tensor: Tensor) -> Any:
    # NumPy has no bfloat16; float32 holds its values.
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _safetensors(tensors: dict[str, Tensor]) -> bytes:
    return save({key: tensor.clone() for key, tensor in tensors.items()}, {"format": "pt"})


def _huggingface_config(model: ResNet) -> dict[str, Any]:
    """Return what transformers' ResNetConfig needs to build the same network."""
    spec = model.spec
    names = model.classes or tuple(f"LABEL_{i}" for i in range(spec.num_classes))
    problems = {meaning: problem for problem, meaning in PROBLEMS.items()}
    return {
        **({"problem_type": problems[model.outputs]} if model.outputs else {}),
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": spec.in_channels,
        "embedding_size": spec.stem_width,
        "hidden_sizes": list(spec.channels),
        "depths": list(spec.depths),
        "layer_type": spec.block,
        "hidden_act": spec.activation,
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": spec.bottleneck_stride == "1x1",
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
