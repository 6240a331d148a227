"""export(): a network as a file for another runtime, kept only when it computes the same."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.data.dataset import Dataset, Split
from resnets.errors import UsageError
from resnets.exporting.answers import check_answers, output_names
from resnets.exporting.certificate import Export, certificate, function_digest
from resnets.exporting.examples import find_data, find_examples
from resnets.exporting.int8 import quantize
from resnets.exporting.keeping import drafted
from resnets.exporting.parity import Answer, compare, decisive
from resnets.exporting.plan import (
    Dynamic,
    ExportPlan,
    Form,
    Size,
    Target,
    certificate_of,
    check_names,
    check_same,
    check_words,
    files_of,
    plan_export,
)
from resnets.exporting.quantizers import OnnxQuantizer, OpenVinoQuantizer, Quantizer
from resnets.exporting.raw_pixels import Feed
from resnets.exporting.sampling import Samples, batches, choose_samples, whole_batches
from resnets.exporting.trace import trace
from resnets.exporting.write import write_program
from resnets.files import write_json
from resnets.inference.runtimes import check_reading, open_runtime
from resnets.inference.runtimes.openvino_runtime import read_model
from resnets.inference.runtimes.runtime import Exported
from resnets.models import ReadingOptions, open_model, restore
from resnets.nn import ResNet
from resnets.weights.metadata import Metadata
from resnets.weights.save import save_weights


def export(
    model: ResNet | str | Path,
    out: str | Path,
    *,
    to: Target = "onnx",
    int8: bool = False,
    max_loss: float | None = None,
    batch: int | Dynamic = "dynamic",
    size: Size | Dynamic | None = None,
    input: Form = "normalized",
    data: str | Path | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    overwrite: bool = False,
    made: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda line: None,
    **reading: Unpack[ReadingOptions],
) -> Export:
    """Write a network to ``out`` for ONNX Runtime, OpenVINO or torch, or its weights; check it.

    ``input`` is what the file takes: "normalized" float32 (N, C, H, W) as ``model.preprocess``
    makes it, "pixels" uint8 (N, C, H, W) to be normalised, or "pictures" uint8 (N, H, W, C) to be
    resized, cropped and normalised. ``size`` is (height, width) of it; left out, that of training,
    and any size for images. ``batch`` is how many it takes at once.

    The file's answers are compared with the network's on images in ``images``, or else of
    ``data``, of the network's own data set, or what else is at hand; and in 8 bits (``int8``) its
    accuracy on the test split of ``data`` with that in float32, of which ``max_loss`` points may be
    lost (left out: 0.3, or what chance explains up to 1). ``made`` is how the weights came
    about, where ``model`` is a network and not a file that says so. ``report`` is told each step.
    Of a file of weights ``container``, ``dialect`` and ``ema`` say what they say to `load_weights`.

    Raises ExportError when the file does not compute the same; nothing is then kept. Raises
    UsageError, CheckpointError, DataError and ResourceError for what cannot be exported so.
    """
    check_words(to, input, batch, size, int8)
    if max_loss is not None and not (int8 and 0 <= max_loss <= 100):
        raise UsageError(
            f"max_loss is {max_loss:g}", hint="a number of points from 0 to 100, with 8 bits only"
        )
    check_reading(model, reading, export)
    out, root = Path(out), None if root is None else Path(root)
    if isinstance(model, ResNet):
        network, made = model, dict(made or {})
        check_names(out, to, overwrite=overwrite)
    else:
        check_names(out, to, overwrite=overwrite, source=Path(model))
        network, metadata = restore(model, **reading)
        made = metadata.made if made is None else dict(made)
    # Its own copy: exact, on the CPU, and the caller's stays as it is.
    network = copy.deepcopy(network).cpu().float().eval()
    plan = plan_export(network, to=to, form=input, batch=batch, size=size, int8=int8)
    if not overwrite:
        check_same(out, function_digest(network), plan)
    feed = Feed(network, plan)
    found = find_data(feed.preprocess, made, data, root, whole=int8)
    samples = None
    if int8:
        if not isinstance(found, Dataset):
            raise UsageError(
                "8-bit ranges are chosen on training images, and none are at hand",
                hint="say where they are: --data DATA, or --root DIR for CIFAR",
            )
        samples = choose_samples(network, found, made, plan.batch)
    asked = images is not None or data is not None
    place = found if images is None else Path(images)
    examples = find_examples(feed.preprocess, place, asked=asked)
    with drafted(out) as draft:
        quantized = answered = None
        report(f"writing {plan.to}, comparing it with the network in torch")
        if to == "safetensors":
            save_weights(network, draft, made=made)
            comparison = compare(_reloaded(draft), feed, examples)
        else:
            whole = draft.with_name(f"float32{draft.suffix}") if samples else draft
            text = _metadata(network, replace(plan, int8=False), made)
            write_program(trace(network, plan), whole, text, output_names(network))
            comparison = compare(_opened(whole).logits, feed, examples)
            if samples:
                report(f"choosing 8-bit ranges on {len(samples.calibration):,} training images")
                quantizer = _quantizer(whole, _metadata(network, plan, made), samples, feed)
                quantized = quantize(
                    quantizer, draft, whole, samples, partial(_answers, feed), report, max_loss
                )
            answered = check_answers(_opened(draft).answers, feed, examples)
        _, *files = files_of(draft)
        record = certificate(network, plan, files, comparison, quantized, made, answered)
        write_json(certificate_of(draft), record)
    path = certificate_of(out)
    return Export(out, path, network.spec.name, plan, comparison, quantized, record)


def _metadata(network: ResNet, plan: ExportPlan, made: dict[str, Any]) -> str:
    """Return the metadata of the weights, and what the file takes, as they lie in it."""
    return Metadata.of(network, made, plan.preprocess, plan.input).to_text()


def _opened(path: Path) -> Exported:
    return cast(Exported, open_runtime(path, threads=torch.get_num_threads()))


def _reloaded(path: Path) -> Answer:
    """Return what answers by weights that are loaded again."""
    network = open_model(path)

    def answer(images: NDArray[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return answer


def _quantizer(path: Path, metadata: str, samples: Samples, feed: Feed) -> Quantizer:
    """Return what makes an 8-bit file of one in float32."""
    # nncf takes each batch's limits for one image's.
    if path.suffix == ".xml":
        ones = partial(whole_batches, samples.calibration, feed, feed.plan.batch or 1)
        return OpenVinoQuantizer(partial(read_model, path), metadata, ones)
    import onnx

    many = partial(whole_batches, samples.calibration, feed)
    return OnnxQuantizer(
        onnx.load_from_string(path.read_bytes()), metadata, many, torch.get_num_threads()
    )


def _answers(feed: Feed, path: Path, split: Split) -> Tensor:
    runtime = _opened(path)
    raw = np.concatenate([runtime.logits(images) for images in batches(split, feed)])
    return torch.from_numpy(decisive(raw, feed.network))
