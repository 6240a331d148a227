"""Our own files: safetensors under torchvision's keys, with metadata and digests."""

from pathlib import Path

from torch import Tensor

from resnets.weights.metadata import KEY, Metadata, read_metadata
from resnets.weights.tensors import check_digests, retied, write_tensors


def write_native(path: Path, tensors: dict[str, Tensor], metadata: Metadata) -> None:
    """Write weights and metadata to ``path``, whole or not at all. Raises ResourceError."""
    write_tensors(path, tensors, {KEY: metadata.to_text()})


def understand(
    path: Path, tensors: dict[str, Tensor], texts: dict[str, str]
) -> tuple[dict[str, Tensor], Metadata]:
    """Return the state dict and the metadata of a file's tensors and texts.

    Raises CheckpointError when a digest does not hold, naming the tensor, and when the metadata is
    damaged, of other tensors or of a newer version; ``path`` is for messages only.
    """
    check_digests(path, tensors, texts)
    tensors = retied(tensors, texts)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return tensors, read_metadata(path, texts[KEY], shapes)
