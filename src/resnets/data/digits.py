"""scikit-learn's handwritten digits: 1797 images that need no download."""

import hashlib

import numpy as np
import torch
from PIL import Image

from resnets.data.dataset import Dataset, MemoryImages, whole
from resnets.errors import lacking

SIDE = 32  # the 8x8 originals are enlarged so that networks for CIFAR images can see them


def open_digits() -> Dataset:
    """Open the digits as uint8 (1, 32, 32): 1437 to train on, 360 to test on.

    The split is a rule, not a draw: in the order of class, then of appearance, every fifth image
    from the first on is a test image. Raises ResourceError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise lacking("the digits come with scikit-learn", "digits") from None
    digits = load_digits()
    originals = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 0..16 to 0..255
    labels = digits.target.astype(np.uint8)
    images = torch.from_numpy(
        np.stack(
            [
                np.asarray(Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
                for x in originals
            ]
        )[..., None]
    )
    test = np.zeros(len(labels), dtype=bool)
    test[np.argsort(labels, kind="stable")[::5]] = True
    train_part, test_part = (
        whole(MemoryImages(images[part]), torch.from_numpy(labels[part])) for part in (~test, test)
    )
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        train=train_part,
        validation=None,
        test=test_part,
        fingerprint=hashlib.sha256(
            originals.tobytes() + labels.tobytes() + test.tobytes()
        ).hexdigest(),
        mirror=False,
    )
