"""Run folders as training would write them, for the tests of the report."""

import base64
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

RECIPE = """\
model: resnet20
seed: 0
epochs: 30
batch_size: 64
optimizer:
  name: sgd
  lr: 0.05
  momentum: 0.9
  nesterov: true
augment: []
"""


def png(side: int, seed: int) -> str:
    """Return a grey image as a data address."""
    rows = b"".join(
        b"\x00" + bytes((seed * 37 + x * 13 * (seed + 1) + y * y * 7) % 256 for x in range(side))
        for y in range(side)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def confusion(classes: int, per_class: int) -> list[list[int]]:
    """Return a confusion matrix with some mistakes in every third row."""
    matrix = [[0] * classes for _ in range(classes)]
    for i in range(classes):
        wrong = 2 if i % 3 == 0 else 0
        matrix[i][i] = per_class - wrong
        matrix[i][(i + 1) % classes] += wrong
    return matrix


def score(matrix: list[list[int]]) -> dict[str, Any]:
    """Return a result that fits its confusion matrix."""
    samples = sum(map(sum, matrix))
    right = sum(matrix[i][i] for i in range(len(matrix)))
    return {
        "samples": samples,
        "loss": 0.0612,
        "accuracy": right / samples,
        "top5_accuracy": 1.0,
        "confusion": matrix,
    }


def summary(classes: list[str], **changes: Any) -> dict[str, Any]:
    """Return what run.json says of a finished run."""
    stages = [
        ("conv1", [16, 32, 32], "3x3, 16", 1, 144, 147456, 3),
        ("layer1", [16, 32, 32], "3x3, 16 / 3x3, 16", 3, 14016, 14155776, 15),
        ("layer2", [32, 16, 16], "3x3, 32 / 3x3, 32", 3, 51072, 12976128, 39),
        ("layer3", [64, 8, 8], "3x3, 64 / 3x3, 64", 3, 203520, 12976128, 87),
        ("fc", [10], "average pool, 10-d fc, softmax", 1, 650, 640, 87),
    ]
    keys = ("name", "output", "layers", "blocks", "parameters", "macs", "receptive_field")
    return {
        "schema_version": 1,
        "name": "digits-resnet20",
        "command": "resnets train digits --model resnet20 --out runs/demo",
        "status": "finished",
        "started": "2026-11-22T17:00:00+00:00",
        "seed": 0,
        "model": {
            "name": "resnet20",
            "description": "basic blocks, shortcut A (zero-padded), 3x3 stem",
            "spec": {"block": "basic"},
            "parameters": 269434,
            "macs": 40256128,
            "receptive_field": 87,
            "stages": [dict(zip(keys, stage, strict=True)) for stage in stages],
        },
        "data": {
            "name": "digits",
            "fingerprint": "ab" * 32,
            "classes": classes,
            "image_shape": [1, 32, 32],
            "train": 1293,
            "validation": 144,
            "test": 360,
            "skipped": 0,
        },
        "recipe": "default",
        "environment": {
            "resnets": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "numpy": "2.4.6",
            "platform": "Linux-6.8",
            "processor": "AMD EPYC",
            "threads": 2,
            "device": "cpu",
        },
        "progress": {"step": 630, "steps": 630, "epoch": 30, "epochs": 30, "seconds": 95.2},
        "results": {
            "train": {"images_per_second": 410.2},
            "validation": score(confusion(len(classes), 14)),
            "test": score(confusion(len(classes), 36)),
        },
        **changes,
    }


def metrics(epochs: int, pace: float = 1.0) -> list[dict[str, Any]]:
    """Return learning curves that go down and up as they should."""
    return [
        {
            "epoch": e,
            "step": 21 * e,
            "lr": 0.05 * (1 + math.cos(math.pi * e / epochs)) / 2,
            "train_loss": 2.2 * math.exp(-pace * e / 6) + 0.02,
            "train_accuracy": 1 - 0.85 * math.exp(-pace * e / 5),
            "validation_loss": 2.2 * math.exp(-pace * e / 6) + 0.07 + 0.02 * math.sin(3 * e),
            "validation_accuracy": 0.985 - 0.85 * math.exp(-pace * e / 5) + 0.004 * math.sin(5 * e),
            "images_per_second": 410.0,
            "seconds": 3.17 * e,
        }
        for e in range(1, epochs + 1)
    ]


def write_run(
    folder: Path,
    classes: list[str] | None = None,
    *,
    epochs: int = 30,
    pace: float = 1.0,
    recipe_text: str = RECIPE,
    side: int = 32,
    **changes: Any,
) -> Path:
    """Write a complete run folder; ``changes`` replace entries of run.json."""
    classes = [str(i) for i in range(10)] if classes is None else classes
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(summary(classes, **changes)))
    lines = [json.dumps(row) + "\n" for row in metrics(epochs, pace)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    mistakes = [
        {
            "sample": 12 + i,
            "label": classes[i % len(classes)],
            "predicted": classes[(i + 1) % len(classes)],
            "confidence": 0.999 - 0.02 * i,
            "picture": png(side, i),
        }
        for i in range(12)
    ]
    (folder / "mistakes.json").write_text(json.dumps(mistakes))
    (folder / "recipe.yaml").write_text(recipe_text)
    return folder
