"""Which output of a model stands for which class of a data set: by name, else as can be told."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resnets.data.images import printable
from resnets.errors import DataError
from resnets.formatting import listed, plural

SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Labelling:
    """The output of each class of a data set that the model has, and what was assumed for it."""

    outputs: dict[str, int]
    names: tuple[str, ...]  # of the model's outputs
    strange: tuple[str, ...] = ()  # classes of the data that the model does not have
    assumed: str = ""  # what nothing in the model's file says


def label(
    source: str, counts: Mapping[str, int], names: Sequence[str], outputs: int, order: str
) -> Labelling:
    """Say which of a model's outputs the classes of ``source`` are.

    ``counts`` are the images of each class of the data, in an order that is called ``order``;
    ``names`` are those of the model's outputs, empty where its file has none. Then classes that are
    numbers are the outputs, and as many classes as outputs are taken in their order. Raises
    DataError where no image has a class of the model, naming those that differ.
    """
    if names:
        return _by_name(source, counts, names)
    numbers = {name: int(name) for name in counts if name.isascii() and name.isdecimal()}
    if len(numbers) == len(counts) and len(set(numbers.values())) == len(counts):
        return _by_number(source, numbers, outputs)
    all_outputs = plural(outputs, "output")
    if len(counts) != outputs:
        raise DataError(
            f"{source}: nothing in the model's file names its {all_outputs}, and the data "
            f"has {len(counts)} classes: {listed(counts, SHOWN)}",
            hint=f"give data with {outputs} classes, or folders named by the outputs' numbers, "
            f"0 to {outputs - 1}",
        )
    assumed = (
        f"the data's classes are taken in {order} order for the model's {all_outputs}: "
        "nothing in its file names them"
    )
    return Labelling({name: i for i, name in enumerate(counts)}, tuple(counts), assumed=assumed)


def _by_name(source: str, counts: Mapping[str, int], names: Sequence[str]) -> Labelling:
    places: dict[str, int] = {}
    for output, name in enumerate(names):
        places.setdefault(unicodedata.normalize("NFC", name), output)
    outputs = {name: places[name] for name in counts if name in places}
    strange = tuple(name for name in counts if name not in places)
    if not any(counts.values()):
        raise DataError(f"{source}: no images in its class folders", hint="put images into them")
    if not any(counts[name] for name in outputs):
        missing = [name for name in places if name not in outputs]
        raise DataError(
            f"{source}: the model has none of its classes: the images are of "
            f"{listed(strange, SHOWN)}; the model knows {listed(missing, SHOWN)}",
            hint=similar(strange, missing) or "name the folders as the model's classes are called",
        )
    return Labelling(outputs, tuple(names), strange)


def _by_number(source: str, numbers: dict[str, int], outputs: int) -> Labelling:
    if max(numbers.values()) >= outputs:
        raise DataError(
            f"{source}: its classes are numbers up to {max(numbers.values())}, the model's outputs "
            f"are 0 to {outputs - 1}",
            hint="name each folder by its output's number, counted from 0",
        )
    return Labelling(numbers, tuple(str(i) for i in range(outputs)))


def similar(strange: Sequence[str], names: Sequence[str]) -> str:
    """Say which names differ from a model's in nothing but letters' case, marks or spaces."""
    plain = {_plain(name): name for name in names}
    pairs = [(name, plain[_plain(name)]) for name in strange if _plain(name) in plain]
    return ", ".join(
        f"'{printable(name)}' may be the model's '{printable(other)}'"
        for name, other in pairs[:SHOWN]
    ) + (": names must be equal" if pairs else "")


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in folded if letter.isalnum())
