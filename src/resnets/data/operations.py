"""What a policy's operations do to one image: Pillow's arithmetic, as in torchvision and timm."""

from typing import NamedTuple

from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Resampling, Transform

Drawn = tuple["Operation", ...]  # for one image, in the order in which they are applied


class Operation(NamedTuple):
    """An operation by name, how far it goes, and how it samples the image if it moves pixels.

    Amounts are what Pillow is given: of a shear its slope, of a translation pixels (by which the
    source is read further right or down), of a rotation degrees counter-clockwise, of
    enhancements the factor, of "Hue" turns of the circle, of "Posterize" the bits that are kept, of
    "Solarize" the least level that is inverted, of "SolarizeAdd" what is added to the dark half
    (at most 127).
    """

    name: str
    amount: float = 0.0
    resampling: Resampling = Resampling.NEAREST


def apply(image: Image.Image, operation: Operation, fill: tuple[int, ...]) -> Image.Image:
    """Return an image of mode RGB or L after an operation; ``fill`` (C,) comes in from outside.

    Raises ValueError for an operation that there is none of.
    """
    name, amount, resampling = operation
    match name:
        case "Identity":
            return image
        case "ShearX" | "ShearY" | "TranslateX" | "TranslateY":
            matrix = {
                "ShearX": (1, amount, 0, 0, 1, 0),
                "ShearY": (1, 0, 0, amount, 1, 0),
                "TranslateX": (1, 0, amount, 0, 1, 0),
                "TranslateY": (1, 0, 0, 0, 1, amount),
            }[name]
            return image.transform(image.size, Transform.AFFINE, matrix, resampling, fillcolor=fill)
        case "Rotate":
            return image.rotate(amount, resampling, fillcolor=fill)
        case "Brightness" | "Contrast" | "Color" | "Sharpness":
            enhanced: Image.Image = getattr(ImageEnhance, name)(image).enhance(amount)
            return enhanced
        case "Hue":
            return _turn_hue(image, int(255 * amount))
        case "Posterize":
            # timm's strongest keeps no bits, and ImageOps.posterize no longer does that.
            return _mapped(image, [level & -(256 >> int(amount)) for level in range(256)])
        case "Solarize":
            return ImageOps.solarize(image, int(amount))
        case "SolarizeAdd":
            dark = [min(255, level + int(amount)) for level in range(128)]
            return _mapped(image, [*dark, *range(128, 256)])
        case "Invert":
            return ImageOps.invert(image)
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case _:
            raise ValueError(f"there is no operation {name}")


def _mapped(image: Image.Image, levels: list[int]) -> Image.Image:
    """Return an image with each level of each channel replaced by the one in its place."""
    return image.point(levels * len(image.getbands()))


def _turn_hue(image: Image.Image, steps: int) -> Image.Image:
    """Turn each colour by so many of the 256 steps of Pillow's hue circle."""
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = _mapped(hue, [(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
