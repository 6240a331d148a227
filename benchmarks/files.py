"""The exported files and the images that the scripts about inference measure with.

Weights are random but for resnet20's, which come with the package. int8 is calibrated on CIFAR-10
for resnet20 and on made-up images for the others: that decides accuracy, not speed.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ENDING = {"onnxruntime": "onnx", "openvino": "xml"}
FORMAT = {"onnxruntime": "onnx", "openvino": "openvino"}
CALIBRATION = 32  # made-up images to choose 8-bit ranges by


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=Path, help="where the exported files are kept")
    parser.add_argument("--root", type=Path, help="where CIFAR-10 is")
    parser.add_argument("--pictures", type=int, default=200, help="made up, in the folder")


@contextmanager
def folder(options: argparse.Namespace) -> Iterator[None]:
    """Let ``options.files`` be a folder, for a while only where none was asked for."""
    with TemporaryDirectory() as temporary:
        options.files = options.files or Path(temporary)
        yield


def exported(options: argparse.Namespace, model: str, variant: str) -> Path:
    """Return the file that a variant, such as onnxruntime-int8, computes."""
    precision = "int8" if "int8" in variant else "float32"
    return Path(options.files, model, precision, f"model.{ENDING[variant.partition('-')[0]]}")


def bare(path: Path, own_choice: bool = False) -> Callable[[Any], Any]:
    """Return what computes a batch with a runtime and nothing around it.

    With ``own_choice`` in the precision that the runtime chooses.
    """
    if path.suffix == ".xml":
        from resnets.inference.runtimes.openvino_runtime import core

        # As ours computes; by itself it takes bfloat16 where the processor has it.
        precision = {} if own_choice else {"INFERENCE_PRECISION_HINT": "f32"}
        model = core().compile_model(path, "CPU", precision)
        return lambda images: model(images)[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def photographs(options: argparse.Namespace) -> Path:
    """Return a folder of made-up JPEGs, 500 x 375, in class folders."""
    import numpy as np
    from PIL import Image

    folder: Path = options.files / "photographs"
    for number in range(options.pictures):
        path = folder / f"class-{number % 2}" / f"{number:05d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
            image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            image.save(path, quality=90)
    return folder


def weights(options: argparse.Namespace, model: str) -> Path:
    """Return the checkpoint of a model: resnet20's own, or random weights for ImageNet's sizes."""
    if model == "resnet20":
        from resnets.weights.shipped import shipped

        path = shipped(model, "cifar10")
        assert path is not None
        return path
    path = options.files / model / "weights.safetensors"
    if not path.exists():
        import torch

        from resnets import create_model, save_weights
        from resnets.data.preprocess import imagenet

        torch.manual_seed(0)
        network = create_model(model)
        network.preprocess = imagenet(3, 224)
        save_weights(network, path)
    return Path(path)


def export(options: argparse.Namespace, model: str, variants: Iterable[str]) -> None:
    """Make the files of variants, such as onnxruntime or openvino-int8, that are not there yet."""
    from resnets.exporting.export import export

    for variant in variants:
        path, to = exported(options, model, variant), FORMAT[variant.partition("-")[0]]
        if path.exists():
            continue
        if "int8" not in variant:
            export(weights(options, model), path, to=to, images=photographs(options))
        elif model == "resnet20":
            data = {"data": "cifar10", "root": options.root}
            export(weights(options, model), path, to=to, int8=True, **data)
        else:
            export_int8(options, model, variant)


def export_int8(options: argparse.Namespace, model: str, variant: str) -> None:
    """Quantize a file of random weights, whose answers nobody can judge: for its speed only."""
    import numpy as np
    import torch

    from resnets.exporting.quantizers import OnnxQuantizer, OpenVinoQuantizer
    from resnets.inference.runtimes import open_runtime
    from resnets.weights.metadata import KEY

    plain = variant.removesuffix("-int8")
    export(options, model, [plain])
    whole, path = exported(options, model, plain), exported(options, model, variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    runtime = open_runtime(whole)
    few = sorted(photographs(options).rglob("*.jpg"))[:CALIBRATION]
    pictures = [runtime.prepare(picture) for picture in few]
    quantizer: OnnxQuantizer | OpenVinoQuantizer
    if plain == "onnxruntime":
        import onnx

        file = onnx.load(whole)
        metadata = {entry.key: entry.value for entry in file.metadata_props}[KEY]
        batches = partial(np.array_split, np.concatenate(pictures), max(1, len(few) // 8))
        quantizer = OnnxQuantizer(file, metadata, batches, torch.get_num_threads())
    else:
        from resnets.inference.runtimes.openvino_runtime import core

        read = partial(core().read_model, whole)
        metadata = read().get_rt_info([KEY]).astype(str)
        quantizer = OpenVinoQuantizer(read, metadata, lambda: pictures)
    quantizer.write(path, [])
