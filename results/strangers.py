"""Which score tells images of none of the classes from known ones: train, measure, write the table.

usage: python results/strangers.py --weights RUN --data FOLDER --root DIR [--seeds 1] [--size 64]
       [--runs DIR] [--results DIR]

FOLDER holds clothing/ (train, validation, test), trashnet/ and grocery/ (any folders of images),
DIR CIFAR-10; RUN (or a file, or a name) is where the fine-tuned networks start. A ResNet-18 knows
the classes of clothing; TrashNet, groceries and CIFAR-10's test images are strange to it. The
ResNet-20 that comes with the package knows CIFAR-10's, and the photographs are strange. Training is
`resnets train ... --resume auto`: what is finished is left alone. The table is strangers.txt.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from reproduce import RESULTS, run

import resnets
from resnets.data import open_dataset
from resnets.data.pipeline import read_ahead
from resnets.data.samples import as_images
from resnets.data.scan import names_in
from resnets.evaluation.drift import auroc
from resnets.nn import ResNet
from resnets.weights.calibration import Unknown
from resnets.weights.outputs import probabilities

SHOWN, BANK = 1000, 3000  # images of a set, and of the training split, evenly spread
ASKED = 0.05  # false alarms
EPOCHS = {"finetuned": 6, "unsmoothed": 6, "scratch": 10}
TITLES = {
    "finetuned": "recipe finetune, whose labels are smoothed by 0.1",
    "unsmoothed": "recipe finetune without smoothing",
    "scratch": "from scratch",
}
HEAD = """Images of none of the classes: which score tells them from known ones

    python results/strangers.py --weights RUN --data FOLDER --root DIR

softmax      less the highest probability (Hendrycks and Gimpel 2017), the baseline
max_logit    less the highest logit (Hendrycks et al. 2022)
energy       less the logarithm of the sum of the logits' exponentials (Liu et al. 2020)
nearest K    how far the embedding, of length 1, is from the Kth nearest of 3,000 training images
             (Sun et al. 2022)

AUROC of strange above known test images; the false alarms (known test images that are flagged)
where 95 % of a set are; and, at the threshold that 5 % of the held-out images are above, what is
flagged. All in percent; of a set of more than 1,000 images that many."""


@dataclass(frozen=True)
class Seen:
    """What a network makes of some images."""

    logits: NDArray[np.float64]  # (N, classes)
    embeddings: NDArray[np.float64]  # (N, C), each of length 1


Score = Callable[[Seen, Seen], NDArray[np.float64]]  # of images and the bank: higher is stranger


def softmax(seen: Seen, bank: Seen) -> NDArray[np.float64]:
    """The baseline."""
    return -probabilities(seen.logits, "softmax").max(1)


def of_package(name: str) -> Score:
    """Return one of the package's scores."""
    return lambda seen, bank: Unknown(name, 0.0, ASKED).of(seen.logits)


def nearest(count: int) -> Score:
    """Return the score of so many neighbours."""

    def score(seen: Seen, bank: Seen) -> NDArray[np.float64]:
        cosines = seen.embeddings @ bank.embeddings.T
        return 1 - np.partition(cosines, -count, axis=1)[:, -count]

    return score


SCORES: dict[str, Score] = {
    "softmax": softmax,
    "max_logit": of_package("max_logit"),
    "energy": of_package("energy"),
    **{f"nearest {count}": nearest(count) for count in (1, 10, 50)},
}


