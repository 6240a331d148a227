"""The weights in an ONNX model, in the order of its graph.

Exporters rename and fold. What they renamed is called after the place of the node that uses it, in
PyTorch's words and layout: ``layer1.0.conv1.weight`` of the node ``/layer1/layer1.0/conv1/Conv``.
"""

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance, read_whole, truncated
from resnets.readers.plain import Plain, from_bytes
from resnets.readers.protobuf import Message, decoded, integers, text_of
from resnets.readers.protobuf import message as parsed

# Its version, then who made it, the graph, or the versions of the operators
ONNX_START = re.compile(rb"\x08[\x01-\x20](\x12[\x01-\x40][ -~]{4}|\x12\0|[\x3a\x42])", re.DOTALL)
_LONGEST_TEXT = 100  # of an attribute
_FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
# What the inputs of a node are, from the second on
_NORM = ("weight", "bias", "running_mean", "running_var")
_ROLES = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), ("weight", "bias")),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "GroupNormalization"), _NORM),
    **dict.fromkeys(("MatMul", "PRelu"), ("weight",)),
}
# Names that are somebody's own and tell the same: conv0_weight, bn0_gamma, conv1_w_0
_OWN = {
    "weight": re.compile(r"(.*)[^a-z](weight|kernel|gamma|scale|w|s)(_0)?", re.IGNORECASE),
    "bias": re.compile(r".*[^a-z](bias|beta|b)(_0)?", re.IGNORECASE),
    "running_mean": re.compile(r".*[^a-z](mean|rm)(_0)?", re.IGNORECASE),
    "running_var": re.compile(r".*[^a-z](var|variance|riv)(_0)?", re.IGNORECASE),
}
_ATTRIBUTES = {
    **{"strides": "stride", "pads": "padding", "dilations": "dilation", "group": "groups"},
    **{"epsilon": "eps", "kernel_shape": "kernel_size"},
}


def read_onnx(path: Path) -> Plain:
    """Return the weights of an ONNX file, and what its nodes say of stride, padding and eps."""
    data, allowance = read_whole(path)
    try:
        model = parsed(memoryview(data), allowance)
    except ValueError:
        raise truncated(len(data)) from None
    if 7 not in model:
        raise truncated(len(data))
    graph = parsed(model[7][-1], allowance)
    walk = _Walk(allowance)
    for message in graph.get(5, ()):
        walk.keep(message)
    for index, message in enumerate(graph.get(1, ())):
        walk.node(index, parsed(message, allowance))
    left = {key: t for key, t in walk.tensors.items() if key not in walk.used and t.ndim}
    return Plain(walk.tree | left, walk.layers)


