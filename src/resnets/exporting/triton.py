"""A model for NVIDIA's Triton Inference Server: a folder of its model repository.

MODEL/config.pbtxt and MODEL/labels.txt are for all versions; 1/model.onnx, 2/model.onnx are the
versions, each with its certificate. The server looks at a repository whenever it likes, so that a
model, or a version of one, is there whole or not at all. What it makes of each field is in
docs/user_guide/model_configuration.md of its own repository.
"""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resnets import __version__
from resnets.errors import CheckpointError, UsageError, unwritable
from resnets.exporting.certificate import Export
from resnets.exporting.export import export
from resnets.exporting.plan import certificate_of
from resnets.files import alone, write_text, writing
from resnets.formatting import printable
from resnets.inference.runtimes.runtime import read_export
from resnets.nn import ResNet
from resnets.weights.contract import contract
from resnets.weights.metadata import KEY

CONFIG, LABELS, MODEL = "config.pbtxt", "labels.txt", "model.onnx"
MAX_BATCH = 32  # images that the server puts into one batch, where the file takes any number
_TYPES = {"FLOAT": "TYPE_FP32", "UINT8": "TYPE_UINT8"}
_FORMATS = {"pictures": "FORMAT_NHWC"}  # the others are FORMAT_NCHW
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)  # a folder, and a part of addresses


def export_for_triton(
    model: ResNet | str | Path, repository: str | Path, name: str, **options: Any
) -> Export:
    """Write ``model`` as the next version of ``name`` in a model repository, checked as `export`.

    ``options`` are those of `export`, but for ``to``, which is ONNX, and ``overwrite``. A model
    that is there keeps its configuration, which may be its user's, and gets another version.

    Raises UsageError for a name that cannot be in an address, and where what is there under it has
    other inputs, outputs or classes than the new version; and what `export` raises.
    """
    home = check_model(Path(repository), name)
    with TemporaryDirectory() as folder:  # not where the server looks, for so long
        written = export(model, Path(folder, MODEL), **options)
        path = publish(written.path, home)
    return replace(written, path=path, certificate=certificate_of(path))


def publish(exported: Path, home: Path) -> Path:
    """Copy an exported file, with its certificate, to be the next version of a model.

    Returns where it is. Raises UsageError where it is asked otherwise than the versions before,
    CheckpointError where these are none of ours, and ResourceError where it cannot be written.
    """
    found = Interface.of(exported)
    with alone(home):
        version = 1
        if home.exists():
            version = max(versions(home)) + 1
            newest = Interface.of(home / str(version - 1) / MODEL)
            if newest != found:
                raise UsageError(
                    f"{home}: its versions have {newest.difference(found)}",
                    hint="give another --name: all versions of a model are asked alike",
                )
        try:
            _place(exported, found, home, version)
        except OSError as error:
            raise unwritable(home, error, "choose another --out") from None
    return home / str(version) / MODEL


def check_model(repository: Path, name: str) -> Path:
    """Return a model's folder.

    Raises UsageError for a name that is none, and for what is there and is no model of Triton.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'no model of Triton can be called "{printable(name)}"',
            hint="give a --name of letters, digits, points, - and _",
        )
    home = repository / name
    if home.exists() and not ((home / CONFIG).is_file() and versions(home)):
        raise UsageError(f"{home}: is there, and is no model of Triton", hint="give another --name")
    return home


def versions(home: Path) -> list[int]:
    """Return the numbers of a model's versions, which are its folders with numbers for names."""
    # Triton passes over those that begin with 0.
    found = (path.name for path in home.iterdir() if path.is_dir())
    return [int(name) for name in found if re.fullmatch("[1-9][0-9]*", name, re.ASCII)]


