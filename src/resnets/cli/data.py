"""`resnets data`: fetch a data set, check one, take samples out of one."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Json, Root
from resnets.cli.output import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Fetch, check and sample data sets.

    \b
    Examples:
      resnets data check photos/
      resnets data get cifar10
    """


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="cifar10 or cifar100.")],
    root: Root = None,
) -> None:
    """Download a data set, verified by SHA-256; nothing is done when it is there already.

    \b
    Examples:
      resnets data get cifar10
      resnets data get cifar100 --root /data
    """
    from resnets.data.download import get as download

    print(download(name, root, say))


@app.command()
def check(
    source: Annotated[
        str, typer.Argument(help="A data set's name or a folder of pictures.", metavar="DATA")
    ],
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Read a whole data set and say what is in it, and what is wrong with it.

    Exit code 3 when a result could not be trusted: broken pictures, the same picture in training
    and test, or in two classes.

    \b
    Examples:
      resnets data check photos/
      resnets data check cifar10 --json
    """
    from resnets.data import NAMES, open_dataset

    if source not in NAMES and Path(source).is_dir():
        _check_folder(Path(source), as_json)
        return
    dataset = open_dataset(source, root=root)
    counts = {
        part: {name: int((split.labels == i).sum()) for i, name in enumerate(dataset.classes)}
        for part, split in dataset.parts.items()
    }
    if as_json:
        print_json({"name": dataset.name, "fingerprint": dataset.fingerprint, "counts": counts})
        return
    _print_counts(counts)
    print(f"\nfingerprint {dataset.fingerprint}")


@app.command()
def sample(
    source: Annotated[
        str, typer.Argument(help="A data set's name or a folder of pictures.", metavar="DATA")
    ],
    out: Annotated[Path, typer.Option(help="The folder that the pictures go to.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    count: Annotated[int, typer.Option(help="How many, spread over the split.", min=1)] = 6,
    root: Root = None,
) -> None:
    """Write some pictures of a data set as PNG files named CLASS-NUMBER.png.

    \b
    Examples:
      resnets data sample digits --out samples
      resnets data sample cifar10 --split train --count 20 --out samples
    """
    from resnets.data import open_dataset
    from resnets.data.samples import write_samples

    for path in write_samples(open_dataset(source, root=root), split, count, out):
        print(path)


def _check_folder(path: Path, as_json: bool) -> None:
    from resnets.data.check import check_folder

    found = check_folder(path)
    groups = {"duplicates": found.duplicates, "leaks": found.leaks, "conflicts": found.conflicts}
    if as_json:
        print_json(
            {"name": found.name, "counts": found.counts, "broken": [vars(b) for b in found.broken]}
            | {name: [list(group) for group in some] for name, some in groups.items()}
            | {"ignored": list(found.ignored), "sound": found.sound}
        )
    else:
        _print_counts(found.counts)
        for broken in found.broken:
            print(f"broken: {broken.path}: {broken.reason}")
        for title, some in (
            ("the same picture in two splits", found.leaks),
            ("the same picture in two classes", found.conflicts),
            ("the same picture twice", found.duplicates),
        ):
            for group in some:
                print(f"{title}: {', '.join(group)}")
        if found.ignored:
            print(f"ignored: {', '.join(found.ignored)}")
    if not found.sound:
        raise typer.Exit(3)


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    classes = list(dict.fromkeys(name for by_class in counts.values() for name in by_class))
    rows = [(name, *(counts[part].get(name, 0) for part in counts)) for name in classes]
    total = ("all", *(sum(by_class.values()) for by_class in counts.values()))
    print_table(["class", *counts], [*rows, total])
