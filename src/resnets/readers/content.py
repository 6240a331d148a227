"""What a checkpoint holds, as plain data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Content:
    """A file as it was stored: nothing is renamed or judged yet."""

    path: Path
    format: str  # for people: "PyTorch zip", "safetensors", "Keras .h5"
    tree: Any  # nested dicts and lists, with tensors, numbers, strings and None as leaves
    metadata: dict[str, str] = field(default_factory=dict)  # safetensors only
    config: dict[str, Any] | None = None  # a Keras model's, or Hugging Face's config.json
    processor: dict[str, Any] = field(default_factory=dict)  # its preprocessor_config.json
    # Of whole modules and graphs, which say more than a state dict: the "class" of what stands at a
    # dotted path from the tree's root, and its plain attributes, such as stride, eps, kernel_size
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
