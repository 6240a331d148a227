"""Protocols: what of an image is shown to a model, and how often, so that figures compare."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from resnets.data.framing import FITS
from resnets.data.preprocess import Preprocess
from resnets.errors import UsageError, check_name

MARGIN = 0.875  # of the image that ten crops are cut from, where the model's own leaves none
LARGEST = 8192  # pixels


@dataclass(frozen=True)
class Protocol:
    """How images are shown to a model; what is None is as its own preprocessing has it.

    A crop is ``size`` x ``size``, cut of the image at a shorter side of ``resize``, or of ``size``
    over ``crop_fraction`` rounded down, as timm does; where neither is said, they are to one
    another as in the model's own. ``fit`` is that of `resnets.data.framing.Frame`. ``crops`` are 1,
    the middle, or 10: the four corners and the middle of the square that the image is cut to, and
    their mirror images (Krizhevsky et al. 2012, sec. 4.1); of the ``whole`` scaled image, as
    torchvision's TenCrop has it. With ``scales`` whole images are shown at these shorter sides, and
    the classifier is slid over the last map in windows as large as that of ``size`` x ``size``
    (Simonyan and Zisserman 2015, sec. 3.2); or ten crops are cut of the image at each of them.
    ``tta`` shows mirror images too. Of all that is shown, the probabilities are averaged.

    Raises UsageError for settings that contradict each other.
    """

    name: str = field(default="", compare=False)  # of PROTOCOLS; of one's own settings ""
    size: int | None = None
    resize: int | None = None
    crop_fraction: float | None = None
    fit: str | None = None
    crops: int = 1
    whole: bool = False
    scales: tuple[int, ...] = ()
    tta: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))
        for pixels in (self.size, self.resize, *self.scales):
            if pixels is not None and not (isinstance(pixels, int) and 0 < pixels <= LARGEST):
                raise UsageError(f"{pixels} is no size of images", hint=f"pixels, up to {LARGEST}")
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"a crop fraction of {self.crop_fraction:g}",
                hint="it is the crop's side over the image's: above 0, and 1 at most",
            )
        if self.crops not in (1, 10):
            raise UsageError(f"{self.crops} crops", hint="it is 1, the middle, or 10")
        if self.fit is not None:
            check_name("fit", self.fit, FITS)
        if self.resize and self.crop_fraction:
            raise _both("resize", "crop_fraction", "each says the other")
        if self.crops == 10 and self.tta:
            raise _both("ten crops", "tta", "ten crops have their mirror images already")
        if self.scales and (self.resize or self.crop_fraction):
            raise _both("scales", "resize or crop_fraction", "scales are the shorter sides")

    def settled(self, preprocess: Preprocess) -> "Protocol":
        """Return the protocol for a model with this preprocessing, of which all is said.

        Raises UsageError where they do not go together.
        """
        size, fit = self.size or preprocess.size, self.fit or preprocess.fit
        if self.whole or self.dense:
            fit = "crop"
        if self.scales:
            if min(self.scales) < size:
                raise UsageError(
                    f"a scale of {min(self.scales)} is less than the {size} x {size} that are "
                    "seen at once",
                    hint="leave it out, or give a smaller size",
                )
            return replace(self, size=size, fit=fit)
        resize = self.resize or size * preprocess.resize // preprocess.size
        if self.crop_fraction:
            resize = int(size / self.crop_fraction + 1e-9)  # 126 / 0.7 is below 180
        if self.crops == 10 and resize == size:
            if self.resize or self.crop_fraction:
                raise UsageError(
                    f"ten crops of {size} x {size} in {size} x {size} are one and the same",
                    hint=f"leave it out: they are then cut of {int(size / MARGIN)}",
                )
            resize = max(size + 1, int(size / MARGIN))
        if resize < size:
            raise UsageError(
                f"a crop of {size} does not fit in images of {resize}",
                hint="resize must be at least size",
            )
        return replace(self, size=size, resize=resize, crop_fraction=None, fit=fit)

    @property
    def dense(self) -> bool:
        """Whether whole images are shown, and the classifier is slid over the last map."""
        return bool(self.scales) and self.crops == 1

    @property
    def views(self) -> int:
        """How many views of an image are shown."""
        return max(1, len(self.scales)) * self.crops * (2 if self.tta else 1)

    @property
    def sentence(self) -> str:
        """Say what a model sees, once all is said."""
        if self.size is None:
            return "as the model's file prepares images"
        crop, average = f"{self.size} x {self.size}", "; the average of their probabilities"
        if self.dense:
            sides = "shorter sides" if len(self.scales) > 1 else "a shorter side"
            shown = (
                f"whole images at {sides} of {_listed(self.scales)}, "
                f"the classifier slid over the map in windows as large as that of {crop}"
            )
        elif self.crops == 10:
            resized = self.scales or (self.resize,)
            side = _listed([f"{side} x {side}" for side in resized])
            area = {
                "crop": f"the central square scaled to {side}",
                "pad": f"the whole image beside black, {side}",
                "squash": f"the whole image scaled to {side}",
            }[self.fit or "crop"]
            if self.whole:
                area = f"the image scaled to a shorter side of {_listed(resized)}"
            return (
                f"ten crops of {crop}, the corners and the middle of {area}, and their mirror "
                f"images{average}"
            )
        elif self.fit == "pad":
            shown = f"the whole image beside black, {crop}"
        elif self.fit == "squash":
            shown = f"the whole image scaled to {crop}"
        elif self.size == self.resize:
            shown = f"the central square scaled to {crop}"
        else:
            shown = f"the middle {crop} of the image scaled to a shorter side of {self.resize}"
        mirrored = ", with mirror images" if self.tta else ""
        return f"{shown}{mirrored}{average if self.views > 1 else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, once all is said, as JSON-able values."""
        settings = asdict(self) | {"name": self.name or None, "scales": list(self.scales)}
        del settings["crop_fraction"]  # which ``resize`` says
        return settings | {"sentence": self.sentence}


