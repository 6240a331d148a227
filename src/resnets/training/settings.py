"""All settings of a recipe, for a person or a program to read."""

from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from resnets.training.recipe import Recipe, setting_fields


@dataclass(frozen=True)
class Setting:
    """One setting: its key, the value that a recipe gives it, its default and what it does."""

    key: str
    value: Any
    default: Any  # None too where it must be given
    description: str


def list_settings(recipe: Recipe) -> list[Setting]:
    """Return every setting with its value in ``recipe``, in the order of its file."""
    values = recipe.flat()
    return [
        Setting(
            key,
            values[key],
            None if field.default is PydanticUndefined else field.default,
            field.description or "",
        )
        for key, field in setting_fields().items()
    ]
