"""The page: an image as the network sees it, where it finds classes, and every stage's maps."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnets import __version__
from resnets.analysis.features.maps import grad_cam, stage_maps
from resnets.analysis.features.overlays import (
    image_url,
    is_small,
    map_url,
    overlay_url,
    scale_colours,
)
from resnets.analysis.responses import temporary_mode
from resnets.data.images import printable
from resnets.data.preprocess import preprocess_of
from resnets.errors import NonFiniteError
from resnets.files import followed
from resnets.nn import ResNet
from resnets.report.style import write_page
from resnets.weights.outputs import answers as answer_names
from resnets.weights.outputs import probabilities

STRONGEST = 12  # channels shown of each stage


@dataclass(frozen=True)
class MapImage:
    """One map of a stage, as an image; ``channel`` is None for the mean of all."""

    channel: int | None
    url: str
    low: float
    high: float


@dataclass(frozen=True)
class StageImage:
    """What the page shows of a stage."""

    name: str
    channels: int
    size: tuple[int, int]  # (H, W)
    small: bool
    signed: bool
    mean: MapImage
    strongest: tuple[MapImage, ...]


@dataclass(frozen=True)
class Answer:
    """A class with its probability, and the image with each stage's Grad-CAM on it."""

    name: str
    probability: float
    overlays: dict[str, str]  # stage -> image, first to last
    silent: bool  # nothing in the last maps speaks for the class


def write_features(
    model: ResNet,
    image: str | Path,
    out: str | Path = "features.html",
    *,
    top: int = 3,
    learnt: bool = True,
    source: str = "",
) -> Path:
    """Write a page about what a network sees in an image, and return where it is.

    It shows the ``top`` most probable classes, none of a model without a classifier; ``out`` is a
    file or a folder. ``source`` is where
    the page says that the weights are from; with ``learnt`` False they are fresh, it says. Raises
    DataError for an image that cannot be read, CheckpointError for a model without preprocessing,
    and NonFiniteError when its answer is NaN or infinite.
    """
    image, out = Path(image), Path(out)
    preprocess = preprocess_of(model)
    seen = torch.from_numpy(preprocess.squares(image).copy())  # what the network sees
    images = preprocess.normalize(seen).to(next(model.parameters()).device)
    has_classifier = hasattr(model.fc, "weight")
    out = out / "features.html" if out.is_dir() else out
    write_page(
        followed(out),
        "features.html",
        "resnets.analysis.features",
        model=model,
        preprocess=preprocess,
        image=printable(image.name),
        seen=image_url(seen[0]),
        small=is_small(seen.shape[2:]),
        learnt=learnt,
        source=printable(source),
        colours=scale_colours(),
        version=__version__,
        answers=_answers(model, images, seen[0], top) if has_classifier else [],
        stages=[_stage(name, maps[0].cpu()) for name, maps in stage_maps(model, images).items()],
    )
    return out


def _answers(model: ResNet, images: Tensor, seen: Tensor, top: int) -> list[Answer]:
    with temporary_mode(model, training=False), torch.no_grad():
        logits = model(images)
    if not logits.isfinite().all():
        raise NonFiniteError(
            "the network's answer is NaN or infinite", hint="its weights are damaged or diverged"
        )
    names = answer_names(model.classes, logits.shape[1], model.outputs)
    found = probabilities(logits.float().cpu().numpy(), model.outputs, len(names))
    best = torch.from_numpy(found).topk(min(top, len(names)))
    cams = grad_cam(model, images, best.indices.to(images.device), len(names))
    last = f"layer{len(model.stages)}"
    answers = []
    for place, (index, probability) in enumerate(
        zip(best.indices[0].tolist(), best.values[0].tolist(), strict=True)
    ):
        heat = {name: cam[0, place].cpu() for name, cam in cams.items() if name != "stem"}
        overlays = {name: overlay_url(seen, values) for name, values in heat.items()}
        silent = not bool(heat[last].any())
        answers.append(Answer(names[index], probability, overlays, silent))
    return answers


def _stage(name: str, maps: Tensor) -> StageImage:
    """Return what is shown of a stage's maps (C, H, W): their mean, and those of most energy."""
    energy = maps.double().square().mean((1, 2))
    strongest = energy.argsort(descending=True, stable=True)[:STRONGEST].tolist()
    return StageImage(
        name=name,
        channels=len(maps),
        size=(maps.shape[1], maps.shape[2]),
        small=is_small(maps.shape[1:]),
        signed=bool(maps.min() < 0),
        mean=_map(None, maps.mean(0)),
        strongest=tuple(_map(channel, maps[channel]) for channel in strongest),
    )


def _map(channel: int | None, values: Tensor) -> MapImage:
    return MapImage(channel, map_url(values), float(values.min()), float(values.max()))