OWN = Protocol()  # each model's
# The protocols that have a name, and who says so.
PROTOCOLS: Mapping[str, tuple[Protocol, str]] = {
    "torchvision": (
        Protocol(size=224, resize=256, fit="crop"),
        "torchvision, the transforms of weights IMAGENET1K_V1: Resize(256), CenterCrop(224); also "
        "fb.resnet.torch and He et al. 2015's single crop",
    ),
    "torchvision-v2": (
        Protocol(size=224, resize=232, fit="crop"),
        "torchvision, the transforms of weights IMAGENET1K_V2: Resize(232), CenterCrop(224)",
    ),
    "keras": (
        Protocol(crop_fraction=1.0, fit="squash"),
        "keras.utils.load_img(target_size=...) and image_dataset_from_directory(image_size=...), "
        "which scale both sides",
    ),
    "timm-0.875": (Protocol(crop_fraction=0.875, fit="crop"), "timm, crop_pct 0.875"),
    "timm-0.95": (Protocol(crop_fraction=0.95, fit="crop"), "timm, crop_pct 0.95"),
    "timm-1.0": (Protocol(crop_fraction=1.0, fit="crop"), "timm, crop_pct 1.0"),
    "he2015-ten-crops": (
        Protocol(size=224, resize=256, fit="crop", crops=10),
        "He et al. 2015, sec. 3.4 and Table 3; the crops are Krizhevsky et al. 2012's, sec. 4.1",
    ),
    "fb-ten-crops": (
        Protocol(size=224, resize=256, fit="crop", crops=10, whole=True),
        "fb.resnet.torch, TenCrop after Scale(256); torchvision's TenCrop after Resize(256)",
    ),
    "he2015-multi-scale": (
        Protocol(size=224, scales=(224, 256, 384, 480, 640), tta=True),
        "He et al. 2015, sec. 3.4 and Table 4; mirror images as in the two papers it names for it",
    ),
    "resnext-320": (
        Protocol(size=320, resize=320, fit="crop"),
        "Xie et al. 2017, Table 5, after He et al. 2016, Table 5; they state the crop, and the "
        "shorter side is taken as the same",
    ),
}


def asked(
    protocol: str | Protocol | None = None,
    *,
    size: int | None = None,
    resize: int | None = None,
    crop_fraction: float | None = None,
    crops: int | None = None,
    scales: Sequence[int] = (),
    tta: bool = False,
) -> Protocol:
    """Return a protocol by name, or the model's own, with these settings in place of its own.

    Another size alone keeps how crop and image are to one another. Raises UsageError for a name
    that there is not and for settings that contradict each other.
    """
    if isinstance(protocol, str):
        check_name("protocol", protocol, PROTOCOLS)
        base = replace(PROTOCOLS[protocol][0], name=protocol)
    else:
        base = protocol or OWN
    changes: dict[str, Any] = {
        "size": size,
        "resize": resize,
        "crop_fraction": crop_fraction,
        "crops": crops,
        "scales": tuple(scales),
        "tta": tta,
    }
    # A 0 was asked for, too, and is refused as any other.
    changes = {k: v for k, v in changes.items() if v is not None and v is not False and v != ()}
    if resize is not None or crop_fraction is not None or scales:
        changes = {"resize": None, "crop_fraction": None} | changes
    elif size and base.size and base.resize:
        changes |= {"resize": None, "crop_fraction": base.size / base.resize}
    return replace(base, name="", **changes) if changes else base


def _listed(sides: Sequence[Any]) -> str:
    *others, last = map(str, sides)
    return f"{', '.join(others)} and {last}" if others else last


def _both(one: str, other: str, why: str) -> UsageError:
    return UsageError(f"{one} and {other} at once: {why}", hint="leave one of them out")
