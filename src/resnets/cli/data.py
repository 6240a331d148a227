"""`resnets data`: fetch a data set, check one, pack one, take samples out of one."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli import suspects
from resnets.cli.options import Device, Json, Root
from resnets.cli.output import Progress, print_json, print_table, say, tell
from resnets.errors import UsageError
from resnets.formatting import plural

if TYPE_CHECKING:
    from resnets.data.check import FolderCheck

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Fetch, check, pack and sample data sets.

    \b
    Examples:
      resnets data check photos/
      resnets data pack photos/ --out photos.pack
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
    from resnets.data.cifar_download import get as download

    tell(download(name, root, say))


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set's name, a folder of images or a table of labels; also a pack, tars or "
            "Parquet.",
            metavar="DATA",
        ),
    ],
    near: Annotated[
        bool,
        typer.Option(
            "--near", help="Also find copies that were scaled, compressed again or mirrored."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --near: a run folder or weights, whose embeddings find copies that were cut "
            "out of others, too.",
            metavar="RUN|FILE",
        ),
    ] = None,
    device: Device = "auto",
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Read a whole data set and say what is in it, and what is wrong with it.

    Exit code 3 when a result could not be trusted: broken images, the same image in training
    and test, or in two classes; with --near, near copies too. So it is for rows of a table of
    labels that name no image or contradict others, and for groups in two splits. What else is said,
    such as classes of uneven size or copies within one class, leaves it at 0.

    \b
    Examples:
      resnets data check photos/
      resnets data check photos/labels.csv
      resnets data check photos/ --near
      resnets data check photos/ --near --model runs/photos-resnet18
      resnets data check cifar10 --json
    """
    from resnets.data import NAMES, folder_of, open_dataset

    if model is not None and not near:
        raise UsageError("--model looks for near copies", hint="--near --model MODEL")
    if source not in NAMES:
        _check_folder(folder_of(source), near, model, device, as_json)
        return
    if near:
        raise UsageError(
            f"--near looks into folders of images, and {source} is none",
            hint=f"leave it out: resnets data check {shlex.quote(source)}",
        )
    dataset = open_dataset(source, root=root)
    counts = {
        part: {name: int((split.labels == i).sum()) for i, name in enumerate(dataset.classes)}
        for part, split in dataset.parts.items()
    }
    if as_json:
        print_json({"name": dataset.name, "fingerprint": dataset.fingerprint, "counts": counts})
        return
    _print_counts(counts)
    tell("", f"fingerprint {dataset.fingerprint}")


@app.command()
def pack(
    source: Annotated[
        Path,
        typer.Argument(help="A folder of images, tars or Parquet files.", metavar="DATA"),
    ],
    out: Annotated[Path, typer.Option(help="The pack, such as photos.pack.")],
    side: Annotated[
        int,
        typer.Option(
            help="Scale the shorter side of larger images to this; 0: keep the files.", min=0
        ),
    ] = 0,
    quality: Annotated[
        int, typer.Option(help="Of images that are scaled, as JPEG.", min=1, max=100)
    ] = 95,
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep pixels, not JPEG: five times as large, and faster.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Pack anew, also where nothing has to be.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a folder of images into one file, which is read faster; it trains as the folder does.

    A pack is a tar with an index. It may be stopped at any time: the same command resumes, and
    appends images that are new in the folder. Images that cannot be read are reported,
    listed beside the pack and left out; the exit code is then 3.

    \b
    Examples:
      resnets data pack photos/ --out photos.pack
      resnets data pack photos/ --out photos-256.pack --side 256
      resnets data pack shards/ --out photos.pack --side 256 --raw
    """
    from resnets.data.encoding import Encoding
    from resnets.data.packing import pack as write
    from resnets.data.sources import open_listing

    encoding = Encoding(side, quality, raw)
    progress = Progress()
    with progress.resumable():
        packed = write(
            open_listing(source, report=lambda found: progress.show(found, 0)),
            out,
            encoding,
            overwrite=overwrite,
            report=progress.show,
            on_broken=lambda name, reason: progress.note(f"left out: {name}: {reason}"),
        )
    progress.clear()
    if packed.broken:
        say(f"left out and listed in {packed.broken_list}: {plural(len(packed.broken), 'image')}")
    if as_json:
        print_json(packed.to_dict())
    else:
        were = f", {packed.kept:,} of them before" if packed.kept else ""
        tell(f"{packed.path}   {plural(packed.images, 'image')}{were}, {packed.size / 1e6:,.1f} MB")
    if packed.broken:
        raise typer.Exit(3)


@app.command()
def unpack(
    source: Annotated[
        Path,
        typer.Argument(help="A pack, a tar, Parquet files, or a folder of them.", metavar="DATA"),
    ],
    out: Annotated[Path, typer.Option(help="The folder that the images go to.")],
) -> None:
    """Write the images of a pack, of tars or of Parquet files to a folder, by split and class.

    What folders cannot say, such as groups, weights or several classes, goes into labels.jsonl.
    Each image of a pack is compared with its digest first. It may be stopped at any time: the same
    command resumes. Exit code 3 when images cannot be read. `tar xf` unpacks a pack too.

    \b
    Examples:
      resnets data unpack photos.pack --out photos
      resnets data unpack 'shards/train-{000..146}.tar' --out photos
    """
    from resnets.data.sources import open_listing
    from resnets.data.unpacking import unpack as write

    progress = Progress()
    listing = open_listing(source, verify=True)
    with progress.resumable():
        broken = write(listing, out, progress.show)
    progress.clear()
    say(*(f"broken: {name}: {reason}" for name, reason in broken))
    tell(f"{out}   {plural(len(listing) - len(broken), 'image')}")
    if broken:
        raise typer.Exit(3)


@app.command()
def sample(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set's name or a folder of images; also a pack, tars or Parquet.",
            metavar="DATA",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder that the images go to.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    count: Annotated[int, typer.Option(help="How many, spread over the split.", min=1)] = 6,
    root: Root = None,
) -> None:
    """Write some images of a data set as PNG files named CLASS-NUMBER.png.

    \b
    Examples:
      resnets data sample digits --out samples
      resnets data sample cifar10 --split train --count 20 --out samples
    """
    from resnets.data import open_dataset
    from resnets.data.samples import write_samples

    for path in write_samples(open_dataset(source, root=root), split, count, out):
        tell(path)


app.command()(suspects.suspects)


def _check_folder(path: Path, near: bool, model: str | None, device: str, as_json: bool) -> None:
    from resnets.data.check import check_folder

    progress, lookalikes = Progress(), None
    if model is not None:
        from resnets.evaluation.lookalikes import lookalikes_by
        from resnets.machine.device import choose_device
        from resnets.models import restore

        network, _ = restore(model, needs_classifier=False)
        lookalikes = lookalikes_by(network.to(choose_device(device)))
    found = check_folder(path, near=near, lookalikes=lookalikes, report=progress.show)
    progress.clear()
    if as_json:
        print_json(_values(found))
    else:
        _print_counts(found.counts)
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
        for name in found.table.unlisted:
            yield f"no row names {name}"
    if found.ignored:
        yield f"ignored: {', '.join(found.ignored)}"


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    classes = list(dict.fromkeys(name for by_class in counts.values() for name in by_class))
    rows = [(name, *(counts[part].get(name, 0) for part in counts)) for name in classes]
    total = ("all", *(sum(by_class.values()) for by_class in counts.values()))
    print_table(["class", *counts], [*rows, total])
