"""Samples in a tar, as WebDataset has them: members whose names differ behind the first dot only.

``17.jpg`` is the image whose class is in ``17.cls`` (a number or a name), else in ``17.json`` (a
number or name under "label", "cls" or "class"), else in ``17.txt`` (a name).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from resnets.data.class_folders import has_extension, is_hidden
from resnets.errors import CheckpointError
from resnets.readers.documents import loads

_SAYING = (".cls", ".json", ".txt")
_KEYS = ("label", "cls", "class")
_LONGEST = 200  # letters of a class's name: a caption is no class


class Samples:
    """The samples among the members of a tar: which of these are images, which say their classes.

    The first image of a sample counts, of those with one ending if there are such.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.images: dict[str, int] = {}
        self.saying: dict[str, dict[str, int]] = {}
        self.further: list[int] = []  # more images of a sample
        for place, name in enumerate(names):
            folder, slash, base = name.rpartition("/")
            stem, dot, ending = base.partition(".")
            if is_hidden(base) or not dot:
                continue
            key, ending = f"{folder}{slash}{stem}", f".{ending.lower()}"
            if ending in _SAYING:
                self.saying.setdefault(key, {})[ending] = place
            elif has_extension(ending):
                other = self.images.setdefault(key, place)
                if names[other] == name:  # the last holds, as where tar unpacks them
                    self.images[key] = place
                elif "." in ending[1:] or "." not in _behind(names[other]):
                    self.further.append(place)
                else:  # 17.jpg comes before 17.depth.png
                    self.images[key] = place
                    self.further.append(other)

    @property
    def are_there(self) -> bool:
        """Whether the tar is one of samples, not of class folders with other files in them."""
        both = self.images.keys() & self.saying.keys()
        in_one_folder = len({key.rpartition("/")[0] for key in self.images}) == 1
        return bool(both) and (in_one_folder or any(".cls" in self.saying[key] for key in both))

    def label(self, key: str, read: Callable[[int], bytes]) -> str | None:
        """Return the number or name of a sample's class; None where nothing says one.

        ``read`` returns the content of a member.
        """
        saying = self.saying.get(key, {})
        for ending in _SAYING:
            if ending in saying:
                text = read(saying[ending]).decode("utf-8", "replace").strip()
                label = _in_json(text) if ending == ".json" else text
                if label and len(label) <= _LONGEST and label.isprintable():
                    return label
        return None


def _behind(name: str) -> str:
    """Return what is behind the first dot of a member's name."""
    return name.rpartition("/")[2].partition(".")[2]


def _in_json(text: str) -> str | None:
    with suppress(CheckpointError):
        values = loads(text, "")
        if isinstance(values, dict):
            for key in _KEYS:
                if type(values.get(key)) in (int, str):
                    return str(values[key])
    return None
