"""What a checkpoint holds, as plain data: between the reader, the dialects and the loader."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Content:
    """A file as it was stored: nothing is renamed or judged yet."""

    path: Path
    format: str  # for people: "PyTorch zip", "safetensors", "Keras .h5"
    tree: Any  # nested dicts and lists, with tensors, numbers, strings and None as leaves
    metadata: dict[str, str] = field(default_factory=dict)  # safetensors only
    config: dict[str, Any] | None = None  # a Keras model's, or Hugging Face's config.json


@dataclass(frozen=True)
class State:
    """The tensors of a network under the names of whoever saved it."""

    tensors: dict[str, Tensor]
    container: str = ""  # the key or keys it lay under, and which others were passed over
    prefix: str = ""  # what stood before every name
    ignored: tuple[str, ...] = ()  # optimizer state and counters
