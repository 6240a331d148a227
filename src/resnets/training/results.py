"""What comes of a run: the metrics of each part, the worst mistakes, the weights."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import compress
from typing import Any

import torch

from resnets.analysis.features.maps import grad_cam, telling
from resnets.analysis.features.overlays import glow_url
from resnets.data.dataset import Dataset, Split
from resnets.data.preprocess import preprocess_of
from resnets.data.samples import data_url
from resnets.evaluation import metrics
from resnets.evaluation.coverage import label_sets
from resnets.evaluation.network import evaluate
from resnets.evaluation.scores import Evaluation
from resnets.evaluation.temperature import fit_calibration
from resnets.machine.processes import Processes
from resnets.nn import ResNet
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import (
    Bins,
    Calibrated,
    CalledUnknown,
    LabelSets,
    Mistake,
    Results,
    Score,
    Speed,
    Trust,
)
from resnets.training.feed import Feed
from resnets.training.state import RunState
from resnets.weights.calibration import Calibration, Unknown, calibrated
from resnets.weights.conformal import Conformal
from resnets.weights.metadata import Metadata
from resnets.weights.native import write_native
from resnets.weights.outputs import probabilities

MISTAKES = 24  # images kept for the report
NONE = "none of the classes"


def evaluate_parts(
    state: RunState,
    dataset: Dataset,
    feed: Feed,
    processes: Processes,
    folder: RunFolder,
    calibrate: str | None = None,
    false_alarms: float = 0.0,
) -> Results:
    """Return run.json's results: speed, and the metrics on the held-out and test splits.

    On the held-out split, before the test split is looked at, the model is calibrated, in the way
    that ``calibrate`` names, such a share of images of its classes as ``false_alarms`` is called
    unknown, and where an image may have several classes, its thresholds become those that are best
    there.

    The first process writes the most confident mistakes on the last of these into the folder.
    """
    samples, seconds, data_seconds = (
        sum(getattr(line, key) for line in state.metrics)
        for key in ("samples", "train_seconds", "data_seconds")
    )
    speed = Speed(round(samples / seconds, 1), round(seconds, 1), round(data_seconds, 1))
    model, scores = state.model, {}
    for name, split in dataset.parts.items():
        if name != "train":
            evaluation = evaluate(
                model,
                split,
                feed.preprocess,
                batch_size=feed.batch_size,
                processes=processes,
                keep_logits=True,
            )
            if calibrate and name == "validation":
                evaluation = _calibrate(model, evaluation, calibrate, false_alarms)
            if evaluation.several and name == "validation":
                several = evaluation.several.with_best_thresholds()
                model.thresholds = tuple(several.thresholds.tolist())
                evaluation = replace(evaluation, several=several)
            sets = _label_sets(model, name, evaluation)
            scores[name] = Score(**evaluation.to_dict(), label_sets=sets)
            last = evaluation, split
    if not scores:
        return Results(speed)
    if processes.is_first:
        folder.write_mistakes(_mistakes(model, feed, *last))
    worth = None
    if calibrate and "validation" in scores:
        worth = _worth(model.calibration, last[0], name, calibrate)
    strange = _called_unknown(model.calibration, last[0], name)
    return Results(speed, **scores, calibration=worth, unknown=strange)


def _calibrate(model: ResNet, held_out: Evaluation, kind: str, false_alarms: float) -> Evaluation:
    """Calibrate a model on its held-out answers, where that holds; return what it then answers."""
    truth = held_out.several.targets if held_out.several else held_out.labels
    assert held_out.logits is not None
    calibration = fit_calibration(held_out.logits, truth, kind)
    # Label sets are of the one class of an image; and where it may have several, one that is above
    # none of their thresholds is of none of the classes.
    if not held_out.several:
        calibration = calibration or Calibration(len(truth))
        p = probabilities(calibration(held_out.logits), "softmax")
        calibration = replace(
            calibration,
            unknown=Unknown.fitted(held_out.logits, false_alarms),
            conformal=Conformal.fitted(p, held_out.labels),
        )
    model.calibration = calibration
    return held_out.calibrated(calibration) if calibration else held_out


def _label_sets(model: ResNet, name: str, found: Evaluation) -> tuple[LabelSets, ...]:
    """Return what the model's label sets cover of a split; nothing of that they were fitted on."""
    conformal = model.calibration and model.calibration.conformal
    if name == "validation" or conformal is None:
        return ()
    assert found.logits is not None
    p = probabilities(model.calibration(found.logits), "softmax")
    return label_sets(conformal, p, found.labels)


