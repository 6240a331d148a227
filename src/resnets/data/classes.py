"""Names of classes: which look alike, which mirroring would exchange, and how they are changed."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from resnets.errors import UsageError, nearest
from resnets.formatting import printable

# Letters of other scripts that nobody tells from Latin ones, after case is gone.
_LOOKS = str.maketrans(
    "аеорсухіјѕԁһԛԝкмтвнοανρτκιυχӏıɑɡ‐‑‒–—−_",
    "aeopcyxijsdhqwkmtbhoavptkiuxliag-------",
)
_LEFT = {"left", "links", "linke", "linker", "gauche", "izquierda", "izquierdo", "sinistra"}
_LEFT |= {"sinistro", "esquerda", "esquerdo", "vänster", "левый", "левая", "左"}
_RIGHT = {"right", "rechts", "rechte", "rechter", "droite", "droit", "derecha", "derecho"}
_RIGHT |= {"destra", "destro", "direita", "direito", "höger", "правый", "правая", "右"}
_WORD = re.compile(r"[左右]|[^\W\d_左右]+")
_NUMBER = re.compile(r"0*(\d+?)(\.0*)?")  # whole: 1, 01 and 1.0 are the same
_HUMP = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])")


def look_alike(classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return groups of names that differ in case, spaces, dashes or the look of letters only.

    Or, of numbers, in zeros.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[_looks(name)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def class_notes(classes: Sequence[str]) -> list[str]:
    """Return a sentence for each group of classes whose names nobody tells apart."""
    notes = []
    for group in look_alike(classes):
        numbers = all(_NUMBER.fullmatch(name) for name in group)
        what = "zeros" if numbers else "case, spaces or the look of letters"
        notes.append(f"the classes {' and '.join(map(_quoted, group))} differ in {what} only")
    return notes


def unevenness(sizes: Mapping[str, int]) -> str:
    """Return how much classes of these sizes differ."""
    most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    return (
        f"classes are uneven: {sizes[most]:,} training images of {printable(most)}, "
        f"{sizes[least]:,} of {printable(least)} ({sizes[most] / max(1, sizes[least]):.3g} : 1)"
    )


def _quoted(name: str) -> str:
    # What the eye cannot see, such as other scripts' letters, is spelled out beside.
    strange = [f"U+{ord(c):04X}" for c in name if ord(c) > 126]
    return f'"{printable(name)}"' + (f" ({' '.join(strange)})" if strange else "")


def sides(classes: Sequence[str]) -> tuple[str, str] | None:
    """Return a class of the left and one of the right, where the names tell such sides apart."""
    words = {name: {w.casefold() for w in _WORD.findall(_HUMP.sub(" ", name))} for name in classes}
    left = next((name for name in classes if words[name] & _LEFT), None)
    right = next((name for name in classes if words[name] & _RIGHT and name != left), None)
    return None if left is None or right is None else (left, right)


def changed(
    classes: Sequence[str], changes: Mapping[str, str | None]
) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes after ``changes``, and the number that each of before has among them.

    Those of one new name are one; None leaves a class out, whose number is -1. New ones are in the
    order of the old: of code points, or where they come first. Raises UsageError for a class that
    there is not.
    """
    new = {unicodedata.normalize("NFC", old): name for old, name in changes.items()}
    if strange := next((name for name in new if name not in classes), None):
        there = ", ".join(map(printable, classes[:12])) + ", ..." * (len(classes) > 12)
        close = nearest(strange, list(classes), 1)
        raise UsageError(
            f'data.classes: no class is called "{printable(strange)}"',
            hint=f"did you mean {printable(close)}?" if close else f"there are {there}",
        )
    names = [new.get(name, name) for name in classes]
    found = [*dict.fromkeys(unicodedata.normalize("NFC", name) for name in names if name)]
    if [*classes] == sorted(classes):
        found.sort()
    places = {name: place for place, name in enumerate(found)}
    return tuple(found), [
        places[unicodedata.normalize("NFC", name)] if name else -1 for name in names
    ]


def changes_in(made: Mapping[str, Any], classes: Sequence[str]) -> dict[str, str | None]:
    """Return what a model that is ``made`` so changes about the names of ``classes``."""
    changes = made.get("recipe", {}).get("data", {}).get("classes") or {}
    return {old: new for old, new in changes.items() if old in classes}


def _looks(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().translate(_LOOKS)
    # Neither spaces nor characters without a width, such as the zero-width joiner.
    text = "".join(
        c for c in text if not c.isspace() and c != "-" and unicodedata.category(c) != "Cf"
    )
    number = _NUMBER.fullmatch(text)
    return number[1] if number else text
