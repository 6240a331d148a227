"""What came of an evaluation, on which images, and what was left out of them."""

from dataclasses import dataclass
from typing import Any

from resnets.data.images import printable
from resnets.data.labelled import WHOLE
from resnets.evaluation.labels import similar
from resnets.evaluation.scores import Evaluation
from resnets.formatting import plural

SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Assessment(Evaluation):
    """What a model answered on labelled images, on which, and what was left out of them."""

    part: str = WHOLE  # of the data: "train", "validation", "test" or all
    names: tuple[str, ...] = ()  # of the model's outputs
    strange: tuple[tuple[str, int], ...] = ()  # classes that it does not have, and their images
    broken: tuple[tuple[str, str], ...] = ()  # images that cannot be read, and why
    loose: int = 0  # images outside of the class folders
    notes: tuple[str, ...] = ()  # what was assumed, and what else to know

    @property
    def counts(self) -> list[int]:
        """How many images of each class were looked at."""
        if self.several:
            return self.several.counts[0].tolist()  # type: ignore[no-any-return]
        return [sum(row) for row in self.confusion]

    @property
    def absent(self) -> tuple[str, ...]:
        """The model's classes of which there is no image."""
        return tuple(name for name, count in zip(self.names, self.counts, strict=True) if not count)

    def sentences(self) -> list[str]:
        """Say what was assumed, and what of the data or of the model was left out."""
        lines = list(self.notes)
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
        if self.broken:
            path, reason = self.broken[0]
            lines.append(
                f"{_images(len(self.broken))} that cannot be read {_are(len(self.broken))} left "
                f"out, such as {path}: {reason}"
            )
        if self.loose:
            outside = f"{_images(self.loose)} outside of the class folders"
            lines.append(f"{outside} {_are(self.loose)} left out")
        if absent := self.absent:
            more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
            # Another split may have them.
            where = "" if self.part == WHOLE else f" in the {self.part} split"
            lines.append(
                f"no images{where} of {len(absent):,} of the model's {self.classes:,} classes: "
                f"{', '.join(map(printable, absent[:SHOWN]))}{more}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics, each class's counts and what was left out as JSON-able values."""
        matrix, figures = self.confusion, super().to_dict()
        classes = figures.get("classes") or [
            {"samples": sum(row), "right": row[i], "predicted": sum(other[i] for other in matrix)}
            for i, row in enumerate(matrix)
        ]
        return {
            "split": self.part,
            **figures,
            "classes": [
                {"name": name, **each} for name, each in zip(self.names, classes, strict=True)
            ],
            "left_out": {
                "other_classes": dict(self.strange),
                "broken": [{"path": path, "reason": reason} for path, reason in self.broken],
                "outside_of_classes": self.loose,
            },
            "without_pictures": list(self.absent),
            "notes": list(self.notes),
        }


def _images(count: int) -> str:
    return plural(count, "image")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
