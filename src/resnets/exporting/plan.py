"""What is asked of an export: which kind of file, what its input is, which batches it takes."""

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from resnets.data.preprocess import Preprocess, known, unknown_preparation
from resnets.errors import CheckpointError, UsageError, check_name, lacking
from resnets.machine.downloads import digest_of
from resnets.nn import ResNet
from resnets.readers.documents import read_json
from resnets.readers.paths import FOLDER_WEIGHTS
from resnets.weights.metadata import FORMS, Input
from resnets.weights.save import check_classifier

Target = Literal["onnx", "openvino", "torch", "safetensors"]
Form = Literal["normalized", "pixels", "pictures"]
Size = tuple[int, int]
Dynamic = Literal["dynamic"]

ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "safetensors": ".safetensors"}
_PACKAGES = {  # OpenVINO's files are made of ONNX
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "safetensors": ("safetensors",),
}


@dataclass(frozen=True)
class ExportPlan:
    """A valid export of one network."""

    to: str
    form: str
    batch: int | None  # images at once; None: any number
    size: Size | None  # height and width of the input; None: any
    int8: bool
    preprocess: Preprocess | None  # what makes images ready for it; None: nothing does
    side: Size  # of what reaches the network, where ``size`` does not say

    @property
    def input(self) -> Input:
        """What the file's metadata say of it."""
        precision = "int8" if self.int8 else "float32"
        return Input(self.form, self.batch, self.size, precision, self.to != "safetensors")

    def record(self) -> dict[str, Any]:
        """Return what the certificate says of it."""
        return {"to": self.to, **self.input.to_dict()}


def plan_export(
    network: ResNet,
    *,
    to: str,
    form: str,
    batch: int | str,
    size: Size | str | None,
    int8: bool,
) -> ExportPlan:
    """Return the plan of an export, whose words `check_words` has seen.

    Raises UsageError for sizes that cannot be meant, CheckpointError for a network without a
    classifier, or without preprocessing where that is needed, and ResourceError where a package is
    missing.
    """
    if not hasattr(network.fc, "weight"):
        raise CheckpointError(
            "the network has no classifier", hint="reset_classifier(num_classes) gives it one"
        )
    check_classifier(network)
    _check_packages(to, int8)
    preprocess = known(network.preprocess)
    if preprocess is None and (form != "normalized" or int8):
        raise unknown_preparation()
    own = preprocess.size if preprocess else network.spec.image_size
    if size is None:
        size = "dynamic" if form == "pictures" else (own, own)
    fixed = None if isinstance(size, str) else size
    if form != "pictures" and (fixed != (own, own)):
        _check_size(network, fixed, form, preprocess)
        preprocess = _at(fixed, preprocess) if fixed else preprocess
    if int8 and preprocess is None:
        raise UsageError(
            "nothing says how images get this size, and 8-bit ranges are chosen on images",
            hint="leave --int8 or --size out, or give a square size",
        )
    side = (preprocess.size, preprocess.size) if preprocess else fixed or (own, own)
    count = None if isinstance(batch, str) else batch
    return ExportPlan(to, form, count, fixed, int8, preprocess, side)


def check_words(to: str, input: str, batch: int | str, size: Size | str | None, int8: bool) -> None:
    """Raise UsageError for words and numbers that cannot be meant of any network."""
    for word, choices, what in ((to, tuple(ENDINGS), "target"), (input, FORMS, "input")):
        check_name(what, word, choices)
    if int8 and to not in ("onnx", "openvino"):
        raise UsageError(f"{to} has no 8-bit form here", hint="choose --to onnx or openvino")
    if to == "safetensors" and (input, batch, size) != ("normalized", "dynamic", None):
        raise UsageError(
            "safetensors holds weights, which have no input",
            hint="leave --input, --batch and --size out, or choose another --to",
        )
    if batch != "dynamic" and not (isinstance(batch, int) and batch > 0):
        raise UsageError(f"batch is {batch}", hint="a number of images from 1 on, or dynamic")
    if min(size) < 1 if isinstance(size, tuple) else size not in (None, "dynamic"):
        raise UsageError(f"size is {size}", hint="height and width in pixels, or dynamic")


