"""A traced program as a file: ONNX, OpenVINO or torch's own, each with its metadata."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from resnets.errors import ResourceError
from resnets.exporting.trace import tracing
from resnets.files import write_bytes
from resnets.inference.runtimes.openvino_runtime import import_openvino, read_model
from resnets.readers.paths import spelled
from resnets.weights.metadata import KEY

OPSET = 18  # of ONNX; runtimes since 2023 have it


def write_program(
    program: ExportedProgram, path: Path, metadata: str, outputs: Sequence[str]
) -> None:
    """Write ``program`` to ``path`` as the ending says: .onnx, .xml with .bin, or .pt2.

    ``outputs`` are the names of its outputs, which a .pt2 has not.

    Raises ResourceError when it cannot be written.
    """
    if path.suffix == ".pt2":
        buffer = BytesIO()
        torch.export.save(program, buffer, extra_files={KEY: metadata})
        write_bytes(path, buffer.getvalue())
    elif path.suffix == ".onnx":
        write_onnx(_as_onnx(program, outputs), path, metadata)
    else:
        onnx = path.with_suffix(".onnx")
        write_onnx(_as_onnx(program, outputs), onnx, metadata)
        # Core reads ONNX as convert_model does, which besides reports its use to the network.
        write_openvino(read_model(onnx), path, metadata)
        onnx.unlink()


def _as_onnx(program: ExportedProgram, outputs: Sequence[str]) -> Any:
    """Return the program as an ONNX model, a protocol buffer."""
    with tracing():
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=outputs,
            verbose=False,
        )
    assert written is not None
    model = written.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]  # where in the network it comes from: a tenth of a small file
    return model


def write_onnx(model: Any, path: Path, metadata: str) -> None:
    """Write an ONNX model as one file, with the metadata in its metadata."""
    kept = {entry.key: entry.value for entry in model.metadata_props} | {KEY: metadata}
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)
    write_bytes(path, model.SerializeToString())


def write_openvino(model: Any, path: Path, metadata: str) -> None:
    """Write a model of OpenVINO as .xml and .bin, in the precision that it has."""
    model.set_rt_info(metadata, [KEY])
    try:
        with spelled(path, ".bin") as name:
            import_openvino().save_model(model, name, compress_to_fp16=False)
    except RuntimeError as error:
        raise ResourceError(
            f"{path}: cannot be written: {str(error).strip().splitlines()[-1]}",
            hint="choose another folder, or free some space",
        ) from None
