"""What `resnets data check` says of a folder of images."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from resnets.cli.output import Progress, print_json, print_table, say, tell
from resnets.errors import DataError
from resnets.formatting import plural

if TYPE_CHECKING:
    from resnets.data.check import FolderCheck

_SHOWN = 20  # images that no row names: often a table is of a part of a folder


def check_folder(path: Path, near: bool, model: str | None, device: str, as_json: bool) -> None:
    """Read a whole folder and print what is in it. Raises typer.Exit where it is not sound."""
    from resnets.data import check

    lookalikes = None
    if model is not None:
        from resnets.evaluation.lookalikes import lookalikes_by
        from resnets.machine.device import choose_device
        from resnets.models import restore

        network, _ = restore(model, needs_classifier=False)
        lookalikes = lookalikes_by(network.to(choose_device(device)))
    faults: list[str] = []
    try:
        with Progress() as progress:
            found = check.check_folder(
                path,
                near=near,
                lookalikes=lookalikes,
                report=progress.show,
                on_fault=faults.append,
            )
    except DataError:  # what it has found until then is why
        say(*(f"cannot be meant: {fault}" for fault in faults))
        raise
    if as_json:
        print_json(_values(found))
    else:
        print_counts(found.counts)
        tell(*_lines(found))
    if not found.sound:
        raise typer.Exit(3)
    if not as_json:
        begin = f"next: resnets train {shlex.quote(str(path))}"
        say(f"{begin}; --weights starts from what others have learnt, --plan only says how")


def _values(found: "FolderCheck") -> dict[str, Any]:
    """Return what was found as JSON-able values."""
    values = {
        **asdict(found),
        "imbalance": round(found.imbalance, 2),
        "look_alike": list(found.look_alike),
        "sides": list(found.sides or ()),
    }
    del values["classes"]  # which are the keys of the counts
    for optional in ("near", "table"):
        if values[optional] is None:
            del values[optional]
    return values | {"sound": found.sound}


def _lines(found: "FolderCheck") -> Iterator[str]:
    """Yield what was found, for people."""
    from resnets.data.check import UNEVEN
    from resnets.data.classes import class_notes, unevenness
    from resnets.data.copies import groups_sentences
    from resnets.data.images import printable

    if found.table:
        yield from found.table.said
    for fault in found.faults:
        yield f"cannot be meant: {fault}"
    yield from groups_sentences(found.divided_groups)
    for broken in found.broken:
        yield f"broken: {broken.path}: {broken.reason}"
    for title, some in (
        ("the same image in two splits", found.leaks),
        ("the same image in two classes", found.conflicts),
        ("the same image twice", found.duplicates),
    ):
        for group in some:
            yield f"{title}: {', '.join(group)}"
    drawn = "validation" not in found.counts  # `train` will hold a part out
    yield from found.copies.sentences(together=drawn)
    for near in found.near or ():
        places = [name for name, two in (("splits", len(near.splits) > 1),) if two]
        places += ["classes"] if near.classes > 1 else []
        where = f" in two {' and two '.join(places)}" if places else ""
        yield f"near copies{where}: {', '.join(near.names)}"
    if found.near == ():
        yield "no near copies"
    if found.imbalance >= UNEVEN:
        yield unevenness(found.counts["train"])
    yield from class_notes(found.classes)
    if found.sides:
        left, right = map(printable, found.sides)
        yield (
            f"{left} and {right} are told apart by their side: train does not mirror images, "
            "unless augment.mirror is true"
        )
    if found.cropped:
        verb = "loses" if found.cropped == 1 else "lose"
        yield (
            f"{found.cropped:,} of {plural(found.images, 'image')} {verb} more than a third of "
            "the area to the square that evaluation takes from the middle"
        )
    if found.depth:
        yield str(found.depth)
    if found.animations:
        yield f"only the first frame is taken: {', '.join(found.animations)}"
    for each in found.left_out:
        yield f"left out: {each.path}: {each.reason}"
    if found.table:
        for row in found.table.doubled:
            yield f"doubled: {row}"
        unlisted = found.table.unlisted
        yield from (f"no row names {name}" for name in unlisted[:_SHOWN])
        if more := unlisted[_SHOWN:]:
            yield f"no row names {len(more):,} more, which --json lists"
    if found.ignored:
        yield f"ignored: {', '.join(found.ignored)}"


def print_counts(counts: dict[str, dict[str, int]]) -> None:
    """Print how many images each split has of each class."""
    classes = list(dict.fromkeys(name for by_class in counts.values() for name in by_class))
    rows = [(name, *(counts[part].get(name, 0) for part in counts)) for name in classes]
    total = ("all", *(sum(by_class.values()) for by_class in counts.values()))
    print_table(["class", *counts], [*rows, total])
