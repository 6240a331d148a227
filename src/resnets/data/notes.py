"""What is worth saying about a data set before anyone trusts a result: copies, names of classes."""

from collections.abc import Sequence

from resnets.data.classes import look_alike
from resnets.data.identity import Copies
from resnets.data.images import printable
from resnets.formatting import plural


def copy_notes(copies: Copies, *, together: bool) -> list[str]:
    """Return sentences about pictures that are there more than once.

    ``together`` says that a validation part is held out of training, and copies are not torn.
    """
    notes = []
    if copies.doubled:
        which = plural(copies.doubled, "training picture")
        verb, others = ("is a copy", "another") if copies.doubled == 1 else ("are copies", "others")
        notes.append(
            f"{which} {verb} of {others}"
            + ("; copies stay on one side of the held-out part" if together else "")
        )
    for shared in copies.shared:
        here, there = shared.example
        notes.append(
            f"{shared.count:,} of {plural(shared.of, f'{shared.part} picture')} "
            f"{'is' if shared.count == 1 else 'are'} also in {shared.other}, such as {here}, which "
            f"is {there}: a result on them is no result on new pictures"
        )
    if copies.two_classes:
        here, there = copies.two_classes_example
        notes.append(
            f"{plural(copies.two_classes, 'picture')} stand under more than one class, such as "
            f"{here} and {there}"
        )
    return notes


def class_notes(classes: Sequence[str]) -> list[str]:
    """Return a sentence for each group of classes whose names nobody tells apart."""
    return [
        f"the classes {' and '.join(_quoted(name) for name in group)} differ in case, spaces or "
        "the look of letters only"
        for group in look_alike(classes)
    ]


def _quoted(name: str) -> str:
    # What the eye cannot see, such as other scripts' letters, is spelled out beside.
    strange = [f"U+{ord(c):04X}" for c in name if ord(c) > 126]
    return f'"{printable(name)}"' + (f" ({' '.join(strange)})" if strange else "")
