"""What becomes of an image in a pack: the file that it is, a smaller JPEG, or bare pixels."""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from resnets.data.depth import Deep
from resnets.data.images import read_file
from resnets.errors import UsageError
from resnets.formatting import printable

_JPEG = (".jpg", ".jpeg")
_LONGEST = 65_500  # side that libjpeg writes


@dataclass(frozen=True)
class Encoding:
    """What becomes of an image in a pack.

    With ``side`` its shorter side is scaled to that where it is longer. The filter is the one of
    training and evaluation, bilinear and antialiased: with ``raw`` an evaluation at that side sees
    the very pixels that it would make of the original. What needs no scaling stays the file it is,
    unless ``raw`` asks for its pixels. So do images of more than 8 bits, whose range is the whole
    data set's and not known here.
    """

    side: int = 0
    quality: int = 95  # of JPEG, with colours at full resolution
    raw: bool = False  # pixels as PPM or PGM in place of JPEG

    def __post_init__(self) -> None:
        if self.side < 0 or not 1 <= self.quality <= 100:
            raise UsageError("a side is 0 or more, a quality from 1 to 100")

    @property
    def ending(self) -> str:
        """What the names of images that are made anew end in."""
        return ".ppm" if self.raw else ".jpg"

    def named(self, name: str) -> str:
        """Return the name of an image that is made anew; the original's stays visible in it."""
        fits = not self.raw and name.lower().endswith(_JPEG)
        return name if fits else name + self.ending

    def __call__(self, data: bytes, name: str) -> tuple[str, bytes]:
        """Return the name and the bytes that stand for a file. Raises ImageError."""
        if not (self.side or self.raw):
            return name, data
        decoded = read_file(BytesIO(data), printable(name), all_bits=True)
        if isinstance(decoded.pixels, Deep):
            return name, data
        image = decoded.image(1 if decoded.pixels.mode in ("L", "LA", "La") else 3)
        shorter = min(image.size)
        if self.side and shorter > self.side:
            size = (self.side * image.width // shorter, self.side * image.height // shorter)
            image = image.resize(size, Image.Resampling.BILINEAR)
        elif not self.raw:
            return name, data
        if self.raw:
            start = f"P{5 if image.mode == 'L' else 6}\n{image.width} {image.height}\n255\n"
            return self.named(name), start.encode() + image.tobytes()
        if max(image.size) > _LONGEST:
            return name, data
        file = BytesIO()
        image.save(file, "JPEG", quality=self.quality, subsampling=0, optimize=True)
        return self.named(name), file.getvalue()
