"""What every runtime does: images in the form that a model takes, and the logits of a batch."""

import hashlib
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.headers import ImageError
from resnets.data.images import decode, pixels, printable
from resnets.data.preprocess import ImageLike, Preprocess, preprocess_of
from resnets.errors import CheckpointError, ResnetsError, ResourceError
from resnets.spec import Spec
from resnets.weights.calibration import Calibration, calibrated
from resnets.weights.metadata import Metadata, read_metadata
from resnets.weights.outputs import answers, probabilities

_CODES = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACES = ("Exception from", "Check '")  # OpenVINO's


class Runtime(ABC):
    """A model that is ready to answer, and what is known of it.

    ``input`` is the form of its batches: "normalized" float32 (N, C, H, W), "pixels" uint8
    (N, C, H, W), scaled and cropped, or "pictures" uint8 (N, H, W, C) of any size.
    """

    name: str  # "onnxruntime", "openvino" or "torch"
    version: str  # of the package that computes
    classes: tuple[str, ...]  # empty where the model does not say
    outputs: str | None = None  # their meaning (`weights.outputs`), if known
    thresholds: tuple[float, ...] = ()  # where an image may have several classes
    calibration: Calibration | None = None
    preprocess: Preprocess | None
    input: str
    spec: Spec
    made: dict[str, Any]  # how its weights came about, as far as the file says
    views: int = 1  # of an image, in what is prepared of it
    explains: bool = False  # whether it has ``heat``, as `torch_runtime.Network` has

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the answers: of the classes, or the numbers of the outputs."""
        return answers(self.classes, self.spec.num_classes, self.outputs)

    def prepare(self, image: ImageLike) -> NDArray[Any]:
        """Return an image as a batch of one, in the form that the model takes.

        Raises ImageError for one that cannot be decoded, and CheckpointError where nothing says
        how images are prepared.
        """
        if self.input == "pictures":
            return pixels(self._decoded(image))[None]
        preprocess = preprocess_of(self)
        return preprocess.squares(image) if self.input == "pixels" else preprocess.arrays(image)

    def _decoded(self, image: ImageLike) -> Image.Image:
        if self.preprocess is not None:
            return self.preprocess.decoded(image)
        source = Path(image) if isinstance(image, str) else image
        return decode(source, self.spec.in_channels)

    @abstractmethod
    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits (N, classes) of a batch in the form that the model takes.

        Raises CheckpointError when an exported file cannot be computed, and ResourceError when
        there is not enough memory.
        """

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities (N, answers) of logits, calibrated where the model can.

        Raises CheckpointError for one output that nothing explains.
        """
        known = calibrated(logits, self.calibration)
        return probabilities(known, self.outputs, len(self.labels))

    @abstractmethod
    def digest(self) -> str:
        """Return the SHA-256 of all that decides what the model answers."""


class Exported(Runtime):
    """A model from an exported file; a subclass computes it."""

    def __init__(self, path: Path, metadata: Metadata, version: str) -> None:
        taken = metadata.input
        assert taken is not None  # `read_export` has seen it
        self.path, self.version = path, version
        self.input, self.batch, self.size = taken.form, taken.batch, taken.size
        self.precision = taken.precision  # "float32" or "int8"
        self.classes, self.preprocess = metadata.classes, metadata.preprocess
        self.outputs, self.spec, self.made = metadata.outputs, metadata.spec, metadata.made
        self.thresholds, self.calibration = metadata.thresholds, metadata.calibration

    def prepare(self, image: ImageLike) -> NDArray[Any]:
        """Return an image as the model takes it; raises ImageError for one of another size."""
        images = super().prepare(image)
        found, wanted = images.shape[1:3], self.size
        if self.input == "pictures" and wanted and found != wanted:
            name = "the image" if isinstance(image, Image.Image) else printable(str(image))
            raise ImageError(
                name,
                f"is {found[0]} x {found[1]} (height x width), the model takes {wanted[0]} x "
                f"{wanted[1]} only",
                hint="scale it first, or export the model with --size dynamic",
            )
        return images

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits (N, classes); a file for batches of one size gets that size."""
        found = self.answers(images)[0]
        if found.shape[1:] != (self.spec.num_classes,):
            raise CheckpointError(
                f"{self.path}: its output is {found.shape}, its classes are {self.spec.num_classes}"
            )
        return found

    def answers(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return all that the file answers to a batch: the logits (N, classes), and what follows.

        Raises what `logits` does.
        """
        size = self.batch or len(images)
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        found = [self._filled(part, size) for part in parts]
        return found[0] if len(found) == 1 else [*map(np.concatenate, zip(*found, strict=True))]

    def digest(self) -> str:
        """Return the SHA-256 of the file, and of the weights beside an .xml."""
        weights = [self.path.with_suffix(".bin")] if self.path.suffix.lower() == ".xml" else []
        digest = hashlib.sha256()
        for path in (self.path, *weights):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @abstractmethod
    def _run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the answers to a batch of a size that the file takes."""

    def _filled(self, images: NDArray[Any], size: int) -> list[NDArray[np.float32]]:
        """Return the answers to at most ``size`` images, which others fill up."""
        missing = size - len(images)
        filled = np.concatenate([images, *[images[-1:]] * missing]) if missing else images
        try:
            return [each[: len(images)] for each in self._run(np.ascontiguousarray(filled))]
        except Exception as error:  # each runtime has kinds of its own
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ResnetsError:
        if isinstance(error, MemoryError) or "alloc" in str(error).lower():
            return ResourceError(
                f"{self.path}: there is not enough memory for a batch", hint="make batches smaller"
            )
        return CheckpointError(f"{self.path}: cannot be computed: {first_line(error)}")


def read_export(path: Path, text: str | None) -> Metadata:
    """Return the metadata of an exported file; ``path`` is for messages only.

    Raises CheckpointError where there is none, for one that is damaged or of a newer version, and
    where preprocessing that is done outside of the file makes images of another size.
    """
    if not text:
        raise CheckpointError(
            f"{path}: is no export of resnets: nothing in it says what its classes are and how "
            "images are prepared",
            hint="resnets export RUN makes files that do",
        )
    metadata = read_metadata(path, text)
    preprocess, taken = metadata.preprocess, metadata.input
    if preprocess and taken and taken.size and taken.form != "pictures":
        height, width = taken.size
        if (height, width) != (preprocess.size, preprocess.size):
            raise CheckpointError(
                f"{path}: takes images of {height} x {width}, its preprocessing makes "
                f"{preprocess.size} x {preprocess.size}",
                hint="export it without --size, or prepare the images yourself",
            )
    return metadata


def damaged(path: Path, kind: str, error: Exception) -> CheckpointError:
    """Return the error for a file that a runtime cannot open."""
    return CheckpointError(
        f"{path}: is damaged or no {kind}: {first_line(error)}",
        hint="export it again, or copy it again from where it came from",
    )


def first_line(error: Exception) -> str:
    """Return what a runtime's message says first, without its codes and places in its source."""
    lines = [_CODES.sub("", line.strip()) for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(_PLACES) and line[-1] != ":"]
    return (told or [type(error).__name__])[0]
