"""ONNX Runtime: exported .onnx files, computed on the CPU."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import lacking
from resnets.inference.runtimes.onnx_file import refuse_data_elsewhere
from resnets.inference.runtimes.runtime import Exported, damaged, read_export
from resnets.readers.paths import spelled
from resnets.weights.metadata import KEY

FEW = 8  # images


class OnnxRuntime(Exported):
    """A session of ONNX Runtime.

    With the blocked layout of its convolutions weights exist twice while it opens: that is quickest
    for many images. For few it takes almost twice the memory, and longer to begin.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int = 0, count: int | None = None) -> None:
        """Open a file; raises ResourceError without the package, CheckpointError for a bad file."""
        try:
            onnxruntime = import_onnxruntime()
        except ImportError:
            raise lacking(f"{path}: needs onnxruntime", "onnx") from None
        refuse_data_elsewhere(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, and said once
        options.intra_op_num_threads = threads
        if count is not None:  # they are decoded meanwhile, by threads that want the cores
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if count is not None and count < FEW:
            level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.graph_optimization_level = level
        try:
            with spelled(path) as file:
                self._session = onnxruntime.InferenceSession(
                    str(file), options, providers=["CPUExecutionProvider"]
                )
            self._input = self._session.get_inputs()[0].name
            texts = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # it has a dozen kinds
            raise damaged(path, "ONNX model", error) from None
        super().__init__(path, read_export(path, texts.get(KEY)), onnxruntime.__version__)

    def _run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        return [*map(np.asarray, self._session.run(None, {self._input: images}))]


def import_onnxruntime() -> Any:
    """Return ONNX Runtime's module, kept from telling Microsoft what models it opens.

    From 1.29 on it does, with names and digests, and leaves a device's number in the user's cache;
    unless a variable is set before it loads, which the user's own value of it may keep.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
