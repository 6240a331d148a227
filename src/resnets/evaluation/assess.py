"""evaluate(): a model of any kind on labelled images of any kind, each counted once."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from resnets.data import NAMES, folder_of, open_as_trained
from resnets.data.classes import changed, changes_in
from resnets.data.identity import changes, read_manifest
from resnets.data.images import Stored, printable
from resnets.data.labelled import WHOLE, Labelled, open_labelled
from resnets.data.listing import Listing
from resnets.data.preprocess import preprocess_of
from resnets.data.sources import open_listing
from resnets.errors import DataError
from resnets.evaluation.assessment import Assessment
from resnets.evaluation.collected import Broken, answer
from resnets.evaluation.labels import Labelling, label
from resnets.evaluation.scores import Evaluation
from resnets.formatting import plural
from resnets.inference.prediction import resolved
from resnets.inference.runtimes import Runtime
from resnets.inference.runtimes.runtime import Exported
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import UNDECIDED
from resnets.weights.outputs import alternatives

if TYPE_CHECKING:  # torch is imported where a model or a data set needs it
    from resnets.data.dataset import Dataset, Split
    from resnets.models import ReadingOptions
    from resnets.nn import ResNet

Progress = Callable[[int, int], None]
# What the splits of a model's own data are to it; its test split is as good as anybody's.
_OWN = {
    "train": "measured on the very images that the model was trained on",
    "validation": "measured on the held-out split of the data that the model was trained on",
}


def evaluate(
    model: "ResNet | Runtime | str | Path",
    data: str | Path,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    home: str | Path | None = None,
    on_progress: Progress = lambda done, total: None,
    **reading: Unpack["ReadingOptions"],
) -> Assessment:
    """Measure a model on labelled images: a data set's name, or a folder with class folders.

    ``model`` is a network, a run folder, weights or an exported file, or what
    `resnets.inference.runtimes.open_runtime` returns; exported files do without torch where their
    runtime does. Labels are by name. Where the model's file names no classes, folders that are
    numbers are its outputs, and as many classes as outputs are taken in their order, which
    ``notes`` then say. Classes that the model does not have, those without images and broken
    images are counted.
    ``split`` names the part: train, validation or test; left out, it is the last one there is. On
    the data that a model was trained on, the parts are those of its run, the held-out one included;
    a folder without parts is taken whole, as "all". ``root`` is where CIFAR's files are; ``device``
    is where torch computes. ``home`` is the run folder of a model that is given opened, where the
    images that it was trained on are listed. ``on_progress`` is called with how many images of
    how many are done. Of a file of weights ``container``, ``dialect`` and ``ema`` say what they say
    to `load_weights`.

    Raises CheckpointError when there is no model or nothing says how images are prepared or what
    its one output means, DataError when no image is left to look at, UsageError for a part that
    cannot be meant, and NonFiniteError when an answer is NaN or infinite.
    """
    runtime = _ready(model, device, reading)
    place = None if root is None else Path(root)
    if isinstance(data, str) and data in NAMES:
        return _on_data_set(runtime, _opened(runtime, data, place), data, split, on_progress)
    folder = folder_of(data)
    notes: list[str] = []
    home = model if home is None and isinstance(model, str | Path) else home
    if dataset := _as_trained_on(runtime, folder, place, home, notes):
        found = _on_data_set(runtime, dataset, str(folder), split, on_progress)
    else:
        labelled = open_labelled(folder, part=split, classes=runtime.classes)
        found = _on_folder(runtime, labelled, on_progress)
    return replace(found, notes=(*found.notes, *notes))


def _ready(
    model: "ResNet | Runtime | str | Path", device: str, reading: "ReadingOptions"
) -> Runtime:
    runtime = resolved(model, None, **reading)
    if runtime.name == "torch":
        from resnets.inference.runtimes.torch_runtime import Network
        from resnets.machine.device import choose_device

        if isinstance(runtime, Network):
            runtime.network.to(choose_device(device))
    return runtime


def _opened(
    runtime: Runtime, data: str | Path, root: Path | None, listing: Listing | None = None
) -> "Dataset":
    return open_as_trained(
        data,
        root,
        runtime.made,
        channels=runtime.spec.in_channels,
        preprocess=runtime.preprocess,
        listing=listing,
    )


def _as_trained_on(
    runtime: Runtime,
    folder: Path,
    root: Path | None,
    home: str | Path | None,
    notes: list[str],
) -> "Dataset | None":
    """Return a folder as the data set that training makes of it; None where it makes none.

    What is to be said where its images are those of the model's training is added to ``notes``.
    """
    try:
        dataset = _as_data_set(runtime, folder, root, notes)
    except DataError:  # training would not take it, but it may be looked at
        dataset = None
    own = runtime.made.get("data", {})
    known = dataset.known_as(own.get("fingerprint", "")) if dataset else None
    if known is None and _is_same(folder, own.get("source")):
        found = _changes(dataset, home) if dataset else ""
        notes.append(
            f"{printable(folder)} has changed since the model was trained on it"
            f"{found and f' ({found})'}: images of its training are among these"
        )
    return known or (None if isinstance(runtime, Exported) else dataset)


def _changes(dataset: "Dataset", home: str | Path | None) -> str:
    """Return in what images differ from those that a run has begun with, where it lists them."""
    before = None if home is None else read_manifest(RunFolder(Path(home)).manifest)
    if before is None or dataset.manifest is None:
        return ""
    return str(changes(before, dataset.manifest))


def _as_data_set(
    runtime: Runtime, folder: Path, root: Path | None, notes: list[str]
) -> "Dataset | None":
    """Return a folder with the model's classes, opened as for training, which needs torch.

    For an exported file None, unless there are as many images as it was trained on.
    """
    listing = open_listing(folder)
    classes, numbers = changed(listing.classes, changes_in(runtime.made, listing.classes))
    if classes != runtime.classes:
        return None
    if isinstance(runtime, Exported):
        own = runtime.made.get("data", {})
        counts = [own.get(name) or 0 for name in ("train", "validation", "test", "skipped")]
        if sum(counts) != sum(numbers[label] >= 0 for label in listing.labels.tolist()):
            return None
        if find_spec("torch") is None:
            notes.append("these may be the images of its training: without torch nothing can tell")
            return None
    return _opened(runtime, folder, root, listing)


def _is_same(folder: Path, source: Any) -> bool:
    """Whether a folder is the one where a model's training images were."""
    try:
        return isinstance(source, str) and source not in NAMES and folder.samefile(source)
    except OSError:
        return False