@dataclass(frozen=True)
class Tensor:
    """An input or output of a file; -1 stands for a side of any length."""

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Interface:
    """All that who asks a file has to know of it, and may not change from version to version."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...]
    form: str
    caller: tuple[str, ...]  # what he has to do with an image before

    @classmethod
    def of(cls, path: Path) -> "Interface":
        """Read an exported file; raises CheckpointError where it is none of ours."""
        import onnx

        try:
            file = onnx.load(path, load_external_data=False)
        except Exception as error:  # the parser has kinds of its own
            raise CheckpointError(
                f"{path}: cannot be read: {error}", hint="remove this version, or give a --name"
            ) from None
        texts = {entry.key: entry.value for entry in file.metadata_props}
        metadata = read_export(path, texts.get(KEY))
        form = metadata.input.form if metadata.input else ""
        told = contract(metadata.preprocess, form)["caller"] if metadata.preprocess else []
        graph = file.graph
        inputs, outputs = (tuple(map(_tensor, each)) for each in (graph.input, graph.output))
        return cls(inputs, outputs, metadata.classes, form, tuple(told))

    @property
    def batched(self) -> bool:
        """Whether any number of images may be one batch."""
        return self.inputs[0].shape[0] == -1

    def difference(self, other: "Interface") -> str:
        """Return in words where another interface is not this one."""
        if self.classes != other.classes:
            return "other classes"
        if (self.inputs, self.form) != (other.inputs, other.form):
            return f"another input, {self.inputs[0].data_type} {[*self.inputs[0].shape]}"
        if self.outputs != other.outputs:
            return f"other outputs: {', '.join(output.name for output in self.outputs)}"
        return "images that are prepared otherwise"


def _tensor(value: Any) -> Tensor:
    from onnx import TensorProto

    kind = value.type.tensor_type
    sides = (side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)
    return Tensor(value.name, _TYPES[TensorProto.DataType.Name(kind.elem_type)], tuple(sides))


def config_text(name: str, found: Interface) -> str:
    """Return the configuration of a model: the text form of Triton's ModelConfig."""
    first = 1 if found.batched else 0  # the batch is no dimension of what can be batched
    blocks = []
    for tensor in found.inputs:
        shape = tensor.shape[first:]
        # Who has Triton's own client prepare images needs it; of three dimensions only.
        form = f"format: {_FORMATS.get(found.form, 'FORMAT_NCHW')}" if found.batched else ""
        blocks.append(_block("input", tensor, shape, form))
    for tensor in found.outputs:
        shape, more = tensor.shape[first:], ""
        if not shape:  # a number for each image: Triton wants a dimension, the file has none
            shape, more = (1,), "reshape { shape: [ ] }"
        elif tensor.shape in ((-1, len(found.classes)), (1, len(found.classes))):
            more = f'label_filename: "{LABELS}"'
        blocks.append(_block("output", tensor, shape, more))
    lines = [
        f"# Written by resnets {__version__}. Later versions of the model leave it as it is.",
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH if found.batched else 0}",
        *blocks,
        # Triton's defaults: as many as are waiting, up to the maximum, and nobody waits for others.
        *(["dynamic_batching { }"] if found.batched else []),
        "version_policy { latest { num_versions: 1 } }",
    ]
    return "\n".join(lines) + "\n"


def _block(kind: str, tensor: Tensor, shape: tuple[int, ...], more: str) -> str:
    dims = ", ".join(map(str, shape))
    lines = [f'name: "{tensor.name}"', f"data_type: {tensor.data_type}", f"dims: [ {dims} ]", more]
    return "\n".join([f"{kind} {{", *(f"  {line}" for line in lines if line), "}"])


def _place(exported: Path, found: Interface, home: Path, version: int) -> None:
    """Copy an export's files to where they belong, and give them their folder's name at the end."""
    new = not home.exists()
    draft = home.with_name(f".{home.name}.export") if new else home / f".{version}.export"
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    try:
        folder = draft / str(version) if new else draft
        for source in (certificate_of(exported), exported):
            size = source.stat().st_size
            with source.open("rb") as file, writing(folder / source.name, size=size) as out:
                shutil.copyfileobj(file, out)
        if new:
            if found.classes:
                write_text(draft / LABELS, "".join(f"{printable(c)}\n" for c in found.classes))
            write_text(draft / CONFIG, config_text(home.name, found))
        draft.rename(home if new else home / str(version))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
