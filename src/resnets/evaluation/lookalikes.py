"""Which images of a folder a network finds alike: the nearest of each by its embeddings."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.check import Lookalikes
from resnets.data.dataset import whole
from resnets.data.listing import Listing
from resnets.data.neighbours import nearest
from resnets.data.photographs import Photographs
from resnets.data.preprocess import preprocess_of
from resnets.data.store import Store
from resnets.evaluation.network import computed
from resnets.nn import ResNet

_COUNT = 5  # of each image: of parts of 70 % of its area 99 % have it among so many of 1,500


def lookalikes_by(model: ResNet) -> Lookalikes:
    """Return what finds the nearest of each of some images of a listing.

    It raises CheckpointError for a model without preprocessing.
    """
    return partial(_lookalikes, model)


def _lookalikes(
    model: ResNet, listing: Listing, numbers: NDArray[np.int64], copies: NDArray[np.int64]
) -> NDArray[np.int64]:
    preprocess = preprocess_of(model)
    store = Store(preprocess.frame, preprocess.channels, preprocess.scale)
    images = whole(Photographs(listing, numbers, store), torch.zeros(len(numbers)))
    device = next(model.parameters()).device
    model.eval()
    _, rows = computed(lambda batch: model.embed(preprocess(batch)).float(), images, device)
    # What all have in common tells none from another.
    embeddings = (rows - rows.mean(0)).numpy()
    found, _ = nearest(embeddings, copies, _COUNT)
    return found
