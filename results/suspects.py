"""Planted label errors, and who finds them: run it all, resumably, and write the table.

usage: python results/suspects.py --weights RUN --data FOLDER [--share 0.05] [--size 64]
       [--folds 5] [--set KEY=VALUE ...] [--runs DIR] [--results DIR] [--device auto]

FOLDER has clothing/ and trashnet/, photographs in train/, validation/ and test/. Of clothing's
training and held-out images a share gets another class, any alike, by a seed; then `find_suspects`
looks for them as it does for anybody, and its ranking is compared with those by either half of its
evidence, and with cleanlab's by the same probabilities where that is installed. All images of
TrashNet become one split, in which three photographs stand under two labels each. What was stopped
goes on. The images are copied to DIR/suspects first.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resnets import __version__, find_suspects, train
from resnets.evaluation.confident_learning import likely_wrong, self_confidence
from resnets.run_folder.directory import RunFolder
from resnets.training.label_evidence import Evidence, gather_evidence

RESULTS = Path(__file__).resolve().parent
# A classifier on features that learn nothing, at the rate that results/finetuning.py gives it.
SETTINGS = ("finetune={freeze: all}", "optimizer.lr=0.2", "schedule.epochs=4", "batch_size=64")
AT = (20, 50, 100)  # images that somebody looks at


def copied(source: Path, place: Path, share: float) -> set[str]:
    """Copy images and write a table of their labels, a share of them wrong; return which.

    Without a share all images are of the training split, and no label is changed.
    """
    if not place.exists():
        shutil.copytree(source, place.with_name("copying"), dirs_exist_ok=True)
        place.with_name("copying").rename(place)
    files = sorted(place.rglob("*.jpg"))
    rows = [
        {
            "file": path.relative_to(place).as_posix(),
            "label": path.parent.name,
            "split": path.parts[-3] if share else "train",
        }
        for path in files
    ]
    generator = np.random.default_rng(0)
    classes = sorted({row["label"] for row in rows})
    looked_at = [row for row in rows if row["split"] != "test"]
    wrong = generator.permutation(len(looked_at))[: round(share * len(looked_at))]
    for place_of_row in wrong.tolist():
        row = looked_at[place_of_row]
        others = [name for name in classes if name != row["label"]]
        row["label"] = others[generator.integers(len(others))]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "labels.jsonl").write_text(lines)
    return {looked_at[each]["file"] for each in wrong.tolist()}


def ranking(scores: NDArray[np.floating], wrong: NDArray[np.bool_]) -> list[float]:
    """Return precision among the first of AT and of as many as are wrong, and its average.

    ``scores`` are lower the surer an error is.
    """
    hits = wrong[np.argsort(scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    at = [float(precision[min(k, len(hits)) - 1]) for k in (*AT, int(wrong.sum()))]
    return [*at, float(precision[hits].mean())]


def rankings(
    evidence: Evidence,
) -> dict[str, tuple[NDArray[np.floating], NDArray[np.int64]]]:
    """Return scores by who gives them, and which images would be shown."""
    labels, outside = evidence.pool.labels, evidence.outside.probabilities
    found = {
        name: (self_confidence(values, labels), likely_wrong(values, labels))
        for name, values in (
            ("models and neighbours (ours)", evidence.joined),
            ("models alone", outside),
            ("neighbours alone", evidence.shares),
        )
    }
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return found
    issues = np.flatnonzero(find_label_issues(labels, outside, n_jobs=1))
    for method in ("normalized_margin", "self_confidence"):
        scores = get_label_quality_scores(labels, outside, method=method)
        found[f"cleanlab, {method}"] = (scores, issues)
    return found


def table(evidence: Evidence, wrong: set[str]) -> Iterator[str]:
    """Yield the lines about planted errors."""
    names = evidence.pool.split.names(torch.arange(len(evidence.pool.labels)))
    planted = np.array([name in wrong for name in names])
    heads = " ".join(f"{f'P@{k}':>6}" for k in (*AT, int(planted.sum())))
    yield f"{'':30} {heads} {'AP':>6} {'shown':>6} {'of them':>8} {'recall':>7}"
    for name, (scores, shown) in rankings(evidence).items():
        figures = " ".join(f"{value:6.3f}" for value in ranking(scores, planted))
        hits = int(planted[shown].sum())
        yield (
            f"{name:30} {figures} {len(shown):6} {hits / len(shown):8.3f} "
            f"{hits / planted.sum():7.3f}"
        )


def main(words: Sequence[str] | None = None) -> int:
    """Run what is not there yet, write the table, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", type=Path, default=Path("photographs"))
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(words)
    settings = (f"data.image_size={options.size}", *SETTINGS, *options.settings)
    begin = partial(
        train,
        model=options.model,
        weights=options.weights,
        recipe="finetune",
        resume="auto",
        device=options.device,
    )
    text = "\n".join(lines(options, settings, begin)) + "\n"
    (options.results / "suspects.txt").write_text(text)
    print(text)
    return 0


def lines(
    options: argparse.Namespace, settings: tuple[str, ...], begin: Callable[..., object]
) -> Iterator[str]:
    """Train and look for suspects, and yield the lines of suspects.txt."""
    runs = options.runs / "suspects"
    yield "Label errors: what is found of those that were planted, and of those that are known"
    yield ""
    yield "    python results/suspects.py --weights RUN --data FOLDER"
    place = runs / "clothing"
    wrong = copied(options.data / "clothing", place, options.share)
    folder = RunFolder(runs / "clothing-run")
    begin(place, settings=settings, out=folder.path)
    evidence = gather_evidence(
        folder, folder.path / "suspects", folds=options.folds, device=options.device
    )
    record = folder.read_record()
    (options.results / "suspects").mkdir(exist_ok=True)
    shutil.copy(folder.recipe, options.results / "suspects" / "recipe.yaml")
    yield ""
    yield (
        f"clothing, {len(evidence.pool.labels):,} training and held-out images at "
        f"{options.size} pixels, of which {len(wrong)} have a label that was drawn among the others"
    )
    yield (
        f"{record.model.name}, {options.folds} folds, {record.progress.epochs:g} epochs each "
        f"(suspects/recipe.yaml); out-of-fold accuracy "
        f"{100 * evidence.outside.accuracy(evidence.pool.labels):.1f} %; "
        f"{record.environment['processor']}, resnets {__version__}"
    )
    yield ""
    yield from table(evidence, wrong)
    yield ""
    place = runs / "trashnet"
    copied(options.data / "trashnet", place, 0)
    # Copies come first whatever a model says: an epoch is enough.
    settings = (*settings, "schedule.epochs=1")
    begin(place, settings=settings, out=runs / "trashnet-run")
    found = find_suspects(runs / "trashnet-run", folds=2, device=options.device)
    yield (
        f"TrashNet, {found.images:,} images in one split, 2 folds, 1 epoch each; the first of its "
        "suspects:"
    )
    yield ""
    for each in found.suspects[:8]:
        values = asdict(each)
        yield "{file:35} {label:9} perhaps {suggested:9} {score:.3f}".format(**values) + (
            f"   also {', '.join(each.copies)}" * bool(each.copies)
        )


if __name__ == "__main__":
    sys.exit(main())
