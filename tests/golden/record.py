"""Golden results: what must stay the same to the bit, whatever happens to the code's layout.

    python tests/golden/record.py           compares with golden.json
    python tests/golden/record.py --write   writes it anew

Only what users see is used: the command, names at the package's root, the files of a run folder.
Bits are compared where processor and libraries are those of the record. Elsewhere what rounding
decides (UNSURE) is left out, other numbers may differ by TOLERANCE, and it is said.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden.json"
LIBRARIES = ("torch", "numpy", "pillow", "onnx", "onnxscript", "onnxruntime", "openvino")
STEPS, STOP = 12, 7  # the stop is within an epoch
TIMES = ("train_seconds", "data_seconds", "images_per_second", "seconds")
# What differs between processors: digests of values, the errors that an export's check measures,
# and what a run has after its first epoch, since each step makes rounding errors larger.
UNSURE = (
    *("weights", "sha256", "train_accuracy", "validation_accuracy", "validation_loss", "test"),
    *("max_absolute", "max_relative", "error", "torch_error", "bound", "share_of_bound"),
)
TOLERANCE = 1e-3  # of the larger of 1 and the number
PHOTOS = Path("photos")

NARROW = {"widths": (8, 16, 32, 64), "stem_width": 8}
SHORT = {**NARROW, "depths": (1, 1, 1, 1)}
SMALL = {"depths": (1, 1, 1), "widths": (8, 16, 32), "stem_width": 16}
RAW = {"projection_input": "raw", "first_shortcut_input": "raw"}
HELD = ("data.holdout=8",)
# Crops of the middle square are those of versions that knew no others.
SQUARE, WHOLE = "data.view=square", "data.view=whole"
EVERYTHING = (
    *("label_smoothing=0.1", "ema=0.9", "precise_batch_norm=20", "selection=best", *HELD),
    *("augment.padding=2", "augment.mirror=alternate", "augment.cutout=3", "augment.mixup=0.4"),
    *("augment.cutmix=1.0", "augment.first_size=16", "optimizer.lr=0.05", "optimizer.clip=1.0"),
    *("optimizer.accumulate=2", "schedule.warmup=0", "schedule.warmup_rate=0.1"),
    *("schedule.warmup_until_error=0.6", "schedule.plateau_factor=0.5"),
    "schedule.plateau_patience=1",
)
FULL = "precision=float32"  # float16 leaves steps out, and takes long on a CPU
SAME_SIZE = (WHOLE, "data.resize=36", FULL)
OTHER_SIZE = (WHOLE, "data.eval_size=36", "data.resize=38", FULL)
GROWING = (
    WHOLE,
    "data.eval_size=36",
    "augment.first_size=16",
    "augment.size_step=8",
    "optimizer.lr=0.1",
)
# The recipe of each run, the model, what makes it small, and what fits the recipe to little data.
RUNS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "akamaster_cifar": ("akamaster_cifar", "resnet8", {}, ()),
    "default": ("default", "resnet8", {}, HELD),
    "everything": ("default", "resnet8", {}, EVERYTHING),
    "fast_cifar": ("fast_cifar", "resnet8", {}, ()),
    "he2015_cifar": ("he2015_cifar", "resnet8", {}, HELD),
    "he2015_cifar_110": ("he2015_cifar_110", "resnet20", {"widths": (4, 8, 16)}, HELD),
    "he2015_imagenet": ("he2015_imagenet", "resnet18", NARROW, ("augment.scale=[36, 48]",)),
    "ffcv_imagenet": ("ffcv_imagenet", "resnet50", SHORT, (*GROWING, FULL)),
    "he2016_cifar": ("he2016_cifar", "resnet20_b_v2", {}, HELD),
    "keras_cifar": ("keras_cifar", "keras_resnet20_v1", {}, HELD),
    "resnext_cifar": ("resnext_cifar", "resnext29_8x64d", SMALL, ()),
    "default_whole": ("default", "resnet8", {}, (WHOLE, *HELD)),
    "he2015_imagenet_whole": (
        *("he2015_imagenet", "resnet18", NARROW),
        ("augment.scale=[36, 48]", WHOLE),
    ),
    "torchvision_v1_imagenet_whole": ("torchvision_v1_imagenet", "resnet50", SHORT, (WHOLE,)),
    "timm_a1_imagenet": ("timm_a1_imagenet", "resnet50", SHORT, SAME_SIZE),
    "timm_a2_imagenet": ("timm_a2_imagenet", "resnet50", SHORT, SAME_SIZE),
    "timm_a3_imagenet": ("timm_a3_imagenet", "resnet50", SHORT, OTHER_SIZE),
    "torchvision_v1_imagenet": ("torchvision_v1_imagenet", "resnet50", SHORT, ()),
    "torchvision_v2_imagenet": ("torchvision_v2_imagenet", "resnet50", SHORT, OTHER_SIZE),
    "finetune": ("finetune", "resnet8", {}, (WHOLE, *HELD)),
    "auto": ("auto", "resnet8", {}, (WHOLE, *HELD)),
    "beyer2022_imagenet": (
        *("beyer2022_imagenet", "resnet8", {}),
        (WHOLE, *HELD, "optimizer.lr=0.001"),
    ),
}
# What some begin from: the run of another, as weights or as a teacher.
BEGUN = {
    "finetune": ("weights", "default"),
    "auto": ("weights", "default"),
    "beyer2022_imagenet": ("teacher", "default"),
}
ZOO = (
    *("resnet18", "resnet34", "resnet50", "resnet50_v1", "resnet18_v2", "timm_resnet18_v2"),
    *("resnet18_a", "resnet18_c", "plain18", "resnext50_32x4d", "wide_resnet50_2", "resnet50c"),
    *("resnet50s", "resnet50t", "resnet18d", "resnet50d", "se_resnet18", "se_resnext50_32x4d"),
    *("eca_resnet50d", "keras_applications_resnet50", "keras_applications_resnet50_v2"),
    *("resnet20", "resnet20_b", "resnet20_c", "resnet20_b_v2", "plain20", "resnet164_v2"),
    *("resnext29_8x64d", "wrn16_8", "resnet18_cifar", "keras_resnet20_v1", "keras_resnet20_v2"),
)
# A file of each dialect, the model that it holds, and what makes that small.
DIALECTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "native": ("native.safetensors", "se_resnet18", NARROW),
    "torchvision": ("torchvision.pth", "resnet50", SHORT),
    "timm": ("timm.safetensors", "timm_resnet18_v2", NARROW),
    "detectron2": ("detectron2.pkl", "resnet50", SHORT),
    "caffe2": ("caffe2.pth", "resnet50_v1", SHORT),
    "caffe2_live": ("caffe2_live.pth", "resnet50_v1", SHORT),
    "mmlab": ("mmlab.pth", "resnet50d", SHORT),
    "mmdetection": ("mmdetection.pth", "resnet50d", SHORT),
    "huggingface": ("huggingface", "resnet50", SHORT),
    "pycls": ("pycls.pt", "resnet50", SHORT),
    "pycls_2019": ("pycls_2019.pt", "resnet50", SHORT),
    "akamaster": ("akamaster.th", "resnet20", {"zero_pad": "both"}),
    "pytorch_cifar": ("pytorch_cifar.pt", "resnet18_cifar", NARROW),
    "preresnet": ("preresnet.pth", "resnet20_b_v2", RAW),
    "wide_resnet": ("wide_resnet.pth", "wrn16_8", {"widths": (8, 16, 32)}),
    "resnext_pytorch": ("resnext_pytorch.pth", "resnext29_8x64d", SMALL),
    "keras": ("keras.h5", "keras_resnet20_v1", {}),
}
EXPORTS = {"onnx": "tiny.onnx", "openvino": "tiny.xml", "torch": "tiny.pt2"}


def machine() -> dict[str, str]:
    """What bits depend on: the processor, as far as torch tells kinds apart, and the libraries."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    kind = {"processor": name, "instructions": torch.backends.cpu.get_cpu_capability()}
    return kind | {library: version(library) for library in LIBRARIES}


