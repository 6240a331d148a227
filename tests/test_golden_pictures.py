"""One set of images, every way to predict: the same pixels to the bit, the same answers.

The bound: a network of 20 layers in float32 is off by rounding alone, 2^-24 for each of the at most
577 terms of a sum. With random signs that is 24 roundings a layer and sqrt(20) times that in the
end: 6e-6 of a logit, 3e-5 of logits that stay below 5. A probability moves by p (1 - p), a quarter
at most, of what logits move apart.
"""

import copy
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exported import convert, export, metadata
from resnets import create_model, predict
from resnets import export as export_network
from resnets.data.preprocess import Preprocess, identity, imagenet
from resnets.inference.runtimes import open_runtime
from resnets.weights.calibration import Calibration, Unknown
from served import served

BOUND = 1e-5
UPRIGHT = {  # what turns an upright image into one that its orientation says to turn back
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int, height: int) -> Image.Image:
    """A smooth image with some noise, from a seed."""
    generator = np.random.default_rng(7)
    rough = generator.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))
    noise = generator.integers(-20, 21, smooth.shape)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def paint(folder: Path) -> list[Path]:
    """Write the golden images; return their paths in order."""
    picture = scene(60, 44)
    for orientation, transpose in UPRIGHT.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = picture if transpose is None else picture.transpose(transpose)
        turned.save(folder / f"exif{orientation}.png", exif=exif)
        turned.save(folder / f"exif{orientation}.jpg", exif=exif, quality=90)
    grey = np.asarray(picture.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257 + (grey < 250) * np.uint16(100))
    deep.save(folder / "grey16.png")
    deep.save(folder / "grey16.tif")
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("1").save(folder / "bits.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("CMYK").save(folder / "cmyk.tif")
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (44, 1)))
    transparent = picture.copy()
    transparent.putalpha(alpha)
    transparent.save(folder / "rgba.png")
    transparent.convert("LA").save(folder / "la.png")
    palette = picture.quantize(32)
    palette.save(folder / "palette.png")
    palette.save(folder / "palette.gif")
    palette.save(folder / "palette_transparent.png", transparency=bytes(range(0, 256, 8)))
    palette.save(folder / "palette_key.png", transparency=3)
    picture.save(folder / "progressive.jpg", progressive=True, subsampling=2)
    picture.save(folder / "plain.webp", lossless=True)
    picture.save(folder / "plain.bmp")
    for width, height in ((1, 1), (3, 2), (32, 32), (2000, 3), (2, 900), (640, 480)):
        scene(width, height).save(folder / f"{width}x{height}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def network():
    return create_model("resnet20", weights="cifar10").eval()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """The shipped network as .onnx, .xml and .pt2."""
    folder = tmp_path_factory.mktemp("exported")
    onnx = export(network, folder / "model.onnx")
    xml = convert(onnx, folder / "model.xml", json.dumps(metadata(network)))
    return {".onnx": onnx, ".xml": xml, ".pt2": export(network, folder / "model.pt2")}


def test_the_set_is_what_it_says(pictures):
    modes, orientations = set(), []
    for path in pictures:
        with Image.open(path) as image:
            modes.add(image.mode)
            orientations += [image.getexif()[0x0112]] if "exif" in path.name else []
            assert "progressive" in image.info or path.name != "progressive.jpg"
    assert {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"} <= modes
    assert sorted(orientations) == sorted(2 * list(range(1, 9)))


MEAN_PICTURE = tuple(np.random.default_rng(3).uniform(0.2, 0.7, 3 * 28 * 28).round(6).tolist())


@pytest.mark.parametrize(
    "preprocess",
    [
        imagenet(3, 224),
        identity(1, 32),
        Preprocess(3, 32, 28, MEAN_PICTURE, (0.3, 0.25, 1.0), "bicubic"),
    ],
    ids=["imagenet", "grey", "mean image"],
)
def test_arrays_are_to_the_bit_what_torch_prepares(pictures, preprocess):
    for path in pictures:
        expected, found = preprocess(path), preprocess.arrays(path)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.shape == expected.shape
        assert np.array_equal(found.view(np.int32), expected.contiguous().numpy().view(np.int32)), (
            path
        )
        # What is normalised is what the batch of a data set would be.
        squares = preprocess.squares(path)
        assert squares.dtype == np.uint8
        batch = preprocess.normalize(torch.from_numpy(squares))
        assert torch.equal(batch, expected), path
    together = preprocess.arrays(pictures)
    assert np.array_equal(together, np.concatenate([preprocess.arrays(path) for path in pictures]))


def test_orientations_end_in_one_picture(pictures, network):
    upright = [p for p in pictures if p.name.startswith("exif") and p.suffix == ".png"]
    first, *others = network.preprocess.squares(upright)
    assert len(others) == 7
    for other in others:
        assert np.array_equal(first, other)


@pytest.fixture(scope="module")
def exact(network, pictures):
    """Probabilities (N, 10) in double precision."""
    with torch.no_grad():
        return (
            copy.deepcopy(network)
            .double()(network.preprocess(pictures).double())
            .softmax(1)
            .numpy()
        )


def probabilities(predictions, classes):
    """All probabilities (N, classes) of predictions with as many classes as there are."""
    rows = [dict(zip(p.classes, p.probabilities, strict=True)) for p in predictions]
    return np.array([[row[name] for name in classes] for row in rows])


def check(found, exact):
    assert np.abs(found - exact).max() < BOUND
    assert (found.argmax(1) == exact.argmax(1)).all()


def test_the_set_tells_networks_apart(exact):
    assert len(set(exact.argmax(1).tolist())) > 2
    assert exact.max() > 0.5


def test_torch(network, pictures, exact):
    with torch.no_grad():
        check(network(network.preprocess(pictures)).softmax(1).numpy(), exact)
    found = list(predict(network, pictures, top=10, batch_size=5))
    assert [p.path for p in found] == [str(p) for p in pictures]
    check(probabilities(found, network.classes), exact)


RUNTIMES = [
    (".onnx", "onnxruntime"),
    (".onnx", "openvino"),
    (".xml", "openvino"),
    (".pt2", "torch"),
]


@pytest.mark.parametrize(("suffix", "name"), RUNTIMES)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_every_runtime(files, suffix, name, batch_size, pictures, network, exact):
    runtime = open_runtime(files[suffix], name)
    for path in pictures[:3]:
        assert np.array_equal(runtime.prepare(path), network.preprocess(path).numpy())
    found = predict(runtime, pictures, top=10, batch_size=batch_size)
    check(probabilities(found, network.classes), exact)


@pytest.fixture(scope="module")
def calibrated(network, tmp_path_factory):
    """The shipped network, calibrated, as our own export writes it."""
    network = copy.deepcopy(network)
    network.calibration = Calibration(100, (0.8,), unknown=Unknown("energy", 0.0, 0.05))
    return export_network(network, tmp_path_factory.mktemp("calibrated") / "model.onnx").path


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_a_calibrated_file_answers(calibrated, name, pictures, network):
    runtime = open_runtime(calibrated, name)
    with torch.no_grad():
        exact = copy.deepcopy(network).double()(network.preprocess(pictures).double())
    found = predict(runtime, pictures, top=10, batch_size=7)
    check(probabilities(found, network.classes), (0.8 * exact).softmax(1).numpy())
    prepared = np.concatenate([runtime.prepare(path) for path in pictures])
    _, p, score = runtime.answers(prepared)
    check(p, (0.8 * exact).softmax(1).numpy())
    assert np.abs(score + exact.logsumexp(1).numpy()).max() < BOUND


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from resnets.cli import main
sys.argv[0] = "resnets"
main()
"""


def listed(answer, classes):
    rows = [{row["class"]: row["probability"] for row in a["predictions"]} for a in answer]
    return np.array([[row[name] for name in classes] for row in rows])


@pytest.mark.parametrize(("suffix", "name"), RUNTIMES)
def test_the_command_line(files, suffix, name, pictures, network, exact):
    code = (
        WITHOUT_TORCH if name != "torch" else WITHOUT_TORCH.replace("None", "__import__('torch')")
    )
    words = ["predict", files[suffix], *pictures, "--runtime", name, "--json", "--top", "10"]
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert np.abs(listed(json.loads(run.stdout), network.classes) - exact).max() < BOUND + 5e-7


@pytest.mark.parametrize(("suffix", "name"), RUNTIMES)
def test_over_http(files, suffix, name, pictures):
    runtime = open_runtime(files[suffix], name)
    records = [each.to_dict() for each in predict(runtime, pictures, top=10)]
    expected = [
        {"model": "small", **record, "path": Path(record["path"]).name} for record in records
    ]
    bodies = {path.name: path.read_bytes() for path in pictures}
    with served({"small": runtime}) as client, ThreadPoolExecutor(8) as pool:
        sent = ({file: body} for file, body in bodies.items())
        assert [client.post_parts(part, "?top=10").json for part in sent] == expected
        if name == "torch":  # whose sums depend on how many are computed at once, in their last bit
            return
        together = client.post_parts(bodies, "?top=10").json["predictions"]
        assert [{"model": "small", **record} for record in together] == expected
        replies = pool.map(lambda body: client.post(body, "?top=10").json, bodies.values())
        for reply, record in zip(replies, expected, strict=True):
            del record["path"]
            assert reply == record


def test_the_command_line_with_what_comes_along(pictures, resnets, network, exact):
    code, out, err = resnets("predict", *pictures, "--json", "--top", "10")
    assert code == 0, err
    assert np.abs(listed(json.loads(out), network.classes) - exact).max() < BOUND + 5e-7