@dataclass
class _Walk:
    """A walk along the nodes, which names the tensors."""

    allowance: Allowance
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by their names in the graph
    used: set[str] = field(default_factory=set)
    tree: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)  # outputs of MatMul, and its place

    def keep(self, message: memoryview, name: str = "") -> None:
        tensor = parsed(message, self.allowance)
        if (value := _tensor(tensor, self.allowance)) is not None:
            self.tensors[name or text_of(tensor, 8)] = value

    def node(self, index: int, node: Message) -> None:
        inputs, outputs = ([decoded(name) for name in node.get(n, ())] for n in (1, 2))
        kind, place = text_of(node, 4), _place(text_of(node, 3))
        place = place or f"{kind}_{index}"
        attributes = dict(self.attribute(message, outputs) for message in node.get(5, ()))
        roles = zip(_ROLES.get(kind, ()), inputs[1:], strict=False)
        names = {role: name for role, name in roles if name in self.tensors}
        if "Quantize" in kind or "QLinear" in kind or kind.endswith("Integer"):
            raise CheckpointError(
                f"it holds quantised tensors ({kind!a})",
                hint="give the float model that it was quantised from",
            )
        if kind == "Identity" and inputs[0] in self.tensors:  # for tensors that are alike
            self.tensors[outputs[0]] = self.tensors[inputs[0]]
            self.used |= {inputs[0], outputs[0]}
        elif kind == "Add" and (product := next(filter(self.products.get, inputs), None)):
            place = self.products.pop(product)
            if bias := next((name for name in inputs if name in self.tensors), None):
                self.add(place, {"bias": bias}, index)
        elif "weight" in names:
            place = self.add(place, names, index, turned=_is_turned(kind, attributes))
            self.products |= dict.fromkeys(outputs, place) if kind == "MatMul" else {}
        if "weight" in names or "kernel_shape" in attributes:
            self.layers[place] = {"class": kind, **_in_torchs_words(attributes)}

    def attribute(self, message: memoryview, outputs: list[str]) -> tuple[str, Any]:
        """Return the name and the value of an attribute; that of a Constant is kept as a tensor."""
        found = parsed(message, self.allowance)
        name = text_of(found, 1)
        if 5 in found and name == "value":
            self.keep(found[5][-1], outputs[0])
        if 2 in found:
            return name, float(f"{struct.unpack('<f', found[2][-1])[0]:.7g}")  # 1e-05, exactly
        if 3 in found:
            return name, found[3][-1]
        if 8 in found:
            return name, integers(found[8], self.allowance)
        return name, str(found.get(4, [b""])[-1][:_LONGEST_TEXT], "latin-1")

    def add(self, place: str, names: dict[str, str], index: int, *, turned: bool = False) -> str:
        """Put the inputs of a node into the tree, and return the place that they got."""
        keys = {role: f"{place}.{role}" for role in names}
        first = names.get("weight", "")
        if first.endswith(".weight"):
            place = first.removesuffix(".weight")
            keys = {role: f"{place}.{role}" for role in names}
        elif first and all(_OWN[role].fullmatch(name) for role, name in names.items()):
            place, keys = _OWN["weight"].sub(r"\1", first), names
        if not self.tree.keys().isdisjoint(keys.values()):  # a layer that is used twice
            place = f"{place}_{index}"
            keys = {role: f"{place}.{role}" for role in names}
        self.tree |= {keys[role]: self.tensors[name] for role, name in names.items()}
        if turned:
            self.allowance.take(self.tensors[first].nbytes)
            self.tree[keys["weight"]] = self.tensors[first].T.contiguous()
        self.used |= set(names.values())
        return place


def _is_turned(kind: str, attributes: dict[str, Any]) -> bool:
    """Tell whether a weight is (in, out)."""
    if {attributes.get("alpha", 1.0), attributes.get("beta", 1.0)} != {1.0}:
        raise CheckpointError("it holds a linear layer with factors, which is not read")
    return kind == "MatMul" or (kind == "Gemm" and not attributes.get("transB"))


def _place(name: str) -> str:
    """Return the module that a node of this name computes; each scope repeats what is before it."""
    *scopes, last = name.strip("/").split("/")
    if not scopes:
        return last
    place = before = scopes[0]
    for scope in scopes[1:]:
        place += scope.removeprefix(before) if scope.startswith(f"{before}.") else f".{scope}"
        before = scope
    return place


def _in_torchs_words(attributes: dict[str, Any]) -> dict[str, Any]:
    words = {_ATTRIBUTES.get(name, name): value for name, value in attributes.items()}
    padding = words.get("padding")
    if isinstance(padding, list) and padding[: len(padding) // 2] * 2 == padding:
        words["padding"] = padding[: len(padding) // 2]  # before, as after
    if isinstance(kept := words.get("momentum"), float):
        words["momentum"] = round(1 - kept, 6)
    return words


def _tensor(tensor: Message, allowance: Allowance) -> Tensor | None:
    """Return a tensor of real numbers, and None for any other."""
    if 13 in tensor or tensor.get(14, [0])[-1]:
        raise CheckpointError(
            "this is an ONNX model whose weights lie in another file, which is not read",
            hint="give the checkpoint that it was exported from, or export it with "
            "external_data=False",
        )
    name = _FLOATS.get(tensor.get(2, [0])[-1])
    if name is None:
        return None
    shape = integers(tensor.get(1, []), allowance)
    if 9 in tensor:
        data = tensor[9][-1]
    elif name in ("float32", "float64"):
        data = b"".join(tensor.get(4 if name == "float32" else 10, []))
    else:
        data = numpy.array(integers(tensor.get(5, []), allowance), "<u2").tobytes()
    return from_bytes(data, name, shape, allowance)