def _on_data_set(
    runtime: Runtime, dataset: "Dataset", source: str, split: str | None, on_progress: Progress
) -> Assessment:
    from resnets.data.holdout import divide

    how = runtime.made.get("recipe", {}).get("data", {})
    part, notes = split or "", []
    own = runtime.made.get("data", {}).get("fingerprint") == dataset.fingerprint
    if own:
        dataset = divide(dataset, how["holdout"], how["split_seed"])
    elif split is None and list(dataset.parts) == ["train"]:
        part = WHOLE
    part = part or list(dataset.parts)[-1]
    chosen = dataset.train if part == WHOLE else dataset.part(part)
    if own and part in _OWN:
        total = sum(map(len, dataset.parts.values()))
        notes.append(f"{_OWN[part]}: {len(chosen):,} of {plural(total, 'image')}")
    if dataset.several:
        notes += _check_answers_several(runtime, source)
    counts = dict(zip(dataset.classes, chosen.counts(len(dataset.classes)), strict=True))
    order = "the set's own" if source in NAMES else "alphabetical"
    labelling = label(source, counts, *_alternatives(runtime), order)
    scores, _ = _of_split(runtime, _relabelled(chosen, dataset.classes, labelling), on_progress)
    broken = tuple((skipped.path, skipped.reason) for skipped in dataset.left_out)
    return _assessment(scores, labelling, counts, notes, part=part, broken=broken)


