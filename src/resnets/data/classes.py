"""What names of classes tell: which look alike, and which a mirrored picture would exchange."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

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
