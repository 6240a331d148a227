"""What an accuracy is worth: how far chance goes, and what would have come of learning nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnets.formatting import percent, plural
from resnets.report.score import class_names, interval
from resnets.run_folder.record import UNDECIDED, Calibrated, CalledUnknown, Score

SHOWN = 8  # names in a sentence
SPLITS = {"test": "test", "validation": "held-out"}
ALMOST_ALL = 0.9  # of the images, and of those of other classes, that get one and the same answer


def accuracy_sentences(
    accuracy: float,
    samples: int,
    confusion: Sequence[Sequence[int]] = (),
    classes: Sequence[str] = (),
) -> list[str]:
    """Say how high an accuracy is, how sure that is, and what is to be held against it.

    The first is such as "accuracy 0.3056 (36 images; 95 % interval 18.0 to 46.9 %)"; the
    `accuracy_cautions` follow.
    """
    basis = f"{plural(samples, 'image')}; {interval_text(accuracy, samples)}"
    return [f"accuracy {accuracy:.4f} ({basis})", *accuracy_cautions(accuracy, confusion, classes)]


def several_text(scores: Mapping[str, Any]) -> str:
    """Say how well classes are told of which an image may have several."""
    return (
        f"mAP {scores['map']:.4f}, F1 {scores['f1_micro']:.4f} (micro) and "
        f"{scores['f1_macro']:.4f} (macro); whole images, every class and no other:"
    )


def threshold_notes(held_out: Score | None, classes: Sequence[str]) -> list[str]:
    """Say of which classes the held-out split could show no threshold."""
    if held_out is None:
        return [f"no split was held out to choose thresholds on: they are {UNDECIDED}"]
    pairs = zip(class_names(classes, len(held_out.classes)), held_out.classes, strict=True)
    names = [name for name, each in pairs if each.samples in (0, held_out.samples)]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return [
        f"the threshold of {', '.join(names[:SHOWN])}{more} is {UNDECIDED}: all images of the "
        "held-out split, or none, have the class"
    ] * bool(names)


def calibration_sentence(found: Calibrated) -> str:
    """Say what calibration has changed, and of which images that is true."""
    before, where = percent(found.before.ece), f"of the {SPLITS[found.split]} split"
    if found.after is None:
        return (
            "probabilities are as they come: the held-out split shows no calibration that holds "
            f"beyond its own images; their error {where} is {before}"
        )
    how = f"temperature {found.temperature:.3g}" if found.temperature else "a scale for each class"
    own = ", on which it was fitted" if found.split == "validation" else ""
    return (
        f"calibrated: {how}, from {plural(found.samples, 'held-out image')}; the calibration error "
        f"{where} is {percent(found.after.ece)}{own}, before it was {before}"
    )


def unknown_sentence(found: CalledUnknown) -> str:
    """Say how many images of its classes a model calls unknown, and how far chance may go."""
    asked, held_out = found.false_alarms, plural(found.samples, "held-out image")
    low, high = (100 * share for share in interval(asked, found.samples))
    told = (
        "answers are marked unknown where an image is of none of the classes, and by mistake for "
        f"{percent(asked, 0)} of the others (by {held_out}: {low:.1f} to {high:.1f} %)"
    )
    if found.split == "validation":
        return told
    return f"{told}, of the {SPLITS[found.split]} split {percent(found.share)}"


def interval_text(accuracy: float, samples: int) -> str:
    """Write the 95 % interval of an accuracy (Wilson's), in percent."""
    low, high = interval(accuracy, samples)
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"


def paired_text(scores: Mapping[str, Any]) -> str:
    """Say how an accuracy differs from that of the first of several models; nothing of the first.

    In points, with the 95 % interval and McNemar's p.
    """
    if (against := scores.get("against_first")) is None:
        return ""
    points, low, high = (100 * v for v in (against["difference"], *against["interval"]))
    p = against["p_value"]
    chance = f"p = {p:.2g}" if p >= 0.0001 else "p < 0.0001"
    return f"{points:+.2f} points ({low:+.2f} to {high:+.2f}), {chance}"


def accuracy_cautions(
    accuracy: float, confusion: Sequence[Sequence[int]], classes: Sequence[str] = ()
) -> list[str]:
    """Say where a model is no better than one that always gives the same answer, or is one.

    ``confusion[i][j]`` counts the samples of class i that were taken for class j, ``accuracy`` is
    the fraction that was right. Without a matrix nothing is known, and nothing said.
    """
    labels = [sum(row) for row in confusion]
    total = sum(labels)
    if not total:
        return []
    names = class_names(classes, len(confusion))
    if max(labels) == total:
        only = names[labels.index(total)]
        return [f"only {only} is measured: which others are taken for it is not known"]
    constant = _constant(accuracy, labels, names)
    return [line for line in (constant, _single_answer(confusion, labels, names)) if line]


def _constant(accuracy: float, labels: Sequence[int], names: Sequence[str]) -> str:
    """Compare with the largest class as the answer to everything."""
    total, largest = sum(labels), max(labels)
    several = labels.count(largest) > 1
    answer = f"{'one class, such as ' if several else ''}{names[labels.index(largest)]}"
    if round(accuracy * total) <= largest:
        return f"this is no better than always answering {answer} ({percent(largest / total)})"
    if interval(accuracy, total)[0] <= largest / total:
        return (
            f"with so few images this may be chance: always answering {answer} gives "
            f"{percent(largest / total)}, which is within the interval"
        )
    return ""


def _single_answer(
    confusion: Sequence[Sequence[int]], labels: Sequence[int], names: Sequence[str]
) -> str:
    """Say that nearly everything is taken for one class, also what is of another."""
    total = sum(labels)
    answers = [sum(column) for column in zip(*confusion, strict=True)]
    most = max(answers)
    answer = answers.index(most)
    wrong, others = most - confusion[answer][answer], total - labels[answer]
    if most >= ALMOST_ALL * total and wrong >= ALMOST_ALL * others:
        return f"the model answers {names[answer]} for {most:,} of {plural(total, 'image')}"
    return ""
