"""What comes of a run: the metrics of each part, the worst mistakes, the weights."""

from typing import Any

import torch

from resnets.data.dataset import Dataset, Split
from resnets.data.preprocess import preprocess_of
from resnets.data.samples import data_url
from resnets.evaluation.network import evaluate
from resnets.evaluation.scores import Evaluation
from resnets.machine.processes import Processes
from resnets.nn import ResNet
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Mistake, Results, Score, Speed
from resnets.training.feed import Feed
from resnets.training.state import RunState
from resnets.weights.metadata import Metadata
from resnets.weights.native import write_native

MISTAKES = 24  # images kept for the report


def evaluate_parts(
    state: RunState, dataset: Dataset, feed: Feed, processes: Processes, folder: RunFolder
) -> Results:
    """Return run.json's results: speed, and the metrics on the held-out and test splits.

    The first process writes the most confident mistakes on the last of these into the folder.
    """
    samples, seconds, data_seconds = (
        sum(getattr(line, key) for line in state.metrics)
        for key in ("samples", "train_seconds", "data_seconds")
    )
    speed = Speed(round(samples / seconds, 1), round(seconds, 1), round(data_seconds, 1))
    scores = {}
    for name, split in dataset.parts.items():
        if name != "train":
            evaluation = evaluate(
                state.model,
                split,
                feed.preprocess,
                batch_size=feed.batch_size,
                processes=processes,
            )
            scores[name] = Score(**evaluation.to_dict())
            if processes.is_first:
                folder.write_mistakes(_mistakes(evaluation, split, dataset.classes))
    return Results(speed, **scores)


def write_weights(folder: RunFolder, model: ResNet, made: dict[str, Any]) -> None:
    """Write the weights, and how they were ``made``."""
    metadata = Metadata(
        model.spec,
        preprocess_of(model),
        model.classes,
        made,
        model.outputs,
    )
    write_native(folder.weights, model.state_dict(), metadata)


def _mistakes(evaluation: Evaluation, split: Split, classes: tuple[str, ...]) -> list[Mistake]:
    worst = evaluation.mistakes(MISTAKES)
    counted = evaluation.positions
    places = worst if counted is None else counted[worst].tolist()
    return [
        Mistake(
            sample=split.names(torch.tensor([place]))[0],
            label=classes[int(evaluation.labels[i])],
            predicted=classes[int(evaluation.predicted[i])],
            confidence=round(float(evaluation.confidence[i]), 6),
            image=data_url(split, place),
        )
        for i, place in zip(worst, places, strict=True)
    ]
