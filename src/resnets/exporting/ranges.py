"""The 8-bit range of every tensor of an ONNX model: the one that costs the least squared error.

The smallest and the largest value that occur make the obvious range, but one outlier then coarsens
the steps for all other values. A narrower range has finer steps and clips what is outside; which is
best, a histogram of the values on real images tells.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.inference.runtimes.onnx_runtime import import_onnxruntime

Array = NDArray[Any]
Range = tuple[float, float]

BINS = 2048
LEVELS = 255  # steps of an 8-bit range


def find_ranges(
    model: Any, names: list[str], batches: Callable[[], Iterable[Array]], threads: int
) -> dict[str, Range]:
    """Return the best range of each named tensor of a model, a protocol buffer.

    ``batches`` yields the same inputs each time it is called. They pass twice: for the limits of
    the values, and for the histograms within these.
    """
    session = _session(model, names, threads)
    limits = dict.fromkeys(names, (0.0, 0.0))  # a padding's zeros have to be exact
    for images in batches():
        for name, values in zip(names, session.run(names, {"images": images}), strict=True):
            low, high = limits[name]
            limits[name] = min(low, float(values.min())), max(high, float(values.max()))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for images in batches():
        for name, values in zip(names, session.run(names, {"images": images}), strict=True):
            # What a ReLU has cut off is exact in any range.
            counts[name] += np.histogram(values[values != 0], BINS, limits[name])[0]
    return {name: best_range(counts[name], *limits[name]) for name in names}


def best_range(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """Return the part of low .. high, around 0, whose 8-bit steps cost the least.

    ``counts`` are the values in equal bins from low to high. Rounding to steps of width s costs
    s^2 / 12 a value on average; clipping costs the square of the distance. Both ends are clipped at
    the same distance from 0.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    values = (edges[1:] + edges[:-1]) / 2
    best, least = (low, high), np.inf
    for distance in np.geomspace(1, 0.05, 161) * max(-low, high):
        bottom, top = max(low, -distance), min(high, distance)
        outside = values - values.clip(bottom, top)
        step = (top - bottom) / LEVELS
        cost = float((counts * np.where(outside == 0, step**2 / 12, outside**2)).sum())
        if cost < least:
            best, least = (float(bottom), float(top)), cost
    return best


def _session(model: Any, names: list[str], threads: int) -> Any:
    """Return a session of a model that answers with the named tensors too."""
    import onnx

    onnxruntime = import_onnxruntime()
    model = onnx.ModelProto.FromString(model.SerializeToString())
    own = {output.name for output in model.graph.output}
    for name in names:
        if name not in own:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
