"""`resnets serve`: models that answer over HTTP."""

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import Json, Known, Threads, open_answering, takes
from resnets.cli.output import flush_results, say, tell
from resnets.errors import UsageError, lacking

if TYPE_CHECKING:  # what it needs is an extra
    from resnets.serving.service import Service

PACKAGES = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
MANY = 1 << 30  # images: a service is opened for as many as come


@takes(Known)
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Run folders, checkpoints or exported files (.onnx, .xml, .pt2; without torch but "
            "for the last). NAME=PATH gives one a name; otherwise it has its folder's or file's.",
            metavar="[NAME=]RUN|FILE...",
        ),
    ],
    *,
    host: Annotated[
        str,
        typer.Option(help="The address to listen at; 0.0.0.0 is all of this computer's."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0: any that is free.", min=0, max=65535)
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RESNETS_TOKEN",
            help="What requests have to show as `Authorization: Bearer TOKEN`. Processes of others "
            "can see options; they cannot see the variable.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="Who computes: auto, onnxruntime, openvino or torch.")
    ] = "auto",
    threads: Threads = 0,
    max_batch: Annotated[int, typer.Option(help="Images computed at once.", min=1)] = 8,
    max_wait_ms: Annotated[
        float,
        typer.Option(
            help="How long a batch that is not full waits for images that are being decoded.", min=0
        ),
    ] = 0.0,
    queue: Annotated[
        int, typer.Option(help="Images of a model that may wait; for more it is 429.", min=1)
    ] = 128,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds in which a body has to come, and as many again for its answer.", min=0.1
        ),
    ] = 30.0,
    max_bytes: Annotated[int, typer.Option(help="Of the body of a request.", min=1)] = 32 << 20,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Answer images over HTTP: POST one, or several as multipart, to /predict.

    The answers are those of `resnets predict --json`. Many requests at once are computed in
    batches. SIGTERM or Ctrl-C ends it when what it has accepted is answered.

    \b
    Examples:
      resnets serve runs/photos-resnet18
      resnets serve birds=model.onnx flowers=runs/flowers-resnet50 --port 9000
      curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" localhost:8000/predict
    """
    known = Known(**options)
    paths = named(models)
    if len(paths) > 1 and (known.options or known.outputs):
        given = " and ".join(known.options + (["--outputs"] if known.outputs else []))
        raise UsageError(f"{given}: of which model?", hint="serve one, or leave it out")
    for package in PACKAGES:
        if find_spec(package) is None:
            raise lacking(f"a service needs {package}", "serve")
    from resnets.machine import cpu
    from resnets.serving import running
    from resnets.serving.hosted import Limits
    from resnets.serving.service import Service

    limits = Limits(max_batch, max_wait_ms / 1000, queue, timeout, max_bytes)
    with running.bound(host, port) as sock:
        loopback = running.is_loopback(sock)
        if not loopback and token is None:
            say(
                f"warning: whoever reaches {host} may use it; --token or RESNETS_TOKEN asks for one"
            )
        service = Service(
            {each: open_answering(paths[each], known, runtime, threads, MANY) for each in paths},
            limits,
            token=token,
            loopback=loopback,
            report=lambda text: say(*text.splitlines()),
        )
        # What torch computes is as large as photographs, batch after batch.
        if all(each.runtime.name != "torch" for each in service.models.values()):
            cpu.return_large_blocks()
        running.serve(service, sock, lambda: _told(service, running.url(sock), as_json))


def _told(service: "Service", url: str, as_json: bool) -> None:
    """Say where a service answers."""
    models = service.models.values()
    if as_json:
        about = [{"name": each.name, "runtime": each.runtime.name} for each in models]
        tell(json.dumps({"url": url, "models": about}))  # a line, which a program can wait for
    else:
        tell(f"serving {', '.join(each.name for each in models)} at {url}")
    flush_results()


def named(words: list[str]) -> dict[str, str]:
    """Return the models' paths by their names. Raises UsageError for one that two would have."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or os.path.exists(word):
            path = word
            own = Path(word).resolve() if os.path.isdir(word) else Path(word)
            name = re.sub(r"[^\w.-]+", "-", own.name if own.is_dir() else own.stem, flags=re.A)
        if not re.fullmatch(r"[\w.-]+", name, re.A):
            raise UsageError(
                f'"{name}" is no name for a model', hint="letters, digits and .-_ without spaces"
            )
        if name in found:
            raise UsageError(
                f"{found[name]} and {path} would both be called {name}",
                hint=f"{name}-2={path} gives one another name",
            )
        found[name] = path
    return found
