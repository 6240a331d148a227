"""A reproduced table: the paper's figures beside ours, as a page and in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnets.files import write_text
from resnets.report.style import write_page

TITLES = (
    "",
    "published",
    "here",
    "n",
    "median",
    "mean ± sd",
    "95 % interval",
    "minutes each",
)
NOT_MEASURED = "not measured"
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}


def write_reproduction(path: Path, found: Mapping[str, Any]) -> None:
    """Write the page and the Markdown of table.json, which lies at ``path``, beside it."""
    write_text(path.with_suffix(".md"), markdown(found))
    page = path.with_suffix(".html")
    write_page(page, "reproduced.html", title=title(found), found=found, **_shown(found))


def title(found: Mapping[str, Any]) -> str:
    """Return what a reproduction is called, its scale included."""
    scale = "" if found["scale"] == "1" else f", scaled to {found['scale']}"
    return f"{found['source']}: {found['title']}{scale}"


def markdown(found: Mapping[str, Any]) -> str:
    """Return the table in Markdown, with what it is and what it is not."""
    shown = _shown(found)
    lines = [f"# {title(found)}", "", shown["lead"], ""]
    lines += [f"**{sentence}**\n" for sentence in found["changes"]]
    titles = [*TITLES, *(["kept"] if shown["kept"] else [])]
    lines.append("| " + " | ".join(titles) + " |")
    lines.append("| --- |" + " ---: |" * (len(titles) - 1))
    for row in shown["rows"]:
        cells = (cell.replace("|", "\\|") for cell in row["cells"])
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"{shown['legend']}", "", "## What this is no reproduction of", ""]
    lines += [f"- {line}" for line in shown["common"]]
    lines += [
        f"- {row['label']}: {'; '.join(row['apart'])}" for row in shown["rows"] if row["apart"]
    ]
    if not shown["common"] and not any(row["apart"] for row in shown["rows"]):
        lines.append("Nothing is known in which the rows that are measured differ from the paper.")
    if lacking := [row for row in shown["rows"] if row["lacks"]]:
        lines += ["", "## What is not measured", ""]
        lines += [f"- {row['label']}: {row['lacks']}" for row in lacking]
    if found["command"]:
        lines += ["", "## To repeat it", "", f"    {found['command']}"]
    return "\n".join(lines) + "\n"


def _shown(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what page and Markdown have in common."""
    rows: Sequence[Mapping[str, Any]] = found["rows"]
    measured = [row["measured"]["differences"] for row in rows if row["measured"]]
    several = len(measured) > 1
    common = [line for line in measured[0] if all(line in m for m in measured)] if several else []
    kept = any(row["before"] for row in rows)
    data = " and ".join(DATA.get(name, name) for name in dict.fromkeys(r["dataset"] for r in rows))
    protocols = dict.fromkeys(row["published"]["protocol"] for row in rows)
    left_out = f" Left out: {found['left_out']}." if found["left_out"] else ""
    return {
        "lead": f"What it shows: {found['shows']}. Errors in percent, of {data}; the paper's are "
        f"by its protocol ({', '.join(protocols)}).{left_out}",
        "legend": "The interval is of the mean over seeds (Student's t), or of a single run by the "
        "images that it was measured on (Wilson).",
        "kept": kept,
        "titles": [*TITLES, *(["kept"] if kept else [])],
        "common": common,
        "rows": [
            {
                "label": row["label"],
                "cells": [*_cells(row, scaled=found["scale"]), *([_before(row)] if kept else [])],
                "apart": [
                    line
                    for line in (row["measured"] or {}).get("differences", ())
                    if line not in common
                ],
                "lacks": row["lacks"],
            }
            for row in rows
        ],
    }


def _cells(row: Mapping[str, Any], scaled: str) -> Iterator[str]:
    """Yield a row's cells: errors in percent."""
    found = row["measured"]
    yield row["label"]
    yield row["published"]["printed"]
    yield row["model"] + (f", scaled {scaled}" if scaled != "1" and row["recipe"] else "")
    if not found:
        yield from ("", NOT_MEASURED, "", "", "")
        return
    low, high = (100 * side for side in found["interval"])
    yield str(found["n"])
    yield f"{100 * found['median']:.2f}"
    spread = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    top5 = "" if found["top5"] is None else f" (top-5 {100 * found['top5']:.2f})"
    yield f"{100 * found['mean']:.2f}{spread}{top5}"
    yield f"{max(0, low):.2f} to {min(100, high):.2f}"
    yield "" if found["minutes"] is None else f"{found['minutes']:.1f}"


def _before(row: Mapping[str, Any]) -> str:
    """Write what is kept of the same experiment."""
    found = row["before"]
    if not found:
        return ""
    spread = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    return f"{100 * found['mean']:.2f}{spread} ({found['n']})"
