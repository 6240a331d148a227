"""What mmengine makes of ``init_cfg``: how weights start, and which files its addresses mean.

mmengine itself is not imported. As there, values are set in the order of the list, and files that
are loaded come last.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from resnets.errors import CheckpointError, UsageError
from resnets.models import find_weights, open_weights
from resnets.nn.freezing import FixedBatchNorm2d
from resnets.readers.content import Content
from resnets.readers.reader import read
from resnets.spec import Spec
from resnets.weights import catalog
from resnets.weights.checkpoint import Checkpoint, open_checkpoint
from resnets.weights.fetch import fetch

# What mmengine/hub/openmmlab.json calls the residual networks that are built here. Files have the
# first digits of their SHA-256 in the name.
OPEN_MMLAB = {
    "resnet18_v1c": "resnet18_v1c-b5776b93",
    "resnet50_v1c": "resnet50_v1c-2cccc1ad",
    "resnet101_v1c": "resnet101_v1c-e67eebb6",
    "resnext50_32x4d": "resnext50-32x4d-0ab1a123",
    "resnext101_32x4d": "resnext101_32x4d-a5af3160",
    "resnext101_64x4d": "resnext101_64x4d-ee2c6f71",
    "resnet50_caffe": "resnet50_caffe-788b5fa3",  # an older name of the next but one
    "resnet101_caffe": "resnet101_caffe-3ad79236",
    "detectron/resnet50_caffe": "resnet50_caffe-788b5fa3",
    "detectron/resnet101_caffe": "resnet101_caffe-3ad79236",
    "detectron2/resnet50_caffe": "resnet50_msra-5891d200",
    "detectron2/resnet101_caffe": "resnet101_msra-6cc46731",
    "detectron2/resnext101_32x8d": "resnext101_32x8d-1516f1aa",
    "contrib/resnet50_gn": "resnet50_gn_thangvubk-ad1730dd",
    "detectron/resnet50_gn": "resnet50_gn-9186a21c",
    "detectron/resnet101_gn": "resnet101_gn-cac0ab98",
    "jhu/resnext50_32x4d_gn": "resnext50_32x4d_gn-c7e8b754",
    "jhu/resnext101_32x4d_gn": "resnext101_32x4d_gn-ac3bb84e",
}
_THIRD_PARTY = "https://download.openmmlab.com/pretrain/third_party/"


@dataclass(frozen=True)
class Start:
    """Values that the weights and biases of some modules start with."""

    fill: Callable[[Tensor], Any]
    bias: float
    layers: frozenset[str] | None  # names of their classes, or of what these derive from; None: all
    child: str = ""  # the part of the network that is meant, all of it by default

    def __call__(self, module: nn.Module) -> None:
        """Set a module's own values, if it is one of those."""
        if self.layers is not None and not self.layers & _class_names(module):
            return
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        try:
            if isinstance(weight, Tensor):
                self.fill(weight)
        except ValueError as error:  # no fan-in of a norm
            hint = "name the layer it is for, such as Conv2d"
            raise UsageError(f"init_cfg: {type(module).__name__}: {error}", hint=hint) from None
        if isinstance(bias, Tensor):
            nn.init.constant_(bias, self.bias)


@dataclass(frozen=True)
class Pretrained:
    """Weights that are loaded: those whose keys begin with ``prefix``."""

    checkpoint: str
    prefix: str = ""


def understand(init_cfg: Any) -> tuple[list[Start], list[Pretrained]]:
    """Return what an ``init_cfg``, a dict or a list of them, asks for.

    Raises UsageError for what it cannot mean.
    """
    starts, files = [], []
    for entry in _dicts(init_cfg, "init_cfg"):
        if _kind(entry) == "Pretrained":
            files.append(_pretrained(entry))
            continue
        plain = {name: value for name, value in entry.items() if name != "override"}
        starts.append(_start(plain))
        for override in _dicts(entry.get("override", ()), "override of init_cfg"):
            own = {name: value for name, value in override.items() if name != "name"}
            child = override.get("name")
            if not isinstance(child, str) or (own and "type" not in own):
                raise UsageError(
                    f"override of init_cfg is {dict(override)!r}",
                    hint="it needs a name, and a type where it has arguments of its own",
                )
            starts.append(replace(_start(own or plain), layers=None, child=child))
    return starts, files


