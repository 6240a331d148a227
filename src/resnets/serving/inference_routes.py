"""The addresses of the Open Inference Protocol."""

import asyncio
from functools import partial

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import resnets
from resnets.serving.bodies import Upload
from resnets.serving.inference_protocol import EXTENSIONS, HEADER, answer, metadata, read_request
from resnets.serving.refusals import Refusal, as_json
from resnets.serving.service import Service


def routes(service: Service) -> list[Route]:
    """Return the routes of the protocol but those to the health of the whole."""
    return [
        Route("/v2", _server),
        Route("/v2/models/{name}", partial(_model, service)),
        Route("/v2/models/{name}/ready", partial(_ready, service)),
        Route("/v2/models/{name}/infer", partial(_infer, service), methods=["POST"]),
    ]


async def _server(request: Request) -> Response:
    about = {"name": "resnets", "version": resnets.__version__, "extensions": list(EXTENSIONS)}
    return as_json(about)


async def _model(service: Service, request: Request) -> Response:
    hosted = service.hosted(request.path_params["name"])
    return as_json(metadata(hosted.name, hosted.runtime))


async def _ready(service: Service, request: Request) -> Response:
    return as_json({"name": service.hosted(request.path_params["name"]).name, "ready": True})


async def _infer(service: Service, request: Request) -> Response:
    hosted = service.hosted(request.path_params["name"])
    hosted.check_room()  # before the body is read
    with service.bodies.of(request) as body:
        data = await body.whole()
        # What is large is read and written beside the loop, which others wait for.
        asked = await asyncio.to_thread(
            read_request, data, request.headers.get(HEADER), hosted.runtime, service.limits.queue
        )
        if asked.images is None:
            files = [Upload(file, f"files[{place}]") for place, file in enumerate(asked.files)]
            work = hosted.logits_of(files)
        else:
            work = hosted.logits(asked.images)
        logits = await service.within_time(request, work)
    if asked.images is not None and not np.isfinite(logits).all():
        raise Refusal(
            422,
            "image",
            'the answer to "images" is NaN or infinite',
            hint="are they normalised as the model takes them?",
        )
    content, json_size = await asyncio.to_thread(answer, hosted.name, asked, hosted.runtime, logits)
    if json_size is None:
        return Response(content, media_type="application/json")
    headers = {HEADER: str(json_size)}
    return Response(content, headers=headers, media_type="application/octet-stream")
