"""Model repositories in Triton's own schema, and by the rules that it checks when it loads one."""

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as schema

from conftest import scramble
from resnets import create_model
from resnets.data.preprocess import identity
from resnets.exporting.triton import export_for_triton
from resnets.weights.calibration import Calibration, Unknown

TYPES = {schema.TYPE_FP32: "tensor(float)", schema.TYPE_UINT8: "tensor(uint8)"}


def network():
    model = scramble(create_model("resnet8", num_classes=3, image_size=16)).eval()
    model.preprocess, model.outputs = identity(3, 16), "softmax"
    model.classes = ("apple", "bañana", 'c"d')
    model.calibration = Calibration(100, (0.37,), unknown=Unknown("energy", -1.0, 0.05))
    return model


@pytest.mark.parametrize("size", [None, "dynamic"])
@pytest.mark.parametrize("batch", ["dynamic", 1, 4])
@pytest.mark.parametrize("form", ["normalized", "pixels", "pictures"])
def test_the_configuration(tmp_path, form, batch, size):
    if form == "pictures" and size is None:
        size = (20, 30)
    written = export_for_triton(network(), tmp_path, "fruit", input=form, batch=batch, size=size)
    home = tmp_path / "fruit"
    config = text_format.Parse((home / "config.pbtxt").read_text("utf-8"), schema.ModelConfig())
    assert (config.name, config.backend) == (home.name, "onnxruntime")
    assert config.version_policy.latest.num_versions == 1
    most = config.max_batch_size
    assert (most > 0) == config.HasField("dynamic_batching") == (batch == "dynamic")
    session = onnxruntime.InferenceSession(written.path)
    found = [*zip(config.input, session.get_inputs(), strict=True)]
    found += zip(config.output, session.get_outputs(), strict=True)
    for told, tensor in found:  # CompareDimsSupported of its backend for ONNX Runtime
        dims = [*(told.reshape.shape if told.HasField("reshape") else told.dims)]
        sides = [side if isinstance(side, int) else -1 for side in tensor.shape]
        assert ([-1] if most else []) + dims == sides
        assert told.name == tensor.name
        assert TYPES[told.data_type] == tensor.type
        assert told.dims
    for told in config.input:  # ValidateModelInput of its core
        assert told.format == schema.ModelInput.FORMAT_NONE or len(told.dims) == 3
    labels = {told.name: told.label_filename for told in config.output if told.label_filename}
    assert labels == (
        {} if batch == 4 else dict.fromkeys(("logits", "probabilities"), "labels.txt")
    )
    assert (home / "labels.txt").read_text("utf-8").splitlines() == ["apple", "bañana", 'c"d']
