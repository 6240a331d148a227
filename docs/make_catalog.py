"""Write the catalogue of published weights, where torchvision, timm and Keras are installed.

    make catalog        # or: cd reference && python ../docs/make_catalog.py --write

Rows come from three places: the libraries' own metadata; their naming rule, by which the eight
hexadecimal digits before a file's ending begin its SHA-256; and the tables in ``published.py``,
each with its source. Where nobody publishes a digest there is none.
"""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
import conftest  # noqa: F401, I001  declares torchvision's operators: before timm
import timm
import torchvision
from keras.src.applications import resnet as keras_resnet
from published import CIFAR100_CLASSES, TABLES, TIMM_ACCURACY, TIMM_SOURCE, WHOLE_DIGESTS

from resnets.data.cifar import CIFAR10_CLASSES
from resnets.weights.catalog import DATA
from resnets.zoo import ALIASES, ZOO

DIGITS = re.compile(r"-([0-9a-f]{8})\.(?:pth|pt|th)$")
KERAS_MEAN = [123.68, 116.779, 103.939]  # red, green, blue in 0..255; of mode "caffe"


def remote(address: str, digest: str = "") -> dict[str, str]:
    """Return a file with the digest that its name begins with, or the one that is given."""
    if not digest and (match := DIGITS.search(address)):
        digest = f"sha256:{WHOLE_DIGESTS.get(match[1], match[1])}"
    return {"address": address} | ({"digest": digest} if digest else {})


def preprocess(resize: int, size: int, mean: list[float], std: list[float]) -> dict[str, Any]:
    """Return the fields of resnets.data.preprocess.Preprocess."""
    return {"channels": 3, "resize": resize, "size": size, "mean": list(mean), "std": list(std)}


def from_torchvision() -> list[dict[str, Any]]:
    """Return a row for each member of the weights enums of torchvision's residual networks."""
    rows = []
    for model in torchvision.models.list_models(module=torchvision.models):
        if model not in ZOO:
            continue
        for weights in torchvision.models.get_model_weights(model):
            transform = weights.transforms()
            (accuracy,) = weights.meta["_metrics"].values()
            rows.append(
                {
                    "name": f"torchvision.{weights.name}",
                    "model": model,
                    "files": [remote(weights.url)],
                    "dialect": "torchvision",
                    "preprocess": preprocess(
                        *transform.resize_size, *transform.crop_size, transform.mean, transform.std
                    ),
                    "interpolation": transform.interpolation.value,
                    "accuracy": {
                        "top1": accuracy["acc@1"],
                        "top5": accuracy["acc@5"],
                        "image_size": transform.crop_size[0],
                    },
                    "source": f"torchvision, {type(weights).__name__}.{weights.name}.meta",
                    "licence": "BSD-3-Clause",
                    "mebibytes": weights.meta["_file_size"],
                }
            )
    return rows


def from_timm() -> list[dict[str, Any]]:
    """Return a row for each tag of timm's residual networks that the zoo has."""
    rows = []
    for name in timm.list_models(pretrained=True):
        architecture = name.split(".")[0]
        model = {"resnetv2_18": "resnet18_v2", "resnetv2_34": "resnet34_v2"}.get(
            architecture, ALIASES.get(architecture, architecture)
        )
        config = timm.get_pretrained_cfg(name)
        if model not in ZOO or config.num_classes != 1000:
            continue
        # timm's evaluation transform: the shorter side to floor(size / crop_pct).
        size = config.input_size[-1]
        repository = f"https://huggingface.co/{config.hf_hub_id}/resolve/main"
        files = [remote(config.url)] if config.url else []
        row = {
            "name": f"timm.{config.tag}",
            "model": model,
            "files": [*files, remote(f"{repository}/model.safetensors")],
            "dialect": "timm" if ZOO[model].preactivated else "torchvision",
            "preprocess": preprocess(
                math.floor(size / config.crop_pct), size, config.mean, config.std
            ),
            "interpolation": config.interpolation,
            "source": "timm, pretrained_cfg",
            "licence": SPDX[config.license],
        }
        if name in TIMM_ACCURACY:
            top1, top5, image_size = TIMM_ACCURACY[name]
            row["accuracy"] = {"top1": top1, "top5": top5, "image_size": image_size}
            row["source"] += f"; accuracy: {TIMM_SOURCE}"
        if ZOO[model].preactivated and ZOO[model].block == "basic":
            row["changes"] = {"first_shortcut_input": "raw"}
        rows.append(row)
    return rows


SPDX = {"apache-2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "cc-by-nc-4.0": "CC-BY-NC-4.0"}


def from_keras() -> list[dict[str, Any]]:
    """Return a row for each of keras.applications' residual networks; Keras publishes MD5."""
    rows = []
    for depth in (50, 101, 152):
        for version, suffix in (("", ""), ("v2", "_v2")):
            name = f"resnet{depth}{version}"
            address = (
                f"{keras_resnet.BASE_WEIGHTS_PATH}{name}_weights_tf_dim_ordering_tf_kernels.h5"
            )
            if version:  # mode "tf": to -1..1
                prepared, order = preprocess(256, 224, [0.5] * 3, [0.5] * 3), "rgb"
            else:
                mean = [round(value / 255, 9) for value in KERAS_MEAN]
                prepared, order = preprocess(256, 224, mean, [round(1 / 255, 12)] * 3), "bgr"
            rows.append(
                {
                    "name": "keras.imagenet",
                    "model": f"keras_applications_resnet{depth}{suffix}",
                    "files": [remote(address, f"md5:{keras_resnet.WEIGHTS_HASHES[name][0]}")],
                    "dialect": "keras",
                    "preprocess": prepared,
                    "channel_order": order,
                    "source": "keras.applications.resnet, WEIGHTS_HASHES and preprocess_input; "
                    "it names a size of 224 and no resize, the usual 256 is taken",
                }
            )
    return rows


def from_tables() -> list[dict[str, Any]]:
    """Return the rows of those who publish no metadata that a program can read."""
    return [{**row, "files": [remote(**file) for file in row["files"]]} for row in TABLES]


def catalog() -> dict[str, Any]:
    """Return what the catalogue's file holds."""
    imagenet = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    return {
        "classes": {
            "imagenet": imagenet,
            "cifar10": list(CIFAR10_CLASSES),
            "cifar100": CIFAR100_CLASSES,
        },
        "entries": [*from_torchvision(), *from_timm(), *from_keras(), *from_tables()],
    }


def text() -> str:
    """Return the catalogue as JSON with one line for each entry and each list of classes."""
    data = catalog()
    parts = []
    for key, opening, closing in (("classes", "{", "}"), ("entries", "[", "]")):
        value = data[key]
        lines = (
            [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
            if isinstance(value, dict)
            else [json.dumps(row) for row in value]
        )
        body = ",\n".join(f"  {line}" for line in lines)
        parts.append(f' "{key}": {opening}\n{body}\n {closing}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        DATA.write_text(text(), encoding="utf-8")
    else:
        print(text(), end="")