def _called_unknown(
    calibration: Calibration | None, answers: Evaluation, split: str
) -> CalledUnknown | None:
    """Return how many images of a split, which all are of its classes, a model calls unknown."""
    unknown = calibration and calibration.unknown
    if not calibration or not unknown or answers.logits is None:
        return None
    share = float(unknown.flags(answers.logits).mean())
    return CalledUnknown(split, share, unknown.false_alarms, calibration.samples)


def _worth(
    calibration: Calibration | None, answers: Evaluation, split: str, kind: str
) -> Calibrated:
    """Return how far probabilities hold on a split, as they come and calibrated."""
    before = _trust(answers, None)
    if calibration is None or not calibration.changes:
        return Calibrated(split, before)
    found = Calibrated(split, before, _trust(answers, calibration), kind, calibration.samples)
    return replace(found, temperature=calibration.temperature)


def _trust(answers: Evaluation, calibration: Calibration | None) -> Trust:
    assert answers.logits is not None
    logits, several = calibrated(answers.logits, calibration), answers.several
    if several:
        figures = metrics.of_several(probabilities(logits, "sigmoid"), several.targets)
    else:
        figures = metrics.of_one(probabilities(logits, "softmax"), answers.labels)
    bins = Bins(**{key: tuple(values) for key, values in figures["reliability"].items()})
    return Trust(figures["log_loss"], figures["brier"], figures["ece"], bins)


def write_weights(folder: RunFolder, model: ResNet, made: dict[str, Any]) -> None:
    """Write the weights, and how they were ``made``."""
    metadata = Metadata.of(model, made, preprocess_of(model))
    write_native(folder.weights, model.state_dict(), metadata)


def _mistakes(model: ResNet, feed: Feed, evaluation: Evaluation, split: Split) -> list[Mistake]:
    several, classes = evaluation.several, model.classes
    if several:
        found = several.mistakes(MISTAKES)
    else:
        found = [(i, int(evaluation.predicted[i])) for i in evaluation.mistakes(MISTAKES)]
    positions = evaluation.positions
    places = [i if positions is None else int(positions[i]) for i, _ in found]
    heats = _heats(model, feed, split, places, [predicted for _, predicted in found])
    mistakes = []
    for (i, predicted), place, heat in zip(found, places, heats, strict=True):
        label, confidence = classes[int(evaluation.labels[i])], evaluation.confidence[i]
        if several:
            label = ", ".join(compress(classes, several.targets[i])) or NONE
            confidence = several.confidence[i, predicted]
        mistakes.append(
            Mistake(
                sample=split.names(torch.tensor([place]))[0],
                label=label,
                predicted=classes[predicted],
                confidence=round(float(confidence), 6),
                image=data_url(split, place),
                missed=several is not None and bool(several.targets[i, predicted]),
                heat=heat,
            )
        )
    return mistakes


def _heats(
    model: ResNet, feed: Feed, split: Split, places: list[int], classes: list[int]
) -> Iterator[str]:
    """Yield, for images of a split, where the network finds a class in each, as data URLs.

    In batches as large as those of training, which there was memory for.
    """
    size = feed.batch_size
    for start in range(0, len(places), size):
        images, _ = split.batch(torch.tensor(places[start : start + size]))
        wanted = torch.tensor(classes[start : start + size], device=feed.device)
        cams = grad_cam(model, feed.preprocess(images.to(feed.device)), wanted[:, None])
        yield from map(glow_url, telling(cams)[:, 0].float().cpu())
