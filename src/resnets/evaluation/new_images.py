"""Whether new images differ from those of a run, by what its network makes of both."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data import open_as_trained
from resnets.data.dataset import Dataset, MemoryImages, Split, whole
from resnets.data.given import GIVEN
from resnets.data.holdout import divide
from resnets.data.images import Stored
from resnets.data.preprocess import Preprocess, preprocess_of
from resnets.data.samples import thumbnail_url
from resnets.errors import DataError
from resnets.evaluation.drift import LEAST, Drift, drift
from resnets.formatting import percent, plural, printable
from resnets.inference.prediction import finite, read_batches
from resnets.inference.prediction_table import image_names
from resnets.inference.runtimes.torch_runtime import Network
from resnets.models import restore
from resnets.weights.metadata import Metadata

MOST = 2000  # images of either side that are looked at, evenly spread
REMOTEST = 24  # images that are named
CERTAIN = 0.01  # the p-value from which on down images are said to differ
_BATCH = 32
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Answers:
    """What a network makes of some images, those left out that cannot be read."""

    images: list[Any]  # files, or numbers in a data set
    embeddings: NDArray[np.float32]  # (N, C), of length 1
    probabilities: NDArray[np.float64]  # (N, classes)
    unknown: NDArray[np.bool_] | None  # (N,), where the model tells

    def shares(self, thresholds: Sequence[float]) -> list[float]:
        """Return the share of the images for which each class is answered."""
        if thresholds:
            answered = self.probabilities >= np.array(thresholds)
        else:
            answered = np.eye(self.probabilities.shape[1], dtype=bool)[self.probabilities.argmax(1)]
        shares: list[float] = answered.mean(0).tolist()
        return shares


@dataclass(frozen=True)
class NewImages:
    """How new images differ from those that a run has kept from its training."""

    run: str
    data: str
    part: str  # of the run's data that they are compared with
    found: Drift
    old: Answers
    new: Answers
    broken: int  # new images that cannot be read
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    preprocess: Preprocess

    @property
    def differs(self) -> bool:
        """Whether chance alone hardly makes groups of images as different."""
        return self.found.p_value <= CERTAIN

    @property
    def remotest(self) -> list[int]:
        """The new images that are farthest from old ones, the farthest first."""
        order = np.argsort(-self.found.remoteness, kind="stable")
        places: list[int] = order[:REMOTEST].tolist()
        return places

    @property
    def sentence(self) -> str:
        """What came of it, for people."""
        cases = round(100 * self.found.auroc)
        told = f"a probe tells a new image from an old one in {cases} of 100 cases, by chance in 50"
        p = f"p = {self.found.p_value:.3f}"
        if self.differs:
            return f"The new images differ from those that the model was made for ({p}): {told}."
        count = plural(len(self.new.images), "image")
        return f"Nothing shows that the new images differ ({p}, {count}): {told}."

    def lines(self) -> list[str]:
        """What is to be said with it, a sentence each."""
        found, new = self.found, self.new
        part = {"validation": "held-out"}.get(self.part, self.part)
        beside = plural(len(self.old.images), f"{part} image")
        lines = [
            f"{plural(len(new.images), 'new image')} beside {beside} of the run, on which the "
            "network was not trained",
            f"{percent(found.far)} of them are farther from those than 95 % of these are from one "
            "another",
        ]
        if new.unknown is not None and self.old.unknown is not None:
            lines.append(
                f"{percent(float(new.unknown.mean()))} are unknown to the model, of the old ones "
                f"{percent(float(self.old.unknown.mean()))}"
            )
        if self.broken:
            lines.append(f"{plural(self.broken, 'new image')} cannot be read")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-able values."""
        new, old = self.new, self.old
        shares = zip(
            self.classes, old.shares(self.thresholds), new.shares(self.thresholds), strict=True
        )
        values: dict[str, Any] = {
            "run": self.run,
            "data": self.data,
            "split": self.part,
            "differs": self.differs,
            "sentence": self.sentence,
            "p_value": self.found.p_value,
            "auroc": self.found.auroc,
            "energy_distance": self.found.distance,
            "far": self.found.far,
            "images": {"old": len(old.images), "new": len(new.images), "broken": self.broken},
            "answers": [{"class": name, "old": a, "new": b} for name, a, b in shares],
            "remotest": [self._remote(place) for place in self.remotest],
        }
        if new.unknown is not None and old.unknown is not None:
            values["unknown"] = {"old": float(old.unknown.mean()), "new": float(new.unknown.mean())}
        return values

    def thumbnails(self) -> list[str]:
        """Return the remotest images as the network sees them, as data URLs."""
        squares = self.preprocess.squares([self.new.images[place] for place in self.remotest])
        pixels = torch.from_numpy(squares.copy()).permute(0, 2, 3, 1)
        split = whole(MemoryImages(pixels), torch.zeros(len(pixels), dtype=torch.int64))
        return [thumbnail_url(split, place) for place in range(len(pixels))]

    def _remote(self, place: int) -> dict[str, Any]:
        new = self.new
        best = int(new.probabilities[place].argmax())
        values = {
            "path": printable(str(new.images[place])),
            "remoteness": float(self.found.remoteness[place]),
            "class": self.classes[best],
            "probability": float(new.probabilities[place, best]),
        }
        return values if new.unknown is None else {**values, "unknown": bool(new.unknown[place])}


