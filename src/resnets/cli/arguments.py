"""The words of the command that was typed: hints of the library in them, and the command again.

The library names arguments: ``container="ema"``. A command has options, and not each has all of
them: what it has is named as it is typed there, and a way that it does not have is left out.
"""

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from resnets.cli.options import Known
from resnets.errors import UsageError

if TYPE_CHECKING:
    from resnets.inference.partition import Part

_ARGUMENT = re.compile(r'\b([a-z_]+)=(?:"([^"]*)"|True)')
_NETWORK = re.compile(r'create_model\("([^"]+)"\)')
_SECOND = ", with --model or as a second argument"
_QUOTED = re.compile(r"`[^`]*`")  # is typed elsewhere, as it stands
# What only a program can do, and a classifier that has learnt nothing, which answers nothing.
_PYTHON = re.compile(
    r"\b(create_model|create_backbone|open_model|load_weights|reset_classifier)\(|\bmodel\.preprocess|"
    r"check_variant=|second argument|--head drop"
)
# What is said of a checkpoint; other options are named only where they are.
_KNOWN = {f"--{field.name}" for field in fields(Known)}


def for_command(hint: str, options: Collection[str], *, model_is_file: bool = False) -> str:
    """Return a hint for a command with these options, such as "--container".

    ``model_is_file`` says that its --model is the file itself, so that a network's name needs
    --weights beside it.
    """
    clauses = re.split(r"; |, (?=head=)", hint)
    told = [_translated(clause, options, model_is_file) for clause in clauses]
    kept = [clause for clause in told if clause]
    if hint and not kept:
        return "`resnets inspect FILE` says what is known of it"
    return "; ".join(kept)


def _translated(clause: str, options: Collection[str], model_is_file: bool) -> str:
    """Return a clause in the command's words, or nothing where it does not have what it takes."""
    words = _NETWORK.sub(r"\1", clause).replace(_SECOND, ": --model NAME")
    words = _ARGUMENT.sub(lambda match: _option(match, options), words)
    bare = _QUOTED.sub("", words)
    named = _KNOWN & set(re.findall(r"--[a-z]+", bare))
    if _PYTHON.search(bare) or not named <= set(options):
        return ""
    if model_is_file:
        words = words.replace("--model NAME", "--model NAME --weights FILE")
    return words


def _option(match: re.Match[str], options: Collection[str]) -> str:
    """Return an argument as the option that it is; others stay as they are."""
    name, value = f"--{match[1].replace('_', '-')}", match[2]
    if name not in _KNOWN:
        return match[0]
    return name if value is None else f"{name} {shlex.quote(value)}"


def chosen_part(context: typer.Context, text: str | None, out: Path | None) -> "Part | None":
    """Return the part that ``--part`` names, if any, with the command that makes the others.

    Raises UsageError for what is none, and where its table has no name of its own.
    """
    if text is None:
        return None
    from resnets.inference.partition import Part

    part = Part.parse(text, typed_again(context, ("part", "out", "overwrite", "as_json"), ()))
    if out is None:
        raise UsageError(
            "--part is of a table, which needs a name that no other part has",
            hint=f"--out part-{part.number}.parquet",
        )
    return part


def typed_again(context: typer.Context, without: Collection[str], more: Sequence[str]) -> str:
    """Return a command as it was typed, without some of its parameters and with more words."""
    words = context.command_path.split()
    place = len(words)  # of the next argument, before all options
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if name in without or value in (None, False, [], ()) or value == parameter.default:
            continue
        option = parameter.opts[0]
        if not option.startswith("-"):
            given = [*map(str, value)] if isinstance(value, list | tuple) else [str(value)]
            words[place:place] = given
            place += len(given)
        elif value is True:
            words.append(option)
        else:
            for each in value if isinstance(value, list | tuple) else [value]:
                words += [option, str(each)]
    return shlex.join([*words, *more])
