"""The service in the words of OpenAPI 3.1: each address, what it takes and what it answers."""

from typing import Any

import resnets
from resnets.data.headers import FORMATS
from resnets.serving.inference_protocol import EXTENSIONS, HEADER, MOST_VALUES
from resnets.serving.service import OPEN
from resnets.weights.conformal import DEFAULT, METHODS

Json = dict[str, Any]

# A PNG of one grey pixel, as base64.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
)

NAME: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
PROBABILITY: Json = {"type": "number", "minimum": 0, "maximum": 1}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _object(optional: Json | None = None, **required: Json) -> Json:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_TENSOR = {
    "name": NAME,
    "datatype": {"enum": ["FP32", "FP64", "UINT8", "BOOL", "BYTES"]},
    "shape": _list({"type": "integer", "minimum": -1}),
}
_DATA = {
    "type": "array",
    "description": "Flat, or nested as the shape says. BYTES are base64 in a request.",
}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}

SCHEMAS: Json = {
    "Error": _object({"hint": NAME}, error=NAME),
    "Prediction": _object(
        {
            "path": {"type": "string", "description": "The name of the file, where it has one."},
            "label_set": _list(NAME),
            "unknown": {
                "type": "boolean",
                "description": "Whether it seems to be of none of the classes.",
            },
            "unknown_score": NUMBER,
        },
        predictions=_list(_object(probability=PROBABILITY, **{"class": NAME})),
    ),
    "Broken": _object(path=NAME, error=NAME),
    "Answer": {"allOf": [_object(model=NAME), _ref("Prediction")]},
    "Answers": _object(
        model=NAME, predictions=_list({"anyOf": [_ref("Prediction"), _ref("Broken")]})
    ),
    "Models": _object(
        models=_list(_object(name=NAME, classes=_list(NAME), explains={"type": "boolean"}))
    ),
    "Live": _object(live={"type": "boolean"}),
    "Ready": _object({"name": NAME}, ready={"type": "boolean"}),
    "Server": _object(name=NAME, version=NAME, extensions=_list(NAME)),
    "Form": _object({"parameters": {"type": "object"}}, **_TENSOR),
    "Model": _object(
        name=NAME, platform=NAME, inputs=_list(_ref("Form")), outputs=_list(_ref("Form"))
    ),
    "InferRequest": _object(
        {
            "id": NAME,
            "parameters": _PARAMETERS,
            "outputs": _list(_object({"parameters": _PARAMETERS}, name=NAME)),
        },
        inputs={
            **_list(_object({"parameters": _PARAMETERS, "data": _DATA}, **_TENSOR)),
            "minItems": 1,
            "maxItems": 1,
        },
    ),
    "InferResponse": _object(
        {"id": NAME},
        model_name=NAME,
        outputs=_list(_object({"parameters": _PARAMETERS, "data": _DATA}, **_TENSOR)),
    ),
}

REFUSALS = {
    400: "No request that can be meant.",
    401: "The token is missing or another.",
    403: "Called by a name that is not this computer's.",
    404: "No such model.",
    408: "The body came too slowly.",
    413: "Too large a body, or too many images.",
    415: "Neither an image nor a form; or compressed.",
    422: "An image that cannot be read; the error says why.",
    429: "Too much waits already; Retry-After says when to come again.",
    500: "The model cannot answer.",
    501: "A model that cannot do this.",
    503: "No answer in time, or the service ends; Retry-After says when to come again.",
}


