"""What of run.json everything that reads a run relies on."""

from dataclasses import dataclass
from typing import Any

from resnets.readers.fields import Count, Real

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class _Data:
    name: str
    source: str
    root: str | None
    fingerprint: str
    train: Count
    validation: Count | None = None
    test: Count | None = None


@dataclass(frozen=True)
class _Model:
    name: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class _Progress:
    step: Count
    steps: Count
    seconds: Real


@dataclass(frozen=True)
class _Sitting:
    from_step: Count
    to_step: Count | None = None
    status: str | None = None


@dataclass(frozen=True)
class Record:
    """What of run.json everything else relies on; there is more in it."""

    status: str
    seed: Count
    recipe: str
    data: _Data
    model: _Model
    progress: _Progress | None = None
    sittings: list[_Sitting] | None = None
    changes: list[dict[str, Any]] | None = None
    results: dict[str, Any] | None = None
