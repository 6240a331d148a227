"""All that a run folder says, to be shown: what is damaged is an error, what is missing is said."""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError
from resnets.readers import strict_yaml
from resnets.readers.documents import lines_of, loads, read_text
from resnets.run_folder.directory import RunFolder, readable
from resnets.run_folder.record import Epoch, LeftOut, Mistake, Record, from_plain


@dataclass(frozen=True)
class RunRecord(Record):
    """run.json and the files beside it; ``notes`` are sentences about what is missing."""

    path: Path = Path()
    epochs: tuple[Epoch, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    drawing: str = ""  # a data URL
    recipe_text: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # the recipe, with dotted names
    skipped: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def mirrored(self) -> bool | None:
        """Whether images were seen from the other side too; None where it is not known."""
        mirror = self.settings.get("augment.mirror")
        return None if mirror in (None, "auto") else bool(mirror)


def read_run(path: Path | str) -> RunRecord:
    """Read a run folder; what a run had no time to write is a note, not an error.

    Raises CheckpointError when the folder is no run, a file is damaged, or a newer version of
    resnets wrote it.
    """
    folder = RunFolder(Path(path))
    record = folder.read_record(partial=True)
    epochs, *notes = _read_metrics(folder)
    if not folder.mistakes.exists():
        notes.append("There is no mistakes.json, so no mistakes are shown.")
    recipe_text, settings = "", {}
    if folder.recipe.exists():
        with readable(folder.recipe):
            recipe_text = read_text(folder.recipe, strict_yaml.LARGEST)
            settings = dict(_flatten(strict_yaml.read(folder.recipe)))
    else:
        notes.append("There is no recipe.yaml, so the settings of the run are not known.")
    drawing = ""
    if folder.drawing.exists():
        # As an image, whatever the file holds can neither run nor fetch anything.
        with readable(folder.drawing):
            encoded = base64.b64encode(read_text(folder.drawing).encode()).decode()
        drawing = f"data:image/svg+xml;base64,{encoded}"
    return RunRecord(
        **{**vars(record), "name": record.name or folder.path.resolve().name},
        path=folder.path,
        epochs=epochs,
        mistakes=tuple(
            replace(
                mistake,
                image=mistake.image if is_image(mistake.image) else "",
                heat=mistake.heat if is_image(mistake.heat) else "",
            )
            for mistake in folder.read_mistakes()
        ),
        drawing=drawing,
        recipe_text=recipe_text,
        settings=settings,
        skipped=folder.read_preparation().skipped,
        notes=tuple(note for note in notes if note),
    )


def is_image(address: str) -> bool:
    """Say whether an address holds its image itself, so that a page need not fetch anything."""
    match = re.fullmatch(r"data:image/(?:png|jpeg|webp);base64,([A-Za-z0-9+/]+={0,2})", address)
    try:
        return bool(match and base64.b64decode(match[1], validate=True))
    except binascii.Error:
        return False


def _read_metrics(folder: RunFolder) -> tuple[tuple[Epoch, ...], str]:
    """Return the epochs that count, and a note about those that cannot be shown."""
    if not folder.metrics.exists():
        return (), "There is no metrics.jsonl, so there are no curves."
    epochs: list[Epoch] = []
    with readable(folder.metrics):
        lines = list(lines_of(folder.metrics))
    for number, (where, line) in enumerate(lines, start=1):
        try:
            row = loads(line, where, lenient=True)
        except CheckpointError as error:
            if number == len(lines):  # the run was cut off while writing
                return tuple(epochs), "The last line of metrics.jsonl is half-written and left out."
            error.hint = "delete that line; the other epochs are still good"
            raise
        epoch = from_plain(Epoch, row, where)
        # A run resumed from an older state writes some epochs again; the later ones count.
        while epochs and epochs[-1].step >= epoch.step:
            epochs.pop()
        epochs.append(epoch)
    return tuple(epochs), "" if lines else "No epoch is finished yet, so there are no curves."


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value
