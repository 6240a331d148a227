"""What ``--preprocess`` says: how images are prepared for a network whose file does not say."""

from dataclasses import replace
from math import isfinite
from typing import Any

from resnets.data.preprocess import Preprocess, imagenet, stored_side
from resnets.errors import UsageError

_FORM = (
    'imagenet, or the constants of pixels from 0 to 1 such as "mean=0.4914,0.4822,0.4465 '
    'std=0.2023,0.1994,0.2010", and where they differ from the usual resize=, size=, interpolation='
)


def preprocessing(text: str, channels: int, size: int) -> Preprocess:
    """Return the preprocessing that a text says, for a network's channels and size of images.

    It is "imagenet", or words such as "mean=0.5 std=0.25": one number, or one for each channel, of
    pixels from 0 to 1; further words are ``size`` and ``resize`` in pixels, and ``interpolation``.
    Raises UsageError for anything else.
    """
    if text == "imagenet":
        return imagenet(channels, size)
    settings = dict(word.split("=", 1) for word in text.split() if "=" in word)
    if not {"mean", "std"} <= settings.keys() or len(settings) != len(text.split()):
        raise UsageError(f'no preprocessing is called "{text}"', hint=f"there is: {_FORM}")
    mean, std = (_numbers(name, settings.pop(name), channels) for name in ("mean", "std"))
    if min(std) <= 0:
        raise UsageError(f"--preprocess: std is {min(std):g}", hint="it divides: give more than 0")
    whole = {
        name: _pixels(name, settings.pop(name)) for name in ("size", "resize") if name in settings
    }
    side = whole.get("size", size)
    values: dict[str, Any] = {"interpolation": settings.pop("interpolation", "bilinear")}
    if settings:
        raise UsageError(
            f"--preprocess: there is no {next(iter(settings))}", hint=f"there is: {_FORM}"
        )
    return replace(
        Preprocess(channels, whole.get("resize", stored_side(side)), side, mean, std), **values
    )


def _numbers(name: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, channels) or not all(map(isfinite, numbers)):
        raise UsageError(
            f'--preprocess: {name} is "{text}"',
            hint=f"give {channels} numbers with commas between, or one for all channels",
        )
    if max(map(abs, numbers)) > 1.5:
        raise UsageError(
            f'--preprocess: {name} is "{text}", more than pixels from 0 to 1 can have',
            hint="divide constants of pixels from 0 to 255 by 255",
        )
    return numbers * (channels // len(numbers))


def _pixels(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UsageError(f'--preprocess: {name} is "{text}"', hint="give a number of pixels")
    return int(text)
