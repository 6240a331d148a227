"""The nets that a study looks at, and the images that it shows them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnets.data import open_as_trained, open_dataset
from resnets.data.dataset import Dataset
from resnets.data.preprocess import Preprocess, measure, preprocess_of
from resnets.errors import DataError, NonFiniteError, UsageError
from resnets.evaluation.new_images import own_data
from resnets.formatting import plural, printable
from resnets.machine.device import choose_device
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE
from resnets.models import restore
from resnets.nn import ResNet
from resnets.report.comparison import distinct
from resnets.run_folder.directory import seeds_in
from resnets.weights.metadata import Metadata
from resnets.weights.shipped import names, shipped
from resnets.weights.tensors import digest_of_tensors, is_finite
from resnets.zoo import get_spec

_PARTS = ("test", "validation", "train")
_TRIED = 16  # images, on which a net shows that it computes numbers
_KEPT = ("resnets", "torch", "python", "processor", "threads", "device", "precision")


@dataclass(frozen=True)
class Subject:
    """A net that is looked at, in evaluation mode; ``name`` tells it from the others."""

    name: str
    network: ResNet
    metadata: Metadata
    source: str
    sha256: str  # of names and values of its tensors

    def facts(self) -> dict[str, Any]:
        """Return what a page says of it."""
        return {
            "name": self.name,
            "model": self.network.spec.name,
            "source": printable(self.source),
            "weights_sha256": self.sha256,
            "trained_on": self.metadata.made.get("data", {}).get("name", ""),
        }


@dataclass(frozen=True)
class Images:
    """Labelled images as a net sees them, and where they are from."""

    inputs: Tensor  # float (N, C, H, W), on the net's device
    labels: Tensor  # int64 (N,)
    data: str
    part: str
    of: int  # images that the split has
    classes: int
    fingerprint: str

    def __str__(self) -> str:
        part = {"validation": "held-out"}.get(self.part, self.part)
        count = f"{len(self.labels):,} of {plural(self.of, 'image')}"
        return f"{printable(self.data)}, {part} split, {count}"


def shown_facts(shown: Sequence[Images]) -> dict[str, str]:
    """Return what a page says of the images of its nets, of which some may be shown others."""
    return {
        "images": "; ".join(dict.fromkeys(map(str, shown))),
        "fingerprint": ", ".join(dict.fromkeys(each.fingerprint for each in shown)),
    }


def open_subjects(runs: Sequence[str | Path], device: str = "auto") -> list[Subject]:
    """Open run folders, weights files, or nets whose weights come with the package, by name.

    A folder of several seeds stands for its runs. Raises UsageError without any, or for a name that
    has no weights, NonFiniteError for weights that are no numbers, and what `restore` raises.
    """
    places = [place for run in runs for place in _places(run)]
    if not places:
        raise UsageError(
            "there is no net to look at",
            hint="give run folders or weights files; resnet20 comes with the package",
        )
    where = choose_device(device)
    opened = [restore(path) for path, _ in places]
    for (network, _), (_, source) in zip(opened, places, strict=True):
        for name, tensor in network.state_dict().items():
            if not is_finite(tensor):
                raise NonFiniteError(
                    f"{printable(source)}: {name} has a value that is NaN or infinite",
                    hint="give a net that has not diverged",
                )
    models = [network.spec.name for network, _ in opened]
    paths = distinct([path for path, _ in places])
    return [
        Subject(
            name=model if models.count(model) == 1 else printable(f"{model} {path}"),
            network=network.to(where),
            metadata=metadata,
            source=source,
            sha256=digest_of_tensors(network.state_dict()),
        )
        for (network, metadata), model, path, (_, source) in zip(
            opened, models, paths, places, strict=True
        )
    ]


def _places(run: str | Path) -> list[tuple[Path, str]]:
    """Return where the weights are that a word means, and what they are called."""
    path = Path(run)
    if seeds := seeds_in(path):
        return [(seed, str(seed)) for seed in seeds]
    if isinstance(run, Path) or path.exists() or path.suffix or len(path.parts) > 1:
        return [(path, str(path))]
    model = get_spec(run).name
    for name in names(model):
        if found := shipped(model, name):
            return [(found, f"{model}'s {name}, which comes with the package")]
    raise UsageError(
        f"{run}: a name alone has fresh weights, and there are none of it in the package",
        hint="give a run folder or a weights file; resnet20 comes with the package",
    )


def images_for(
    subject: Subject,
    count: int,
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    parts: Sequence[str] = _PARTS,
) -> Images:
    """Return some images of the first of these parts that there is, drawn by a seed, as a net sees.

    They are of the data that it was trained on, divided as its run has divided them, unless others
    are named. Equal data, count and seed give the same images to every net. Raises DataError where
    the data are not there, or have other classes than the net, NonFiniteError where its loss on
    them is no number.
    """
    place = None if root is None else Path(root)
    network, metadata = subject.network, subject.metadata
    if data is None:
        dataset = own_data(metadata, subject.source, place)
    else:
        dataset = open_as_trained(
            data,
            place,
            metadata.made,
            channels=network.spec.in_channels,
            preprocess=metadata.preprocess,
        )
    known = metadata.classes or dataset.classes
    if dataset.several or dataset.classes != known or len(known) != network.spec.num_classes:
        raise DataError(
            f"{subject.name}: its classes are not those of {printable(dataset.name)}",
            hint="give images of its own classes with --data, each of one class",
        )
    device = next(network.parameters()).device
    found = _drawn(dataset, preprocess_of(network), count, seed, parts, device)
    with torch.no_grad():
        loss = F.cross_entropy(network(found.inputs[:_TRIED]).float(), found.labels[:_TRIED])
    if not loss.isfinite():
        raise NonFiniteError(
            f"{subject.name}: its loss on {printable(dataset.name)} is NaN or infinite",
            hint="give a net that has not diverged",
        )
    return found


def fresh_images(
    data: str | Path,
    count: int,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Images:
    """Return some training images for nets that have seen none, each channel normalised.

    Raises DataError where an image may have several classes.
    """
    dataset = open_dataset(data, root=None if root is None else Path(root))
    if dataset.several:
        raise DataError(
            f"{printable(dataset.name)}: its images may have several classes",
            hint="give images of one class each with --data",
        )
    prepare = measure(dataset.train, dataset.train.images.shape[1], "channel")
    return _drawn(dataset, prepare, count, seed, ("train",), choose_device(device))


def _drawn(
    dataset: Dataset,
    prepare: Preprocess,
    count: int,
    seed: int,
    parts: Sequence[str],
    device: torch.device,
) -> Images:
    part = next(name for name in parts if name in dataset.parts)
    split = dataset.parts[part]
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    batches = order[:count].split(64)  # type: ignore[no-untyped-call]
    seen, inputs = [], []
    for where, images in split.stream(batches):
        seen.append(where)
        inputs.append(prepare(images.to(device)))
    return Images(
        inputs=torch.cat(inputs),
        labels=split.labels[torch.cat(seen)].to(device),
        data=dataset.name,
        part=part,
        of=len(split),
        classes=len(dataset.classes),
        fingerprint=dataset.fingerprint,
    )


def counting(
    shown: Sequence[Images], on_progress: Callable[[int, int], None]
) -> Callable[[int], None]:
    """Return what is to be told how many more of all these images are done."""
    total, done = sum(len(each.labels) for each in shown), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        on_progress(done, total)

    return count


def where_made(network: ResNet) -> dict[str, Any]:
    """Return versions and machine, as far as a page says them."""
    device = next(network.parameters()).device
    return {k: v for k, v in environment(device, ALONE, "float32").items() if k in _KEPT}


def beside_plain(
    nets: Sequence[dict[str, Any]],
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each residual net with each plain one that has as many layers."""
    residual, plain = ([net for net in nets if net["plain"] is which] for which in (False, True))
    return [(net, other) for net in residual for other in plain if net["depth"] == other["depth"]]
