"""Which settings a search tries: ranges and choices by the names of recipe fields."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.errors import UsageError
from resnets.readers import strict_yaml
from resnets.training.recipe import Recipe, how_to_set, load_recipe, recipe_text, setting_fields

_RANGE = re.compile(r"(?P<low>[^\s,:]+?)\.\.(?P<high>[^\s,:]+)(?P<log>:log)?")
# What trials are compared by, or what names them, cannot differ between them.
_FIXED = ("seed", "name", "source", "data.holdout", "data.split_seed", "data.classes")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool = False  # the same chance for each factor, not for each difference
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def nearest(self, value: float) -> float:
        """Return a number of the range as a person would give it: of three figures."""
        return min(max(float(f"{value:.3g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """A few values, of any kind that a setting has."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return json.dumps(self.values)[1:-1]

    def __contains__(self, value: object) -> bool:
        return value in self.values


Space = Mapping[str, Range | Choice]


def default_space(recipe: Recipe, *, starts: bool) -> dict[str, str]:
    """Return what is tried where nobody says what: around the recipe, what data differ in most.

    ``starts`` says that training starts from weights.
    """
    rate, decay = recipe.optimizer.peak, recipe.optimizer.weight_decay
    space = {
        "optimizer.lr": f"{rate / 30:.2g}..{min(10 * rate, 100):.2g}:log",
        "optimizer.weight_decay": f"{decay / 10:.2g}..{min(10 * decay, 100):.2g}:log"
        if decay
        else "1e-5..1e-2:log",
        "label_smoothing": "0.0, 0.1",
        "augment.policy": "null, trivialaugment",
    }
    if starts:
        space["finetune.layer_decay"] = "0.5..1.0"
    found = {}
    for key, text in space.items():
        with suppress(UsageError):  # some do not go with a recipe
            _parse(key, text, recipe)
            found[key] = text
    return found


def read_space(words: Sequence[str], file: str | Path | None = None) -> dict[str, str]:
    """Return the ranges and choices, as texts, of words KEY=TEXT and of a YAML file, which has
    KEY: TEXT, or a list of choices. Raises UsageError."""
    found: dict[str, str] = {}
    if file is not None:
        values = strict_yaml.load(recipe_text(Path(file)), str(file))
        if not isinstance(values, dict):
            raise UsageError(f"{file}: a search space is a mapping of settings", hint=_EXAMPLE)
        found = {
            str(key): json.dumps(value)[1:-1] if isinstance(value, list) else str(value)
            for key, value in values.items()
        }
    typed: dict[str, str] = {}
    for word in words:
        key, equals, text = (part.strip() for part in word.partition("="))
        if not equals:
            raise UsageError(f'search "{word}" is not of the form key=values', hint=_EXAMPLE)
        if typed.setdefault(key, text) != text:
            raise UsageError(
                f"search {key}: is {typed[key]} and {text}", hint="give one range, or one list"
            )
    return found | typed


def parse_space(texts: Mapping[str, str], recipe: Recipe) -> Space:
    """Return ranges and choices of settings, each of whose ends and values suits the recipe.

    Raises UsageError.
    """
    return {key: _parse(key, text, recipe) for key, text in texts.items()}


def _parse(key: str, text: str, recipe: Recipe) -> Range | Choice:
    if key in _FIXED:
        raise UsageError(
            f"search {key}: trials that differ in it cannot be compared",
            hint=f"--set {key}=... sets it for all of them",
        )
    if key not in setting_fields():
        known = how_to_set(key).removeprefix("--set ").partition("=")[0]
        raise UsageError(
            f'search "{key}": there is no such setting',
            hint=f"did you mean {known}?" if known else "`resnets train --settings` lists them",
        )
    if match := _RANGE.fullmatch(text):
        low, high = (strict_yaml.load(match[end], f"search {key}") for end in ("low", "high"))
        numbers = all(type(end) in (int, float) for end in (low, high))
        if not numbers or not low < high or (match["log"] and low <= 0):
            raise UsageError(
                f'search {key}: "{text}" is no range', hint=f"from a smaller number, {_EXAMPLE}"
            )
        for end in (low, high):
            load_recipe(recipe, [f"{key}={end}"])
        whole = type(low) is type(high) is int and not _takes(recipe, key, low + 0.5)
        return Range(low, high, bool(match["log"]), whole)
    values = strict_yaml.load(f"[{text}]", f"search {key}")
    if len(values) < 2:
        raise UsageError(f'search {key}: "{text}" leaves no choice', hint=_EXAMPLE)
    for value in values:
        load_recipe(recipe, [f"{key}={json.dumps(value)}"])
    return Choice(tuple(values))


def _takes(recipe: Recipe, key: str, value: float) -> bool:
    try:
        load_recipe(recipe, [f"{key}={value}"])
    except UsageError:
        return False
    return True


_EXAMPLE = "such as optimizer.lr=1e-4..1e-1:log or label_smoothing=0,0.1"
