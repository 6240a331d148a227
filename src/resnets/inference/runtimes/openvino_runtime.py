"""OpenVINO: its own .xml with .bin, and exported .onnx files, computed on the CPU."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import CheckpointError, lacking
from resnets.inference.runtimes.onnx_file import refuse_data_elsewhere
from resnets.inference.runtimes.runtime import Exported, damaged, read_export
from resnets.readers.paths import spelled
from resnets.weights.metadata import KEY


class OpenVino(Exported):
    """A compiled model of OpenVINO."""

    name = "openvino"

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Open a file; raises ResourceError without the package, CheckpointError for a bad file."""
        try:
            openvino = import_openvino()
        except ImportError:
            raise lacking(f"{path}: needs openvino", "openvino") from None
        _check_kind(path)
        # Where a processor has bfloat16 it would be taken, whose error is 65,000 times as large.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = read_model(path)
            # In a model read from .onnx stands there what its metadata says.
            places = [place for place in ([KEY], ["framework", KEY]) if model.has_rt_info(place)]
            text = model.get_rt_info(places[0]).astype(str) if places else None
        except Exception as error:
            raise damaged(path, "model for OpenVINO", error) from None
        metadata = read_export(path, text)
        try:
            self._request = core().compile_model(model, "CPU", options).create_infer_request()
        except Exception as error:
            raise damaged(path, "model for OpenVINO", error) from None
        super().__init__(path, metadata, openvino.__version__)

    def _run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        answers = self._request.infer(images, share_inputs=True, share_outputs=True)
        # The next batch is written over what is shared.
        return [np.array(answers[place]) for place in range(len(answers))]


def import_openvino() -> Any:
    """Return OpenVINO's module, kept from telling others on the network that it is used."""
    # What is None cannot be imported, and OpenVINO and nncf do without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def core() -> Any:
    """Return OpenVINO's core: one, for as long as the process lives.

    The first model that a core compiles gives the thread a stack for its signals, which goes with
    the core. Of two cores that go in the order in which they came, the second leaves the thread
    with the stack of the first: no handler can run, and the next Ctrl-C is a segmentation fault.
    """
    return import_openvino().Core()


def read_model(path: Path) -> Any:
    """Return what OpenVINO reads of .xml and .bin, or of .onnx; raises RuntimeError."""
    with spelled(path, *([".bin"] if path.suffix.lower() == ".xml" else [])) as name:
        return core().read_model(name)


def _check_kind(path: Path) -> None:
    """Refuse what OpenVINO would try with the reader of each framework, and data elsewhere."""
    if path.suffix.lower() != ".xml":
        refuse_data_elsewhere(path)
        return
    with path.open("rb") as file:
        if b"<net" not in file.read(1000):
            raise CheckpointError(f"{path}: is no OpenVINO model")
    if not (weights := path.with_suffix(".bin")).is_file():
        raise CheckpointError(f"{path}: its weights are missing: {weights}", hint="copy them too")
