"""`resnets recipes`: what a training can be told, and where that comes from."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import Json
from resnets.cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from resnets.training.settings import Setting


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="A recipe's name, or a YAML file; default: list all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or print every setting of one: value, default, source, what it does.

    A star marks what is not the default. A source is a paper's section, a repository or "ours";
    "default" where the recipe does not say it.

    \b
    Examples:
      resnets recipes
      resnets recipes he2015_cifar
    """
    from resnets.training.recipe import list_recipes, load_recipe
    from resnets.training.settings import describe, list_settings

    if name is None:
        rows = [
            {"recipe": each, "what it is": describe(each)[0], "source": load_recipe(each).source}
            for each in list_recipes()
        ]
        if as_json:
            print_json(rows)
        else:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        return
    what, more = describe(name)
    source = load_recipe(name).source
    if as_json:
        found = {"recipe": name, "what it is": what, "source": source, "description": more}
        print_json(found | {"settings": _records(list_settings(name))})
        return
    tell(*filter(None, [what, source and f"source: {source}"]), "")
    if more:
        tell(*more.split("\n"), "")
    print_settings(name, [], as_json)


def _records(settings: "list[Setting]") -> list[dict[str, Any]]:
    return [vars(setting) | {"differs": setting.differs} for setting in settings]


def print_settings(recipe: str, changes: Sequence[str], as_json: bool) -> None:
    """Print the settings of a recipe, with a star before those that are not the default."""
    from resnets.training.settings import list_settings

    settings = list_settings(recipe, changes)
    if as_json:
        print_json(_records(settings))
        return
    rows = []
    for s in settings:
        value, default = json.dumps(s.value), json.dumps(s.default)
        rows.append(("*" if s.differs else "", s.key, value, default, s.source, s.description))
    print_table(("", "setting", "value", "default", "source", "what it does"), rows)