def _check_answers_several(runtime: Runtime, source: str) -> list[str]:
    """Raise DataError unless a model answers several classes; return what is assumed of it."""
    if runtime.outputs != "sigmoid" or runtime.spec.num_classes == 1:
        raise DataError(
            f"{source}: gives an image several classes, and the model answers one of all",
            hint="give a model that was trained on such data, or --outputs sigmoid if each of its "
            "outputs stands alone",
        )
    assumed = f"it has no thresholds: a class is an answer from a probability of {UNDECIDED} on"
    return [] if runtime.thresholds else [assumed]


def _alternatives(runtime: Runtime) -> tuple[tuple[str, ...], int]:
    return alternatives(runtime.classes, runtime.spec.num_classes, runtime.outputs)


def _relabelled(split: "Split", classes: Sequence[str], labelling: Labelling) -> "Split":
    """Return the samples whose class the model has, labelled by its outputs.

    Of several classes an image, all samples, with those that the model has.
    """
    import torch

    if split.targets is not None:
        targets = torch.zeros(len(split), len(labelling.names), dtype=torch.bool)
        for i, name in enumerate(classes):
            if name in labelling.outputs:
                targets[:, labelling.outputs[name]] = split.targets[:, i]
        return replace(split, labels=targets.byte().argmax(1), targets=targets)
    outputs = torch.tensor([labelling.outputs.get(name, -1) for name in classes])[split.labels]
    kept = torch.nonzero(outputs >= 0).flatten()
    return replace(split, labels=outputs).subset(kept)


def _of_split(
    runtime: Runtime, split: "Split", on_progress: Progress
) -> tuple[Evaluation, list[Broken]]:
    from resnets.data.samples import as_images
    from resnets.evaluation.network import evaluate as evaluate_network
    from resnets.inference.runtimes.torch_runtime import Network

    several = split.targets is not None
    if isinstance(runtime, Network) and (several or runtime.outputs != "sigmoid"):
        return evaluate_network(runtime.network, split, preprocess_of(runtime)), []
    images = (image for batch, _ in split.batches(64) for image in as_images(batch))
    return answer(runtime, images, split.truth.numpy(), on_progress)


def _on_folder(runtime: Runtime, labelled: Labelled, on_progress: Progress) -> Assessment:
    changes = changes_in(runtime.made, list(labelled.counts))

    def seen_as(name: str) -> str:
        return changes.get(name) or name  # one that the model leaves out is strange to it

    counts: Counter[str] = Counter()
    for name, count in labelled.counts.items():
        counts[seen_as(name)] += count
    labelling = label(str(labelled.root), counts, *_alternatives(runtime), "alphabetical")
    known = labelling.outputs
    truth: NDArray[Any]
    images: list[Path | Stored]
    notes = []
    if labelled.tagged:
        notes = _check_answers_several(runtime, str(labelled.root))
        images = [image for image, _ in labelled.tagged]
        truth = np.zeros((len(images), len(labelling.names)), bool)
        for row, (_, names) in zip(truth, labelled.tagged, strict=True):
            row[[known[name] for name in map(seen_as, names) if name in known]] = True
    else:
        seen = [(image, seen_as(name)) for image, name in labelled.samples]
        images = [image for image, name in seen if name in known]
        truth = np.array([known[name] for _, name in seen if name in known])
    scores, unread = answer(runtime, images, truth, on_progress)
    broken = tuple((labelled.name(images[place]), reason) for place, reason in unread)
    return _assessment(
        scores, labelling, counts, notes, part=labelled.part, broken=broken, loose=labelled.loose
    )


def _assessment(
    scores: Evaluation,
    labelling: Labelling,
    counts: dict[str, int],
    notes: Sequence[str] = (),
    **about: Any,
) -> Assessment:
    return Assessment(
        **vars(scores),
        names=labelling.names,
        strange=tuple((name, counts[name]) for name in labelling.strange),
        notes=(*notes, *([labelling.assumed] if labelling.assumed else [])),
        **about,
    )
