"""The command line: one file a command. Results go to stdout, everything else to stderr."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from resnets import __version__
from resnets.cli import (
    audit,
    bench,
    convert,
    data,
    diff,
    distill,
    draw,
    embed,
    evaluate,
    export,
    features,
    gather,
    inspect,
    models,
    page,
    predict,
    recipes,
    report,
    reproduce,
    serve,
    show,
    study,
    train,
    tune,
    verify,
)
from resnets.cli.arguments import for_command
from resnets.cli.hints import explain_usage
from resnets.cli.output import (
    ReaderGone,
    flush_results,
    leave_stdout,
    say,
    say_error,
    settle_streams,
    tell,
)
from resnets.errors import NonFiniteError, ResnetsError, Stopped
from resnets.files import FULL
from resnets.machine import cpu
from resnets.machine.sharing import sharing_cores

_EXIT_CODES = """
Exit codes: 0 done, 1 a bug, 2 usage, 3 data, 4 checkpoint, 5 an export that failed its check,
6 not finite, 7 resources, 75 stopped and resumable, 130 Ctrl-C.
"""
# Plain help: it starts faster than rich's and keeps the examples as they are written.
app = typer.Typer(
    name="resnets",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_ON_MODEL = ("embed", "features")  # whose --model is the file itself
app.command()(models.models)
app.command()(show.show)
app.command()(draw.draw)
app.add_typer(data.app, name="data")
app.command()(recipes.recipes)
app.command()(train.train)
app.command()(distill.distill)
app.command()(tune.tune)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(page.page)
app.command()(features.features)
app.command()(embed.embed)
app.command()(gather.gather)
app.command()(report.report)
app.command()(reproduce.reproduce)
app.add_typer(study.app, name="study")
app.command()(audit.audit)
app.command()(inspect.inspect)
app.command()(verify.verify)
app.command()(convert.convert)
app.command()(export.export)
app.command()(serve.serve)
app.command()(diff.diff)
app.command()(bench.bench)


@app.callback(invoke_without_command=True)
def resnets(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Residual networks: list them, look at them, train them, use them.

    \b
    Examples:
      resnets show resnet50
      resnets train photos/ --model resnet18
    """
    if version:
        tell(f"resnets {__version__}")


_OUT_OF_MEMORY = (  # as allocators and loaders of libraries say it
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "bad allocation",
    "annot allocate memory",
    "failed to map segment",
    "can't start new thread",
)


def main(words: Sequence[str] | None = None) -> None:
    """Run a command, that of ``sys.argv`` if None; exit: 0 well, otherwise the error's own code."""
    settle_streams()
    cpu.settle()
    words = sys.argv[1:] if words is None else words
    debug = "--debug" in words  # at any place, although --help shows it once
    arguments = [word for word in words if word != "--debug"]
    try:
        with sharing_cores():
            code = typer.main.get_command(app).main(arguments, "resnets", standalone_mode=False)
        if code == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        flush_results()
    except ReaderGone:  # the reader of a pipe has seen enough
        code = 0
    except (Exception, KeyboardInterrupt) as error:
        code = _said(error, arguments, debug)
    leave_stdout()
    sys.exit(code)


def _said(error: BaseException, arguments: list[str], debug: bool) -> int:
    """Print what an error says; return its exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export it
        say(*error.format_message().split("\n"))  # type: ignore[attr-defined]
        return 2
    if debug:
        say(*traceback.format_exc().rstrip().split("\n"))
    message, hint, code = _explain(error, arguments)
    _print_error(error, message, hint)
    return code


def _typed(hint: str, arguments: list[str]) -> str:
    """Return a hint of the library with the options of the command that was typed."""
    command = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    options = {name for parameter in command.params for name in parameter.opts}
    return for_command(hint, options, model_is_file=command.name in _ON_MODEL)


def _print_error(error: BaseException, message: str, hint: str) -> None:
    """Print what an error says; under ``torchrun`` with the process that says it."""
    rank = os.environ.get("RANK", "0")
    where = f"rank {rank}: " if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    if isinstance(error, Stopped | NonFiniteError) and rank != "0":
        return  # all of them say the same
    if type(error).__name__ == "PeerLost":  # torch would come with its module
        say(f"{where}{message} ({hint})")  # not the error, but what follows
    elif isinstance(error, Stopped):
        say_error(message, hint, title=False)
    else:
        say_error(message, hint, where=where)


def _explain(error: BaseException, arguments: list[str]) -> tuple[str, str, int]:
    """Return what an error says: message, hint, exit code."""
    if _lacks_memory(error):
        less = "lower batch_size or data.image_size, or " if "train" in arguments else ""
        return "out of memory", f"{less}close other programs", 7
    if isinstance(error, ResnetsError):
        return error.message, _typed(error.hint, arguments), error.exit_code
    if isinstance(error, TyperException):
        return *explain_usage(error, arguments), 2
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", "", 130
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno:
        hint = "free some space" if error.errno in FULL else "check that it is there and yours"
        return f"{error.filename or 'standard output'}: {error.strerror}", hint, 7
    return f"unexpected {kind}: {error}", "this is a bug; --debug shows where it happened", 1


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether an error says in any way, or follows from one that says, that memory is out."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        # torch's own errors are told by name: importing it to compare would take seconds
        if type(error).__name__ in ("MemoryError", "OutOfMemoryError"):
            return True
        if getattr(error, "errno", None) == errno.ENOMEM:
            return True
        foreign = not isinstance(error, ResnetsError)  # which may quote what a file says
        if foreign and any(words in str(error) for words in _OUT_OF_MEMORY):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
