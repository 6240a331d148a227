"""`resnets data`: fetch a data set, check one, pack one, take samples out of one."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli import suspects
from resnets.cli.folder_check import check_folder, print_counts
from resnets.cli.options import Device, Json, Root
from resnets.cli.output import Progress, answer, print_json, say, tell
from resnets.errors import UsageError
from resnets.formatting import plural

if TYPE_CHECKING:
    from resnets.data.listing import Listing

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
        check_folder(folder_of(source), near, model, device, as_json)
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
    print_counts(counts)
    tell("", f"fingerprint {dataset.fingerprint}")


@app.command()
def pack(
    source: Annotated[
        Path,
        typer.Argument(help="A folder of images, tars or Parquet files.", metavar="DATA"),
    ],
    out: Annotated[Path, typer.Option(help="The pack, such as photos.pack.")],
    shard_size: Annotated[
        str | None,
        typer.Option(
            help="Make OUT a folder of packs of at most this many bytes, such as 512MB or 4GB.",
            metavar="SIZE",
        ),
    ] = None,
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

    A pack is a tar with an index; a folder of packs trains as one does. It may be stopped at any
    time: the same command resumes, and appends images that are new in the folder. Images that
    cannot be read are reported, listed beside the pack and left out; the exit code is then 3.

    \b
    Examples:
      resnets data pack photos/ --out photos.pack
      resnets data pack photos/ --out photos-256.pack --side 256
      resnets data pack shards/ --out photos.pack --side 256 --raw
      resnets data pack photos/ --out packs --shard-size 512MB
    """
    from resnets.data.encoding import Encoding
    from resnets.data.packing import pack as write
    from resnets.data.sources import open_listing

    encoding = Encoding(side, quality, raw)
    with Progress() as progress, progress.resumable():
        listing = open_listing(source, report=lambda found: progress.show(found, 0))
        packed = write(
            listing,
            out,
            encoding,
            shard_size=0 if shard_size is None else _bytes(shard_size),
            overwrite=overwrite,
            report=progress.show,
            on_broken=lambda name, reason: progress.note(f"left out: {name}: {reason}"),
        )
    _say_left_out(listing, source)
    if packed.broken:
        say(f"left out and listed in {packed.broken_list}: {plural(len(packed.broken), 'image')}")
    were = f", {packed.kept:,} of them before" if packed.kept else ""
    packs = f" in {plural(packed.packs, 'pack')}" if shard_size else ""
    told = f"{plural(packed.images, 'image')}{packs}{were}, {packed.size / 1e6:,.1f} MB"
    answer(packed, as_json, f"{packed.path}   {told}")
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

    listing = open_listing(source, verify=True)
    with Progress() as progress, progress.resumable():
        broken = write(listing, out, progress.show)
    _say_left_out(listing, source)
    say(*(f"broken: {name}: {reason}" for name, reason in broken))
    tell(f"{out}   {plural(len(listing) - len(broken), 'image')}")
    if broken:
        raise typer.Exit(3)


def _say_left_out(listing: "Listing", source: Path) -> None:
    """Say what is no ordinary file, has no class or leads elsewhere: one of them, and how many."""
    if not listing.irregular:
        return
    (name, reason), *others = listing.irregular
    again = f"resnets data check {shlex.quote(str(source))}"
    more = f"; `{again}` lists {len(others):,} more" if others else ""
    say(f"left out: {name}: {reason}{more}")


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


def _bytes(text: str) -> int:
    """Return the number that a size such as 512MB means. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not found or not (size := int(float(found[1]) * 1000 ** ("kmgt".find(found[2] or " ") + 1))):
        raise UsageError(f"--shard-size {text}: is no size", hint="--shard-size 512MB")
    return size
