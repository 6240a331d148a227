"""Which label sets are the smallest: LAC, APS and RAPS on the same images; writes label-sets.txt.

usage: python results/label_sets.py [--splits 20] [--root DIR] (TITLE MODEL DATA)...

MODEL is a run folder, a file, or NAME@WEIGHTS; it has not learned from DATA's last split. Of that,
half the images, at random, calibrate and fit the sets, the other half is looked at.
"""

import argparse
from pathlib import Path

import numpy as np

from resnets import create_model, open_model
from resnets.data import open_dataset
from resnets.data.preprocess import preprocess_of
from resnets.evaluation.network import evaluate
from resnets.evaluation.temperature import fit_calibration
from resnets.weights.calibration import Calibration
from resnets.weights.conformal import METHODS, Conformal, ranks
from resnets.weights.outputs import probabilities

OUT = Path(__file__).parent / "label-sets.txt"
COVERAGES = (0.8, 0.9, 0.95, 0.99)
HEADING = """Label sets: classes in one on average; percent covered of all and of the worst class

    python results/label_sets.py TITLE MODEL DATA ...
    half of a split fits the sets, the other half is looked at; means over random halves
"""


def main() -> None:
    """Measure each model on its data."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--root", type=Path)
    parser.add_argument("of", nargs="+", metavar="TITLE MODEL DATA")
    asked = parser.parse_args()
    lines = [HEADING]
    for title, model, data in zip(*[iter(asked.of)] * 3, strict=True):
        name, _, weights = model.partition("@")
        network = create_model(name, weights=weights) if weights else open_model(model)
        split = list(open_dataset(data, root=asked.root).parts.values())[-1]
        found = evaluate(network, split, preprocess_of(network), keep_logits=True)
        lines += table(title, found.logits, found.labels, asked.splits)
    OUT.write_text("\n".join(lines), "utf-8")
    print(OUT.read_text("utf-8"))


def table(title: str, logits: np.ndarray, labels: np.ndarray, splits: int) -> list[str]:
    """Return the lines of one model on one split."""
    rows = {(coverage, method): [] for coverage in COVERAGES for method in METHODS}
    correct = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(labels))
        half, other = np.array_split(order, 2)
        calibration = fit_calibration(logits[half], labels[half]) or Calibration(len(half))
        fitted = Conformal.fitted(probabilities(calibration(logits[half]), "softmax"), labels[half])
        p, own = probabilities(calibration(logits[other]), "softmax"), labels[other]
        rank = ranks(p, own)
        correct.append((rank == 0).mean())
        for (coverage, method), found in rows.items():
            sizes = fitted.sizes(p, coverage, method)
            inside = rank < sizes
            worst = min(inside[own == each].mean() for each in np.unique(own))
            found.append((sizes.mean(), 100 * inside.mean(), 100 * worst))
    lines = [
        f"{title}: {100 * np.mean(correct):.1f} % correct, {len(labels):,} images\n",
        "coverage   " + "".join(f"{method:<24}" for method in METHODS).rstrip(),
    ]
    for coverage in COVERAGES:
        cells = (np.mean(rows[coverage, method], axis=0) for method in METHODS)
        text = "".join(f"{size:6.2f} {all_:6.1f} {worst:6.1f}    " for size, all_, worst in cells)
        lines.append(f"{coverage:<8}{text}".rstrip())
    return [*lines, ""]


if __name__ == "__main__":
    main()
