"""What Hugging Face's ``preprocessor_config.json`` says of how a network's images are prepared."""

from collections.abc import Mapping
from typing import Any

from resnets.weights.dialects import Input
from resnets.weights.stated_spec import SIDE

FILE = "preprocessor_config.json"
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_SQUASHED = 384  # ConvNeXt's processor, ResNet's too, scales both sides alike only below it
_CROP_SHARE = 224 / 256  # of the scaled image, where nothing says it


class _UnreadError(ValueError):
    """What is said, and is nothing that preprocessing here does."""


def read_processor(config: Mapping[str, Any]) -> tuple[Input | None, dict[str, Any], list[str]]:
    """Return what an image processor's config says: constants, fields of a Preprocess, and notes.

    What it says and cannot be meant or done here is named in a note, and left out.
    """
    images, frame, notes = None, {}, []
    for read in (_constants, _frame) if config else ():
        try:
            found = read(config)
        except _UnreadError as reason:
            notes.append(f"{FILE}: not used, {reason}")
            continue
        if isinstance(found, Input):
            images = found
        else:
            frame = found
    resample = config.get("resample")
    if frame and resample in _RESAMPLE:
        frame["interpolation"] = _RESAMPLE[resample]
    elif frame and resample is not None:
        notes.append(f"{FILE}: resample {resample!r:.20} is not done here; taken as bilinear")
    if images or frame:
        notes.append(f"its images are prepared as {FILE} says")
    return images, frame, notes


def _constants(config: Mapping[str, Any]) -> Input:
    """Return (pixel / 255 - mean) / std, of (pixel * factor - image_mean) / image_std."""
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    scale = _numbers([factor], "rescale_factor")[0] * 255
    said: dict[str, Any] = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    if config.get("do_normalize", True):
        said = {name: config.get(name) for name in said}
    mean, std = (_numbers(value, name) for name, value in said.items())
    if len(mean) != len(std) or not scale > 0 or not min(std) > 0:
        raise _UnreadError("as its image_mean, image_std and rescale_factor do not fit")
    # 255 times the nearest number to 1 / 255 need not be 1.
    mean, std = (tuple(float(f"{v / scale:.10g}") for v in values) for values in (mean, std))
    return Input(mean, std, bgr=config.get("do_flip_channel_order") is True)


def _frame(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``resize``, ``size`` and ``fit``; nothing where images keep their size."""
    if not config.get("do_resize", True) or "size" not in config:
        return {}
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    size = config["size"]
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    crop = config.get("crop_size") if config.get("do_center_crop") else None
    if kind.startswith("ConvNext") or "crop_pct" in config:
        side = _side(edge, "size")
        if side >= _SQUASHED:
            return {"resize": side, "size": side, "fit": "squash"}
        (share,) = _numbers([config.get("crop_pct") or _CROP_SHARE], "crop_pct")
        if not 0 < share <= 1:
            raise _UnreadError(f"as its crop_pct is {share:g}")
        return {"resize": _side(int(side / share), "size / crop_pct"), "size": side}
    if edge is None:
        side = _square(size, "size")
        if crop not in (None, side) and _square(crop, "crop_size") != side:
            raise _UnreadError("as it crops what it has squashed")
        return {"resize": side, "size": side, "fit": "squash"}
    if crop is None or not isinstance(size, Mapping):
        raise _UnreadError(f"as its size {size!r:.60} does not say what square is seen")
    side, seen = _side(edge, "size"), _square(crop, "crop_size")
    if seen > side:
        raise _UnreadError(f"as its crop of {seen} is larger than its images of {side}")
    return {"resize": side, "size": seen}


def _square(value: Any, name: str) -> int:
    sides = [value.get(n) for n in ("height", "width")] if isinstance(value, Mapping) else [value]
    if len(set(map(repr, sides))) > 1:
        raise _UnreadError(f"as its {name} is no square: {value!r:.60}")
    return _side(sides[0], name)


def _side(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= SIDE:
        raise _UnreadError(f"as its {name} is {value!r:.40}")
    return value


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    fits = isinstance(value, list) and 0 < len(value) <= 16
    if not fits or not all(type(v) in (int, float) and abs(v) < 1e9 for v in value):
        raise _UnreadError(f"as its {name} is {value!r:.60}")
    return tuple(map(float, value))
