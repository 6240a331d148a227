"""Files that are no checkpoints although they are called so: what they are, and what to do."""

import codecs
import json
import re

from resnets.errors import CheckpointError
from resnets.readers.allowance import broken

_SOURCE = "give the checkpoint that it was made from"
_ARRAYS = "read it with what wrote it, and save the arrays with numpy.savez"
_TENSORFLOW = "read it with tf.train.load_checkpoint, and save the arrays with numpy.savez"
_TORCH7 = ("a file of Torch7 (.t7)", _ARRAYS)
_UNPACK, _OTHER = "unpack it and give the file inside", "give the weights' file"
_BINARIES = {
    b"\x1f\x8b": ("a gzip archive", "unpack it with gunzip and give the file inside"),
    b"BZh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zXZ\0": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", _UNPACK),
    b"\x93NUMPY": ("a single numpy array", "give an archive of named arrays (.npz)"),
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), ("an image", _OTHER)),
    b"%PDF": ("a PDF document", _OTHER),
    b"\x7fELF": ("a program", _OTHER),
    b"MATLAB ": ("a MATLAB file (perhaps of MatConvNet)", _ARRAYS),
    b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1": _TORCH7,
    b"\x03\0\0\0\x01\0\0\0": _TORCH7,
    b"4\n1\n3\nV 1\n": _TORCH7,
    b"GGUF": ("a GGUF file", "residual networks do not come in this format"),
}
_PATTERNS = {  # the last three are first messages of protobuf
    rb".{4}TFL3": ("a TensorFlow Lite model", _SOURCE),
    rb"\x08[\x01-\x0f]\x12.{1,5}\x0a": ("a Core ML model, or TensorFlow's SavedModel", _SOURCE),
    rb"\x0a..?\x0a[\x01-\x7f][ -~]": ("a frozen graph of TensorFlow (.pb)", _SOURCE),
    rb"\x0a.[A-Za-z][ -~]*[\x12\x1a\xa2]": ("a network of Caffe (.caffemodel)", _ARRAYS),
}
_DOWNLOAD = "the download went wrong: open the address in a browser, and download the file itself"


def undisguise(start: bytes, size: int, name: str = "") -> CheckpointError:
    """Return the error for a file of ``size`` bytes that begins with ``start`` and is no format.

    ``start`` should have some thousand bytes, so that an excerpt can be shown.
    """
    if size == 0:
        return broken("the file is truncated: it is empty (0 bytes)")
    for magic, (kind, hint) in _BINARIES.items():
        if start.startswith(magic):
            return CheckpointError(f"this is {kind}, not weights", hint=hint)
    if start[257:262] == b"ustar":
        return CheckpointError(
            "this is a tar archive (perhaps of PyTorch before 0.2), not weights",
            hint="unpack it and give the file inside; a file of PyTorch's first year must be "
            "saved again with a later PyTorch",
        )
    text = _text(start)
    if text is not None:
        return _text_error(text)
    if re.search(r"\.(index|meta|data-\d+-of-\d+)$", name):
        return CheckpointError("this is a file of a TensorFlow checkpoint", hint=_TENSORFLOW)
    for pattern, (kind, hint) in _PATTERNS.items():
        if re.match(pattern, start, re.DOTALL):
            return CheckpointError(f"this is {kind}, not weights", hint=hint)
    if size <= 16:
        return broken(f"the file is truncated: it has only {size} bytes")
    return CheckpointError(
        f"no checkpoint format begins like this file ({start[:8].hex(' ')})",
        hint="PyTorch, safetensors, Keras, NumPy, ONNX, flax, MXNet files and pickles can be read",
    )


def _text(start: bytes) -> str | None:
    """Return ``start`` as text, or None when it is none."""
    try:
        # Not final: the last character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start).strip()
    except UnicodeDecodeError:
        return None
    # Two or three letters may as well be the start of something binary.
    control = re.search(r"[\x00-\x08\x0e-\x1f]", text)
    return None if control or len(text) < 4 else text


def _text_error(text: str) -> CheckpointError:
    excerpt = ascii(" ".join(text[:400].split())[:80])
    beginning = text[:200].lower()
    if text.startswith("version https://git-lfs"):
        kind, hint = "a git-LFS pointer", "fetch the file it stands for with `git lfs pull`"
    elif re.match(r"(<!--.*?-->\s*)?<(!doctype html|html|head|body)", beginning, re.DOTALL):
        kind, hint = f"an HTML page ({excerpt})", _DOWNLOAD
    elif beginning.startswith("<"):
        kind, hint = f"an XML text ({excerpt})", _DOWNLOAD
    elif text.startswith("model_checkpoint_path:"):
        kind, hint = "the list of a TensorFlow checkpoint's files", _TENSORFLOW
    elif '"weight_map"' in text:
        kind = "the index of a checkpoint that is split into several files"
        hint = "give a checkpoint in one file; networks of this family fit"
    elif beginning[:1] in "{[" and _looks_like_json(text):
        kind, hint = f"a JSON text ({excerpt})", _DOWNLOAD
    else:
        kind, hint = f"a text that begins with {excerpt}", _OTHER
    return CheckpointError(f"this is {kind}, not weights", hint=hint)


def _looks_like_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return re.match(r'[{\[]\s*["{\[\d]', text) is not None
    return True
