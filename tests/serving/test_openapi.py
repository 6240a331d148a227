"""/openapi.json: it is OpenAPI and describes all routes, which answer as it says."""

import base64
import json
import re

import pytest

from resnets.serving import running
from resnets.serving.hosted import Limits
from resnets.serving.openapi import PIXEL
from resnets.serving.service import Service
from served import Toy, multipart, served

jsonschema = pytest.importorskip("jsonschema")
IMAGE = base64.b64decode(PIXEL)
METHODS = ("get", "post", "put", "delete")


@pytest.fixture(scope="module")
def client():
    with served({"toy": Toy(), "other": Toy()}, Limits(max_bytes=10_000)) as found:
        yield found


@pytest.fixture(scope="module")
def told(client):
    return client.get("/openapi.json").json


def operations(told) -> dict[tuple[str, str], dict]:
    return {
        (path, method): entry[method]
        for path, entry in told["paths"].items()
        for method in METHODS
        if method in entry
    }


def test_it_is_openapi(told):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(told)


def test_every_route_has_an_entry_and_every_entry_a_route(told):
    service = Service({"toy": Toy()})
    try:
        routed = {
            (route.path, method.lower())
            for route in running.routes(service)
            if route.include_in_schema
            for method in route.methods - {"HEAD"}
        }
    finally:
        service.close()
    assert operations(told).keys() == routed


def fits(told, schema, value) -> None:
    whole = schema | {"components": told["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def requests(path: str, operation: dict):
    """What is sent to an address: nothing, its example, or an image of each media type."""
    for media, content in operation.get("requestBody", {}).get("content", {"": {}}).items():
        if "example" in content:
            yield media, json.dumps(content["example"]).encode()
        elif media == "multipart/form-data":
            yield f"{media}; boundary=EdGe", multipart({"a.png": IMAGE, "b.png": b"broken"})
        elif media:
            yield media.replace("*", "png"), IMAGE


QUERIES = {"/predict": "?model=toy", "/explain": "?model=toy&class=red"}


def test_examples_are_answered_as_it_says(client, told):
    for (path, method), operation in operations(told).items():
        address = path.replace("{name}", "toy") + QUERIES.get(path, "")
        for media, body in [*requests(path, operation)] or [("", None)]:
            headers = {"Content-Type": media}
            if path.endswith("/infer") and media == "application/octet-stream":
                headers["Inference-Header-Content-Length"] = "0"
            reply = client.ask(method.upper(), address, body, headers)
            assert reply.status == (501 if path == "/explain" else 200), (path, reply.body)
            content = content_of(told, operation["responses"][str(reply.status)])
            kind = re.match(r"[\w/-]+", reply.headers["content-type"])[0]
            if kind == "application/json":
                fits(told, content[kind]["schema"], reply.json)
            if "example" in content[kind]:
                assert reply.json == content[kind]["example"]


def content_of(told, response: dict) -> dict:
    """The content of a response, which may be a reference."""
    name = response.get("$ref", "").rpartition("/")[2]
    return (told["components"]["responses"][name] if name else response)["content"]


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, ("POST", "/predict?model=toy&top=0", IMAGE, {"Content-Type": "image/png"})),
        (403, ("GET", "/v2", None, {"Host": "evil.example"})),
        (404, ("GET", "/v2/models/missing")),
        (404, ("GET", "/v2/models/missing/ready")),
        (413, ("POST", "/v2/models/toy/infer", bytes(10_001))),
        (415, ("POST", "/predict?model=toy", b"hello", {"Content-Type": "text/plain"})),
        (422, ("POST", "/predict?model=toy", b"hello", {"Content-Type": "image/png"})),
    ],
)
def test_refusals_are_those_it_names(client, told, status, sent):
    reply = client.ask(*sent)
    assert reply.status == status
    path = sent[1].partition("?")[0].replace("missing", "{name}").replace("/toy", "/{name}")
    refused = operations(told)[path, sent[0].lower()]["responses"][str(status)]
    fits(told, content_of(told, refused)["application/json"]["schema"], reply.json)


def test_what_is_named_is_there(told):
    """References lead to components, and each component is referred to."""
    named = set(re.findall(r"#/components/(\w+/\w+)", json.dumps(told)))
    kinds = ("schemas", "responses")
    assert named == {f"{kind}/{name}" for kind in kinds for name in told["components"][kind]}


def test_a_token_is_told(told):
    assert "security" not in told
    with served({"toy": Toy()}, token="secret") as client:
        bearer = {"Authorization": "Bearer secret"}
        told = client.ask("GET", "/openapi.json", None, bearer).json
        assert told["security"] == [{"token": []}]
        for (path, _), operation in operations(told).items():
            assert ("security" in operation) == (client.get(path).status != 401)
