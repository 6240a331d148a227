"""A small network for exports, and what an exact one answers."""

import numpy as np
import torch

from conftest import scramble
from resnets import create_model
from resnets.data.preprocess import Preprocess

NAMES = {"onnx": "net.onnx", "openvino": "net.xml", "torch": "net.pt2"}
TARGETS = list(NAMES)


def network(seed: int = 0, **options) -> torch.nn.Module:
    """A small network whose norms matter, with preprocessing and class names."""
    torch.manual_seed(seed)
    model = scramble(create_model("resnet8", num_classes=3, image_size=16, **options)).eval()
    model.preprocess = Preprocess(3, 18, 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    model.classes, model.outputs = ("apple", "bañana", 'c"d'), "softmax"
    return model


def in_float64(model, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = model.double()(images.double()).numpy()
    model.float()
    return logits


def close(found: np.ndarray, expected: np.ndarray, bound: float = 1e-5) -> bool:
    return np.abs(found - expected).max() <= bound * np.abs(expected).max()
