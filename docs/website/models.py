"""The table of all models, to be filtered and sorted; without JavaScript it is a table."""

from html import escape

from resnets.papers.paper_tables import FIGURES
from resnets.spec import Spec
from resnets.weights import catalog, shipped
from resnets.zoo import ZOO
from website.sources import ROOT


def with_table(page: str) -> str:
    """Return docs/models.md with this table in the place of its own."""
    before, _, rest = page.partition("<!-- models:")
    _, _, after = rest.partition("<!-- end of models -->")
    return f"{before}{_table()}{after}"


def _counts() -> dict[str, tuple[int, int]]:
    """Return parameters and multiply-adds, by name, as the tests know them."""
    lines = (ROOT / "tests/reference/zoo.csv").read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split(",") for line in lines)
    return {name: (int(parameters), int(macs)) for name, parameters, macs in rows}


def _table() -> str:
    counts = _counts()
    heads = ("model", "for", "parameters", "multiply-adds", "published error, %", "weights", "")
    head = "".join(f"<th>{each}</th>" for each in heads)
    rows = "".join(_row(name, spec, *counts[name]) for name, spec in ZOO.items())
    return (
        '<div class="models" markdown="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )


def _row(name: str, spec: Spec, parameters: int, macs: int) -> str:
    made_for = "CIFAR" if spec.image_size == 32 else "ImageNet"
    error, protocol, source = _published(name)
    cells = (
        f"<td><code>{name}</code></td><td>{made_for}</td>",
        f'<td data-value="{parameters}">{parameters:,}</td><td data-value="{macs}">{macs:,}</td>',
        f'<td data-value="{error or 1000}" title="{escape(source)}">{error or ""}'
        f" <small>{escape(protocol)}</small></td>",
        f"<td>{_folded(weights(name))}</td><td>{escape(spec.variant)}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>\n"


def _folded(names: list[str]) -> str:
    """Return names as a number that opens to show them; nothing where there are none."""
    if len(names) < 2:
        return "".join(map(escape, names))
    listed = "<br>".join(map(escape, names))
    return f"<details><summary>{len(names)}</summary><span>{listed}</span></details>"


def _published(name: str) -> tuple[float | None, str, str]:
    """Return the first published top-1 error of a model, how it was measured, where it stands."""
    for row in FIGURES:
        if row.model == name and row.error_percent is not None:
            return row.error_percent, row.protocol, f"{row.source}; {row.dataset}"
    return None, "", ""


def weights(name: str) -> list[str]:
    """Return the names of the published weights of a model; those that come along are first."""
    return [*shipped.names(name), *(each.name for each in catalog.entries() if each.model == name)]