def document(names: list[str], most_bytes: int, *, token: bool) -> Json:
    """Return the description of a service of models of these names."""
    told: Json = {
        "openapi": "3.1.1",
        "info": {
            "title": "resnets",
            "version": resnets.__version__,
            "description": f"Classifies images. A body has {most_bytes:,} bytes at most.",
        },
        "servers": [{"url": "/"}],
        "paths": paths(names),
        "components": {
            "schemas": SCHEMAS,
            "responses": {str(status): _refusal(status) for status in REFUSALS},
        },
    }
    if token:
        told["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        told["security"] = [{"token": []}]
        for address in OPEN & told["paths"].keys():
            told["paths"][address]["get"]["security"] = []
    return told


def paths(names: list[str]) -> Json:
    """Return what each address takes and answers."""
    model = {"enum": names}
    health = {
        "live": _get("Whether the service runs", "Live", {"live": True}),
        "ready": _get("Whether it takes requests", "Ready", {"ready": True}, 503),
    }
    of_model = _in_path("name", model)
    server = {"name": "resnets", "version": resnets.__version__, "extensions": list(EXTENSIONS)}
    return {
        "/": {"get": _operation("A page for people", _text("text/html"))},
        "/predict": {"post": _predict(model)},
        "/explain": {"post": _explain(model)},
        "/models": {"get": _operation("The models", _json(_ref("Models")))},
        "/metrics": {"get": _operation("Measures for Prometheus", _text("text/plain"))},
        "/openapi.json": {"get": _operation("This description", _json({"type": "object"}))},
        "/health/live": health["live"],
        "/health/ready": health["ready"],
        "/v2/health/live": health["live"],
        "/v2/health/ready": health["ready"],
        "/v2": _get("The service, for clients of the Open Inference Protocol", "Server", server),
        "/v2/models/{name}": {
            **_get("The tensors of a model", "Model", None, 404),
            "parameters": [of_model],
        },
        "/v2/models/{name}/ready": {
            **_get("Whether a model can be asked", "Ready", None, 404),
            "parameters": [of_model],
        },
        "/v2/models/{name}/infer": {"post": _infer(), "parameters": [of_model]},
    }


def _predict(model: Json) -> Json:
    return {
        **_operation(
            "The most probable classes of an image, or of several",
            _json({"anyOf": [_ref("Answer"), _ref("Answers")]}),
            *REFUSALS,
        ),
        "parameters": [
            _in_query("model", model, "Needed where there are several."),
            _in_query("top", {"type": "integer", "minimum": 1}, "How many classes at most."),
            _in_query("coverage", PROBABILITY, "Also the classes among which its own is with it."),
            _in_query("sets", {"enum": list(METHODS), "default": DEFAULT}, "How they are chosen."),
        ],
        "requestBody": _images(),
    }


def _explain(model: Json) -> Json:
    answer = {"description": "The answer.", "content": {"image/png": {"schema": {}}}}
    return {
        **_operation("Where the model finds a class in an image", answer, *REFUSALS),
        "parameters": [
            _in_query("model", model, "Needed where there are several."),
            _in_query("class", NAME, "The class.") | {"required": True},
        ],
        "requestBody": _images(),
    }


def _images() -> Json:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {"type": "object", "additionalProperties": {"anyOf": [file, _list(file)]}}
    return {
        "required": True,
        "description": f"{', '.join(FORMATS)}; what it is, the content says.",
        "content": {
            "image/*": {"schema": {}},
            "application/octet-stream": {"schema": {}},
            "multipart/form-data": {"schema": form},
        },
    }


def _infer() -> Json:
    asked = {
        "id": "1",
        "inputs": [{"name": "files", "datatype": "BYTES", "shape": [1], "data": [PIXEL]}],
        "outputs": [{"name": "classes"}],
        "parameters": {"top": 1},
    }
    schema = _ref("InferRequest")
    answer = _json(_ref("InferResponse"))
    answer["content"]["application/octet-stream"] = {"schema": {}}
    answer["headers"] = {
        HEADER: {"schema": {"type": "integer"}, "description": "Before the bytes."}
    }
    return {
        **_operation("The answers of a model as tensors", answer, *REFUSALS),
        "parameters": [
            {
                "name": HEADER,
                "in": "header",
                "schema": {"type": "integer", "minimum": 0},
                "description": "The bytes of JSON, before those of tensors. 0: the body is a file.",
            }
        ],
        "requestBody": {
            "required": True,
            "description": f"Up to {MOST_VALUES:,} values as JSON; more as binary data after it.",
            "content": {
                "application/json": {"schema": schema, "example": asked},
                "application/octet-stream": {"schema": {}},
            },
        },
    }


def _get(summary: str, schema: str, example: Json | None, *refusals: int) -> Json:
    answer = _json(_ref(schema))
    if example is not None:
        answer["content"]["application/json"]["example"] = example
    return {"get": _operation(summary, answer, *refusals)}


def _operation(summary: str, answer: Json, *refusals: int) -> Json:
    """Return an operation; any may be refused by what all requests pass."""
    statuses = sorted({401, 403, 503, *refusals})
    refused = {str(each): {"$ref": f"#/components/responses/{each}"} for each in statuses}
    return {"summary": summary, "responses": {"200": answer, **refused}}


def _json(schema: Json) -> Json:
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}


def _text(media: str) -> Json:
    return {"description": "The answer.", "content": {media: {"schema": NAME}}}


def _refusal(status: int) -> Json:
    found = _json(_ref("Error")) | {"description": REFUSALS[status]}
    if status in (429, 503):
        found["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return found


def _in_path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}
