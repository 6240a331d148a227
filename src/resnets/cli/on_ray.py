"""`--on ray`: a table in parts on the nodes of a Ray cluster, gathered in the end."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.options import is_path
from resnets.cli.output import Progress, answer, say
from resnets.errors import Stopped, UsageError
from resnets.formatting import plural

if TYPE_CHECKING:
    from resnets.integrations.ray_parts import State, Work

PARTS_FOR_EACH = 4  # processor: the last ones are then short, and a lost node costs little

On = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="Do it in parts on a Ray cluster: ray (that of RAY_ADDRESS, or one that is started on "
        "this machine), HOST:PORT on a node of one, or ray://HOST:PORT from anywhere.",
        metavar="ray|ADDRESS",
    ),
]
Parts = Annotated[
    int | None,
    typer.Option(
        help="In how many parts --on does it.", min=1, show_default="4 for each processor"
    ),
]


def check_on(on: str | None, parts: int | None, part: str | None, out: Path | None) -> None:
    """Raise UsageError for options that do not go together with ``--on``."""
    if on is None:
        if parts is not None:
            raise UsageError("--parts is of --on", hint=f"--on ray --parts {parts}")
    elif part is not None:
        raise UsageError("--on makes all parts, --part one of them", hint="leave out one of both")
    elif out is None:
        raise UsageError("--on is for a table", hint="--out all.parquet")


def make_on(
    on: str,
    work: "Work",
    *,
    out: Path,
    parts: int | None,
    images: int,
    batches: int,
    paths: Sequence[str | Path | None],
    package: str,
    processors: int = 1,
    gpus: int = 0,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a table by a cluster, say what was made, and exit with 3 where images are broken.

    ``work`` makes a part of the ``images``, which are so many ``batches``; ``paths`` are the files
    and folders that it opens, ``package`` is what computes. ``processors`` and ``gpus`` are what a
    task has to itself.
    """
    from resnets.files import alone
    from resnets.inference.attempts import Attempts, begun, parts_of
    from resnets.inference.gather import gather
    from resnets.integrations.ray_parts import Needs, joined, versions_of
    from resnets.training.signals import StopRequest

    folder = parts_of(out)
    job = folder / out.name
    lock = folder / f".{out.name}.lock"  # a node that sees it sees this very folder
    needed = tuple(str(path) for path in (*paths, lock) if path and is_path(str(path)))
    needs = Needs(Path.cwd(), needed, versions_of(package), processors, gpus)
    try:
        with alone(job):
            before = begun(out)
            if before and parts not in (None, before):
                _give_up(out, before, overwrite=overwrite)
                before = None
            with joined(on) as cluster, StopRequest() as stop, Progress() as progress:
                room = cluster.check(needs)
                attempts = Attempts(out, parts or before or _parts_for(room, batches))
                say(
                    f"Ray, {cluster.where}: {plural(len(cluster.nodes(needs)), 'node')}, "
                    f"{plural(room, 'part')} of {attempts.of:,} at a time"
                )

                def show(state: "State") -> None:
                    parts = f"{state.parts:,} of {plural(attempts.of, 'part')}"
                    progress.show(state.images, images, f"; {parts}, {plural(state.nodes, 'node')}")

                is_whole = cluster.compute(
                    work,
                    attempts,
                    needs,
                    overwrite=overwrite,
                    stopped=lambda: stop.requested,
                    on_progress=show,
                    on_broken=progress.broken,
                    note=progress.note,
                )
            if not is_whole:
                raise Stopped(
                    f"stopped: {progress.done:,} of {plural(images, 'image')} are done and kept",
                    hint="the same command resumes",
                    exit_code=stop.exit_code,
                )
            table = gather(attempts.tables(), out, overwrite=overwrite)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        with suppress(OSError):  # what is done is in it
            folder.rmdir()
    told = f"{plural(table.images, 'image')} of {plural(table.parts, 'part')}, each once"
    answer(table, as_json, f"{out}   {told}, {table.broken:,} of them broken")
    if table.broken:
        raise typer.Exit(3)


def _give_up(out: Path, parts: int, *, overwrite: bool) -> None:
    """Remove what was begun in so many parts. Raises UsageError without ``overwrite``."""
    from resnets.inference.attempts import parts_of

    if not overwrite:
        raise UsageError(
            f"{out}: was begun in {plural(parts, 'part')}",
            hint=f"--parts {parts} resumes it; to begin anew: --overwrite",
        )
    for each in parts_of(out).glob("*-of-*"):
        shutil.rmtree(each)


def _parts_for(room: int, batches: int) -> int:
    """Return how many parts are made where so many run at once."""
    return max(1, min(PARTS_FOR_EACH * room, batches))
