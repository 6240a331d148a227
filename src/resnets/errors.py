"""The errors that users meet: one line what, where it applies, one line what to do."""

from collections.abc import Callable, Collection
from difflib import get_close_matches
from inspect import signature
from pathlib import Path


class ResnetsError(Exception):
    """An error with a hint and an exit code; the command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n hint: {self.hint}" if self.hint else self.message


class UsageError(ResnetsError, ValueError):
    """An argument, option, name or recipe that cannot be meant."""

    exit_code = 2


class SpecError(UsageError):
    """An architecture that cannot be built."""


class DataError(ResnetsError):
    """A dataset, folder or image that is missing, damaged or inconsistent."""

    exit_code = 3


class CheckpointError(ResnetsError):
    """A weights or state file that is missing, damaged, unsafe or does not fit."""

    exit_code = 4


class ExportError(ResnetsError):
    """An exported file that does not compute what its network does; it is not kept."""

    exit_code = 5


class NonFiniteError(ResnetsError):
    """A loss that is NaN or infinite; raised before the optimizer step."""

    exit_code = 6


class ResourceError(ResnetsError):
    """No space, no permission, no memory, or an optional package that is not installed."""

    exit_code = 7


class HeldError(ResourceError):
    """A file or folder that another process is using meanwhile."""


class Stopped(ResnetsError):
    """A run that was asked to stop and can be resumed.

    Its exit code is 75 (EX_TEMPFAIL), or what the signal asks for: see `training.signals`.
    """

    exit_code = 75

    def __init__(self, message: str, *, hint: str = "", exit_code: int = exit_code) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def check_name(what: str, word: str, names: Collection[str]) -> None:
    """Raise UsageError, its hint the nearest of ``names`` or all, for a word that is none."""
    if word not in names:
        close = ", ".join(get_close_matches(str(word), names, 3, 0.7))  # "gpu" does not mean cpu
        raise UsageError(
            f'no {what} is called "{word}"',
            hint=f"did you mean {close}?" if close else f"choose from {', '.join(names)}",
        )


def check_arguments(
    function: Callable[..., object], given: Collection[str], others: Collection[str]
) -> None:
    """Raise UsageError for a name in ``given`` that is no argument of a function of the package.

    ``others`` are those that it takes without naming each.
    """
    name = function.__name__
    known = [*signature(function).parameters, *others]
    for word in given:
        if word not in known:
            close = nearest(word, known)
            raise UsageError(
                f"{name}() has no argument {word}",
                hint=f"did you mean {close}?" if close else f"help(resnets.{name}) lists them",
            )


def lacking(what: str, extra: str, otherwise: str = "") -> ResourceError:
    """Return the error for a package that is not installed, and is with an extra of ours.

    ``what`` ends in its name; ``otherwise`` is what can be done without it.
    """
    return ResourceError(
        f"{what}, which is not installed", hint=f'pip install "resnets[{extra}]"{otherwise}'
    )


def unwritable(path: Path | str, error: OSError, hint: str) -> ResourceError:
    """Return the error for a file or folder that the system does not let be written."""
    return ResourceError(f"{path}: cannot be written: {error.strerror or error}", hint=hint)


def nearest(name: str, candidates: list[str], count: int = 3) -> str:
    """Return the candidates most like ``name``, joined for a hint; empty when none is close."""
    return ", ".join(get_close_matches(name, candidates, n=count, cutoff=0.6))