def check_names(out: Path, to: str, *, overwrite: bool, source: Path | None = None) -> None:
    """Raise UsageError for a file of another kind, one that is there, and the weights themselves.

    What a killed export has left is no hindrance here: `check_same` knows whose it was.
    ``source`` is the file or folder that the network is from.
    """
    if out.suffix != ENDINGS[to]:
        raise UsageError(f"{out}: a file for {to} ends in {ENDINGS[to]}", hint="rename it")
    own = [source, *(source / name for name in FOLDER_WEIGHTS)] if source else []
    for path in files_of(out):
        if any(_is_same(path, file) for file in own):
            raise UsageError(f"{path}: is the checkpoint itself", hint="give another --out")
        if path.exists() and not (path.is_file() and (overwrite or killed(out))):
            raise _there(path)


def check_same(out: Path, network: str, plan: ExportPlan) -> None:
    """Raise UsageError where `killed` left the export of another network, or another plan's."""
    record = killed(out)
    if record is None:
        return
    same = record["network"]["sha256"] == network and record["export"] == plan.record()
    if not same:
        raise _there(out)


def killed(out: Path) -> dict[str, Any] | None:
    """Return the certificate at ``out`` of an export whose process was killed before it had tidied.

    None where nothing is left of one, or a file is another than the certificate says.
    """
    if not draft_of(out).is_dir() or draft_of(out).is_symlink():
        return None
    try:
        record: dict[str, Any] = read_json(certificate_of(out))
        digests = {path: record["files"][path.name] for path in files_of(out)[1:] if path.exists()}
        whole = all(path.is_file() and digest_of(path) == found for path, found in digests.items())
        return record if whole and {"network", "export"} <= record.keys() else None
    except (OSError, CheckpointError, LookupError, TypeError, AttributeError):
        return None


def _there(path: Path) -> UsageError:
    return UsageError(f"{path}: is there already", hint="--overwrite, or another --out")


def draft_of(out: Path) -> Path:
    """Return the hidden folder in which an export is made."""
    return out.with_name(f".{out.name}.export")


def _is_same(path: Path, other: Path) -> bool:
    """Whether two names, be they links or in other letters' case, are of one file."""
    # Not Path.exists, which fails where a folder may not be entered.
    return os.path.exists(path) and os.path.exists(other) and path.samefile(other)


def files_of(out: Path) -> list[Path]:
    """Return the files that belong to an export, the model's own last."""
    weights = [out.with_suffix(".bin")] if out.suffix == ENDINGS["openvino"] else []
    return [certificate_of(out), *weights, out]


def certificate_of(out: Path) -> Path:
    """Return where the certificate of an exported file is."""
    return out.with_name(f"{out.name}.certificate.json")


def packages_of(to: str, int8: bool) -> list[str]:
    """Return the packages that an export takes beside torch."""
    return [*_PACKAGES.get(to, ()), *(["nncf"] if int8 and to == "openvino" else [])]


def _check_packages(to: str, int8: bool) -> None:
    missing = [name for name in packages_of(to, int8) if find_spec(name) is None]
    if missing:
        extras = "onnx,openvino" if to == "openvino" else to
        raise lacking(f"an export to {to} needs {', '.join(missing)}", extras)


def _check_size(
    network: ResNet, size: Size | None, form: str, preprocess: Preprocess | None
) -> None:
    least = network.feature_info.reduction()[-1]
    if size and min(size) < least:
        raise UsageError(
            f"{size[0]} x {size[1]} is too small: one position of the last map stands for "
            f"{least} x {least} pixels",
            hint=f"give at least {least}x{least}",
        )
    if preprocess and form == "pixels" and len(preprocess.mean) > preprocess.channels:
        raise UsageError(
            f"its mean image has {preprocess.size} x {preprocess.size} pixels, so pixels of "
            "another size cannot be normalised",
            hint="leave --size out, or normalise outside: --input normalized",
        )


def _at(size: Size, preprocess: Preprocess | None) -> Preprocess | None:
    """Return the preprocessing for another size, in proportion; None where there is none."""
    if preprocess is None or size[0] != size[1] or len(preprocess.mean) > preprocess.channels:
        return None
    resize = round(preprocess.resize * size[0] / preprocess.size)
    return replace(preprocess, size=size[0], resize=resize)
