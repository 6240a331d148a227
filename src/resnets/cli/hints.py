"""What to say to someone who typed an option or a command that there is not."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any


def explain_usage(error: Any, arguments: Sequence[str]) -> tuple[str, str]:
    """Return message and hint for what the command line's parser refuses."""
    if type(error).__name__ != "NoSuchOption":  # typer does not export it
        return error.format_message(), _help(error.ctx, arguments)
    option, context = error.option_name, error.ctx
    hint = ""
    if context.command.name in ("train", "distill"):
        hint = _training_hint(option, _value(option, arguments))
    known = [name for parameter in context.command.params for name in parameter.opts]
    if close := get_close_matches(option, known, 2, 0.7):
        hint = hint or f"did you mean {' or '.join(close)}?"
    if not hint and context.command.name in ("train", "distill"):
        from resnets.training.recipe import how_to_set

        hint = how_to_set(option, _value(option, arguments))
    return error.message, hint or _help(context, arguments)


def _training_hint(option: str, value: str) -> str:
    """Say how `train` is told what an option of another tool says."""
    from resnets.training.other_names import find_argument, instead_of
    from resnets.training.recipe import how_to_set

    name = option.lstrip("-").replace("-", "_").lower()
    if name == "parallel_seeds":  # of earlier versions
        return "seeds train one after another: --seeds 5"
    if argument := find_argument(name):
        return f"did you mean --{argument}?"
    return instead_of(name) or how_to_set(option, value, mistyped=False)


def _value(option: str, arguments: Sequence[str]) -> str:
    """Return the value that was given to an option; empty when there is none."""
    words = [*arguments, ""]
    for word, following in pairwise(words):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else following
    return ""


def _help(context: Any, arguments: Sequence[str]) -> str:
    """Name the command that says what there is."""
    if context is None:  # an option without its value
        return f"`resnets {arguments[0]} --help` says what it takes"
    what = "the commands" if hasattr(context.command, "commands") else "its arguments and options"
    return f"`{context.command_path} --help` lists {what}"
