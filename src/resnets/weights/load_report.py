"""What loading a checkpoint did: a table for people, plain data for programs."""

from dataclasses import asdict, dataclass, field
from typing import Any

Shape = tuple[int, ...]
SHOWN = 5  # keys of each kind in the table; programs get all of them


@dataclass(frozen=True)
class LoadReport:
    """Every tensor of the model and of the file, and what became of it. Keys are our own."""

    source: str  # the file, for people
    format: str = ""  # how it was stored: "PyTorch zip", "safetensors"
    container: str = ""  # the key it lay under
    prefix: str = ""  # what stood before every name
    dialect: str = ""  # whose names it uses
    looks_like: str = ""  # the network that its tensors describe
    loaded: tuple[str, ...] = field(default=(), repr=False)
    adapted: dict[str, str] = field(default_factory=dict)  # loaded, but not as stored: why
    missing: tuple[str, ...] = ()  # in the model, not in the file
    unexpected: tuple[str, ...] = ()  # in the file, not in the model; under the file's names
    mismatched: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)  # file's, model's
    skipped: dict[str, str] = field(default_factory=dict)  # left out on purpose: why
    ignored: tuple[str, ...] = ()  # no weights: optimizer state, counters
    parameters: int = 0  # of the model, and how many of them the file has filled
    parameters_loaded: int = 0
    notes: tuple[str, ...] = ()  # sentences on what to know or to check

    @property
    def share(self) -> float:
        """The share of the model's parameters that the file has filled, 0 to 1."""
        return self.parameters_loaded / self.parameters if self.parameters else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return {**asdict(self), "share": self.share}

    def __str__(self) -> str:
        facts = {
            "file": ", ".join(filter(None, (self.source, self.format))),
            "under": self.container,
            "prefix": self.prefix,
            "names": self.dialect,
            "looks like": self.looks_like,
        }
        lines = [f"{name:<11}{value}" for name, value in facts.items() if value]
        lines += [
            f"{'loaded':<11}{len(self.loaded)} tensors, {self.parameters_loaded:,} of "
            f"{self.parameters:,} parameters ({100 * self.share:.4g} %)"
        ]
        shapes = {key: f"{file} for {model}" for key, (file, model) in self.mismatched.items()}
        groups: list[tuple[str, dict[str, str]]] = [
            ("adapted", self.adapted),
            ("missing", dict.fromkeys(self.missing, "")),
            ("unexpected", dict.fromkeys(self.unexpected, "")),
            ("mismatched", shapes),
            ("skipped", self.skipped),
            ("ignored", dict.fromkeys(self.ignored, "")),
        ]
        for name, entries in groups:
            lines += _group(name, entries)
        return "\n".join(lines + [f"{'note':<11}{note}" for note in self.notes])


def _group(name: str, entries: dict[str, str]) -> list[str]:
    """Return the lines of one kind: how many, and the first of them; one reason is said once."""
    if not entries:
        return []
    reasons = set(entries.values())
    common = reasons.pop() if len(reasons) == 1 else ""
    lines = [f"{name:<11}{len(entries)}{f': {common}' if common else ''}"]
    for key, reason in list(entries.items())[:SHOWN]:
        lines.append(f"{'':<11}{key}{f'  {reason}' if reason != common else ''}")
    if len(entries) > SHOWN:
        lines.append(f"{'':<11}and {len(entries) - SHOWN} more")
    return lines
