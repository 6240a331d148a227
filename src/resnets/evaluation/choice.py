"""Which labelled images each of some models is measured on, before any of them is computed."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data import NAMES, folder_of, open_as_trained
from resnets.data.class_folders import SPLITS
from resnets.data.class_words import ClassWords
from resnets.data.classes import changed, changes_in
from resnets.data.identity import changes, digest_files, read_manifest
from resnets.data.images import Stored, printable
from resnets.data.labelled import WHOLE, Labelled, open_labelled
from resnets.data.listing import Listing
from resnets.data.sources import open_listing, stored
from resnets.errors import DataError
from resnets.evaluation.labels import Labelling, label
from resnets.formatting import plural
from resnets.inference.runtimes import Runtime
from resnets.inference.runtimes.runtime import Exported
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import UNDECIDED
from resnets.weights.outputs import alternatives

if TYPE_CHECKING:  # torch is imported where a data set needs it
    from resnets.data.dataset import Dataset, Split

# What the splits of a model's own data are to it; its test split is as good as anybody's.
_OWN = {
    "train": "measured on the very images that the model was trained on",
    "validation": "measured on the held-out split of the data that the model was trained on",
}
_OTHERS = "measured on the held-out split of another model, and so on images that it was trained on"


@dataclass(frozen=True)
class Chosen:
    """Labelled images that a model is to be measured on.

    ``truth`` has their labels by the model's outputs: (N,), or bool (N, outputs) where an image may
    have several. ``split`` are they as training reads them, where torch has opened them.
    """

    part: str
    labelling: Labelling
    counts: dict[str, int]  # images of each class of the data
    truth: NDArray[Any]
    names: Sequence[int] | Sequence[str]
    images: Callable[[], Iterable[Path | Stored | Image.Image]]
    files: Callable[[], Sequence[Path | Stored]] | None  # None: of a published set
    fingerprint: str = ""  # of that
    split: "Split | None" = None
    left_out: Callable[[], tuple[tuple[str, str], ...]] = tuple  # broken, so far
    loose: int = 0
    notes: tuple[str, ...] = ()


class Choice:
    """The images of a data set's name or a folder that models are measured on, the same for all.

    ``part`` is train, validation or test; None: the last there is. Where one of the models was
    trained on the data, the held-out split is that of its run, for all of them. ``words`` are those
    of classes that the data or a model have names for.
    """

    def __init__(
        self, data: str | Path, part: str | None, root: Path | None, words: ClassWords
    ) -> None:
        self.name = data if isinstance(data, str) and data in NAMES else None
        self.source = self.name or folder_of(data)
        self.part, self.root, self._words = part, root, words
        self._datasets: dict[str, Dataset] = {}
        self._contents: dict[str, bytes] = {}

    def of(self, runtimes: Sequence[Runtime], homes: Sequence[str | Path | None]) -> list[Chosen]:
        """Return what each model is measured on; ``homes`` are their run folders, where known.

        Raises DataError where there is nothing that a model can be measured on.
        """
        notes: list[list[str]] = [[] for _ in runtimes]
        opened = [self._opened(*each) for each in zip(runtimes, homes, notes, strict=True)]
        owners = [r for r, d in zip(runtimes, opened, strict=True) if d and _is_own(r, d)]
        found = []
        for runtime, dataset, said, home in zip(runtimes, opened, notes, homes, strict=True):
            if dataset is None and owners:  # whose split can be found in no other way
                dataset = self._as_trained(runtime)
            if dataset:
                chosen = self._of_data_set(runtime, dataset, owners[0] if owners else None)
            else:
                assert isinstance(self.source, Path)  # a name is always opened as a data set
                labelled = open_labelled(self.source, part=self.part, classes=runtime.classes)
                chosen = self._of_folder(runtime, labelled)
            if not (dataset and _is_own(runtime, dataset)):
                said += self._met(chosen, home)
            found.append(replace(chosen, notes=(*chosen.notes, *said)))
        return found

    def _met(self, chosen: Chosen, home: str | Path | None) -> list[str]:
        """Return how many images a model's run has trained on or held out, whatever their names."""
        listed = read_manifest(RunFolder(Path(home)).manifest) if home is not None else None
        if not listed or not chosen.files:
            return []
        known = {
            digest
            for name, digest in listed.items()
            if SPLITS.get(name.partition("/")[0].lower()) != "test"
        }
        count = sum(each.hex() in known for each in self._digests(chosen).values())
        if not count:
            return []
        return [
            f"{count:,} of the {plural(len(chosen.truth), 'image')} are copies of images that the "
            "model was trained on, or that its run has held out"
        ]

    def _digests(self, chosen: Chosen) -> dict[str, bytes]:
        """Return the SHA-256 of images' files by name, each file of which is read once."""
        names, files = [str(name) for name in chosen.names], chosen.files() if chosen.files else ()
        new = [
            (n, file)
            for n, file in zip(names, files, strict=bool(files))
            if n not in self._contents
        ]
        digests = digest_files([file for _, file in new])
        self._contents |= {n: each.tobytes() for (n, _), each in zip(new, digests, strict=True)}
        return {name: self._contents.get(name, b"") for name in names}

    def digest(self, chosen: Chosen) -> str:
        """Return the SHA-256 of images' names, classes and contents, in whatever order they are."""
        names, contents = map(str, chosen.names), self._digests(chosen)
        found, classes = hashlib.sha256(chosen.fingerprint.encode()), chosen.labelling.names
        for name, own in sorted(zip(names, chosen.truth, strict=True), key=itemgetter(0)):
            places = np.flatnonzero(own) if chosen.truth.ndim == 2 else [own]
            told = (name, *sorted(classes[place] for place in places), "")
            found.update("\0".join(told).encode("utf-8", "surrogateescape"))
            found.update(contents[name])
        return found.hexdigest()

    def _opened(
        self, runtime: Runtime, home: str | Path | None, notes: list[str]
    ) -> "Dataset | None":
        """Return the data as training opens them; None for a folder that it does not take.

        What is to be said where its images are those of the model's training is added to ``notes``.
        """
        if isinstance(self.source, str):
            return self._as_trained(runtime)
        try:
            dataset = self._of_own_classes(runtime, notes)
        except DataError:  # training would not take it, but it may be looked at
            dataset = None
        own = runtime.made.get("data", {})
        known = dataset.known_as(own.get("fingerprint", "")) if dataset else None
        if known is None and _is_same(self.source, own.get("source")):
            found = _changes(dataset, home) if dataset else ""
            notes.append(
                f"{printable(self.source)} has changed since the model was trained on it"
                f"{found and f' ({found})'}: images of its training are among these"
            )
        return known or (None if isinstance(runtime, Exported) else dataset)

    def _of_own_classes(self, runtime: Runtime, notes: list[str]) -> "Dataset | None":
        """Return a folder with the model's classes, opened as for training, which needs torch.

        For an exported file None, unless there are as many images as it was trained on.
        """
        listing = self._listing
        classes, numbers = changed(listing.classes, changes_in(runtime.made, listing.classes))
        if classes != runtime.classes:
            return None
        if isinstance(runtime, Exported):
            own = runtime.made.get("data", {})
            counts = [own.get(name) or 0 for name in ("train", "validation", "test", "skipped")]
            if sum(counts) != sum(numbers[label] >= 0 for label in listing.labels.tolist()):
                return None
            if find_spec("torch") is None:
                notes.append(
                    "these may be the images of its training: without torch nothing can tell"
                )
                return None
        return self._as_trained(runtime)

    @cached_property
    def _listing(self) -> Listing:
        return open_listing(Path(self.source))

    def _as_trained(self, runtime: Runtime) -> "Dataset":
        """Return the data as a model was trained on such; those of like models are opened once."""
        made, channels = runtime.made, runtime.spec.in_channels
        seen_as = runtime.preprocess and (runtime.preprocess.frame, runtime.preprocess.scale)
        key = repr((channels, seen_as, made.get("data"), made.get("recipe", {}).get("data")))
        if key not in self._datasets:
            self._datasets[key] = open_as_trained(
                self.source,
                self.root,
                made,
                channels=channels,
                preprocess=runtime.preprocess,
                listing=None if self.name else self._listing,
            )
        return self._datasets[key]

    def _of_data_set(self, runtime: Runtime, dataset: "Dataset", owner: Runtime | None) -> Chosen:
        import torch

        from resnets.data.holdout import divide

        part, notes, source = self.part or "", [], str(self.source)
        others = False  # whether the split is another model's
        if owner:
            others = dataset.validation is None and _division(runtime) != _division(owner)
            dataset = divide(dataset, *_division(owner))
        elif self.part is None and list(dataset.parts) == ["train"]:
            part = WHOLE
        part = part or list(dataset.parts)[-1]
        chosen = dataset.train if part == WHOLE else dataset.part(part)
        if part in _OWN and _is_own(runtime, dataset):
            total = sum(map(len, dataset.parts.values()))
            said = _OTHERS if others and part == "validation" else _OWN[part]
            notes.append(f"{said}: {len(chosen):,} of {plural(total, 'image')}")
        if dataset.several:
            notes += _check_answers_several(runtime, source)
        counts = dict(zip(dataset.classes, chosen.counts(len(dataset.classes)), strict=True))
        order = "the set's own" if self.name else "alphabetical"
        labelling, classes, counts = self._labelled(runtime, source, counts, {}, order)
        outputs = [labelling.outputs.get(classes[name], -1) for name in dataset.classes]
        dropped = {} if self.name else self._dropped(runtime, part)
        labelling = replace(labelling, strange=(*labelling.strange, *dropped))
        counts |= dropped
        split = chosen.renumbered(outputs, len(labelling.names))
        return Chosen(
            part,
            labelling,
            counts,
            split.truth.numpy(),
            split.names(torch.arange(len(split))),
            lambda: _images(split),
            None if self.name else lambda: _files(split, source),
            dataset.fingerprint if self.name else "",
            split,
            lambda: tuple((skipped.path, skipped.reason) for skipped in dataset.left_out),
            notes=tuple(notes),
        )

    def _dropped(self, runtime: Runtime, part: str) -> dict[str, int]:
        """Return the images of a part whose classes the model's training has left out, by class.

        Those of a part that was drawn from the training images are not known to be of it.
        """
        listing = self._listing
        changes = changes_in(runtime.made, listing.classes)
        if listing.targets is not None or part not in (WHOLE, *listing.splits):
            return {}
        found = listing.counts()
        own = found.sum(0) if part == WHOLE else found[listing.splits.index(part)]
        numbers = dict(zip(listing.classes, own.tolist(), strict=True))
        return {old: numbers[old] for old, new in changes.items() if new is None and numbers[old]}

    def _of_folder(self, runtime: Runtime, labelled: Labelled) -> Chosen:
        changes = changes_in(runtime.made, list(labelled.counts))
        labelling, classes, counts = self._labelled(
            runtime, str(labelled.root), labelled.counts, changes, "alphabetical"
        )
        known, several = labelling.outputs, labelled.several
        notes = _check_answers_several(runtime, str(labelled.root)) if several else []
        own = [
            (image, [known[classes[name]] for name in names if classes[name] in known])
            for image, names in labelled.samples
        ]
        images = [image for image, outputs in own if several or outputs]
        truth: NDArray[Any]
        if several:
            truth = np.zeros((len(images), len(labelling.names)), bool)
            for row, (_, outputs) in zip(truth, own, strict=True):
                row[outputs] = True
        else:
            truth = np.array([output for _, outputs in own for output in outputs])
        return Chosen(
            labelled.part,
            labelling,
            counts,
            truth,
            [labelled.name(image) for image in images],
            lambda: images,
            lambda: images,
            left_out=lambda: labelled.left_out,
            loose=labelled.loose,
            notes=tuple(notes),
        )

    def _labelled(
        self,
        runtime: Runtime,
        source: str,
        counts: Mapping[str, int],
        changes: Mapping[str, str | None],
        order: str,
    ) -> tuple[Labelling, dict[str, str], dict[str, int]]:
        """Return which output stands for which class, with words for outputs.

        With it come the name by which each class of the data goes there, after the ``changes`` of
        training, and the images of each of these. One that the model leaves out is strange to it.
        """
        names, outputs = alternatives(runtime.classes, runtime.spec.num_classes, runtime.outputs)
        names = self._words.of_model(names, outputs)
        classes = {name: self._words.seen_as(changes.get(name) or name, names) for name in counts}
        summed: Counter[str] = Counter()
        for name, count in counts.items():
            summed[classes[name]] += count
        labelling = label(source, summed, names, outputs, order)
        return replace(labelling, names=self._words.shown(labelling.names)), classes, summed


