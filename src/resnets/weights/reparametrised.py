"""Weights that a file keeps in pieces: pruning masks, weight norm, spectral norm, multiplied out.

A piece is computed with the very operations that torch has for it in evaluation, so that the
result is what torch's own ``remove`` functions leave, to the bit.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.weights.tensors import name_of

_OLD = re.compile(r"(?P<plain>.+)_(?P<piece>orig|mask|g|u|v)")
_NEW = re.compile(
    r"(?P<module>(?:.+\.)?)parametrizations\.(?P<name>[^.]+)\.(?P<piece>original[01]?|\d+\..+)"
)
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
Pieces = dict[str, str]  # what a piece is called, such as "mask" -> its key in the file


def multiplied_out(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors with whole weights in place of their pieces, and by key what was done.

    A weight stands where the first of its pieces stood, under the name that it had before it was
    taken apart; everything else stays as it is. Read are ``torch.nn.utils.prune``, both kinds of
    ``weight_norm`` and both of ``spectral_norm``; a parametrisation on top of another leaves a key
    only where it has tensors of its own. Raises CheckpointError, with the keys, where the file
    does not say how a weight is computed, or where its pieces do not fit together.
    """
    whole: dict[str, Tensor] = {}
    done: dict[str, str] = {}
    owners: dict[str, str] = {}  # key in the file -> the weight that takes its place
    for plain, keys in _taken_apart(tensors).items():
        found = _whole(plain, keys, tensors)
        if found is not None:
            whole[plain], done[plain] = found
            owners |= dict.fromkeys((*keys.values(), plain), plain)
    result: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        plain = owners.get(key, key)
        result[plain] = whole.get(plain, tensor)
    return result, done


def _taken_apart(tensors: Mapping[str, Tensor]) -> dict[str, Pieces]:
    """Return the pieces of each weight that may have been taken apart."""
    found: dict[str, Pieces] = {}
    for key in tensors:
        if match := _NEW.fullmatch(key):
            found.setdefault(match["module"] + match["name"], {})[match["piece"]] = key
        elif match := _OLD.fullmatch(key):
            found.setdefault(match["plain"], {})[match["piece"]] = key
    return found


def _whole(plain: str, keys: Pieces, tensors: Mapping[str, Tensor]) -> tuple[Tensor, str] | None:
    """Return a weight and how it came about; None where these keys are no pieces of one."""
    if recipe := _RECIPES.get(frozenset(keys)):
        compute, words = recipe
        if plain not in tensors:
            value = None
            if _can_compute([tensors[key] for piece, key in keys.items() if piece != "mask"]):
                with torch.no_grad():
                    value = compute(*(tensors[keys[piece]] for piece in sorted(keys)))
            if value is None:
                raise _unfit(plain, keys, tensors)
            return value, words
    if keys.keys() == {"orig", "u"} and plain in tensors:
        # torch before 1.0 wrote down what it had computed
        return tensors[plain], "as stored beside what it was computed from (spectral norm)"
    if keys.keys() == {"mask"} and plain in tensors:
        return _already_masked(plain, keys["mask"], tensors)
    is_parametrised = any("parametrizations." in key for key in keys.values())
    if is_parametrised or len(keys.keys() & {"orig", "mask", "u"}) > 1:
        raise CheckpointError(
            f"nothing says how {plain} is computed from {', '.join(keys.values())}",
            hint="save it after torch.nn.utils.parametrize.remove_parametrizations, "
            "prune.remove or remove_spectral_norm, which write the weight itself",
        )
    return None


def _can_compute(pieces: list[Tensor]) -> bool:
    """Tell whether all are of one type; torch's weight norm ends the process where one is empty."""
    kinds = {tensor.dtype for tensor in pieces}
    return len(kinds) == 1 and kinds <= _FLOATS and all(tensor.numel() for tensor in pieces)


def _already_masked(
    plain: str, key: str, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, str] | None:
    """Return a weight whose mask changes nothing more; None where the other is no mask of it."""
    weight, mask = tensors[plain], tensors[key]
    if weight.shape != mask.shape or mask.is_meta or not ((mask == 0) | (mask == 1)).all():
        return None
    if weight[mask == 0].any():
        raise CheckpointError(
            f"{key} masks values of {plain} that are not zero, and nothing says whether the "
            "network multiplies them",
            hint="save their product as the weight, without the mask",
        )
    return weight, f"{key.rpartition('.')[2]} is left out: the weight is zero where it is"


def _masked(mask: Tensor, original: Tensor) -> Tensor | None:
    """Zero what is pruned: torch.nn.utils.prune."""
    return mask.to(original.dtype) * original if mask.shape == original.shape else None


def _normed(scale: Tensor, direction: Tensor) -> Tensor | None:
    """Give a direction its length, as a whole or along one axis (Salimans & Kingma 2016)."""
    if scale.ndim != direction.ndim:
        axes = [-1] if scale.numel() == 1 and scale.ndim < 2 else []  # -1: of the whole tensor
    else:
        axes = [
            axis
            for axis, size in enumerate(direction.shape)
            if scale.shape == tuple(size if n == axis else 1 for n in range(direction.ndim))
        ]
    return torch._weight_norm(direction, scale, axes[0]) if axes else None


def _spectral(original: Tensor, u: Tensor, v: Tensor) -> Tensor | None:
    """Divide by the largest singular value, in evaluation u^T W v (Miyato et al. 2018)."""
    if u.ndim != 1 or v.ndim != 1:
        return None
    for axis, size in enumerate(original.shape):
        if (size, original.numel()) == (len(u), len(u) * len(v)):
            matrix = original.movedim(axis, 0).reshape(size, -1)
            return original / torch.dot(u, torch.mv(matrix, v))
    return None


# By which pieces there are; each function takes them in the order of their names.
_Recipe = tuple[Callable[..., Tensor | None], str]
_WEIGHT_NORM: _Recipe = (_normed, "multiplied out: a length times a direction (weight norm)")
_SPECTRAL: _Recipe = (_spectral, "divided by its largest singular value (spectral norm)")
_RECIPES: dict[frozenset[str], _Recipe] = {
    frozenset(("mask", "orig")): (_masked, "multiplied by its mask (pruning)"),
    frozenset(("g", "v")): _WEIGHT_NORM,
    frozenset(("original0", "original1")): _WEIGHT_NORM,
    frozenset(("orig", "u", "v")): _SPECTRAL,
    frozenset(("0._u", "0._v", "original")): (lambda u, v, w: _spectral(w, u, v), _SPECTRAL[1]),
}


def _unfit(plain: str, keys: Pieces, tensors: Mapping[str, Tensor]) -> CheckpointError:
    pieces = {key: tensors[key] for key in keys.values()}
    shapes = ", ".join(
        f"{key} {tuple(piece.shape)} {name_of(piece.dtype)}" for key, piece in pieces.items()
    )
    return CheckpointError(
        f"{plain} cannot be computed from its pieces, which do not fit together: {shapes}",
        hint="copy or download the file again",
    )
