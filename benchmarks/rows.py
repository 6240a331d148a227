"""What the scripts have in common whose rows are measured in a fresh process each, every round.

A row is a function that is called in an environment of its own, finds a `Window` there and ticks it
after every batch. Its script is started again for that, with --serve ROW. This module and the
scripts import nothing at first that such an environment might not have.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.workers import Closed, Window, fresh

from resnets.errors import ResourceError

ROOT = Path(__file__).resolve().parents[1]
MISSING = {
    **{"reference": "make reference", "peers": "make peers", "pipeline": "make bench-pipeline"},
    "serving": "make bench-serving",
}


@dataclass(frozen=True)
class Row:
    """One line of a table: where it runs ("own", "reference" or "peers"), and what."""

    where: str
    serve: Callable[[Window, argparse.Namespace], None]


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of all such scripts."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("rows", nargs="*", help="names of rows, or beginnings of them; default: all")
    found.add_argument("--rounds", type=int, default=rounds)
    found.add_argument("--list", action="store_true", help="name the rows")
    found.add_argument("--out", type=Path, metavar="FILE.json", help="all that was measured")
    for name in MISSING:
        default = ROOT / f".venv-{name}" / "bin" / "python"
        found.add_argument(f"--{name}", type=Path, default=default, metavar="PYTHON")
    found.add_argument("--serve", help=argparse.SUPPRESS)
    return found


def chosen(known: Iterable[str], names: list[str]) -> list[str]:
    """Return the rows that are meant, in the table's order; ends the script for an unknown one."""
    known = [*known]
    for name in names:
        if not any(row.startswith(name) for row in known):
            sys.exit(f"no row is called {name}; there are: {', '.join(known)}")
    return [name for name in known if not names or name.startswith(tuple(names))]


def serve(row: Row, window: Window, options: argparse.Namespace) -> None:
    """Be the worker of a row."""
    with suppress(Closed):
        row.serve(window, options)


def case(
    name: str, row: Row, options: argparse.Namespace, words: list[str], seen: dict[str, str]
) -> Callable[[], Callable[[], float]]:
    """Return what prepares a row's measurement.

    ``words`` are what its worker needs to know; ``seen`` gets the versions that it has met.
    """

    def prepare() -> Callable[[], float]:
        pythons = {"own": Path(sys.executable), **{key: getattr(options, key) for key in MISSING}}
        python = pythons[row.where]
        if not python.exists():
            raise ResourceError(f"needs {python}: {MISSING[row.where]}")
        command = [str(python), sys.argv[0], "--serve", name, *words]

        def measure() -> float:
            answer = fresh(command, environment())
            seen.update(answer["versions"])
            return float(answer["rate"])

        return measure

    return prepare


def environment() -> dict[str, str]:
    """Return the variables with which a process finds the sources beside this script."""
    found = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{found}".rstrip(os.pathsep)}


def table(title: str, cases: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Measure cases by turns, print their table, and return it as plain data."""
    from harness import comparison

    from resnets.cli.output import print_table, say

    found, share = comparison.measure(cases, rounds, say)
    result = {"title": title, **comparison.summarise(found, share)}
    print(title)
    print_table(comparison.HEADING, comparison.table(result))
    print(f"{comparison.machine_line(result)}\n", flush=True)
    return result


def finish(
    results: list[dict[str, Any]],
    options: argparse.Namespace,
    started: str,
    seen: Mapping[str, str],
) -> None:
    """Say what was measured on and with, and keep it all."""
    from harness import comparison

    report = comparison.about(results, options.rounds, started)
    report["command"], report["environment"] = sys.argv, {**seen, **report["environment"]}
    print(comparison.environment_line(report))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