def compare_data(
    run: str | Path,
    data: str | Path,
    *,
    root: str | Path | None = None,
    on_progress: Progress = lambda done, total: None,
) -> NewImages:
    """Compare new images, of a folder or archives, with the held-out split of a finished run.

    Not with the images that it was trained on: a network makes something else of those, which it
    has learnt, than of others, however alike. The held-out split is divided from them by chance, or
    is the one that their owner has; a run without one has its test split. Of more than MOST images
    on a side that many are looked at. ``root`` is where CIFAR's files are.

    Raises CheckpointError where there is no model, DataError where the run's images are not what
    they were, or there are too few on a side, and NonFiniteError.
    """
    network, metadata = restore(run)
    runtime = Network(network, made=metadata.made)
    dataset = own_data(metadata, run, root)
    part = next((name for name in ("validation", "test") if name in dataset.parts), None)
    if part is None:
        raise DataError(
            f"{run}: has neither held-out nor test images to compare with",
            hint="train with a larger data.holdout, or give test images",
        )
    split = dataset.parts[part]
    chosen, places = _spread(image_names([data])), _spread(range(len(split)))
    broken: list[str] = []
    total = len(places) + len(chosen)
    old = _look(runtime, _stored(split, runtime, places), lambda n: on_progress(n, total))
    new = _look(
        runtime, _read(chosen, runtime, broken), lambda n: on_progress(len(places) + n, total)
    )
    more = f"give {LEAST} or more, better a few hundred"
    for what, answers, hint in (
        (printable(str(data)), new, more),
        (f"{run}: its {part} split", old, "train with a larger data.holdout, or give test images"),
    ):
        if len(answers.images) < LEAST:
            raise DataError(
                f"{what}: {plural(len(answers.images), 'image')} that can be read; so few show no "
                "difference",
                hint=hint,
            )
    return NewImages(
        str(run),
        printable(str(data)),
        part,
        drift(old.embeddings, new.embeddings),
        old,
        new,
        len(broken),
        runtime.labels,
        runtime.thresholds,
        preprocess_of(runtime),
    )


def own_data(metadata: Metadata, run: str | Path, root: str | Path | None = None) -> Dataset:
    """Return the data that a model was trained on, as its run has divided them.

    ``run`` is what messages call it, ``root`` where CIFAR's files are. Raises DataError where the
    data are not what they were, or nothing says where they are.
    """
    own = metadata.made.get("data", {})
    how = metadata.made.get("recipe", {}).get("data", {})
    if own.get("source", GIVEN) in (GIVEN, ""):
        raise DataError(f"{run}: its images were {GIVEN}, or nothing says where they are")
    place = root or own.get("root")
    dataset = open_as_trained(
        own["source"],
        None if place is None else Path(place),
        metadata.made,
        channels=metadata.spec.in_channels,
        preprocess=metadata.preprocess,
    )
    known = dataset.known_as(own.get("fingerprint", ""))
    if known is None:
        raise DataError(
            f"{own['source']}: is not what {run} was trained on any more, so that its held-out "
            "images are not known",
            hint="put the images back that were there",
        )
    return divide(known, how["holdout"], how["split_seed"])


def _spread(items: Sequence[Any]) -> list[Any]:
    count = min(MOST, len(items))
    return [items[i * len(items) // count] for i in range(count)]


Batches = Iterator[tuple[list[Any], torch.Tensor]]  # images, and what the network is given


def _stored(split: Split, runtime: Network, places: list[int]) -> Batches:
    order = torch.tensor(places).split(_BATCH)  # type: ignore[no-untyped-call]
    for positions, images in split.stream(order):
        yield list(split.names(positions)), preprocess_of(runtime)(images)


def _read(images: list[str | Stored], runtime: Network, broken: list[str]) -> Batches:
    done = 0
    for batch in read_batches(runtime, images, _BATCH):
        pairs = list(zip(images[done : done + len(batch)], batch, strict=True))
        done += len(batch)
        good = {i: read for i, (_, read) in pairs if not isinstance(read, DataError)}
        broken += [name for name, read in batch if isinstance(read, DataError)]
        if good:
            yield list(good), torch.from_numpy(np.concatenate(list(good.values())))


def _look(runtime: Network, batches: Batches, on_done: Callable[[int], None]) -> Answers:
    network = runtime.network
    device = next(network.parameters()).device
    images: list[Any] = []
    rows, logits = [], []
    with torch.no_grad():
        for names, batch in batches:
            rows.append(network.embed(batch.to(device)))
            logits.append(network.fc(rows[-1]))
            images += names
            on_done(len(images))
    if not images:
        return Answers([], np.empty((0, 0), np.float32), np.empty((0, 0)), None)
    embeddings = torch.nn.functional.normalize(torch.cat(rows).float()).cpu().numpy()
    raw = finite(torch.cat(logits).float().cpu().numpy())
    unknown = runtime.calibration and runtime.calibration.unknown
    return Answers(
        images,
        embeddings,
        runtime.probabilities(raw),
        unknown.flags(raw) if unknown else None,
    )
