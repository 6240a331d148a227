"""From a name or a spec, and weights, to a backbone that is ready to use."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from resnets.create import create_model, find_weights, open_weights
from resnets.data.preprocess import identity
from resnets.nn import Backbone
from resnets.nn.freezing import FreezeBatchNorm
from resnets.spec import Spec
from resnets.weights.assumptions import as_the_file_has_it
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

    ``frozen_stages``: -1 freezes nothing, 0 the stem, k the stem and the first k stages. Freezing
    fresh weights, which then never learn, is warned of. Raises UsageError for what cannot be meant
    and CheckpointError for weights that do not fit.
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
    if source is None:
        backbone = Backbone(spec, **settings)
        _warn_of_frozen_chance(backbone)
        backbone.preprocess = identity(spec.in_channels, spec.image_size, assumed=True)
        return backbone
    checkpoint = open_weights(source, spec, entry)
    if isinstance(model, str):
        spec = as_the_file_has_it(spec, checkpoint.stated, options)
    backbone = Backbone(spec, **settings)
    load_checkpoint(backbone, checkpoint, head="drop")
    return backbone


def _warn_of_frozen_chance(backbone: Backbone) -> None:
    """Warn where fresh weights or statistics are frozen: they stay what chance has made them."""
    frozen = {
        name: value
        for name, value in vars(backbone.freezing).items()
        if value not in (-1, False, "none")
    }
    if frozen:
        words = ", ".join(f"{name}={value!r}" for name, value in frozen.items())
        warnings.warn(
            f"create_backbone: {words} without weights freezes what is random; give weights=",
            stacklevel=3,
        )
