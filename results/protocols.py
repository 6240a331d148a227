"""The network that comes with the package, by more views than one: CIFAR-10's test split.

usage: python results/protocols.py [--root DIR]

Writes results/protocols.txt. Each row is `resnets.evaluate("resnet20", "cifar10", ...)` with the
weights that come with the package; --root is where CIFAR-10 is, as for `resnets evaluate`. These
weights have learnt all training images, so that none is held out to calibrate by: the last two
columns are of each half of the test split at the temperature of the other. It takes some minutes
on two cores.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from resnets import evaluate
from resnets.evaluation import Assessment
from resnets.evaluation.metrics import of_one
from resnets.evaluation.protocols import asked
from resnets.evaluation.temperature import fit_calibration
from resnets.weights.calibration import calibrated
from resnets.weights.outputs import probabilities
from resnets.weights.shipped import shipped

TABLE = Path(__file__).with_suffix(".txt")
PROTOCOLS: dict[str, dict[str, Any]] = {
    "single view": {},
    "mirror images": {"tta": True},
    "the middle of 36": {"resize": 36},
    "ten crops of 36": {"crops": 10},
    "scales 32, 36, 40": {"scales": (32, 36, 40), "tta": True},
}
HEAD = (
    f"{'':20} {'views':>5} {'accuracy':>9} {'95 % interval':>15} {'log loss':>9} {'ECE':>7}"
    f" {'temperature':>14} {'log loss':>9} {'ECE':>7}"
)


def row(weights: Path, name: str, root: Path | None) -> str:
    """Return what one protocol comes to."""
    found = evaluate(weights, "cifar10", root=root, split="test", **PROTOCOLS[name])
    values, views = found.to_dict(), asked(**PROTOCOLS[name]).views
    low, high = (100 * bound for bound in values["interval"])
    temperatures, after = cross_calibrated(found)
    return (
        f"{name:20} {views:5} {100 * found.accuracy:8.2f} % {low:6.2f} to {high:5.2f} "
        f"{values['log_loss']:9.4f} {100 * values['ece']:5.2f} % {temperatures:>14} "
        f"{after['log_loss']:9.4f} {100 * after['ece']:5.2f} %"
    )


def cross_calibrated(found: Assessment) -> tuple[str, dict[str, Any]]:
    """Return the temperatures of the halves, and the figures of each at that of the other."""
    assert found.logits is not None
    odd = np.arange(len(found.labels)) % 2 == 1
    answers, temperatures = np.empty(found.logits.shape), []
    for half in (odd, ~odd):
        calibration = fit_calibration(found.logits[~half], found.labels[~half])
        temperatures.append("none" if calibration is None else f"{calibration.temperature:.3f}")
        answers[half] = probabilities(calibrated(found.logits[half], calibration), "softmax")
    return ", ".join(temperatures), of_one(answers, found.labels)


def main() -> None:
    """Measure every protocol, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    weights = shipped("resnet20", "cifar10")
    assert weights is not None
    lines = [
        "ResNet-20 as it comes with the package, CIFAR-10's 10,000 test images: views of an image,",
        "whose probabilities are averaged; then each half at the temperature of the other,",
        "where one holds beyond its own images",
        "",
        "    python results/protocols.py",
        "",
        HEAD,
    ]
    for name in PROTOCOLS:
        lines.append(row(weights, name, options.root))
        print(lines[-1], flush=True)
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
