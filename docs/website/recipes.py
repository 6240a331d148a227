"""Reference of the recipes: every setting, its default, what recipes make of it and why."""

import json
from collections.abc import Iterator
from typing import Any

from resnets.training.recipe import list_recipes, load_recipe, recipe_text, setting_fields
from resnets.training.settings import Setting, describe, list_settings
from website.tables import cell, code, table


def pages() -> dict[str, str]:
    """Return the pages, by their paths: of all settings, and of each recipe."""
    return {
        "reference/recipes/index.md": "\n".join(_index()),
        "reference/settings.md": "\n".join(_settings()),
    } | {f"reference/recipes/{name}.md": "\n".join(_recipe(name)) for name in list_recipes()}


def _index() -> Iterator[str]:
    yield "# Recipes\n"
    yield (
        "A recipe is everything that decides a run's computation, as YAML. It is given by name or "
        "as a file, `--set KEY=VALUE` changes a [setting](../settings.md), and the run folder "
        "keeps what came of both. A file of one's own has what differs from the defaults:\n"
    )
    yield (
        '```yaml title="mine.yaml"\n'
        "name: mine\n"
        "source: ours\n"
        "batch_size: 32\n"
        "optimizer:\n"
        "  lr: 0.05  # a comment on the line of one value is shown as its source\n"
        "schedule: {epochs: 20, shape: cosine, warmup: 0.1}\n"
        "```\n"
    )
    yield "```sh\nresnets recipes mine.yaml\nresnets train photos/ --recipe mine.yaml\n```\n"
    rows = (
        (f"[`{name}`]({name}.md)", cell(describe(name)[0]), cell(load_recipe(name).source))
        for name in list_recipes()
    )
    yield table(("recipe", "what it is", "source"), rows)


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield (
        "What `--set` changes and a recipe may say: `--set optimizer.lr=0.05`. Wrong names and "
        "values are refused before anything is read. `null` in a recipe is `none` here.\n"
    )
    by_section: dict[str, list[Setting]] = {}
    for setting in list_settings("default"):
        section, dot, _ = setting.key.partition(".")
        by_section.setdefault(section if dot else "", []).append(setting)
    fields = setting_fields()
    for section, settings in by_section.items():
        yield f"## `{section}`\n" if section else "## The run\n"
        rows = (
            (
                f"`{setting.key}`",
                code(_type(fields[setting.key])),
                _value(setting.default) if not fields[setting.key].is_required() else "required",
                cell(setting.description),
            )
            for setting in settings
        )
        yield f"{table(('setting', 'values', 'default', ''), rows)}\n"


def _type(field: Any) -> str:
    """Return what values a field takes, in short."""
    return _short(field.annotation)


def _short(kind: Any) -> str:
    arguments = getattr(kind, "__args__", ())
    name = str(kind)
    if kind is type(None):
        return "none"
    if hasattr(kind, "__metadata__"):
        return _short(kind.__origin__)
    if name.startswith("typing.Literal"):
        return " | ".join(map(str, arguments))
    if "Union" in type(kind).__name__:
        return " | ".join(map(_short, arguments))
    if arguments:
        inside = ", ".join("..." if each is Ellipsis else _short(each) for each in arguments)
        return f"{kind.__origin__.__name__}[{inside}]"
    return {"float": "number", "int": "whole number", "bool": "true | false", "str": "text"}.get(
        getattr(kind, "__name__", ""), getattr(kind, "__name__", name)
    )


def _value(value: Any) -> str:
    return code(json.dumps(value))


def _recipe(name: str) -> Iterator[str]:
    what, more = describe(name)
    yield f"# {name}\n"
    yield f"{what}.\n" if not what.endswith(".") else f"{what}\n"
    yield _prose(more)
    if source := load_recipe(name).source:
        yield f"Source: {source}.\n"
    settings = list_settings(name)
    own = [setting for setting in settings if setting.source not in ("default", "")]
    yield "## What it sets\n"
    rows = (
        (
            f"`{setting.key}`",
            f"**{_value(setting.value)}**" if setting.differs else _value(setting.value),
            _value(setting.default),
            cell(setting.source),
            cell(setting.description),
        )
        for setting in own
    )
    yield f"{table(('setting', 'value', 'default', 'source of the value', ''), rows)}\n"
    others = len(settings) - len(own)
    yield f"All other [settings](../settings.md) ({others}) have their defaults.\n"
    yield f"## The file\n\n```yaml\n{recipe_text(name).rstrip()}\n```\n"


def _prose(text: str) -> str:
    """Return a head's words, with what is indented as code."""
    lines = []
    for paragraph in text.split("\n\n"):
        inside = paragraph.strip("\n")
        if inside.startswith("  "):
            body = "\n".join(line.strip() for line in inside.splitlines())
            lines.append(f"```sh\n{body}\n```\n")
        elif inside:
            lines.append(f"{inside}\n")
    return "\n".join(lines)
