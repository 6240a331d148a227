"""Several models on the same images: each compared with the first, and all of them together."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import DataError
from resnets.evaluation.assessment import Assessment
from resnets.evaluation.choice import Chosen
from resnets.evaluation.metrics import surprise
from resnets.evaluation.paired import paired
from resnets.evaluation.scores import Evaluation
from resnets.evaluation.several import Several
from resnets.formatting import listed, plural
from resnets.inference.runtimes import Runtime

SHOWN = 3  # names in a message


def check_alike(
    names: Sequence[str], runtimes: Sequence[Runtime], chosen: Sequence[Chosen]
) -> None:
    """Raise DataError unless models tell the same classes apart, on the same images."""
    first = chosen[0]
    alone = [name for name, runtime in zip(names, runtimes, strict=True) if _alone(runtime)]
    if 0 < len(alone) < len(names):
        other = next(name for name in names if name not in alone)
        raise DataError(
            f"{alone[0]} answers each class by itself, {other} one of all",
            hint="evaluate each by itself",
        )
    for name, each in zip(names[1:], chosen[1:], strict=True):
        classes = each.labelling.names
        if odd := set(classes) ^ set(first.labelling.names):
            raise DataError(
                f"{name} and {names[0]} tell other classes apart: {_listed(odd)} "
                f"{'is' if len(odd) == 1 else 'are'} known to one of them only",
                hint="give models of the same classes, or evaluate each by itself",
            )
        if strange := {*each.names} ^ {*first.names}:
            raise DataError(
                f"{name} and {names[0]} would be measured on different images: only one of them on "
                f"{_listed(strange)}",
                hint="name the images with --split, or evaluate each by itself",
            )
        truth = each.truth[_places(each.names, first.names)]
        columns = _places(classes, first.labelling.names)
        same = truth[:, columns] if truth.ndim == 2 else np.argsort(columns)[truth]
        if not np.array_equal(same, first.truth):
            raise DataError(
                f"{name} and {names[0]} were trained with different classes of these images",
                hint="evaluate each by itself",
            )


def _alone(runtime: Runtime) -> bool:
    return runtime.outputs == "sigmoid" and runtime.spec.num_classes > 1


def together(members: Sequence[Assessment]) -> Assessment:
    """Return what models answer together, the mean of their probabilities, and each beside it.

    Where an image may have several classes, their thresholds are the means of the members'. Raises
    DataError where some could read other images than the first.
    """
    first, compared = members[0], []
    sums, levels = np.zeros_like(first.probabilities), np.zeros(first.classes)
    for member in members:
        rows, columns = _places_in(member, first)
        sums += member.probabilities[rows][:, columns]
        if member.several:
            levels += member.several.thresholds[columns]
        against = None if member is first else paired(member.right[rows], first.right)
        compared.append(replace(member, against=against))
    answered = _answered(sums / len(members), levels / len(members), first)
    return replace(
        answered,
        name="",
        calibration=None,
        outputs="sigmoid" if first.alone else "softmax",
        notes=_notes(members),
        members=tuple(compared),
        against=paired(answered.right, first.right),
    )


def _notes(members: Sequence[Assessment]) -> tuple[str, ...]:
    """Return what is to be known of all members, and by name of some."""
    notes = dict.fromkeys(chain.from_iterable(each.notes for each in members))
    found = []
    for note in notes:
        of = [each.name for each in members if note in each.notes]
        found.append(note if len(of) == len(members) else f"{', '.join(of)}: {note}")
    return tuple(found)


def _answered(p: NDArray[np.float64], levels: NDArray[np.float64], first: Assessment) -> Assessment:
    """Return the first with these probabilities (N, classes) as answers."""
    logits, targets = np.log(np.maximum(p, np.finfo(np.float64).tiny)), first.targets
    if first.alone:
        logits -= np.log(np.maximum(1 - p, np.finfo(np.float64).tiny))
        loss = float(surprise(np.where(targets, p, 1 - p)).mean())
    else:
        loss = float(surprise(p[targets]).mean())
    raw = logits.astype(np.float32)
    if first.several:
        several = Several(targets, p, levels)
        return replace(first, **vars(Evaluation.of_several(several, loss, first.positions, raw)))
    return replace(first.answering(p), loss=loss, logits=raw)


def _places_in(
    member: Assessment, first: Assessment
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the first's images and classes are among a member's."""
    if odd := {*member.images} ^ {*first.images}:
        raise DataError(
            f"{member.name} and {first.name} cannot both read {plural(len(odd), 'image')}, such as "
            f"{_listed(odd)}",
            hint="mend or remove them: `resnets data check` says what is wrong",
        )
    return _places(member.images, first.images), _places(member.names, first.names)


def _places(names: Sequence[Any], wanted: Sequence[Any]) -> NDArray[np.int64]:
    """Return where each wanted name is among others."""
    known = {name: place for place, name in enumerate(names)}
    return np.array([known[name] for name in wanted], np.int64)


def _listed(names: Collection[Any]) -> str:
    return listed(sorted(map(str, names)), SHOWN)