def open_pretrained(pretrained: Pretrained, spec: Spec) -> Checkpoint:
    """Open the weights at a file's path or one of mmengine's addresses, for a network.

    PyTorch's files are taken as mmengine does: order of channels, stride and all are what the
    configuration says. Raises UsageError for an address that means nothing here, CheckpointError
    and ResourceError.
    """
    address, prefix = pretrained.checkpoint, pretrained.prefix
    scheme, separator, name = address.partition("://")
    file, entry = Path(address).expanduser(), None
    if scheme in ("open-mmlab", "openmmlab"):
        file = _fetched(_THIRD_PARTY + _of_open_mmlab(address, name))
    elif scheme in ("http", "https"):
        file = _fetched(address)
    elif scheme in ("torchvision", "modelzoo"):
        entry = _of_torchvision(name)
    elif separator:
        raise UsageError(
            f"{address}: nothing is known at {scheme}://",
            hint="give a file, https://, torchvision://MODEL or open-mmlab://NAME",
        )
    else:
        entry = find_weights(spec.name, address)[1]
    if entry is None and not file.is_dir():
        content = read(file)
        if content.format.startswith("PyTorch"):
            return _as_stored(content, prefix, spec)
    if prefix:
        raise UsageError(f'{address}: no key begins with "{prefix}"', hint="leave the prefix out")
    return open_weights(file, spec, entry)


def our_key(key: str) -> str:
    """Return the key that mmdetection's is here: group norms and deep stems have other names."""
    return re.sub(r"^stem\.(\d)\.", r"conv1.\1.", re.sub(r"^stem\.7\.", "bn1.", _usual(key)))


def their_key(key: str, spec: Spec) -> str:
    """Return the key that ours is in mmdetection's network."""
    if spec.stem == "deep":
        key = re.sub(r"^conv1\.(\d)\.", r"stem.\1.", re.sub(r"^bn1\.", "stem.7.", key))
    return re.sub(r"(^|\.)bn(\d)\.", r"\1gn\2.", key) if spec.norm == "group" else key


def _as_stored(content: Content, prefix: str, spec: Spec) -> Checkpoint:
    """Open a file as a state dict, which is not looked up: a known file might be read as RGB."""
    path, tree = content.path, content.tree
    state = tree.get("state_dict", tree) if isinstance(tree, dict) else tree
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: no state dict is in it", hint="check the name")
    if prefix:
        start = prefix.rstrip(".") + "."
        found = {str(key): value for key, value in state.items()}
        state = {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}
        if not state:
            words = ", ".join(sorted({key.partition(".")[0] for key in found})[:8])
            raise CheckpointError(
                f'{path}: no key in it begins with "{start}"', hint=f"its keys begin with {words}"
            )
    try:
        return replace(open_checkpoint(state, spec=spec), source=str(path))
    except CheckpointError as error:
        said = error.message.removeprefix("the state dict: ")
        raise CheckpointError(f"{path}: {said}", hint=error.hint) from None


def _usual(key: str) -> str:
    """Return a key with batch norms for group norms, and mmpretrain's pairs in a stem in a row."""
    key = re.sub(r"(^|\.)gn(\d)\.", r"\1bn\2.", key)
    pair = re.match(r"(.*\.)?stem\.(\d)\.(conv|bn)\.", key)
    if not pair:
        return key
    place = 3 * int(pair[2]) + (pair[3] == "bn")
    return f"{pair[1] or ''}stem.{place}.{key[pair.end() :]}"


def _of_torchvision(name: str) -> catalog.Entry:
    """Return the weights of "resnet50", "resnet50.imagenet1k_v2" or "resnet50.default"."""
    model, _, tag = name.lower().partition(".")
    model = model.removesuffix("_weights")
    if tag == "default" and (all_of_it := [e for e in _torchvision() if e.model == model]):
        return all_of_it[-1]  # the newest
    if not any(entry.model == model for entry in _torchvision()):
        known = ", ".join(dict.fromkeys(entry.model for entry in _torchvision()))
        raise UsageError(f'torchvision has no weights of "{name}" here', hint=f"it has {known}")
    # As mmengine does, which keeps what the bare name meant before there were any others.
    return catalog.find(model, f"torchvision.{tag.upper() or 'IMAGENET1K_V1'}")


def _torchvision() -> list[catalog.Entry]:
    return catalog.entries("torchvision.*")


def _of_open_mmlab(address: str, name: str) -> str:
    if name not in OPEN_MMLAB:
        raise UsageError(
            f"{address}: no such weights of a residual network that is built here",
            hint=f"there are {', '.join(OPEN_MMLAB)}",
        )
    return f"{OPEN_MMLAB[name]}.pth"


