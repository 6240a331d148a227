"""What names of classes tell: which look alike, and which a mirrored image would exchange."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

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
_HUMP = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])")


def look_alike(classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return groups of names that differ in case, spaces, dashes or the look of letters only."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[_looks(name)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def class_notes(classes: Sequence[str]) -> list[str]:
    """Return a sentence for each group of classes whose names nobody tells apart."""
    return [
        f"the classes {' and '.join(_quoted(name) for name in group)} differ in case, spaces or "
        "the look of letters only"
        for group in look_alike(classes)
    ]


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


def _looks(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().translate(_LOOKS)
    # Neither spaces nor characters without a width, such as the zero-width joiner.
    return "".join(
        c for c in text if not c.isspace() and c != "-" and unicodedata.category(c) != "Cf"
    )
