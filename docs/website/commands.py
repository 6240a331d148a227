"""Reference of the command line: a page for each command, with its options and examples."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from resnets.cli import _EXIT_CODES, app
from website.tables import cell, code, table

_EXAMPLES = re.compile(r"\n*\x08?\n*Examples:\n(?P<lines>(?: +.*\n?)+)")
_CODE_OR_OPTION = re.compile(r"`[^`]*`|(?<![\w-])(--[a-z][\w-]*)")


def commands() -> dict[str, Any]:
    """Return the commands, by the words that call them: "train", "data check"."""
    return dict(_commands(typer.main.get_command(app), ""))


def _commands(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{before}{name}", command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")


def pages() -> dict[str, str]:
    """Return the pages, by their paths; a group's commands share one."""
    by_page: dict[str, list[str]] = {}
    for words, command in commands().items():
        text = "\n".join(_entry(words, command))
        by_page.setdefault(words.split()[0], []).append(text)
    return {
        f"reference/commands/{name}.md": "\n".join(texts) for name, texts in by_page.items()
    } | {"reference/commands/index.md": _index()}


def _index() -> str:
    rows = (
        (f"[`resnets {words}`]({_address(words)})", cell(_what(command)))
        for words, command in commands().items()
        if not hasattr(command, "commands")
    )
    return "\n".join(
        [
            "# Commands",
            "",
            "Written from the commands themselves; `resnets COMMAND --help` says the same. Results "
            "go to standard output, everything else to standard error. `--json`, where there is "
            "one, is for programs, `--debug` anywhere shows where an error comes from.",
            "",
            table(("command", ""), rows),
            "",
            " ".join(_EXIT_CODES.split()) + " [Each has a page](../errors/index.md).",
            "",
        ]
    )


def _address(words: str) -> str:
    first, _, rest = words.partition(" ")
    return f"{first}.md#{rest}" if rest else f"{first}.md"


def _what(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return str(command.help).split("\n\n")[0]


def _entry(words: str, command: Any) -> Iterator[str]:
    last = words.split()[-1]
    heading = f"# resnets {words}" if " " not in words else f"## resnets {words} {{ #{last} }}"
    yield f"{heading}\n"
    help_text = str(command.help).strip() + "\n"
    examples = _EXAMPLES.search(help_text)
    yield _marked(_EXAMPLES.sub("\n", help_text).replace("\x08\n", "").strip()) + "\n"
    if examples:
        lines = "\n".join(line.strip() for line in examples["lines"].splitlines())
        yield f"```sh\n{lines.strip()}\n```\n"
    if hasattr(command, "commands"):
        return
    context = command.make_context(f"resnets {words}", [], resilient_parsing=True)
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    for kind in ("argument", "option"):
        records = [
            each.get_help_record(context)
            for each in command.get_params(context)
            if each.param_type_name == kind
        ]
        if rows := [_row(*record) for record in records if record]:
            yield f"{table((kind, ''), rows)}\n"


def _row(typed: str, words: str) -> tuple[str, str]:
    """Return how a parameter is typed, and what it says and is where it is left out."""
    words, _, rest = words.partition("  [")
    facts = re.split(r"; (?![^(]*\))", rest.removesuffix("]")) if rest else []
    typed = typed.replace(" range>", ">").replace("<list[str]>", "<str>")
    return code(typed), cell(_marked(words)) + "".join(map(_fact, facts))


def _marked(text: str) -> str:
    """Return a help text with its options as code."""
    return _CODE_OR_OPTION.sub(lambda found: f"`{found[1]}`" if found[1] else found[0], text)


def _fact(fact: str) -> str:
    """Return in a sentence what brackets tell: that it is required, the default, a range."""
    if fact == "required":
        return " **Required.**"
    bound, _, default = fact.partition("default: ")
    if bound:
        return f" {code(bound)}."
    if default.startswith("no-"):
        return ""
    words = _marked(default[1:-1]) if default.startswith("(") else code(default)
    return f" Default: {words}."
