"""From a name or a spec, and weights, to a backbone that is ready to use."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from resnets.create import create_model, find_weights, open_weights
from resnets.data.preprocess import identity
from resnets.nn import Backbone
from resnets.nn.freezing import FreezeBatchNorm
from resnets.spec import Spec
from resnets.weights.checkpoint import Source
from resnets.weights.load import load_checkpoint


def create_backbone(
    model: str | Spec,
    *,
    levels: Sequence[str] | None = None,
    weights: Source | None = None,
    frozen_stages: int = -1,
    norm_eval: bool = False,
    freeze_bn: FreezeBatchNorm = "none",
    activated: bool = False,
    gradient_checkpointing: bool = False,
    **options: Any,
) -> Backbone:
    """Return the backbone of a name or spec: {"c2": (N, C, H/4, W/4), ...} out of pictures.

    ``weights`` is whatever ``create_model`` takes, its classifier left out: a file, a state dict,
    published weights. ``options`` are fields of the spec: ``in_channels``, to which the weights are
    adapted, ``output_stride`` 8 or 16 and ``multi_grid``, which dilate them, ``norm``. The rest is
    explained at `Backbone`.

    ``frozen_stages``: -1 freezes nothing, 0 the stem, k the stem and the first k stages. Raises
    UsageError for what cannot be meant and CheckpointError for weights that do not fit.
    """
    settings: dict[str, Any] = {
        "levels": levels,
        "frozen_stages": frozen_stages,
        "norm_eval": norm_eval,
        "freeze_bn": freeze_bn,
        "activated": activated,
        "gradient_checkpointing": gradient_checkpointing,
    }
    with torch.device("meta"):
        spec = create_model(model, **options).spec  # checks the options; nothing is drawn
    source, entry = find_weights(spec.name, weights)
    if entry:
        spec = replace(spec, **entry.changes)
    backbone = Backbone(spec, **settings)
    backbone.preprocess = identity(spec.in_channels, spec.image_size, assumed=True)
    if source is not None:
        backbone.preprocess = None  # unless the checkpoint says
        load_checkpoint(backbone, open_weights(source, spec, entry), head="drop")
    return backbone
