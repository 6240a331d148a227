"""Metadata that asks for the impossible: refused at once, in files of weights and exported ones."""

import hashlib
import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets import ResNet, open_model
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, UsageError
from resnets.inference.runtimes.runtime import read_export
from resnets.spec import Spec
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.metadata import Metadata
from resnets.weights.native import write_native
from resnets.weights.save import save_weights
from resnets.weights.verify import verify

TINY = Spec("tiny", depths=(1, 1), widths=(4, 8), stem="3x3", stem_width=4, num_classes=3)
PREPARED = {
    **{"channels": 3, "resize": 40, "size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.1, 0.2, 0.3]},
    "interpolation": "bilinear",
}
HUGE = 10**9
NAN, INFINITE = float("nan"), float("inf")

SPECS = {
    "depths": [[HUGE, 1], [10**6] * 2, [1], [1, 1, 1], [0, 1], [1.0, 1], [True, 1], "11", 7, None],
    "widths": [[4, HUGE], [4, 8.0], [4, -8], [8, 4], [4], {}, None],
    "out_channels": [[4, HUGE], [HUGE, 8], [0, 8]],
    "num_classes": [10**12, 10**7 + 1, 4, 0, -1, 3.0, True, "3", None, 10**4000],
    "in_channels": [10**9, 4, 0, 3.0, "3", None],
    "stem_width": [10**9, 8, 0, 4.0],
    "image_size": [10**7, 0, -32, 32.0, None],
    "groups": [10**9, 2, 0],
    "width_per_group": [64 * 10**7, 128, 0, 64.5],
    "norm_eps": [-1, 0, NAN, INFINITE, "1e-5", None, True, 10**400],
    "norm_momentum": [-0.1, 2, NAN, INFINITE, None],
    "shortcut_scale": [NAN, INFINITE, "1"],
    "drop_path": [1, -1, NAN],
    "block": ["bottleneck", "other", 7, ["basic"], None],
    "stem": ["7x7x7", "deep", None],
    "surprise": [1],
}  # fmt: skip
PREPROCESSING = {
    "channels": [0, 4, 3.0, True, "3", None, HUGE],
    "resize": [10**5, 10**7, 0, -40, 40.0, 16, True, "40", None, NAN],
    "size": [10**5, 10**7, 0, -32, 32.0, 41, True, "32", None],
    "mean": [[], [0.1], [0.1] * 4, [NAN, 0, 0], [INFINITE, 0, 0], ["0", 0, 0], "abc", None],
    "std": [[], [0.1], [0.1] * 4, [0, 1, 1], [-1, 1, 1], [NAN, 1, 1], [INFINITE, 1, 1], None, 0.2],
    "interpolation": ["nearest-ish", 7, None, ["bilinear"]],
    "fit": ["stretch", 7, None, ["crop"]],
    "range": [[0], [], [5, 1], ["0", "9"], [NAN, 1], [0, INFINITE], 7, "09", {}],
    "version": [0, 3, "2", None, [2]],
    "surprise": [1],
}  # fmt: skip
MADE = [
    *({"data": value} for value in (None, "photos/", [], 7)),
    *({"data": {name: 7}} for name in ("name", "source", "root", "fingerprint")),
    *({"data": {name: "7"}} for name in ("train", "validation", "test", "skipped")),
    *({"recipe": value} for value in (None, "by hand", [], {"data": None}, {"data": "photos/"})),
    *({"recipe": {"data": {name: []}}} for name in ("holdout", "split_seed", "broken", "classes")),
]
MEMBERS = {
    "classes": [None, "abc", ["a", "b"], list("abcd"), list("abb"), [["a"], "b", "c"], [1, 2, 3]],
    "outputs": ["tanh", 7, ["softmax"], True],
    "assumed": [None, "zero_pad", [7]],
    "preprocess": ["imagenet", 7, [PREPARED], True],
    "spec": [None, 7, "resnet20", [], {}],
    "made": [None, 7, "by hand", *MADE],
    "schema_version": [None, "1", [1]],
}  # fmt: skip


def cases():
    for field, values in SPECS.items():
        yield from ({"spec": {**TINY.to_dict(), field: value}} for value in values)
    for field, values in PREPROCESSING.items():
        yield from ({"preprocess": {**PREPARED, field: value}} for value in values)
    for field, values in MEMBERS.items():
        yield from ({field: value} for value in values)
    for field in ("spec", "schema_version"):
        yield {field: ...}  # left out
    for field in PREPARED.keys() - {"interpolation"}:
        yield {"preprocess": {k: v for k, v in PREPARED.items() if k != field}}


def shown(case: dict) -> str:
    ((member, value),) = case.items()
    whole = {"spec": TINY.to_dict(), "preprocess": PREPARED}.get(member, {})
    if isinstance(value, dict) and value:
        value = {k: v for k, v in value.items() if k not in whole or v != whole[k]}
    return f"{member} {str(value)[:40]}"


CASES = list(cases())


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    metadata = Metadata(TINY, Preprocess.from_dict(PREPARED), ("a", "b", "c"))
    write_native(path, ResNet(TINY).state_dict(), metadata)
    return path


def with_metadata(path: Path, changes: dict, out: Path) -> Path:
    """Write a file with other metadata, whose digests all hold."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    metadata = header["__metadata__"]
    stated = {k: v for k, v in (json.loads(metadata["resnets"]) | changes).items() if v != ...}
    digests = json.loads(metadata["sha256"])
    metadata["resnets"] = json.dumps(stated)
    digests["@resnets"] = hashlib.sha256(metadata["resnets"].encode()).hexdigest()
    metadata["sha256"] = json.dumps(digests)
    new = json.dumps(header).encode()
    out.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])
    return out


@pytest.mark.parametrize("case", CASES, ids=shown)
def test_a_file_of_weights(file, tmp_path, case):
    path = with_metadata(file, case, tmp_path / "model.safetensors")
    for look in (open_checkpoint, open_model):
        with pytest.raises(CheckpointError, match="metadata is damaged"):
            look(path)


def test_the_file_itself_is_good(file, tmp_path):
    copied = with_metadata(file, {}, tmp_path / "model.safetensors")
    assert open_model(copied).classes == ("a", "b", "c")
    assert verify(copied).good


@pytest.mark.parametrize("made", MADE, ids=str)
def test_what_could_not_be_read_is_not_written(tmp_path, made):
    with pytest.raises(UsageError, match="of how it was made"):
        save_weights(ResNet(TINY), tmp_path / "own.safetensors", made=made)
    assert not list(tmp_path.iterdir())


EXPORTED = {
    **{"schema_version": 1, "spec": TINY.to_dict(), "preprocess": PREPARED, "made": {}},
    **{"classes": ["a", "b", "c"], "outputs": None},
    "export": {"input": "normalized", "batch": "dynamic", "size": [32, 32]},
}


@pytest.mark.parametrize("case", [case for case in CASES if "assumed" not in case], ids=shown)
def test_an_exported_file(case):
    """Its network is in the graph already: another spec of a possible size costs nothing."""
    stated = {k: v for k, v in (EXPORTED | case).items() if v != ...}
    found = understood(stated)
    if found is not None:
        assert "spec" in case
        spec = found.spec
        assert max(*spec.depths, *spec.widths, spec.stem_width, spec.groups) < 100


def understood(values: dict) -> Metadata | None:
    """Return the metadata, or None where they are refused, which is always in one way."""
    with suppress(CheckpointError):
        return read_export(Path("model.onnx"), json.dumps(values))
    with pytest.raises(CheckpointError, match=r"model\.onnx: (its metadata|takes images of)"):
        read_export(Path("model.onnx"), json.dumps(values))
    return None


def test_the_export_itself_is_good():
    assert read_export(Path("model.onnx"), json.dumps(EXPORTED)).outputs is None


@pytest.mark.parametrize(
    "change",
    [
        *({"batch": value} for value in (0, -1, 2.0, True, "2", None, 10**9)),
        *({"size": value} for value in ([0, 32], [32], [32.0, 32], "big", None, [10**9, 32], 32)),
        *({"input": value} for value in ("sound", None, 7, ["pixels"])),
    ],
    ids=str,
)
def test_the_form_of_an_export(change):
    values = {**EXPORTED, "export": {**EXPORTED["export"], **change}}
    with pytest.raises(CheckpointError, match="metadata is damaged"):
        read_export(Path("model.onnx"), json.dumps(values))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from([*EXPORTED, *TINY.to_dict(), *PREPARED]), JSON)
def test_any_other_value(field, value):
    """Either it is understood or it is refused in the one way."""
    values = json.loads(json.dumps(EXPORTED))
    place = next(p for p in (values, values["spec"], values["preprocess"]) if field in p)
    place[field] = value
    found = understood(values)
    assert found is None or len(found.classes) in (0, found.spec.num_classes)