def _fetched(address: str) -> Path:
    """Return a file, verified where its name ends in the first digits of its SHA-256."""
    parts = urlsplit(address)
    path = PurePosixPath(parts.path.lstrip("/"))
    if not parts.hostname or not path.name or ".." in path.parts:
        raise UsageError(f"{address}: no address of a file", hint="check it; nothing was fetched")
    digits = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    file = catalog.RemoteFile(address, f"sha256:{digits[1]}" if digits else "")
    entry = catalog.Entry(parts.hostname, str(path.with_suffix("")), (file,), "mmdetection", {})
    return fetch(entry, report=partial(print, file=sys.stderr))


def _pretrained(entry: Mapping[str, Any]) -> Pretrained:
    checkpoint, prefix = entry.get("checkpoint"), entry.get("prefix") or ""
    unknown = entry.keys() - {"type", "checkpoint", "prefix", "map_location"}
    if unknown or not isinstance(prefix, str) or not isinstance(checkpoint, str):
        raise UsageError(
            f"init_cfg of the type Pretrained is {dict(entry)!r}",
            hint="it needs a checkpoint, and may have a prefix",
        )
    return Pretrained(checkpoint, prefix)  # where tensors are mapped to does not matter


def _start(entry: Mapping[str, Any]) -> Start:
    kind = _kind(entry)
    if kind not in _FILLS:
        raise UsageError(
            f"init_cfg has the type {kind!r}",
            hint=f"choose from {', '.join(_FILLS)}, Pretrained",
        )
    rest = {name: value for name, value in entry.items() if name not in (*_ALL_HAVE, "type")}
    fill, layers = partial(_FILLS[kind], **rest), entry.get("layer") or ()
    bias, probability = entry.get("bias", 0), entry.get("bias_prob")
    try:
        if probability is not None:  # of the positive class, which a sigmoid makes of the bias
            bias = -math.log((1 - probability) / probability)
        fill(torch.empty(1, 1, device="meta"))  # complains of its arguments, and draws nothing
        names = frozenset([layers] if isinstance(layers, str) else layers)
        return Start(fill, float(bias), names)
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        own = [name for name in list(signature(_FILLS[kind]).parameters)[1:] if name != "generator"]
        raise UsageError(
            f"init_cfg of the type {kind} is {dict(entry)!r}: {error}",
            hint=f"it takes {', '.join([*own, *_ALL_HAVE])}",
        ) from None


_ALL_HAVE = ("layer", "bias", "bias_prob")


def _dicts(given: Any, name: str) -> list[Mapping[str, Any]]:
    entries = [given] if isinstance(given, Mapping) and given else given or []
    if not isinstance(entries, Sequence) or not all(isinstance(e, Mapping) for e in entries):
        raise UsageError(f"{name} is {given!r}", hint="give a dict or a list of dicts")
    return list(entries)


def _kind(entry: Mapping[str, Any]) -> str:
    """Return the type's name; mmengine's newer configurations give the class itself."""
    kind = entry.get("type")
    return getattr(kind, "__name__", str(kind)).removesuffix("Init")


def _class_names(module: nn.Module) -> set[str]:
    names = {cls.__name__ for cls in (type(module), *type(module).__bases__)}
    # A batch norm whose statistics are fixed is an ordinary one there, in evaluation mode.
    return names | (
        {"BatchNorm2d", "_BatchNorm"} if isinstance(module, FixedBatchNorm2d) else set()
    )


def _kaiming(
    weight: Tensor,
    a: float = 0,
    mode: Any = "fan_out",
    nonlinearity: Any = "relu",
    distribution: str = "normal",
) -> None:
    draw = {"normal": nn.init.kaiming_normal_, "uniform": nn.init.kaiming_uniform_}[distribution]
    draw(weight, a, mode, nonlinearity)


def _xavier(weight: Tensor, gain: float = 1, distribution: str = "normal") -> None:
    draw = {"normal": nn.init.xavier_normal_, "uniform": nn.init.xavier_uniform_}[distribution]
    draw(weight, gain)


def _caffe2_xavier(weight: Tensor) -> None:
    nn.init.kaiming_uniform_(weight, a=1)


_FILLS: dict[str, Callable[..., Any]] = {
    "Constant": nn.init.constant_,
    "Xavier": _xavier,
    "Normal": nn.init.normal_,
    "TruncNormal": nn.init.trunc_normal_,
    "Uniform": nn.init.uniform_,
    "Kaiming": _kaiming,
    "Caffe2Xavier": _caffe2_xavier,
}
