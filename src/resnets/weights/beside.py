"""What stands beside a network in a file: names of its classes, and what its outputs mean.

Trees are those of `resnets.readers`: dicts and lists of plain data, whose leaves may be tensors.
Only what a file says is returned; what it says and cannot be used is named in a note, so that
nobody takes it for absent.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from resnets.weights.outputs import fits

_DEEPEST = 8  # "hyper_parameters.data.transform.normalize.mean"
_LONGEST_TEXT = 1 << 20  # of the JSON in the metadata of a safetensors file

# Without what people write differently: class_names, classNames, CLASS_NAMES.
_CLASSES = {
    *("classes", "classnames", "classlabels", "labels", "labelnames", "categories"),
    *("idxtoclass", "idx2class", "idtoclass", "id2class", "idxtolabel", "idx2label", "id2label"),
    *("classtoidx", "class2idx", "classtoid", "class2id", "labeltoidx", "label2idx", "label2id"),
    *("labelmap", "classmap", "idtolabel", "labeltoid"),
}

PROBLEMS = {  # Hugging Face's words
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "regression",
}
_ACTIVATIONS = {"softmax": "softmax", "logsoftmax": "softmax", "sigmoid": "sigmoid"}
_HEAD = re.compile(r"(final|last|output|head|classifier|out)(layer)?activation")
_LOSS = re.compile(r"(loss|criterion)(fn|func|function|name|type)?")


def entries(tree: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every entry of the dicts in a tree, under its keys joined with dots."""
    if not isinstance(tree, Mapping) or depth > _DEEPEST:
        return
    for key, value in tree.items():
        place = f"{path}.{key}" if path else str(key)
        yield place, value
        yield from entries(value, place, depth + 1)


def labels(tree: Any, count: int) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of so many outputs, if a tree has them, and notes.

    Read are lists, dicts from numbers to names and from names to numbers, under the keys that
    frameworks have for them, at any depth. Lists that contradict each other, that do not fit or
    that name a class twice are named in a note, and nothing is returned.
    """
    found: dict[tuple[str, ...], str] = {}
    for path, value in entries(tree if count else {}):
        word = _last_word(path)
        # A list of names may be of anything.
        is_theirs = word in _CLASSES or (word == "names" and isinstance(value, Mapping))
        if is_theirs and (names := _names(value)):
            found.setdefault(names, path)
    fitting = [names for names in found if not _fault(names, count)]
    if len(fitting) == 1:
        return fitting[0], []
    if fitting:
        said = " and ".join(f"{found[names]} ({_briefly(names)})" for names in fitting[:2])
        return (), [f"{said} name its classes differently: left out"]
    return (), [f"{path} {_fault(names, count)}: left out" for names, path in found.items()]


def stated_outputs(tree: Any, count: int) -> tuple[str | None, list[str]]:
    """Return what so many outputs mean (`weights.outputs`), if a tree says it, and notes.

    It says it by a problem type, the activation or last layer of the head, or the loss.
    """
    found: dict[str, str] = {}
    for path, value in entries(tree):
        if word := _meaning(_last_word(path), value, count):
            found.setdefault(word, path)
    if len(found) > 1:
        said = ", ".join(f"{path} says {word}" for word, path in found.items())
        return None, [f"it contradicts itself on what its outputs mean: {said}"]
    return next(iter(found), None), []


def _last_word(path: str) -> str:
    """Return the last word of keys joined with dots, without what people write differently."""
    return re.sub(r"[^a-z0-9]", "", path.rpartition(".")[2].lower())


def _names(value: Any) -> tuple[str, ...]:
    """Return the names that a list or a dict gives to 0, 1, 2 and so on; empty where it is none."""
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, Mapping):
        value = _in_order(value)
    if not isinstance(value, list | tuple):
        return ()
    records = [name for name in value if isinstance(name, Mapping)]  # as COCO has them
    numbers = [record["id"] for record in records if isinstance(record.get("id"), int)]
    if numbers != sorted(numbers):
        return ()
    names = [name.get("name") if isinstance(name, Mapping) else name for name in value]
    are_names = all(isinstance(name, str) and name.isprintable() for name in names)
    return tuple(map(str, names)) if are_names else ()


def _in_order(value: Mapping[Any, Any]) -> list[Any]:
    """Return the names in a dict from numbers or to numbers, which have to be 0, 1, 2 and so on."""
    order = [str(number) for number in range(len(value))]
    if all(isinstance(number, int) for number in value.values()):
        value = {number: name for name, number in value.items()}
    numbered = {str(number): name for number, name in value.items()}
    return [numbered[number] for number in order] if numbered.keys() == set(order) else []


def parsed(text: str) -> Any:
    """Return the list or dict of a JSON text, as the metadata of safetensors have them, or None."""
    if len(text) > _LONGEST_TEXT or not text.startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _fault(names: tuple[str, ...], count: int) -> str:
    """Return what is wrong with names of so many outputs, empty where nothing is."""
    if not fits(names, count, None):
        return f"names {len(names):,} classes for {count:,} outputs"
    return "names a class twice" if len(set(names)) < len(names) else ""


def _briefly(names: tuple[str, ...]) -> str:
    return ", ".join(name[:20] for name in names[:2]) + (", …" if len(names) > 2 else "")


def _meaning(key: str, value: Any, count: int) -> str | None:
    """Return what an entry says of so many outputs; logits say nothing about themselves."""
    if key == "problemtype":
        return PROBLEMS.get(value) if isinstance(value, str) else None
    if key in ("multilabel", "ismultilabel"):
        return "sigmoid" if value is True else None
    if key == "layers" and isinstance(value, list | tuple) and value:
        return _ACTIVATIONS.get(_kind(value[-1]))
    if _HEAD.fullmatch(key):
        return _ACTIVATIONS.get(_kind(value))
    if _LOSS.fullmatch(key):
        loss = _kind(value)
        # Several outputs are trained with a binary loss and read as a softmax all the same.
        if count == 1 and loss.startswith(("bce", "binarycrossentropy")):
            return "sigmoid"
        if count > 1 and loss.removeprefix("sparse").startswith(("crossentropy", "categoricalc")):
            return "softmax"
    return None


def _kind(value: Any) -> str:
    """Return the class that a text or a config names: "torch.nn.Softmax", {"type": "Softmax"}."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("type", "class_name", "name") if key in value), "")
    return _last_word(value) if isinstance(value, str) else ""
