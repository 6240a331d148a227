"""The page of the runs behind the results: what each was, what came of it, and what it printed."""

import json
from collections.abc import Callable, Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

from website.sources import ROOT, path_anchor, place
from website.tables import table

_LINES = 60  # of a log, from its end


def experiments() -> list[Path]:
    """Return the folders of results/ that hold runs."""
    return sorted(path.parent.parent for path in ROOT.glob("results/*/seed-0/run.json"))


def page(copy: Callable[[str], None]) -> str:
    """Return the page; ``copy`` is called with the path of each file that it links to."""
    return "\n".join(_page(copy))


def _page(copy: Callable[[str], None]) -> Iterator[str]:
    yield "# Runs\n"
    yield (
        "What is text of the run folders behind [the results](index.md): everything but weights "
        "and states. [Files](../reference/files/run-folder.md) says what is in them.\n"
    )
    for folder in experiments():
        yield from _experiment(folder, copy)
    for folder in sorted(path for path in ROOT.glob("results/[!_]*") if path.is_dir()):
        if folder not in experiments():
            yield f"## {folder.name} {{ #{path_anchor(folder.name)} }}\n"
            yield f"{_files(folder, copy)}\n"


def _experiment(folder: Path, copy: Callable[[str], None]) -> Iterator[str]:
    yield f"## {folder.name} {{ #{path_anchor(folder.name)} }}\n"
    runs = [_read(path) for path in sorted(folder.glob("seed-*/run.json"))]
    rows = (
        (
            str(run["seed"]),
            f"{100 * run['results']['test']['accuracy']:.2f} %",
            f"{run['results']['train']['seconds'] / 60:.1f}",
            f"{run['results']['train']['images_per_second']:.0f}",
            f"torch {run['environment']['torch']}, {run['environment'].get('processor', '')}, "
            f"{run['environment']['threads']} threads, {run['environment']['precision']}",
        )
        for run in runs
    )
    yield table(("seed:", "test accuracy:", "minutes:", "images/s:", "on"), rows) + "\n"
    yield f"{_files(folder, copy)}\n"
    log = folder / "log.txt"
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines()
        title = "What it printed" if len(lines) <= _LINES else f"The last {_LINES} lines of its log"
        body = "\n".join(f"    {line}".rstrip() for line in lines[-_LINES:])
        yield f'??? note "{title}"\n\n    ```text\n{body}\n    ```\n'


def _read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def _files(folder: Path, copy: Callable[[str], None]) -> str:
    """Return links to all files of a folder, which are copied."""
    links = []
    found = (each for each in folder.rglob("*") if "__pycache__" not in each.parts)
    for path in sorted(each for each in found if each.is_file()):
        name = path.relative_to(ROOT).as_posix()
        copy(name)
        links.append(f"[{path.relative_to(folder)}]({relpath(place(name), 'results')})")
    return "Files: " + ", ".join(links) + "."
