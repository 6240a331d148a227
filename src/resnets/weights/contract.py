"""What has to become of an image before a network sees it, in words that travel with the file."""

from resnets.data.preprocess import Preprocess

_RANGE = "255 (v - {low:g}) / ({high:g} - {low:g}), clipped to 0..255"
_CONTAINER = "255 v / 65535, a float 255 v"


def contract(preprocess: Preprocess, form: str) -> dict[str, list[str]]:
    """Return in sentences what is left to the "caller" of a file, and what the "file" does itself.

    ``form`` is that of the file's input: "normalized", "pixels" or "pictures".
    """
    decoding = _decoding(preprocess)
    framing, normalising = [_framing(preprocess)], [_normalising(preprocess)]
    shapes = {
        "pictures": "The input is uint8 (N, H, W, C) of any size.",
        "pixels": "The input is uint8 (N, C, H, W).",
        "normalized": "The input is float32 (N, C, H, W).",
    }
    within = {
        "pictures": framing + normalising,
        "pixels": normalising,
        "normalized": [],
    }[form]
    outside = [s for s in decoding + framing + normalising if s not in within]
    return {"caller": [*outside, shapes[form]], "file": within}


def _decoding(preprocess: Preprocess) -> list[str]:
    scale = preprocess.scale
    how = _RANGE.format(low=scale[0], high=scale[1]) if isinstance(scale, tuple) else _CONTAINER
    colour = (
        "The channels are red, green and blue, in this order, of 8 bits."
        if preprocess.channels == 3
        else "The channel is grey, of 8 bits: 0.299 red + 0.587 green + 0.114 blue."
    )
    return [
        "An image is turned upright as its EXIF orientation says.",
        "What is transparent is composited on white.",
        f"Each number v of more than 8 bits becomes {how}, rounded.",
        colour,
    ]


def _framing(preprocess: Preprocess) -> str:
    side, size, method = preprocess.resize, preprocess.size, preprocess.interpolation
    how = f"({method}, antialiased, rounded to 8 bits after the rows and after the columns)"
    if preprocess.fit == "squash":
        return f"Both sides are scaled to {side} pixels {how}."
    if preprocess.fit == "pad":
        return (
            f"The longer side is scaled to {side} pixels, the other in proportion and rounded "
            f"{how}; black is put before and behind the shorter one until both are {side}, the odd "
            "pixel behind."
        )
    cut = f"{size} x {size} are cut out of the middle, from round((length - {size}) / 2) on"
    if preprocess.version == 1 and side != size:
        cut = (
            f"{side} x {side} are cut out of the middle, from round((length - {side}) / 2) on, and "
            f"of these {size} x {size} from {preprocess.frame.middle.start} on"
        )
    return (
        f"The shorter side is scaled to {side} pixels, the longer in proportion and rounded down "
        f"{how}; {cut}, where round takes a half to the even number."
    )


def _normalising(preprocess: Preprocess) -> str:
    if len(preprocess.mean) > preprocess.channels:
        mean = "the mean image in `preprocess.mean`"
    else:
        mean = ", ".join(f"{value:g}" for value in preprocess.mean)
    std = ", ".join(f"{value:g}" for value in preprocess.std)
    return f"A number v becomes (v / 255 - mean) / std, of the mean {mean} and the std {std}."