def _is_own(runtime: Runtime, dataset: "Dataset") -> bool:
    """Whether a model was trained on a data set."""
    return bool(runtime.made.get("data", {}).get("fingerprint") == dataset.fingerprint)


def _division(runtime: Runtime) -> tuple[Any, Any]:
    """Return how much of the training data a model has held out, and by which seed."""
    how = runtime.made.get("recipe", {}).get("data", {})
    return how.get("holdout"), how.get("split_seed")


def _is_same(folder: Path, source: Any) -> bool:
    """Whether a folder is the one where a model's training images were."""
    try:
        return isinstance(source, str) and source not in NAMES and folder.samefile(source)
    except OSError:
        return False


def _changes(dataset: "Dataset", home: str | Path | None) -> str:
    """Return in what images differ from those that a run has begun with, where it lists them."""
    before = None if home is None else read_manifest(RunFolder(Path(home)).manifest)
    if before is None or dataset.manifest is None:
        return ""
    return str(changes(before, dataset.manifest))


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


def _images(split: "Split") -> Iterable[Image.Image]:
    """Return the images of a split as training sees them."""
    from resnets.data.samples import as_images

    return (image for batch, _ in split.batches(64) for image in as_images(batch))


def _files(split: "Split", source: str) -> list[Stored]:
    """Return the files of a split's images; none of a published set."""
    from resnets.data.photographs import Photographs

    if not isinstance(split.images, Photographs):
        return []
    numbers = split.images.numbers[split.ids.numpy()].tolist()
    return [stored(split.images.listing, source, number) for number in numbers]
