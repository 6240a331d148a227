"""What a study has found: a page in the report's style, and the same as JSON."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resnets.errors import NonFiniteError
from resnets.files import write_json
from resnets.report.plots import Plot
from resnets.report.style import write_page

SCHEMA_VERSION = 1
Cell = str | int | float | None


@dataclass(frozen=True)
class Figure:
    """Plots side by side, and the sentence under them that says how to read them."""

    caption: str
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Table:
    """The figures that a reader looks up; a cell of None was not measured."""

    heading: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Claim:
    """What a paper has found, and where it says so."""

    text: str
    source: str


@dataclass(frozen=True)
class MadeOf:
    """What it takes to repeat a study.

    ``nets`` are plain records, each with at least a "name"; ``assumed`` are sentences about what
    was decided for the reader, such as how batch norm was treated.
    """

    nets: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    assumed: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""  # empty where Python has called it


@dataclass(frozen=True)
class Study:
    """A question put to nets, and the answer.

    ``found`` are whole sentences, each made of ``numbers``, which are plain data for the JSON file.
    """

    name: str  # of the command and of the files
    title: str
    question: str
    figures: tuple[Figure, ...]
    found: tuple[str, ...]
    paper: tuple[Claim, ...]
    numbers: Mapping[str, Any]
    made_of: MadeOf
    tables: tuple[Table, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all but the drawings as JSON-able values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": self.name,
            "title": self.title,
            "question": self.question,
            "found": list(self.found),
            "paper": [asdict(claim) for claim in self.paper],
            "figures": [
                {"caption": figure.caption, "plots": [plot.title for plot in figure.plots]}
                for figure in self.figures
            ],
            "numbers": dict(self.numbers),
            "made_of": {
                **vars(self.made_of),
                "nets": [dict(net) for net in self.made_of.nets],
                "assumed": list(self.made_of.assumed),
            },
        }


def colours(nets: Sequence[tuple[Hashable, bool]]) -> list[int]:
    """Return the place in the order of colours of each net, given by its size and whether plain.

    A plain and a residual net of one size share one, told apart by dashes; no two of a kind do.
    """
    of_a_kind: Counter[tuple[Hashable, bool]] = Counter()
    looks = []
    for size, plain in nets:
        looks.append((size, of_a_kind[size, plain]))
        of_a_kind[size, plain] += 1
    order = list(dict.fromkeys(looks))
    return [order.index(look) for look in looks]


def write(study: Study, folder: Path) -> Path:
    """Write ``folder``/NAME.html and NAME.json, and return the page.

    Raises ResourceError, and NonFiniteError where a figure is no number.
    """
    page = folder / f"{study.name}.html"
    try:
        write_json(page.with_suffix(".json"), study.to_dict())
    except ValueError:  # JSON has no NaN
        raise NonFiniteError(
            f"{study.name}: a figure is NaN or infinite", hint="give nets that have not diverged"
        ) from None
    write_page(page, "study.html", title=study.title, study=study)
    return page
