"""CIFAR-10's training split from its official binary files, with nothing but NumPy."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the peers use them


def read(folder: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return 50,000 images uint8 (N, H, W, C) and their classes int64 (N,)."""
    folder = folder or Path(os.environ.get("RESNETS_DATA", Path.home() / ".cache/resnets/data"))
    files = [folder / "cifar-10-batches-bin" / f"data_batch_{i}.bin" for i in range(1, 6)]
    records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
    pictures = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures), records[:, 0].astype(np.int64)
