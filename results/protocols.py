"""The network that comes with the package, by more views than one: CIFAR-10's test split.

usage: python results/protocols.py [--root DIR]

Writes results/protocols.txt. Each row is `resnets.evaluate("resnet20", "cifar10", ...)` with the
weights that come with the package; --root is where CIFAR-10 is, as for `resnets evaluate`. It
takes some minutes on two cores.
"""

import argparse
from pathlib import Path
from typing import Any

from resnets import evaluate
from resnets.evaluation.protocols import asked
from resnets.weights.shipped import shipped

TABLE = Path(__file__).with_suffix(".txt")
PROTOCOLS: dict[str, dict[str, Any]] = {
    "single view": {},
    "mirror images": {"tta": True},
    "the middle of 36": {"resize": 36},
    "ten crops of 36": {"crops": 10},
    "scales 32, 36, 40": {"scales": (32, 36, 40), "tta": True},
}
HEAD = f"{'':20} {'views':>5} {'accuracy':>9} {'95 % interval':>15} {'log loss':>9} {'ECE':>7}"


def row(weights: Path, name: str, root: Path | None) -> str:
    """Return what one protocol comes to."""
    found = evaluate(weights, "cifar10", root=root, split="test", **PROTOCOLS[name])
    values, views = found.to_dict(), asked(**PROTOCOLS[name]).views
    low, high = (100 * bound for bound in values["interval"])
    return (
        f"{name:20} {views:5} {100 * found.accuracy:8.2f} % {low:6.2f} to {high:5.2f} "
        f"{values['log_loss']:9.4f} {100 * values['ece']:5.2f} %"
    )


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
        "whose probabilities are averaged",
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
