"""`resnets export`: a network as a file for another runtime, checked before it is kept."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from resnets.cli.options import (
    Json,
    Known,
    Overwrite,
    Root,
    is_path,
    note_unsaid,
    open_network,
    takes,
)
from resnets.cli.output import answer, say
from resnets.errors import UsageError, check_name
from resnets.zoo import get_spec


@takes(Known)
def export(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder, a checkpoint in any format, or a model's name with --weights.",
            metavar="RUN",
        ),
    ],
    to: Annotated[str, typer.Option(help="onnx, openvino, torch or safetensors.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="In 8-bit integers, calibrated on training images.")
    ] = False,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Points of accuracy that --int8 may lose; default: 0.3, or what chance explains "
            "up to 1.",
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option(help="How many images it takes at once, or dynamic.")
    ] = "dynamic",
    size: Annotated[
        str | None,
        typer.Option(
            help="Height x width of its input such as 224x224, or dynamic; default: that of "
            "training, and dynamic for pictures."
        ),
    ] = None,
    input: Annotated[
        str,
        typer.Option(
            help="normalized: float32 (N, C, H, W), prepared. pixels: uint8 (N, C, H, W), of its "
            "size. pictures: uint8 (N, H, W, C), of any."
        ),
    ] = "normalized",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: model.onnx and so on, in or beside RUN. With --for, the "
            "folder; default: models."
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--for", help="triton: a model repository, or another version in it.", metavar="SERVER"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's, with --for; default: that of RUN.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A data set's name or folder: for --int8, and images to compare with; default: "
            "the run's own."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of images to compare with.")] = None,
    root: Root = None,
    *,
    overwrite: Overwrite = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Write a network for ONNX Runtime, OpenVINO or torch, and prove that it computes the same.

    Its batch norms are folded; class names and preprocessing are in its metadata. Its answers are
    compared with the network's, in 8 bits its accuracy; where they differ by more than rounding,
    no file is kept and the exit code is 5. What was found is said in FILE.certificate.json.

    \b
    Examples:
      resnets export runs/photos-resnet18
      resnets export runs/photos-resnet18 --input pictures --out photos.onnx
      resnets export resnet20 --weights cifar10 --to openvino --int8
      resnets export runs/photos-resnet18 --for triton --out models --name photos
    """
    known = Known(**options)
    if server is not None:
        _check_server(server, to, overwrite)
    elif name is not None:
        raise UsageError("--name is of a model in a repository", hint="add --for triton")
    if known.weights is None and not is_path(run):
        get_spec(run)  # a name that no model has
    chosen: dict[str, Any] = {"to": to, "int8": int8, "input": input}
    chosen |= {"batch": _batch(batch), "size": _size(size)}
    from resnets.exporting import plan
    from resnets.exporting.export import export

    plan.check_words(**chosen)
    if server is not None:
        from resnets.exporting import triton

        source = Path(run).resolve()
        own = re.sub(r"[^\w.-]+", "-", source.stem if source.is_file() else source.name, flags=re.A)
        path = triton.check_model(out or Path("models"), own if name is None else name)
    else:
        path = out or _beside(run, plan.ENDINGS[to], int8)
        plan.check_names(path, to, overwrite=overwrite, source=Path(known.weights or run))
    network, made = open_network(run, known)
    note_unsaid(network)
    chosen |= {"data": data, "images": images, "root": root}
    chosen |= {"max_loss": max_loss, "made": made, "report": say}
    if server is not None:
        written = triton.export_for_triton(network, path.parent, path.name, **chosen)
    else:
        written = export(network, path, overwrite=overwrite, **chosen)
    answer(written, as_json, *written.sentences())


def _check_server(server: str, to: str, overwrite: bool) -> None:
    check_name("server", server, ("triton",))
    if to != "onnx":
        raise UsageError(f"a repository for {server} holds ONNX, not {to}", hint="leave out --to")
    if overwrite:
        raise UsageError(
            f"{server} has versions, which stay as they are", hint="leave out --overwrite"
        )


def _batch(word: str) -> int | Literal["dynamic"]:
    if word == "dynamic":
        return "dynamic"
    if not word.isdecimal():
        raise UsageError(f'--batch is "{word}"', hint="a number of images, or dynamic")
    return int(word)


def _size(word: str | None) -> tuple[int, int] | Literal["dynamic"] | None:
    if word is None or word == "dynamic":
        return cast(Literal["dynamic"] | None, word)
    if not (match := re.fullmatch(r"(\d+)x(\d+)", word, re.ASCII)):
        raise UsageError(f'--size is "{word}"', hint="height x width such as 224x224, or dynamic")
    return int(match[1]), int(match[2])


def _beside(run: str, ending: str, int8: bool) -> Path:
    """Return the default file: in a run folder, beside a checkpoint, or called as the model."""
    path = Path(run)
    stem = path / "model" if path.is_dir() else path.with_suffix("") if is_path(run) else path
    return stem.with_name(f"{stem.name}{'-int8' if int8 else ''}{ending}")
