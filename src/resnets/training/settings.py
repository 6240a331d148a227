"""All settings of a recipe, for a person or a program to read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from resnets.readers import strict_yaml
from resnets.training.recipe import load_recipe, recipe_text, setting_fields


@dataclass(frozen=True)
class Setting:
    """One setting: its key, the value that a recipe gives it, its default and what it does."""

    key: str
    value: Any
    default: Any  # None too where it must be given
    description: str
    source: str  # of the value: a paper's section, a repository, "ours", "default" or "--set"

    @property
    def differs(self) -> bool:
        """Whether the value is not the default."""
        return bool(self.value != self.default)


def list_settings(recipe: str | Path, changes: Sequence[str] = ()) -> list[Setting]:
    """Return every setting with its value in ``recipe``, in the order of its file.

    ``recipe`` is a name or a YAML file, ``changes`` are such as ``optimizer.lr=0.05``. Raises
    UsageError for what they cannot be.
    """
    before, values = load_recipe(recipe).flat(), load_recipe(recipe, changes).flat()
    sources = _sources(recipe_text(recipe), str(recipe))
    sources |= {key: "--set" for key, value in values.items() if value != before[key]}
    return [
        Setting(
            key,
            values[key],
            None if field.default is PydanticUndefined else _plain(field.default),
            field.description or "",
            sources.get(key, "default"),
        )
        for key, field in setting_fields().items()
    ]


def describe(recipe: str | Path) -> tuple[str, str]:
    """Return what the head of a recipe's file says: one line of what it is, and the rest."""
    head: list[str] = []
    for line in recipe_text(recipe).splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").removeprefix(" "))
    return (head[0] if head else ""), "\n".join(head[1:]).strip("\n")


def _plain(value: Any) -> Any:
    """Return a default as JSON has it, so that it equals the same value out of a file."""
    return list(value) if isinstance(value, tuple) else value


_COMMENTED = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>.*?)(?: +# (?P<comment>.*))?$")


def _sources(text: str, name: str) -> dict[str, str]:
    """Return where the values of a recipe's file come from, by key.

    It is what the comment after a value says, and without one the recipe's ``source``.
    """
    values, found = strict_yaml.load(text, name), {}
    for section, content in values.items():
        for key in content if isinstance(content, dict) else ("",):
            found[f"{section}.{key}" if key else section] = values.get("source", "")
    found |= dict.fromkeys(("name", "source"), "")  # which have none
    section = ""
    for match in filter(None, map(_COMMENTED.match, text.splitlines())):
        if not match["indent"]:
            section = match["key"]
        if match["comment"]:
            found[f"{section}.{match['key']}" if match["indent"] else section] = match["comment"]
    return found
