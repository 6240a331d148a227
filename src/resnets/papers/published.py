"""The records of the papers' tables: a printed figure, the row that reproduces it, the table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from resnets.errors import UsageError, check_name
from resnets.spec import Spec
from resnets.zoo import get_spec

# Of the whole training split, whatever is held out of it.
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167}
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


@dataclass(frozen=True)
class Published:
    """One published error: where it stands, on what, and what it took to reach it.

    ``model`` is our name where the family has one for it. ``table`` is empty where the number
    stands outside a table. ``error_percent``, of the best answer, is None where the paper says only
    that training failed, or prints that of the best five alone.
    """

    paper: str
    table: str
    dataset: str  # "cifar10", "cifar100", "imagenet"
    protocol: str  # "test", "10-crop", "median of 5", ...
    model: str = ""
    error_percent: float | None = None
    note: str = ""
    iterations: int | None = None  # the training budget, in the unit that the paper gives
    epochs: int | None = None
    batch: int | None = None
    recipe: str = ""  # ours that follows the paper, where there is one
    top5_percent: float | None = None  # the top-5 error

    @property
    def accuracy_percent(self) -> float | None:
        """Top-1 accuracy in percent, with the decimals of the error."""
        return None if self.error_percent is None else round(100 - self.error_percent, 2)

    @property
    def source(self) -> str:
        """The paper and its table, for a citation."""
        return f"{self.paper}, Table {self.table}" if self.table else self.paper

    @property
    def printed(self) -> str:
        """The errors in percent as the paper has them, which failed where it prints none."""
        best = "" if self.error_percent is None else self._decimals(self.error_percent)
        return ", ".join(filter(None, (best, self._top5))) or "above 20"

    @property
    def remarks(self) -> str:
        """What the paper says beside the figure."""
        return "; ".join(filter(None, (self._top5, self.note)))

    @property
    def _top5(self) -> str:
        return "" if self.top5_percent is None else f"top-5 {self._decimals(self.top5_percent)}"

    def _decimals(self, percent: float) -> str:
        one = self.dataset == "imagenet" and not self.paper.endswith("2015")
        return f"{percent:.{1 if one else 2}f}"


@dataclass(frozen=True)
class Row:
    """A row of a table: a printed figure, and the network and settings that it belongs to.

    The network is that of ``base``, a name of the zoo, or of the figure's own model, with
    ``changes`` of its fields. ``recipe`` stands where no recipe of ours follows the paper's.
    """

    label: str  # in the paper's words
    figure: Published
    base: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    settings: tuple[str, ...] = ()
    parameters: str = ""  # as printed, such as "0.27M"
    lacks: str = ""  # why it cannot be trained or evaluated here; empty: it can
    mark: str = ""  # tells the row's settings from those of another with the same network
    repeats: bool = False  # another table has the figure first

    @property
    def key(self) -> str:
        """What the row is called by: its network, and what it does not share with others."""
        size = self.figure.protocol.partition(" at ")[2]
        return "-".join(filter(None, (self.figure.model, self.apart, size)))

    @property
    def apart(self) -> str:
        """What tells the row's training from another of the same network by the same recipe."""
        data = "cifar100" if self.figure.dataset == "cifar100" else ""
        return "-".join(filter(None, (data, self.mark)))

    @cached_property
    def spec(self) -> Spec:
        """The network. Raises UsageError where the design space does not have it."""
        if self.lacks:
            raise UsageError(f"{self.label}: {self.lacks}")
        spec = replace(get_spec(self.base or self.figure.model), name=self.figure.model)
        return replace(spec, **{"num_classes": CLASSES[self.figure.dataset], **self.changes})


@dataclass(frozen=True)
class Small:
    """A smaller experiment of the same question, for machines that the table is too much for.

    Rows whose keys are in ``rows``, or all, with ``changes`` of their networks.
    """

    says: str  # what stands in place of what
    changes: Mapping[str, Any]
    rows: tuple[str, ...] = ()
    dataset: str = ""  # in place of the rows' own
    recipe: str = ""
    suffix: str = ""  # of the networks' names, where a zoo's name would mean another

    def spec(self, row: Row) -> Spec:
        """Return the network that stands in for a row's, called by its own depth."""
        spec = replace(row.spec, **self.changes)
        name = re.sub(r"\d+", str(spec.depth), spec.name, count=1)
        return replace(spec, name=f"{name}{self.suffix}")


@dataclass(frozen=True)
class Table:
    """A table of a paper that can be reproduced."""

    key: str  # such as "he2015.table6"
    title: str
    shows: str  # what it shows, in a clause
    rows: tuple[Row, ...]
    note: str = ""  # what of it is left out
    small: Small | None = None

    @property
    def source(self) -> str:
        """The paper and the table."""
        return self.rows[0].figure.source

    @property
    def datasets(self) -> tuple[str, ...]:
        """What it is measured on."""
        return tuple(dict.fromkeys(row.figure.dataset for row in self.rows))

    def chosen(self, keys: tuple[str, ...] = (), *, small: bool = False) -> tuple[Row, ...]:
        """Return the rows of these keys, or all of them. Raises UsageError for a key of none."""
        if small and self.small is None:
            raise UsageError(f"{self.key}: has no smaller stand-in", hint="leave out --small")
        among = self.small.rows if small and self.small else ()
        rows = {row.key: row for row in self.rows if not among or row.key in among}
        for key in keys:
            check_name(f"row of {self.key}", key, rows)
        return tuple(row for key, row in rows.items() if not keys or key in keys)
