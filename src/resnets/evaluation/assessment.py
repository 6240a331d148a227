"""What came of an evaluation, on which images, and what was left out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.data.class_folders import holds_several, left_out_whole
from resnets.data.images import printable
from resnets.data.labelled import WHOLE
from resnets.evaluation import metrics
from resnets.evaluation.coverage import label_sets
from resnets.evaluation.labels import similar
from resnets.evaluation.paired import Paired
from resnets.evaluation.protocols import OWN, Protocol
from resnets.evaluation.scores import Evaluation
from resnets.formatting import listed, percent, plural
from resnets.report.score import interval
from resnets.report.verdict import accuracy_cautions
from resnets.run_folder.record import to_plain
from resnets.weights.calibration import Calibration, Unknown, calibrated
from resnets.weights.outputs import of_alternatives, probabilities

SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Assessment(Evaluation):
    """What a model answered on labelled images, on which, and what was left out of them.

    Of several models it is what they answer together, and ``members`` are what each does; all but
    the first are compared with it in ``against``.
    """

    part: str = WHOLE  # of the data: "train", "validation", "test" or all
    names: tuple[str, ...] = ()  # of the model's outputs
    strange: tuple[tuple[str, int], ...] = ()  # classes that it does not have, and their images
    broken: tuple[tuple[str, str], ...] = ()  # images that cannot be read, and why
    loose: int = 0  # images outside of the class folders
    notes: tuple[str, ...] = ()  # what was assumed, and what else to know
    outputs: str = "softmax"  # what they mean
    calibration: Calibration | None = None
    protocol: Protocol = OWN  # how images are shown
    images: Sequence[int] | Sequence[str] = ()  # by name, those that were looked at
    name: str = ""  # of the model among several
    members: tuple["Assessment", ...] = ()
    against: Paired | None = None

    def __repr__(self) -> str:
        own = f"part={self.part!r}, images={len(self.labels)}, accuracy={self.accuracy:.4f}"
        members = f", members={len(self.members)}" if self.members else ""
        return f"Assessment({own}{members})"

    @property
    def alone(self) -> bool:
        """Whether each class is answered by itself, rather than one of all."""
        return self.outputs == "sigmoid" and self.logits is not None and self.logits.shape[1] > 1

    @property
    def targets(self) -> NDArray[np.bool_]:
        """What is true, (N, classes)."""
        if self.several:
            return self.several.targets
        true: NDArray[np.bool_] = np.arange(self.classes) == self.labels[:, None]
        return true

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image's answer is right, (N,); of several, all classes and no other."""
        if self.several:
            return (self.several.answered == self.several.targets).all(1)  # type: ignore[no-any-return]
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The probabilities (N, classes), calibrated where the model is."""
        assert self.logits is not None
        return self._of(calibrated(self.logits, self.calibration))

    def _of(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return probabilities(
            of_alternatives(logits, self.outputs), "sigmoid" if self.alone else "softmax"
        )

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """Of each class: images that have it, answers, and answers that are right, (3, classes)."""
        if self.several:
            return self.several.counts
        answers = (self.labels, self.predicted, self.labels[self.right])
        return np.stack([np.bincount(each, minlength=self.classes) for each in answers])

    @property
    def counts(self) -> list[int]:
        """How many images of each class were looked at."""
        found: list[int] = self.class_counts[0].tolist()
        return found

    @property
    def unknown(self) -> Unknown | None:
        """By what the model tells images of none of its classes, where it does."""
        return self.calibration.unknown if self.calibration else None

    @property
    def called_unknown(self) -> float | None:
        """The share of the images, all of its classes, that the model takes for ones of none."""
        if self.unknown is None or self.logits is None:
            return None
        return float(self.unknown.flags(self.logits).mean())

    @property
    def absent(self) -> tuple[str, ...]:
        """The model's classes of which there is no image."""
        return tuple(name for name, count in zip(self.names, self.counts, strict=True) if not count)

    def sentences(self) -> list[str]:
        """Say what was assumed, and what of the data or of the model was left out."""
        lines = list(self.notes)
        if self.unknown and self.logits is not None:
            lines.append(
                f"{percent(self.called_unknown)} of the images, all of known classes, are called "
                f"unknown; {percent(self.unknown.false_alarms, 0)} were asked for"
            )
        for name, count in self.strange[:SHOWN]:
            line = f"{_images(count)} of '{printable(name)}', which the model does not have"
            close = similar([name], self.names)
            lines.append(f"{line}, {_are(count)} left out{f' ({close})' if close else ''}")
        if others := self.strange[SHOWN:]:
            total = sum(count for _, count in others)
            lines.append(
                f"{_images(total)} of {len(others)} more classes that the model does not "
                f"have {_are(total)} left out"
            )
        images = [each for each in self.broken if not holds_several(each[0])]
        if images:
            path, reason = images[0]
            lines.append(
                f"{_images(len(images))} {_are(len(images))} left out, such as {path}: {reason}"
            )
        lines += left_out_whole(self.broken)
        if self.loose:
            outside = f"{_images(self.loose)} outside of the class folders"
            lines.append(f"{outside} {_are(self.loose)} left out")
        if absent := self.absent:
            # Another split may have them.
            where = "" if self.part == WHOLE else f" in the {self.part} split"
            lines.append(
                f"no images{where} of {len(absent):,} of the model's {self.classes:,} classes: "
                f"{listed(absent, SHOWN)}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics, each class's counts and what was left out as JSON-able values.

        Those of probabilities are of calibrated ones, and beside them those of raw ones; there are
        none where logits are not kept.
        """
        figures = super().to_dict()
        trust = {} if self.logits is None else self._trust(self.probabilities)
        labels = trust.pop("labels", {})
        if self.logits is not None and self.calibration:
            trust |= self._of_calibration(self.logits, self.calibration)
        found = {
            "split": self.part,
            "protocol": self.protocol.to_dict(),
            **figures,
            "interval": list(interval(self.accuracy, len(self.labels))),
            **({} if self.several else metrics.of_classes(*self.class_counts)),
            **trust,
            "classes": self._class_figures(figures.get("classes", ()), labels),
            "left_out": {
                "other_classes": dict(self.strange),
                "broken": [{"path": path, "reason": reason} for path, reason in self.broken],
                "outside_of_classes": self.loose,
            },
            "without_pictures": list(self.absent),
            "notes": list(self.notes),
            "cautions": accuracy_cautions(self.accuracy, self.confusion, self.names),
        }
        return found | self._beside()

    def _of_calibration(
        self, logits: NDArray[np.float32], calibration: Calibration
    ) -> dict[str, Any]:
        """Return what a calibration changes, and what else of it there is to measure."""
        found: dict[str, Any] = {}
        if calibration.changes:
            raw = self._trust(self._of(logits))
            raw.pop("labels", None)
            found |= {"calibration": calibration.summary(), "uncalibrated": raw}
        if self.called_unknown is not None:
            found["called_unknown"] = self.called_unknown
        if calibration.conformal and not self.several:
            sets = label_sets(calibration.conformal, self.probabilities, self.labels)
            found["label_sets"] = to_plain(sets)
        return found

    def _trust(self, p: NDArray[np.float64]) -> dict[str, Any]:
        """Return how far probabilities (N, classes) can be trusted."""
        if self.alone:
            return metrics.of_several(p, self.targets)
        return metrics.of_one(p, self.labels)

    def _class_figures(
        self, several: Sequence[dict[str, Any]], labels: dict[str, list[float]]
    ) -> list[dict[str, Any]]:
        """Return what there is of each class, with the 95 % intervals (Wilson) of its shares."""
        found = []
        columns = zip(self.names, *self.class_counts.tolist(), strict=True)
        for place, (name, samples, predicted, right) in enumerate(columns):
            each = {"name": name, "samples": samples, "right": right, "predicted": predicted}
            for share, of in (("recall", samples), ("precision", predicted)):
                each[share] = right / of if of else None
                each[f"{share}_interval"] = list(interval(right / of, of)) if of else None
            each["f1"] = float(metrics.f1(samples, predicted, right))
            each |= several[place] if several else {}
            found.append(each | {key: values[place] for key, values in labels.items()})
        return found

    def _beside(self) -> dict[str, Any]:
        """Return what each of several models comes to by itself, and beside the first."""
        if not self.members or not self.against:
            return {}
        members: list[dict[str, Any]] = []
        means: list[str] = []  # what all have
        for member in self.members:
            figures = {k: v for k, v in member.to_dict().items() if isinstance(v, float)}
            against = {"against_first": member.against.to_dict()} if member.against else {}
            about = {"name": member.name, "protocol": member.protocol.to_dict()}
            members.append({**about, **figures, **against})
            means = [key for key in means or figures if key in figures]
        return {
            "against_first": self.against.to_dict(),
            "members_mean": {key: fmean(each[key] for each in members) for key in means},
            "members": members,
        }


def _images(count: int) -> str:
    return plural(count, "image")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
