"""Whether a checkpoint is whole: its digests, its checksums, and that its values are numbers."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError
from resnets.machine.downloads import digest_of
from resnets.readers.reader import read
from resnets.run_folder.directory import RunFolder
from resnets.weights import catalog
from resnets.weights.containers import unwrap
from resnets.weights.metadata import KEY
from resnets.weights.tensors import damaged, is_finite, some
from resnets.weights.unfinished import is_state, is_unfinished


@dataclass(frozen=True)
class Verdict:
    """What a check of one file has found."""

    path: Path
    good: bool
    sentence: str
    tensors: int = 0
    damaged: tuple[str, ...] = ()  # without their digest
    not_finite: tuple[str, ...] = ()
    sha256: str = ""  # of the whole file

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return {**vars(self), "path": str(self.path)}


def verify(path: Path) -> Verdict:
    """Check one file or run folder; a file that cannot be read at all is a verdict too.

    Of a run that has not ended it is its newest state.
    """
    if path.is_dir() and is_unfinished(path) and (states := RunFolder(path).states()):
        path = states[0]
    try:
        content = read(path)
        own = KEY in content.metadata or is_state(content)
        tensors = dict(content.tree) if own else unwrap(content.tree).tensors
    except CheckpointError as error:
        return Verdict(path, False, error.message.removeprefix(f"{path}: "))
    wrong = damaged(tensors, content.metadata) if own else []
    sha256 = digest_of(content.path)
    entry = None if own else catalog.by_digest(sha256)
    facts = f"{len(tensors)} tensors"
    if wrong:
        sentence = f"damaged: {some(wrong)}"
    elif own:
        sentence = f"whole: {facts}, each with its SHA-256"
    elif entry:
        sentence = f"whole: {facts}, the SHA-256 that is published for {entry}"
    elif _has_checksums(content.path):
        sentence = f"whole: {facts}, each part with its CRC-32; SHA-256 {sha256}"
    else:
        sentence = f"readable: {facts}; it carries no digests to check. SHA-256 {sha256}"
    infinite = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if infinite:
        sentence += f"; but values are not finite: {some(infinite)}"
    return Verdict(
        path, not (wrong or infinite), sentence, len(tensors), tuple(wrong), tuple(infinite), sha256
    )


def _has_checksums(path: Path) -> bool:
    """Tell whether it is a zip archive whose every part has a CRC-32; torch may leave them out."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(part.CRC for part in archive.infolist() if part.file_size)
