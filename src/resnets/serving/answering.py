"""The addresses of the service that are its own: POST /predict, GET /metrics, GET /health."""

from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resnets.errors import UsageError, check_name
from resnets.inference.prediction import SetSizes, set_sizes
from resnets.serving import openapi
from resnets.serving.hosted import Hosted
from resnets.serving.refusals import as_json
from resnets.serving.service import Service
from resnets.weights.conformal import DEFAULT

_PARAMETERS = ("model", "top", "coverage", "sets")


def routes(service: Service) -> list[Route]:
    """Return the routes of a service."""
    return [
        Route("/predict", partial(_predict, service), methods=["POST"]),
        Route("/metrics", partial(_metrics, service)),
        Route("/openapi.json", partial(_openapi, service)),
        *(Route(f"{version}/health/live", _live) for version in ("", "/v2")),
        *(Route(f"{version}/health/ready", partial(_ready, service)) for version in ("", "/v2")),
    ]


async def _predict(service: Service, request: Request) -> Response:
    hosted, top, sizes = _asked(service, request.query_params)
    hosted.check_room()  # before the body is read
    with service.bodies.of(request) as body:
        images = await body.images(service.limits.queue)
        found = await service.within_time(request, hosted.predictions(images, top, sizes))
    first, *others = found
    if others:
        predictions = [each.to_dict() for each in found]
        return as_json({"model": hosted.name, "predictions": predictions})
    if first.error is not None:
        raise first.error
    record = first.to_dict()
    if body.media != "multipart/form-data":
        del record["path"]  # it has no name
    return as_json({"model": hosted.name, **record})


def check_query(query: QueryParams, names: tuple[str, ...]) -> None:
    """Raise UsageError where a query says something else than these names, or one twice."""
    for name, _ in query.multi_items():
        check_name("parameter", name, names)
        if len(query.getlist(name)) > 1:
            raise UsageError(f"{name} is said twice", hint="once")


def _asked(service: Service, query: QueryParams) -> tuple[Hosted, int | None, SetSizes | None]:
    """Return what a query asks for. Raises UsageError, and Refusal for a model there is not."""
    check_query(query, _PARAMETERS)
    hosted = service.hosted(query.get("model"))
    top = _number(query, "top", int)
    if top is not None and top < 1:
        raise UsageError(f"top is {top}", hint="1 or more")
    coverage = _number(query, "coverage", float)
    if coverage is None and "sets" in query:
        raise UsageError("sets is of label sets", hint="coverage=0.9&sets=lac")
    sizes = set_sizes(hosted.runtime, coverage, query.get("sets", DEFAULT))
    return hosted, top, sizes


def _number(query: QueryParams, name: str, kind: type[Any]) -> Any:
    """Return a parameter as a number, or None where it is not given. Raises UsageError."""
    text = query.get(name)
    try:
        return None if text is None else kind(text)
    except ValueError:
        raise UsageError(f'{name} is no number: "{text}"', hint=f"such as {name}=1") from None


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.measures.text(), media_type=CONTENT_TYPE_LATEST)


async def _openapi(service: Service, request: Request) -> Response:
    most, token = service.limits.max_bytes, service.token is not None
    return as_json(openapi.document([*service.models], most, token=token))


async def _live(request: Request) -> Response:
    return as_json({"live": True})


async def _ready(service: Service, request: Request) -> Response:
    return as_json({"ready": not service.draining}, 503 if service.draining else 200)
