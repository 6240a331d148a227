"""Exported files for tests: networks as ONNX, OpenVINO and torch programs, with metadata."""

import json
import warnings
from io import BytesIO
from pathlib import Path

import torch
from torch import nn

from resnets.inference.runtimes.openvino_runtime import import_openvino
from resnets.nn import ResNet


class Normalised(nn.Module):
    """A network that normalises pixels itself."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network
        for name, constant in zip(("mean", "scale"), network.preprocess.constants, strict=True):
            self.register_buffer(name, torch.tensor(constant))

    def forward(self, images):
        return self.network((images.float() - self.mean) * self.scale)


class Averaged(Normalised):
    """A network for images of any size, of which it sees the mean colour."""

    def forward(self, images):
        colour = images.float().mean((1, 2))[:, :, None, None]
        return super().forward(colour.expand(-1, -1, self.network.preprocess.size, 8))


FORMS = {"normalized": lambda network: network, "pixels": Normalised, "pictures": Averaged}


def metadata(network: ResNet, **export) -> dict:
    """What an export of a network says about itself."""
    side = network.preprocess.size
    usual = {"input": "normalized", "precision": "float32", "batch": "dynamic"}
    return {
        "schema_version": 1,
        "spec": network.spec.to_dict(),
        "preprocess": network.preprocess.to_dict(),
        "classes": list(network.classes or ()),
        "made": {},
        "export": {**usual, "size": [side, side], "folded": False, **export},
    }


def export(network: ResNet, path: Path, text: str | None = None, **form) -> Path:
    """Write a network as .onnx, .xml or .pt2 by torch's own exporter; return the path.

    ``form`` are members of the metadata's ``export``; ``text`` stands for other metadata.
    """
    form = {"input": "normalized", "batch": "dynamic"} | form
    text = json.dumps(metadata(network, **form)) if text is None else text
    side, count = network.preprocess.size, 2 if form["batch"] == "dynamic" else form["batch"]
    shape = (count, side + 1, side, 3) if form["input"] == "pictures" else (count, 3, side, side)
    images = torch.zeros(
        shape, dtype=torch.float32 if form["input"] == "normalized" else torch.uint8
    )
    dimensions = {0: "batch"} if form["batch"] == "dynamic" else {}
    if form["input"] == "pictures":
        dimensions |= {1: "height", 2: "width"}
    module = FORMS[form["input"]](network).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        if path.suffix == ".pt2":
            dynamic = dict.fromkeys(dimensions, torch.export.Dim.DYNAMIC)
            program = torch.export.export(module, (images,), dynamic_shapes=(dynamic,))
            torch.export.save(program, path, extra_files={"resnets": text})
            return path
        import onnx

        written = BytesIO()
        names = {"input_names": ["images"], "output_names": ["logits"]}
        # The older exporter, ten times as fast; the package itself uses the newer.
        dynamic_axes = {"images": dimensions, "logits": {0: "batch"} if 0 in dimensions else {}}
        torch.onnx.export(
            module, (images,), written, **names, dynamic_axes=dynamic_axes, dynamo=False
        )
    model = onnx.load_from_string(written.getvalue())
    model.metadata_props.add(key="resnets", value=text)
    file = path.with_suffix(".onnx")
    file.write_bytes(model.SerializeToString())
    return file if path.suffix == ".onnx" else convert(file, path, text)


def convert(onnx: Path, path: Path, text: str) -> Path:
    """Write an .onnx file as .xml and .bin, with metadata; return the path."""
    openvino = import_openvino()
    model = openvino.convert_model(onnx)
    model.set_rt_info(text, ["resnets"])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path
