"""What stands before a network's keys, and what else lies beside it in one state dict."""

from torch import Tensor

from resnets.errors import CheckpointError
from resnets.weights.state_dict import StateDict

# Wrappers and attributes that a network is put into.
PREFIXES = [
    *("module", "model", "models", "net", "network", "backbone", "body", "bottom_up", "resnet"),
    *("encoder", "encoder_q", "base_encoder", "online_encoder", "online_network", "teacher"),
    *("student", "ema", "trunk", "feature_extractor", "base_model", "base_network", "cnn"),
    *("visual", "generic_model", "_model"),
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
    *("neck", "fpn", "bbox_head", "rpn_head", "roi_head", "roi_heads", "mask_head", "decode_head"),
    *("auxiliary_head", "proposal_generator", "rpn", "decoder", "segmentation_head"),
    *("keypoint_head", "sem_seg_head", "transformer", "query_embed", "class_embed", "bbox_embed"),
    *("input_proj", "data_preprocessor", "aux_classifier"),
]
_OTHER_BEGINNINGS = ("fpn_", "pixel_mean", "pixel_std", "retina_head", "mask_rcnn")

# Counters and queues: no part of a network at inference.
_QUEUES = {"queue", "queue2", "queue_ptr"}
_COUNTERS = {"n_averaged", "num_updates", "decay", "lr"}


def strip(tensors: dict[str, Tensor], chosen: str = "") -> StateDict:
    """Take off every prefix that belongs to no network, in whatever order they come.

    ``chosen`` is the prefix to take where several networks stand side by side. Keys outside the
    prefix that may be weights (a projection head) stay as they are. Raises CheckpointError where
    several networks stand side by side and none is known to be the one.
    """
    tensors, prefix, ignored = _without_wrappers(tensors)
    chosen = chosen.strip(".").rpartition(".")[2]
    word, choice = "any", ""
    while word:
        groups = _groups(tensors)
        word, aside, words = _next_prefix(groups, tensors, chosen, inside=prefix != "")
        choice = words or choice
        for name in aside:
            count = f" ({len(groups[name])} tensors)" if len(groups[name]) > 1 else ""
            ignored.append(f"{prefix}{name}{count}")
            for key in groups[name]:
                del tensors[key]
        if word:
            tensors = _without(f"{word}.", tensors)
            prefix += f"{word}."
    if chosen and choice != chosen:
        raise CheckpointError(f"no network in it begins with {chosen}")
    return StateDict(tensors, choice, prefix, tuple(ignored))


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(prefix)
        if name in found or (name != key and name in tensors):
            raise CheckpointError(
                f"it holds {name} and {key}: two networks in one state dict",
                hint=f'choose one of them: container="{prefix[:-1]}" takes the second',
            )
        found[name] = tensor
    return found


def _without_wrappers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str, list[str]]:
    """Leave counters aside, and take off what wrappers have put anywhere into the names.

    Return the tensors, the wrappers as a prefix, and what was left aside.
    """
    found: dict[str, Tensor] = {}
    ignored: list[str] = []
    wrappers: dict[str, None] = {}
    for key, tensor in tensors.items():
        words = key.split(".")
        if words[-1] in _QUEUES or (words[-1] in _COUNTERS and tensor.numel() == 1):
            ignored.append(key)
            continue
        name = ".".join(word for word in words if word not in _WRAPPERS)
        wrappers.update((word, None) for word in words if word in _WRAPPERS)
        if name in found:
            raise CheckpointError(f"it holds {name} twice, wrapped and bare")
        found[name] = tensor
    return found, "".join(f"{word}." for word in wrappers), ignored


def _next_prefix(
    groups: dict[str, list[str]], tensors: dict[str, Tensor], chosen: str, *, inside: bool
) -> tuple[str, list[str], str]:
    """Return the next word to take off ("" at the end), which others to leave, and why it.

    A word is taken off where every key begins with it, or all but heads and other parts.
    """
    if chosen and chosen in groups:
        return chosen, [name for name in groups if name != chosen], chosen
    for word, twin in _TWINS:
        if word in groups and twin in groups:
            return word, [twin], f"{word} (not {twin})"
    candidates = [
        word for word in groups if word in PREFIXES and _OWN_PARTS.get(word) not in groups
    ]
    if not candidates:
        (only,) = groups if len(groups) == 1 else ("",)
        # An item of a Sequential or of a list of modules
        return only if only.isdigit() and inside else "", [], ""
    networks = [word for word in candidates if any(tensors[k].ndim == 4 for k in groups[word])]
    if len(networks) > 1:
        raise CheckpointError(
            f"it holds several networks in one state dict: {', '.join(networks)}",
            hint=f'choose one of them: container="{networks[0]}"',
        )
    word = (networks or candidates)[0]
    others = [name for name in groups if name != word and _is_other_part(name)]
    return word if networks or len(groups) == len(others) + 1 else "", others, ""


def _groups(tensors: dict[str, Tensor]) -> dict[str, list[str]]:
    """Return the keys by their first word."""
    groups: dict[str, list[str]] = {}
    for key in tensors:
        groups.setdefault(key.partition(".")[0], []).append(key)
    return groups


def _is_other_part(name: str) -> bool:
    return name in _OTHER_PARTS or name.startswith(_OTHER_BEGINNINGS)