@torch.no_grad()
def look(network: ResNet, images: Sequence[Path | Image.Image], most: int = SHOWN) -> Seen:
    """Return what a network makes of images, of more than ``most`` that many."""
    count = min(most, len(images))
    chosen = [images[i * len(images) // count] for i in range(count)]
    batches = [chosen[start : start + 64] for start in range(0, count, 64)]
    rows = [network.embed(torch.cat(x)) for x in read_ahead(network.preprocess, iter(batches))]
    embeddings = torch.cat(rows)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    return Seen(network.fc(embeddings).double().numpy(), unit.double().numpy())


def measured(
    known: Seen, held: Seen, bank: Seen, strange: dict[str, Seen]
) -> dict[str, list[float]]:
    """Return for each score AUROC and false alarms of each set, then what is flagged of each."""
    found = {}
    for name, score in SCORES.items():
        own, theirs = score(known, bank), [score(seen, bank) for seen in strange.values()]
        level = np.sort(score(held, bank))[-int((len(held.logits) + 1) * ASKED)]
        found[name] = [
            *(auroc(own, each) for each in theirs),
            *((own >= np.quantile(each, 0.05)).mean() for each in theirs),
            (own > level).mean(),
            *((each > level).mean() for each in theirs),
        ]
    return found


def block(
    title: str, sets: Sequence[str], found: Sequence[dict[str, list[float]]]
) -> Iterator[str]:
    """Yield the lines of a model: means over its seeds."""
    yield f"\n{title}"
    names = [name[:8] for name in sets]
    heads = (*names, "mean"), (*names, "mean"), ("known", *names)
    columns = ["".join(f"{word:>9}" for word in words) for words in heads]
    width = len(columns[0])
    above = (
        f"{'AUROC':>{width}} {'false alarms at 95 % recall':>{width}} {'flagged at 5 %':>{width}}"
    )
    yield f"{'':10}{above}"
    yield f"{'':10}{' '.join(columns)}"
    for score in SCORES:
        row = 100 * np.mean([each[score] for each in found], axis=0)
        n = len(sets)
        groups = [*row[:n], row[:n].mean()], [*row[n : 2 * n], row[n : 2 * n].mean()], row[2 * n :]
        yield f"{score:10}" + " ".join("".join(f"{x:9.1f}" for x in group) for group in groups)


@dataclass(frozen=True)
class Trial:
    """A way to train on clothing, which `reproduce.run` takes."""

    way: str
    words: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"strangers/{self.way}-{self.seed}"

    def command(self, out: Path, device: str) -> list[str]:
        """Return the words that train it into ``out``."""
        words = ["--set", f"seed={self.seed}", "--out", str(out), "--resume", "auto"]
        return ["train", *self.words, *words, "--device", device]


def main() -> int:
    """Train what is not there yet, measure, write the table, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()

    def files(name: str) -> list[Path]:
        folder = options.data / name
        return [folder / image for image in names_in(folder)]

    cifar = open_dataset("cifar10", root=options.root)
    small = as_images(cifar.test.images.batch(cifar.test.ids))
    photographs = {name: files(name) for name in ("clothing/test", "trashnet", "grocery")}
    clothing = str(options.data / "clothing")
    common = (clothing, "--model", "resnet18", "--set", f"data.image_size={options.size}")
    tuned = (*common, "--weights", options.weights, "--recipe", "finetune")
    ways = {
        "finetuned": tuned,
        "unsmoothed": (*tuned, "--set", "label_smoothing=0"),
        "scratch": common,
    }
    lines, records = [HEAD], {}
    strange = {name: photographs[name] for name in ("trashnet", "grocery")} | {"cifar10": small}
    for way, words in ways.items():
        found, accuracies = [], []
        for seed in range(options.seeds):
            trial = Trial(way, (*words, "--set", f"schedule.epochs={EPOCHS[way]}"), seed)
            if code := run(trial, options.runs, "cpu", float("inf")):
                return code
            folder = options.runs / trial.name
            record = records[way] = json.loads((folder / "run.json").read_text())
            accuracies.append(record["results"]["test"]["accuracy"])
            network = resnets.open_model(folder)
            found.append(
                measured(
                    look(network, photographs["clothing/test"]),
                    look(network, files("clothing/validation")),
                    look(network, files("clothing/train"), BANK),
                    {name: look(network, images) for name, images in strange.items()},
                )
            )
        title = (
            f"resnet18 on clothing at {options.size} pixels, {TITLES[way]}, {EPOCHS[way]} epochs, "
            f"seeds: {options.seeds}; test accuracy {100 * np.mean(accuracies):.1f}"
        )
        lines += block(title, list(strange), found)
    network = resnets.create_model("resnet20", weights="cifar10").eval()
    own = cifar.train.images.batch(cifar.train.ids[:: len(cifar.train) // BANK])
    found = measured(
        look(network, small[::2]),  # it was trained on all of the rest, so half stand for held-out
        look(network, small[1::2]),
        look(network, as_images(own), BANK),
        {name: look(network, images) for name, images in photographs.items()},
    )
    title = (
        "resnet20 of the package on CIFAR-10: half of its test split, the other half as held-out"
    )
    lines += block(title, ["clothing", "trashnet", "grocery"], [found])
    where, start = record["environment"], records["finetuned"]["weights"]
    lines.append(f"\n{where['processor']}, torch {where['torch']}, {where['precision']}")
    lines.append(f"fine-tuned from weights with SHA-256 {start['digest'][:16]}")
    text = "\n".join(lines) + "\n"
    (options.results / "strangers.txt").write_text(text)
    print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
