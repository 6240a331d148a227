"""A page that runs anywhere: one HTML file with a model, what computes it, and a proof of both."""

import gzip
import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from resnets.data.headers import MAX_PIXELS
from resnets.data.images import MODES, from_pixels, pixels
from resnets.data.preprocess import Preprocess, preprocess_of
from resnets.errors import UsageError
from resnets.files import alone, check_free, followed, json_text, write_bytes
from resnets.inference.prediction import at_most, finite, resolved
from resnets.inference.runtimes import Runtime, open_runtime
from resnets.inference.runtimes.runtime import Exported
from resnets.report.style import environment
from resnets.serving.browser_runtime import LICENCE, BrowserRuntime, browser_runtime
from resnets.weights.outputs import meaning

if TYPE_CHECKING:  # torch is imported where a network is exported
    from resnets.nn import ResNet

EXAMPLES = 8
BOUNDS = {  # that a probability may be off beyond what it was when the page was made
    "float32": 1e-4,  # sums in another order
    "int8": 0.02,  # where such a difference may move a value by a whole level
}
_COLOURS = 64  # of a stored photograph
# Scripts by their digests alone; what the worker imports lies in the page, under a blob's address.
_POLICY = (
    "default-src 'none'; script-src {scripts} 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src {styles}; base-uri 'none'; form-action 'none'"
)
_OPEN = ("<script", "</script", "<!--")  # what would end a block of text in HTML
NOTE = (
    "Everything happens in this page: no image leaves this device, and nothing is fetched. "
    "Photographs become the very pixels of training. Only images of 16 bits, more than twice as "
    "high as wide, or in some browsers transparent may be off by a grey level; TIFF is not read."
)


@dataclass(frozen=True)
class Demo:
    """A page that was written, and what is in it."""

    path: Path
    network: str
    precision: str
    size: int  # bytes
    model: int  # of these for the model, compressed
    runtime: int  # and for what computes it
    examples: str  # in words, where its images are from
    off: float  # the most that a probability was off its reference when the page was made

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return {**vars(self), "path": str(self.path)}

    def sentences(self) -> list[str]:
        """Say what was written, in lines."""
        sizes = (f"{n / 1e6:,.1f} MB" for n in (self.size, self.model, self.runtime))
        return [
            "{}   {}: {} for the model, {} for the runtime".format(self.path, *sizes),
            f"proof    {EXAMPLES} images ({self.examples}); computed here it is at most "
            f"{self.off:.2g} off",
        ]


def check_page(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a page that is there already, or whose name is not one."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: a page ends in .html", hint="rename it")
    check_free(out, overwrite=overwrite)


