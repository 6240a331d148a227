"""The page that people see, and the addresses that only it asks: GET /models and POST /explain."""

import asyncio
import io
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resnets.errors import DataError, UsageError, nearest
from resnets.inference.prediction import finite
from resnets.report.style import environment
from resnets.serving.answering import check_query
from resnets.serving.refusals import Refusal, as_json
from resnets.serving.service import PAGE, Service

if TYPE_CHECKING:  # torch is imported where a network needs it
    from resnets.inference.runtimes.torch_runtime import Network

MEDIA = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@cache
def page_file(name: str) -> str:
    """Return a file of the page as browsers get it."""
    if name.endswith((".html", ".css")):
        return environment("resnets.serving", "ui").get_template(name).render()
    return files("resnets.serving").joinpath("ui", name).read_text("utf-8")


def routes(service: Service) -> list[Route]:
    """Return the routes of the page of a service."""
    return [
        *(Route(path, _file, include_in_schema=path == "/") for path in PAGE),
        Route("/models", partial(_models, service)),
        Route("/explain", partial(_explain, service), methods=["POST"]),
    ]


async def _file(request: Request) -> Response:
    name = request.url.path[1:] or "page.html"
    return Response(page_file(name), media_type=MEDIA[Path(name).suffix])


async def _models(service: Service, request: Request) -> Response:
    found: list[dict[str, Any]] = [
        {"name": name, "classes": list(each.runtime.classes), "explains": each.runtime.explains}
        for name, each in service.models.items()
    ]
    return as_json({"models": found})


async def _explain(service: Service, request: Request) -> Response:
    """Answer an image with what the model sees of it, glowing where it speaks for a class."""
    query = request.query_params
    check_query(query, ("model", "class"))
    hosted = service.hosted(query.get("model"))
    if not hosted.runtime.explains:
        raise Refusal(
            501,
            "explain",
            f"{hosted.name} cannot say where it looks: it has no gradients",
            hint="serve the run folder, or its weights, instead of an exported file",
        )
    network = cast("Network", hosted.runtime)
    name = query.get("class")
    if name is None:
        raise UsageError("where is what?", hint="class=NAME says which class to look for")
    labels = hosted.runtime.labels
    if name not in labels:
        close = nearest(name, list(labels))
        hint = f"did you mean {close}?" if close else "GET /models lists them"
        raise UsageError(f'no class is called "{name}"', hint=hint)
    hosted.check_room()
    with service.bodies.of(request) as body:
        (image,) = await body.images(1)
        looked = hosted.seen(image, partial(network.heat, answer=labels.index(name)))
        seen, heat = await service.within_time(request, looked)
    if not finite(heat).any():
        raise DataError(f"nothing in the image speaks for {name}")
    return Response(await asyncio.to_thread(_glowing, seen, heat), media_type="image/png")


def _glowing(seen: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """Return an image (C, H, W) with a map (h, w) on it, as PNG."""
    import torch

    from resnets.analysis.features.overlays import overlay

    file = io.BytesIO()
    overlay(torch.from_numpy(seen), torch.from_numpy(heat)).save(file, "PNG")
    return file.getvalue()
