"""The Open Inference Protocol, version 2, with binary tensors, as KServe and Triton speak it.

A model has two inputs, of which a request gives one: ``images``, the tensor that the network takes,
and ``files``, whole JPEG, PNG or other files, prepared as `resnets predict` prepares them.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.data.images import MODES
from resnets.data.preprocess import preprocess_of
from resnets.errors import UsageError, check_name
from resnets.formatting import printable
from resnets.inference.prediction import TOP, finite
from resnets.inference.runtimes import Runtime
from resnets.readers.documents import parsed
from resnets.serving.tensor_data import (
    Form,
    Tensor,
    check_form,
    data_of,
    datatype,
    numbers,
    texts,
)

# github.com/triton-inference-server/server, docs/protocol/extension_*.md
EXTENSIONS = ("binary_tensor_data", "classification")
HEADER = "Inference-Header-Content-Length"  # of the JSON before binary data; 0: there is none
MOST_VALUES = 1 << 20  # of the JSON of a request: 32 bytes of memory each
_LONGEST = 200  # characters of a name
_DIMENSIONS = 8


@dataclass(frozen=True)
class Output:
    """A tensor that is asked for; of ``count`` classes their values, numbers and labels."""

    name: str
    binary: bool
    count: int = 0


@dataclass(frozen=True)
class Request:
    """A request for inference: either ``files`` or the tensor ``images`` is there."""

    id: str | None
    files: tuple[bytes | bytearray, ...]
    images: NDArray[Any] | None
    outputs: tuple[Output, ...]
    top: int | None


def inputs(runtime: Runtime) -> dict[str, Form]:
    """Return the inputs of a model by name, of which a request gives one.

    An image of more channels than files have comes as a tensor only.
    """
    channels = runtime.spec.in_channels
    if runtime.input == "pictures":
        height, width = getattr(runtime, "size", None) or (-1, -1)
        found = [Form("images", "UINT8", (-1, height, width, channels))]
    else:
        side = preprocess_of(runtime).size
        kind = "UINT8" if runtime.input == "pixels" else "FP32"
        found = [Form("images", kind, (-1, channels, side, side))]
    if channels in MODES:
        found.append(Form("files", "BYTES", (-1,)))
    return {form.name: form for form in found}


def outputs(runtime: Runtime) -> dict[str, Form]:
    """Return the outputs of a model by name."""
    found = [
        Form("probabilities", "FP64", (-1, len(runtime.labels))),
        Form("logits", "FP32", (-1, runtime.spec.num_classes)),
        Form("classes", "BYTES", (-1, -1)),
    ]
    if runtime.calibration and runtime.calibration.unknown:
        found += [Form("unknown", "BOOL", (-1,)), Form("unknown_score", "FP64", (-1,))]
    return {form.name: form for form in found}


def metadata(name: str, runtime: Runtime) -> dict[str, Any]:
    """Return what the protocol tells of a model, and the labels of its probabilities."""
    told = [form.to_dict() for form in outputs(runtime).values()]
    told[0]["parameters"] = {"labels": list(runtime.labels)}
    return {
        "name": name,
        "platform": "onnx_onnxv1" if runtime.name == "onnxruntime" else f"resnets_{runtime.name}",
        "inputs": [
            {**form.to_dict(), "parameters": {"one_of": list(inputs(runtime))}}
            for form in inputs(runtime).values()
        ],
        "outputs": told,
    }


def read_request(
    body: bytes | bytearray, header: str | None, runtime: Runtime, most: int
) -> Request:
    """Return what the body of a request asks for, of ``most`` images at most.

    ``header`` is the value of HEADER, if there was one. Raises UsageError for what is no request,
    or none that this model can answer.
    """
    length = _json_length(header, len(body))
    known_inputs, known_outputs = inputs(runtime), outputs(runtime)
    if header is not None and length == 0:
        check_name("input", "files", known_inputs)
        every = tuple(Output(name, binary=True) for name in known_outputs)
        return Request(None, (body,), None, every, None)
    asked = _json(body[:length])
    id_ = _optional(asked, "id", str, None)
    parameters = _optional(asked, "parameters", dict, {})
    tensor = _input(asked, memoryview(body)[length:])
    check_name("input", tensor.form.name, known_inputs)
    check_form(tensor.form, known_inputs[tensor.form.name], most)
    binary = _optional(parameters, "binary_data_output", bool, False)
    return Request(
        id_,
        tuple(texts(tensor)) if tensor.form.name == "files" else (),
        None if tensor.form.name == "files" else numbers(tensor),
        tuple(_outputs(asked, known_outputs, binary)),
        _positive(parameters, "top"),
    )


def answer(
    name: str, request: Request, runtime: Runtime, logits: NDArray[np.float32]
) -> tuple[bytes, int | None]:
    """Return the body that answers a request, and how much of it is JSON: None for all.

    Raises NonFiniteError for logits that are NaN or infinite.
    """
    arrays = _arrays(request, runtime, logits)
    told, binaries = [], []
    for output in request.outputs:
        values = arrays[output.name]()
        if output.count:
            values = _classification(values, output.count, runtime.labels)
        record = Form(output.name, datatype(values), values.shape).to_dict()
        data = data_of(values, binary=output.binary)
        if isinstance(data, bytes):
            record["parameters"] = {"binary_data_size": len(data)}
            binaries.append(data)
        else:
            record["data"] = data
        told.append(record)
    response = {"model_name": name, "outputs": told}
    if request.id is not None:
        response["id"] = request.id
    text = json.dumps(response).encode()
    return b"".join([text, *binaries]), len(text) if binaries else None


def _arrays(
    request: Request, runtime: Runtime, logits: NDArray[np.float32]
) -> dict[str, Callable[[], NDArray[Any]]]:
    """Return what computes each output."""
    probabilities = runtime.probabilities(finite(logits))
    labels = np.array(runtime.labels, dtype=object)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, : request.top or TOP]
    found: dict[str, Callable[[], NDArray[Any]]] = {
        "probabilities": lambda: probabilities,
        "logits": lambda: logits,
        "classes": lambda: labels[best],
    }
    if runtime.calibration and (unknown := runtime.calibration.unknown):
        found["unknown_score"] = partial(unknown.of, logits)
        found["unknown"] = partial(unknown.flags, logits)
    return found


def _classification(
    values: NDArray[Any], count: int, labels: tuple[str, ...]
) -> NDArray[np.object_]:
    """Return the ``count`` highest values of each row as texts "value:number:label"."""
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    named = [f":{label}" for label in labels] if len(labels) == values.shape[1] else None
    rows = [
        [f"{row[i]}:{i}{named[i] if named else ''}" for i in chosen]
        for row, chosen in zip(values, best, strict=True)
    ]
    return np.array(rows, dtype=object)


def _json_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdecimal() and len(header) < 12 and int(header) <= size):
        raise UsageError(
            f"{HEADER}: {header[:_LONGEST]!a} is no number of bytes up to {size}, those of the body"
        )
    return int(header)


def _json(data: bytes | bytearray) -> dict[str, Any]:
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise UsageError(
            f"the request has more than {MOST_VALUES} values as JSON", hint="send binary data"
        )
    try:
        found = parsed(data.decode())
    except ValueError as error:
        raise UsageError(f"the request is no JSON of the protocol: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("the request is JSON, but no object", hint='{"inputs": [...]}')
    return found


def _input(asked: dict[str, Any], rest: memoryview) -> Tensor:
    """Return the one input of a request, ``rest`` being what follows its JSON."""
    given = _records(asked, "inputs")
    if len(given) != 1:
        raise UsageError(
            f"the request has {len(given)} inputs, and takes one", hint='"images" or "files"'
        )
    (record,) = given
    form = Form(_word(record, "name"), _word(record, "datatype"), _shape(record))
    size = _optional(_optional(record, "parameters", dict, {}), "binary_data_size", int, None)
    if size is None and len(rest):
        raise UsageError(f"{len(rest)} bytes follow the request's JSON, which speaks of none")
    if size is None:
        return Tensor(form, _optional(record, "data", list, []))
    if "data" in record:
        raise UsageError(f'input "{form.name}" has data both as JSON and binary')
    if size != len(rest):
        raise UsageError(
            f'input "{form.name}" has a binary_data_size of {size}, and {len(rest)} bytes follow '
            "the request's JSON"
        )
    return Tensor(form, rest)


def _outputs(asked: dict[str, Any], known: dict[str, Form], all_binary: bool) -> Iterable[Output]:
    """Yield the outputs that are asked for: all, where none is named."""
    given = _records(asked, "outputs") if "outputs" in asked else []
    names = [_word(record, "name") for record in given] or [*known]
    if len({*names}) != len(names):
        raise UsageError("the request names an output twice")
    for name, record in zip(names, given or [{}] * len(names), strict=True):
        check_name("output", name, known)
        parameters = _optional(record, "parameters", dict, {})
        binary = _optional(parameters, "binary_data", bool, all_binary)
        count = _positive(parameters, "classification") or 0
        if count and name not in ("probabilities", "logits"):
            raise UsageError(f'output "{name}" has no classes to rank')
        yield Output(name, binary, count)


def _records(asked: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _optional(asked, key, list, [])
    if not all(isinstance(record, dict) for record in found):
        raise UsageError(f'"{key}" of the request has members that are no objects')
    return found


def _word(record: dict[str, Any], key: str) -> str:
    return printable(_optional(record, key, str, "")[:_LONGEST])


def _shape(record: dict[str, Any]) -> tuple[int, ...]:
    shape = _optional(record, "shape", list, [])
    if len(shape) > _DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        raise UsageError(
            f'"shape" of an input is no list of up to {_DIMENSIONS} whole numbers from 0 on'
        )
    return tuple(shape)


def _positive(parameters: dict[str, Any], key: str) -> int | None:
    number: int | None = _optional(parameters, key, int, None)
    if number is not None and number < 1:
        raise UsageError(f'"{key}" is {number}, and must be at least 1')
    return number


def _optional(record: dict[str, Any], key: str, kind: type, otherwise: Any) -> Any:
    """Return a member of a record of JSON. Raises UsageError for one of another kind."""
    value = record.get(key)
    if value is None:
        return otherwise
    if type(value) is not kind:
        words = {str: "text", int: "whole number", bool: "true or false", list: "list"}
        raise UsageError(f'"{key}" of the request is no {words.get(kind, "object")}')
    return value