def write_page(
    model: "ResNet | str | Path",
    out: Path,
    runtime: BrowserRuntime | Path | None = None,
    *,
    name: str = "",
    int8: bool = False,
    max_loss: float | None = None,
    made: dict[str, Any] | None = None,
    data: str | None = None,
    images: Path | None = None,
    root: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Write a page that answers by a network, or by an exported .onnx file.

    A network is exported for it, in 8 bits with ``int8``; ``made``, ``data``, ``root`` and
    ``max_loss`` are as of `resnets.exporting.export.export`. The images by which the page proves
    itself are in the folder ``images``, or else what an export is compared on. ``runtime`` is one,
    or where `browser_runtime` finds it; ``name`` is what the page calls the model. Raises what an
    export and `browser_runtime` raise, UsageError for a file that no browser computes, and
    ResourceError for a page that cannot be written.
    """
    check_page(out, overwrite=overwrite)
    out = followed(out)
    with alone(out), TemporaryDirectory() as folder:
        reference: Runtime
        if isinstance(model, str | Path):
            file, reference = Path(model), _opened(Path(model), int8=int8)
            words = f"what this file answered with {reference.name} when the page was made"
        else:
            from resnets.inference.runtimes.torch_runtime import Network

            file, reference = Path(folder) / "model.onnx", Network(model, made=made)
            words = "the answers of training"
        _check_channels(reference.spec.in_channels)
        if not isinstance(runtime, BrowserRuntime):
            runtime = browser_runtime(runtime, report)
        if not isinstance(model, str | Path):
            from resnets.exporting.export import export

            export(
                model,
                file,
                int8=int8,
                max_loss=max_loss,
                batch=1,
                input="pixels",
                data=data,
                images=images,
                root=root,
                made=made,
                report=report,
            )
        taken = _opened(file)
        source, pictures = _images(preprocess_of(taken), reference.made, data, images, root)
        examples, off = _examples(reference, taken, pictures)
        told = facts(taken) | {
            "name": name or taken.spec.name,
            "examples": examples,
            "reference": words,
            "bound": off + BOUNDS[taken.precision],
        }
        blocks = {
            "script": _packed(runtime.script),
            "wasm": _packed(runtime.program),
            "model": _packed(file.read_bytes()),
        }
        page = render(told, blocks).encode("utf-8", "replace")
        write_bytes(out, page)
    return Demo(
        out,
        taken.spec.name,
        taken.precision,
        len(page),
        len(blocks["model"]),
        len(blocks["script"]) + len(blocks["wasm"]),
        source,
        off,
    )


def facts(runtime: Exported) -> dict[str, Any]:
    """Return what a page has to know of a model, but for its images, as JSON-able values.

    What `Runtime.prepare` does to an image, and what `answered` makes of logits.
    """
    preprocess, unknown = preprocess_of(runtime), None
    frame, calibration = preprocess.frame, runtime.calibration
    if calibration and calibration.unknown:
        unknown = {
            "score": calibration.unknown.score,
            "threshold": calibration.unknown.threshold,
        }
    inside = runtime.input != "normalized"
    mean, scale = ([] if inside else each.ravel().tolist() for each in preprocess.constants)
    count = runtime.spec.num_classes
    return {
        "classes": runtime.classes,
        "form": runtime.input,
        "batch": runtime.batch or 1,
        "most": MAX_PIXELS,
        "mean": mean,
        "scale": scale,
        "frame": {
            "channels": preprocess.channels,
            "side": frame.side,
            "size": frame.size,
            # A file that scales images itself finds a square of its own size, which it leaves so.
            "shown": frame.side if runtime.input == "pictures" else frame.size,
            "fit": frame.fit,
            "cuts": frame.cuts,
            "interpolation": frame.interpolation,
        },
        "answers": {
            "labels": runtime.labels,
            "top": at_most(runtime, None),
            "thresholds": runtime.thresholds,
            "meaning": meaning(runtime.outputs, count),
            "both": len(runtime.labels) > count,
            "scale": calibration.scale if calibration else [1.0],
            "bias": calibration.bias if calibration else [],
            "unknown": unknown,
        },
    }


def render(told: dict[str, Any], blocks: dict[str, str]) -> str:
    """Return the page with what it has to know, and blocks of base64 by their names."""
    templates = environment("resnets.serving", "ui")
    ours = files("resnets.serving").joinpath("ui")
    texts = {
        name: ours.joinpath(f"{name}.js").read_text("utf-8")
        for name in ("page", "demo_engine", "demo_worker")
    }
    styles = "".join(templates.get_template(f"{name}.css").render() for name in ("page", "demo"))
    for text in (*texts.values(), styles):
        assert not any(word in text.lower() for word in (*_OPEN, "</style"))
    policy = _POLICY.format(
        scripts=" ".join(map(_digest, (texts["page"], texts["demo_engine"]))),
        styles=_digest(styles),
    )
    return templates.get_template("demo.html").render(
        name=told["name"],
        policy=policy,
        styles=Markup(styles),
        scripts={name: Markup(text) for name, text in texts.items()},
        # In JSON the one character that HTML could take for markup is written as an escape.
        facts=Markup(json_text({"note": NOTE, **told}).replace("<", "\\u003c")),
        blocks={name: Markup(block) for name, block in blocks.items()},
        licence=LICENCE,
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _packed(content: bytes) -> str:
    return b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _opened(path: Path, *, int8: bool = False) -> Exported:
    """Return an exported file that a browser can compute. Raises UsageError for another."""
    if path.suffix.lower() != ".onnx":
        raise UsageError(
            f"{path}: a browser computes .onnx files", hint="give the run that it was exported from"
        )
    if int8:
        raise UsageError(
            f"{path}: a file that is exported has its numbers already",
            hint="leave out --int8, or give the run that it was exported from",
        )
    runtime = resolved(open_runtime(path), EXAMPLES)
    assert isinstance(runtime, Exported)
    if runtime.input == "pictures" and runtime.size:
        raise UsageError(
            f"{path}: takes images of {runtime.size[0]} x {runtime.size[1]} only",
            hint="export it without --size",
        )
    return runtime


def _check_channels(count: int) -> None:
    if count not in MODES:
        raise UsageError(f"images have 1 or 3 channels, the network takes {count}")


def _images(
    preprocess: Preprocess,
    made: dict[str, Any],
    data: str | None,
    images: Path | None,
    root: Path | None,
) -> tuple[str, list[Image.Image]]:
    """Return where a page's images are from, and a few, spread over what is at hand."""
    from resnets.exporting.examples import find_data, find_examples, generated

    asked = images is not None or data is not None
    place = images or find_data(preprocess, made, data, root, whole=False)
    found = find_examples(preprocess, place, asked=asked)
    every = list(found.images)
    if not every:
        waves = generated(EXAMPLES, preprocess.channels, (preprocess.resize,) * 2)
        every = [from_pixels(each.transpose(1, 2, 0)) for each in waves]
    places = np.linspace(0, len(every) - 1, min(EXAMPLES, len(every))).astype(int)
    chosen = [every[i] for i in places]
    return found.source or "generated", [_small(each, preprocess) for each in chosen]


def _small(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Return an image of few bytes, a little larger than the model needs so that it is scaled."""
    ratio = 1.25 * preprocess.resize / min(image.size)
    if ratio < 1:
        width, height = (round(ratio * side) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (max(0, (side - 2 * min(image.size)) // 2) for side in image.size)
    image = image.crop((left, top, image.width - left, image.height - top))
    if image.mode == "RGB" and min(image.size) > _COLOURS:
        return image.quantize(_COLOURS)
    return image


def _prepared(runtime: Runtime, image: Image.Image) -> NDArray[Any]:
    """Return an image as the page gives it to a model: scaled as in training, whoever scales."""
    if runtime.input != "pictures":
        return runtime.prepare(image)
    preprocess = preprocess_of(runtime)
    return pixels(preprocess.frame(preprocess.decoded(image)))[None]


def _examples(
    reference: Runtime, taken: Exported, images: Sequence[Image.Image]
) -> tuple[list[dict[str, Any]], float]:
    """Return images as PNG with the probabilities they should have, and how far off the file is."""
    found, off = [], 0.0
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        stored = Image.open(file)
        expected, own = (
            runtime.probabilities(finite(runtime.logits(_prepared(runtime, stored))))[0]
            for runtime in (reference, taken)
        )
        off = max(off, float(np.abs(expected - own).max()))
        # Eight digits are beyond what a float32 can tell apart.
        shown = [round(p, 8) for p in expected.tolist()]
        found.append({"image": b64encode(file.getvalue()).decode(), "expected": shown})
    return found, off
