"""What stands before a network's keys, and what else lies beside it in one state dict."""

from dataclasses import dataclass, field

from torch import Tensor

from resnets.errors import CheckpointError

# Wrappers and attributes that a network is put into.
PREFIXES = [
    "module",
    "model",
    "models",
    "net",
    "network",
    "backbone",
    "body",
    "bottom_up",
    "resnet",
    "encoder",
    "encoder_q",
    "base_encoder",
    "online_encoder",
    "online_network",
    "teacher",
    "student",
    "ema",
    "trunk",
    "feature_extractor",
    "base_model",
    "base_network",
    "cnn",
    "visual",
    "generic_model",
    "_model",
]

# Compilers and parallel wrappers put these anywhere into a name.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# Two networks of one kind in a file: the one to take, and the other.
_TWINS = [
    ("encoder_q", "encoder_k"),
    ("base_encoder", "momentum_encoder"),
    ("online_encoder", "target_encoder"),
    ("online_network", "target_network"),
    ("teacher", "student"),
    ("model", "model_ema"),
    ("model", "ema_model"),
    ("model", "ema"),
]

# A Hugging Face ResNet has an `encoder` of its own, beside its stem.
_OWN_PARTS = {"encoder": "embedder"}

# Parts of a detector, a segmenter or a self-supervised learner that stand beside its backbone.
_OTHER_PARTS = [
    "neck",
    "fpn",
    "bbox_head",
    "rpn_head",
    "roi_head",
    "roi_heads",
    "mask_head",
    "decode_head",
    "auxiliary_head",
    "proposal_generator",
    "rpn",
    "decoder",
    "segmentation_head",
    "keypoint_head",
    "sem_seg_head",
    "transformer",
    "query_embed",
    "class_embed",
    "bbox_embed",
    "input_proj",
    "data_preprocessor",
    "aux_classifier",
]
_OTHER_BEGINNINGS = ("fpn_", "pixel_mean", "pixel_std", "retina_head", "mask_rcnn")

# Counters and queues: no part of a network at inference.
_QUEUES = {"queue", "queue2", "queue_ptr"}
_COUNTERS = {"n_averaged", "num_updates", "decay", "lr"}


@dataclass
class Stripped:
    """Keys without what stood before them, and in words what was left aside."""

    tensors: dict[str, Tensor]
    prefix: str = ""
    choice: str = ""  # "encoder_q (not encoder_k)"
    ignored: list[str] = field(default_factory=list)


def strip(tensors: dict[str, Tensor], chosen: str = "") -> Stripped:
    """Take off every prefix that belongs to no network, in whatever order they come.

    ``chosen`` is the prefix to take where several networks stand side by side. Keys outside the
    prefix that may be weights (a projection head) stay as they are. Raises CheckpointError where
    several networks stand side by side and none is known to be the one.
    """
    result = _without_wrappers(tensors)
    chosen = chosen.strip(".").rpartition(".")[2]
    while word := _next_prefix(result, chosen):
        inside = {}
        for key, tensor in result.tensors.items():
            name = key.removeprefix(f"{word}.")
            if name in inside or (name != key and name in result.tensors):
                raise CheckpointError(
                    f"it holds {name} and {key}: two networks in one state dict",
                    hint=f'choose one of them: container="{word}" takes the second',
                )
            inside[name] = tensor
        result.tensors = inside
        result.prefix += f"{word}."
    if chosen and result.choice != chosen:
        raise CheckpointError(f"no network in it begins with {chosen}")
    return result


def _without_wrappers(tensors: dict[str, Tensor]) -> Stripped:
    """Leave counters aside, and take off what wrappers have put anywhere into the names."""
    result = Stripped({})
    wrappers: dict[str, None] = {}
    for key, tensor in tensors.items():
        words = key.split(".")
        if words[-1] in _QUEUES or (words[-1] in _COUNTERS and tensor.numel() == 1):
            result.ignored.append(key)
            continue
        name = ".".join(word for word in words if word not in _WRAPPERS)
        wrappers.update((word, None) for word in words if word in _WRAPPERS)
        if name in result.tensors:
            raise CheckpointError(f"it holds {name} twice, wrapped and bare")
        result.tensors[name] = tensor
    result.prefix = "".join(f"{word}." for word in wrappers)
    return result


def _next_prefix(result: Stripped, chosen: str) -> str:
    """Return the next word to take off, having left aside what is not the network; "" at the end.

    A word is taken off where every key begins with it, or all but heads and other parts.
    """
    groups = _groups(result.tensors)
    if chosen in groups:
        _leave(result, groups, [name for name in groups if name != chosen])
        result.choice = chosen
        return chosen
    for word, twin in _TWINS:
        if word in groups and twin in groups:
            _leave(result, groups, [twin])
            result.choice = f"{word} (not {twin})"
            return word
    candidates = [word for word in groups if word in PREFIXES and not _is_own_part(word, groups)]
    if not candidates:
        (only,) = groups if len(groups) == 1 else ("",)
        # An item of a Sequential or of a list of modules
        return only if only.isdigit() and result.prefix else ""
    networks = [word for word in candidates if _has_convolution(groups[word], result.tensors)]
    if len(networks) > 1:
        raise CheckpointError(
            f"it holds several networks in one state dict: {', '.join(networks)}",
            hint=f'choose one of them: container="{networks[0]}"',
        )
    word = (networks or candidates)[0]
    others = [name for name in groups if name != word]
    _leave(result, groups, [name for name in others if _is_other_part(name)])
    return word if networks or len(groups) == 1 else ""


def _leave(result: Stripped, groups: dict[str, list[str]], names: list[str]) -> None:
    for name in names:
        keys = groups.pop(name)
        for key in keys:
            del result.tensors[key]
        count = f" ({len(keys)} tensors)" if len(keys) > 1 else ""
        result.ignored.append(f"{result.prefix}{name}{count}")


def _groups(tensors: dict[str, Tensor]) -> dict[str, list[str]]:
    """Return the keys by their first word."""
    groups: dict[str, list[str]] = {}
    for key in tensors:
        groups.setdefault(key.partition(".")[0], []).append(key)
    return groups


def _is_own_part(word: str, groups: dict[str, list[str]]) -> bool:
    return _OWN_PARTS.get(word) in groups


def _is_other_part(name: str) -> bool:
    return name in _OTHER_PARTS or name.startswith(_OTHER_BEGINNINGS)


def _has_convolution(keys: list[str], tensors: dict[str, Tensor]) -> bool:
    return any(tensors[key].ndim == 4 for key in keys)
