"""How the files of images become the pixels that squares and crops are cut from."""

from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from resnets.data.depth import Scale
from resnets.data.framing import Frame
from resnets.data.images import Decoded, read_file


@dataclass(frozen=True)
class Store:
    """How the images of a listing become pixels."""

    frame: Frame
    channels: int
    scale: Scale = "container"
    truncated: bool = False  # images that have lost their end are shown as far as they go
    # What squares and crops are cut from: the image scaled as the frame has it, or as it is.
    scaled: bool = True

    def read(self, file: BinaryIO, name: str, *, all_bits: bool = False) -> Decoded:
        """Return an image before its values become 8 bits. Raises ImageError."""
        all_bits = all_bits or isinstance(self.scale, tuple)
        return read_file(file, name, all_bits=all_bits, truncated=self.truncated)

    def whole(self, file: BinaryIO, name: str) -> Image.Image:
        """Return what is cut of an image of 8 bits. Raises ImageError."""
        return self.prepared(self.read(file, name).image(self.channels, self.scale))

    def prepared(self, image: Image.Image) -> Image.Image:
        """Return of an image of 8 bits what squares and crops are cut from."""
        return self.frame.scaled(image) if self.scaled else image

    def prepared_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) of what `prepared` makes of an image of this size."""
        return self.frame.scaled_size(width, height) if self.scaled else (width, height)

    def square(self, prepared: Image.Image) -> Image.Image:
        """Return the square of what is prepared."""
        return self.frame.cut(prepared) if self.scaled else self.frame(prepared)
