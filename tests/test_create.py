"""Models from names, specs and files."""

import hashlib
import json
import struct
from dataclasses import replace

import pytest
import torch

from resnets import create_model, get_spec, open_model
from resnets.errors import CheckpointError, UsageError
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.metadata import Metadata
from resnets.weights.native import write_native


@pytest.fixture
def weights(tmp_path):
    """A file of our own with a trained-looking resnet8 of three classes."""
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=3)
    metadata = Metadata(model.spec, model.preprocess, ("a", "b", "ü"))
    write_native(tmp_path / "model.safetensors", model.state_dict(), metadata)
    return model, tmp_path / "model.safetensors"


def test_options_are_fields_of_the_spec():
    model = create_model("resnet20", num_classes=7, in_channels=4)
    assert model.fc.out_features == 7
    assert model.conv1.in_channels == 4
    assert model.spec == replace(get_spec("resnet20"), num_classes=7, in_channels=4)
    assert create_model(model.spec).spec == model.spec
    for size in (32, 40):
        assert model.preprocess(torch.zeros(1, 4, size, size).byte()).shape == (1, 4, 32, 32)


def test_unknown_options_and_names():
    with pytest.raises(UsageError, match='unknown option "num_clases"') as caught:
        create_model("resnet20", num_clases=7)
    assert caught.value.hint == "did you mean num_classes?"
    with pytest.raises(UsageError, match="no model is called"):
        create_model("resnet21")
    with pytest.raises(UsageError, match="need bottleneck blocks"):
        create_model("resnet18", groups=32)


def test_open_and_weights_from_file_or_folder(weights):
    model, path = weights
    x = torch.rand(2, 3, 32, 32)
    expected = model.eval()(x)
    for again in (open_model(path), open_model(path.parent)):
        assert torch.equal(again(x), expected)
        assert again.classes == ("a", "b", "ü")
        assert again.preprocess == model.preprocess
        assert again.spec.name == "resnet8"
    created = create_model("resnet8", num_classes=3, weights=path)
    assert created.training
    assert torch.equal(created.eval()(x), expected)


def test_weights_that_do_not_fit(weights):
    _, path = weights
    with pytest.raises(CheckpointError, match=r"fc.weight \(3, 64\) for \(10, 64\)") as caught:
        create_model("resnet8", weights=path)
    assert caught.value.hint.startswith('the file looks like resnet8, 3 classes; head="drop"')
    assert create_model("resnet8", weights=path, head="drop").fc.out_features == 10
    assert create_model("resnet8", weights=path, head="keep").classes == ("a", "b", "ü")
    with pytest.raises(CheckpointError, match="its weights do not fit resnet14") as caught:
        create_model("resnet14", num_classes=3, weights=path)
    assert 'create_model("resnet8", num_classes=3) is such' in caught.value.hint
    with pytest.raises(UsageError, match="head is 'reset'"):
        create_model("resnet8", weights=path, head="reset")


def test_same_shapes_but_another_function_is_refused(tmp_path):
    with torch.device("meta"):
        spec = create_model("resnet50_v1").spec
    model = create_model("resnet50_v1", num_classes=2)
    metadata = Metadata(replace(spec, num_classes=2))
    write_native(tmp_path / "v1.safetensors", model.state_dict(), metadata)
    with pytest.raises(CheckpointError, match="made for another function") as caught:
        create_model("resnet50", num_classes=2, weights=tmp_path / "v1.safetensors")
    assert "resnet50_v1" in caught.value.hint


def rewrite(path, change):
    """Write the file again with another header."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = change(json.loads(content[8 : 8 + size]))
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def without_metadata(header):
    return {k: v for k, v in header.items() if k != "__metadata__"}


def with_metadata(**changes):
    def change(header):
        metadata = json.loads(header["__metadata__"]["resnets"]) | changes
        text = json.dumps(metadata)
        digests = json.loads(header["__metadata__"]["sha256"])
        digests["@resnets"] = hashlib.sha256(text.encode()).hexdigest()
        metadata = {"resnets": text, "sha256": json.dumps(digests)}
        return {**header, "__metadata__": metadata}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_metadata, "nothing says whether its shortcuts are option A's or none"),
        (with_metadata(schema_version=99), "metadata has version 99"),
        (with_metadata(spec={"depths": "many"}), "metadata is damaged"),
        (with_metadata(spec=7), "metadata is damaged"),
        (with_metadata(surprise=1), "metadata is damaged"),
    ],
)
def test_damaged_metadata(weights, change, message):
    _, path = weights
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=message):
        open_model(path)


def test_damaged_and_missing_files(weights, tmp_path):
    _, path = weights
    content = path.read_bytes()
    for length in (0, 4, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated"):
            open_model(path)
    path.write_text("<html>not found</html>")
    with pytest.raises(CheckpointError, match="HTML page"):
        open_model(path)
    with pytest.raises(CheckpointError, match="no such file"):
        open_model(tmp_path / "missing.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"there is no model.safetensors or"):
        open_model(tmp_path / "empty")


def test_a_flipped_bit_is_found(weights):
    _, path = weights
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"layer3.0.conv2.weight does not have its SHA-256"):
        open_model(path)


def test_metadata_round_trip(weights):
    model, path = weights
    checkpoint = open_checkpoint(path)
    assert checkpoint.metadata.spec == model.spec
    assert checkpoint.classes == ("a", "b", "ü")
    assert all(torch.equal(checkpoint.tensors[k], v) for k, v in model.state_dict().items())