def write_photos() -> None:
    """Three classes of noisy images that their colours tell apart, neither square nor equal."""
    import numpy as np
    from PIL import Image

    for label, name in enumerate(("apple", "basil", "ceramic")):
        for split, count in (("train", 24), ("test", 8)):
            folder = PHOTOS / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                random = np.random.default_rng((label, count, number))
                noise = random.integers(0, 160, (40, 48, 3))
                noise[:, :, label] += 60
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number:02}.png")


def digest_tensors(tensors: dict[str, Any]) -> str:
    """The SHA-256 of names, types, shapes and values, in the order of the names."""
    import torch

    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def runs() -> dict[str, Any]:
    """Every run, straight, and stopped and resumed; under torchrun the processes share it."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    import resnets

    first, how = os.environ.get("RANK", "0") == "0", os.environ.get("WORLD_SIZE", "1")
    recipes = {path.stem for path in Path(resnets.__file__).parent.rglob("recipes/*.yaml")}
    assert recipes == {recipe for recipe, *_ in RUNS.values()}, "RUNS is of other recipes"
    taken = stop_at = 0

    def count(*_: object) -> None:
        nonlocal taken
        taken += 1
        if first and taken == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    register_optimizer_step_post_hook(count)

    def train(name: str, out: Path, stop: int = 0) -> int:
        nonlocal taken, stop_at
        taken, stop_at = 0, stop
        recipe, model, small, fitting = RUNS[name]
        small = {"name": model, "image_size": 32, **small}
        settings = (f"schedule.iterations={STEPS}", "batch_size=16", "data.image_size=32", SQUARE)
        spec = replace(resnets.get_spec(model), **small)
        settings = (*settings, *fitting)
        kind, of = BEGUN.get(name, ("weights", None))
        begun = {kind: of and Path(f"{of}-{how}")}
        resnets.train(
            PHOTOS, model=spec, recipe=recipe, settings=settings, out=out, resume="auto", **begun
        )
        return taken

    found = {}
    for name in RUNS:
        straight, resumed = Path(f"{name}-{how}"), Path(f"{name}-{how}-resumed")
        steps = train(name, straight)
        code = 0
        try:
            train(name, resumed, stop=STOP)
        except resnets.ResnetsError as stopped:
            code = stopped.exit_code
        # 130: interrupted; 75: stopped with the process that was.
        assert (code, taken, steps) == (130 if first else 75, STOP, STEPS), (name, code, taken)
        assert train(name, resumed) == STEPS - STOP, name
        if first:
            found[name] = left(straight)
            assert left(resumed) == found[name], f"{name}: resumed, it came to another end"
    return found


def left(out: Path) -> dict[str, Any]:
    """What a run leaves, without times."""
    from safetensors.torch import load_file

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for name in TIMES:
            line.pop(name, None)
    return {
        "weights": digest_tensors(load_file(out / "model.safetensors")),
        "metrics": lines,
        # Which samples were used when: no rounding is in it.
        "ledger": (out / "ledger.jsonl").read_text().splitlines(),
        "test": json.loads((out / "run.json").read_text())["results"]["test"]["accuracy"],
    }


def fresh(name: str, **small: Any) -> Any:
    import torch

    import resnets

    torch.manual_seed(0)
    return resnets.create_model(replace(resnets.get_spec(name), **small)).eval()


def logits(model: Any) -> dict[str, Any]:
    """The answers to two fixed images of noise, of a third of the size that the net is for."""
    import torch

    side = max(32, model.spec.image_size // 3)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        answers = model(torch.randn(2, model.spec.in_channels, side, side, generator=random))
    assert answers.std() > 0, f"{model.spec.name} answers the same to everything"
    return {"first": answers.flatten()[:3].tolist(), "sha256": digest_tensors({"": answers})}


def zoo() -> dict[str, Any]:
    return {name: logits(fresh(name)) for name in ZOO}


def loads() -> dict[str, Any]:
    """The reports of loading a file of each dialect, and what the network then answers."""
    import resnets

    found = {}
    for dialect, (file, name, small) in DIALECTS.items():
        model = fresh(name, num_classes=10, **small)
        for key, buffer in model.named_buffers():  # statistics that matter
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.2)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
        resnets.save_weights(model, file, dialect=dialect)
        other = fresh(name, num_classes=10, **small)
        report = resnets.load_weights(other, file)
        whole = json.dumps(report.to_dict(), sort_keys=True)
        found[dialect] = {
            "report": str(report).splitlines(),
            "all": hashlib.sha256(whole.encode()).hexdigest(),
            "logits": logits(other),
        }
    return found


def predictions() -> list[list[Any]]:
    """The rows of a table by the command, of the run that `runs` has left."""
    command = (sys.executable, "-m", "resnets", "predict", "default-1", str(PHOTOS / "test"))
    subprocess.run((*command, "--out", "table.csv"), check=True)
    rows = [line.split(",") for line in Path("table.csv").read_text().splitlines()]
    return [[float(cell) if cell.startswith("0.") else cell for cell in row] for row in rows]


def certificates() -> dict[str, Any]:
    """What is certified of an export for each runtime."""
    import resnets

    found = {}
    for to, file in EXPORTS.items():
        model = fresh("resnet8", widths=(4, 8, 8), stem_width=4, num_classes=3, image_size=16)
        resnets.export(model, file, to=to, images=PHOTOS / "test")
        record = json.loads(Path(f"{file}.certificate.json").read_text())
        del record["versions"]
        record["files"] = sorted(record["files"])  # their bytes are the libraries' affair
        found[to] = record
    return found


# Each in a process of its own, or in two, in this order: predictions need a run.
PARTS: dict[str, tuple[Callable[[], Any], int]] = {
    "runs of one process": (runs, 1),
    "runs of two processes": (runs, 2),
    "logits": (zoo, 1),
    "load reports": (loads, 1),
    "predictions": (predictions, 1),
    "certificates": (certificates, 1),
}


def perform(part: str) -> None:
    """Write what a part finds into a file called like it."""
    import torch

    torch.set_num_threads(1)
    if not PHOTOS.exists():
        write_photos()
    found = PARTS[part][0]()
    if os.environ.get("RANK", "0") == "0":
        Path(f"{part}.json").write_text(json.dumps(found))


def record() -> dict[str, Any]:
    """Perform all parts in a folder of their own; return what they found."""
    found: dict[str, Any] = {"machine": machine()}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
    with tempfile.TemporaryDirectory() as folder:
        for part, (_, count) in PARTS.items():
            start = (*launcher, str(count)) if count > 1 else ()
            command = (sys.executable, *start, str(Path(__file__).resolve()), "--part", part)
            subprocess.run(command, env=environment, cwd=folder, check=True)
            found[part] = json.loads(Path(folder, f"{part}.json").read_text())
    return found


def comparable(value: Any) -> Any:
    """What is left of a record without UNSURE."""
    if isinstance(value, dict):
        sure = {key: item for key, item in value.items() if key not in UNSURE}
        return {k: comparable(v[:1] if k == "metrics" else v) for k, v in sure.items()}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def differences(golden: Any, found: Any, tolerance: float, at: str = "") -> list[str]:
    """Say where two records differ."""
    if isinstance(golden, dict) and isinstance(found, dict):
        keys = sorted(golden.keys() | found.keys())
        pairs = [(golden.get(key), found.get(key), f"{at} / {key}") for key in keys]
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        pairs = [(*both, f"{at} [{i}]") for i, both in enumerate(zip(golden, found, strict=True))]
    else:
        same = golden == found
        if tolerance and isinstance(golden, float) and isinstance(found, float):
            same = math.isclose(golden, found, rel_tol=tolerance, abs_tol=tolerance)
        return [] if same else [f"{at}: was {golden!r}, is {found!r}"]
    return [line for *both, where in pairs for line in differences(*both, tolerance, where)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the record anew")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        perform(arguments.part)
        return 0
    found = record()
    if arguments.write:
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return 0
    golden = json.loads(GOLDEN.read_text())
    other = differences(golden.pop("machine"), found.pop("machine"), 0, "machine")
    if other:
        golden, found = comparable(golden), comparable(found)
    lines = differences(golden, found, TOLERANCE if other else 0)
    print(*lines, f"{len(lines)} differences", sep="\n")
    if other:
        print("another machine: bits were not compared, only numbers to", TOLERANCE, *other)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
