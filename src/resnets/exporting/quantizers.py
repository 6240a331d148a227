"""Networks in 8-bit integers: by ONNX Runtime's tools for .onnx, by nncf for OpenVINO.

Weights have a scale for each channel and 7 of the 8 bits. Processors without instructions for
8-bit products (before AVX-512 VNNI) add two of them in 16 bits, where larger ones saturate; so an
answer would depend on the machine, and what is measured on one would not hold on another.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resnets.exporting.ranges import find_ranges
from resnets.exporting.trace import errors_only
from resnets.exporting.write import write_onnx, write_openvino
from resnets.inference.runtimes.openvino_runtime import import_openvino

Batches = Callable[[], Iterable[NDArray[Any]]]

# Of ONNX; the others stay in float32: they cost little, or lose much.
_OPERATORS = ["Conv", "Gemm", "Add", "Relu", "MaxPool", "Pad", "Slice", "Reshape"]
_FLOAT = 1  # of onnx.TensorProto


class Quantizer(Protocol):
    """Writes one network in 8 bits, some layers of it left in float32."""

    method: str  # in words
    layers: list[str]  # convolutions and the classifier, as the network calls them

    def write(self, path: Path, kept: Collection[str]) -> None:
        """Write the network with the layers ``kept`` in float32."""


class OnnxQuantizer:
    """Quantises an ONNX model by the ranges that cost the least squared error."""

    method = "static QDQ, ranges of least squared error, per-channel weights of 7 bits"

    def __init__(self, model: Any, metadata: str, batches: Batches, threads: int) -> None:
        self._model, self._metadata = model, metadata
        nodes = model.graph.node
        first = next(i for i, node in enumerate(nodes) if node.op_type == "Conv")
        logits = model.graph.output[0].name
        after = 1 + next(i for i, node in enumerate(nodes) if logits in node.output)
        # Resizing and normalising, and what is made of the logits.
        self._outside = [node.name for node in (*nodes[:first], *nodes[after:])]
        weighted = [node for node in nodes if node.op_type in ("Conv", "Gemm")]
        self._nodes = {_layer(node.input[1]): node.name for node in weighted}
        self.layers = list(self._nodes)
        kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
        }
        outputs = [name for node in nodes[first:after] for name in node.output]
        names = [nodes[first].input[0], *(n for n in outputs if kinds.get(n) == _FLOAT)]
        self._ranges = find_ranges(model, names, batches, threads)

    def write(self, path: Path, kept: Collection[str]) -> None:
        """Write the network with the layers ``kept`` in float32."""
        from onnxruntime.quantization import (
            CalibrationMethod,
            QDQQuantizer,
            QuantType,
            TensorData,
            TensorsData,
        )

        ranges = {
            name: TensorData(lowest=np.float32(low), highest=np.float32(high))
            for name, (low, high) in self._ranges.items()
        }
        quantizer = QDQQuantizer(
            type(self._model).FromString(self._model.SerializeToString()),
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[*self._outside, *(self._nodes[layer] for layer in kept)],
            op_types_to_quantize=_OPERATORS,
            extra_options={},
        )
        quantizer.quantize_model()
        write_onnx(quantizer.model.model, path, self._metadata)


class OpenVinoQuantizer:
    """Quantises a model of OpenVINO by nncf's post-training quantisation."""

    method = "nncf, with its bias correction, per-channel weights of 7 bits"

    def __init__(self, read: Callable[[], Any], metadata: str, batches: Batches) -> None:
        self._read, self._metadata, self._batches = read, metadata, batches
        model = read()
        nodes = [node for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
        kinds = [node.get_type_name() for node in nodes]
        names = [node.get_friendly_name() for node in nodes]
        first = kinds.index("Convolution")
        logits = model.get_results()[0].input_value(0).get_node().get_friendly_name()
        self._outside = [*names[:first], *names[names.index(logits) + 1 :]]
        self._nodes = {}
        for node, kind in zip(nodes[first:], kinds[first:], strict=True):
            if kind in ("Convolution", "GroupConvolution", "MatMul"):
                weight = node.input_value(1).get_node()
                while weight.get_type_name() != "Constant":  # groups have another shape
                    weight = weight.input_value(0).get_node()
                self._nodes[_layer(weight.get_friendly_name())] = node.get_friendly_name()
        self.layers = list(self._nodes)

    def write(self, path: Path, kept: Collection[str]) -> None:
        """Write the network with the layers ``kept`` in float32."""
        import_openvino()
        import nncf

        parameters = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        names = [*self._outside, *(self._nodes[layer] for layer in kept)]
        # Its bars and notes are kept off standard output, which is for results.
        with errors_only("nncf"), redirect_stdout(StringIO()):
            model = nncf.quantize(
                self._read(),
                nncf.Dataset(_Again(self._batches)),
                subset_size=sum(1 for _ in self._batches()),
                ignored_scope=nncf.IgnoredScope(names=names, validate=False),
                advanced_parameters=parameters,
            )
        write_openvino(model, path, self._metadata)


def _layer(weight: str) -> str:
    """Return the network's name of the layer with this weight."""
    return weight.removeprefix("network.").removesuffix(".weight")


class _Again:
    """What can be gone through more than once."""

    def __init__(self, start: Batches) -> None:
        self._start = start

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._start())
