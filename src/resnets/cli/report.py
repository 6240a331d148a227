"""`resnets report`: one page for one run, or for several side by side; or about new images."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Json, Root
from resnets.cli.output import Progress, answer, tell
from resnets.errors import UsageError


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, or folders of several seeds.", metavar="RUN..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default: report.html, or new-images.html, in the run folder."),
    ] = None,
    compare_data: Annotated[
        Path | None,
        typer.Option(
            help="Images, of a folder, pack, tar or Parquet: do they differ from those that the "
            "run has kept from its training?",
            metavar="NEW",
        ),
    ] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Write a page about one run, or one that compares several.

    With --compare-data it says whether new images differ from the run's: by a permutation test of
    how far apart the network's embeddings of them are from those of the held-out split, which it
    has not learnt, and by how often a probe can tell a new image from an old one.

    \b
    Examples:
      resnets report runs/demo
      resnets report runs/plain20 runs/resnet20 --out comparison.html
      resnets report runs/photos-resnet18 --compare-data photos-of-june/
    """
    if compare_data is not None:
        _compare(runs, compare_data, out, root, as_json)
        return
    if as_json or root:
        raise UsageError("--json and --root are of --compare-data", hint="leave them out")
    from resnets.report.page import write_report

    tell(write_report(runs, out))


def _compare(
    runs: list[Path], data: Path, out: Path | None, root: Path | None, as_json: bool
) -> None:
    if len(runs) != 1:
        raise UsageError("--compare-data is about one run", hint=f"give one, such as {runs[0]}")
    from resnets.evaluation.new_images import compare_data
    from resnets.report.new_images_page import write_new_images_page
    from resnets.run_folder.directory import RunFolder

    with Progress() as progress:
        found = compare_data(runs[0], data, root=root, on_progress=progress.show)
    page = out or RunFolder(runs[0]).new_images
    page = page / RunFolder(runs[0]).new_images.name if page.is_dir() else page
    write_new_images_page(page, found.to_dict(), found.lines(), found.thumbnails())
    beside = (*found.lines(), f"the images that differ most: {page}")
    answer(found, as_json, found.sentence, *(f"  {line}" for line in beside))
