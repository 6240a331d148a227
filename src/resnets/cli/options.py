"""Options that several commands share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from resnets.cli.output import say
from resnets.errors import UsageError
from resnets.spec import Spec
from resnets.zoo import get_spec, is_named

if TYPE_CHECKING:
    from resnets.inference.runtimes import Runtime
    from resnets.models import ReadingOptions
    from resnets.nn import ResNet
    from resnets.weights.fit import Head
    from resnets.weights.outputs import Outputs

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Root = Annotated[
    Path | None, typer.Option(help="Where CIFAR is; default: $RESNETS_DATA or the user's cache.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Compile = Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")]
ImageSize = Annotated[
    int | None, typer.Option(help="Side of the input, pixels; default: the model's own.", min=1)
]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--checkpointing", help="Compute blocks twice instead of keeping what they compute."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
OverwriteTable = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a table, and begin anew what was begun differently."),
]
PartOfAll = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="Only the third of sixteen parts: 3/16, counted from 1. `resnets gather` puts their "
        "tables together.",
        metavar="K/N",
    ),
]
Threads = Annotated[
    int, typer.Option(help="Threads to compute with; 0: the runtime's own choice.", min=0)
]
Source = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A run folder, a checkpoint, or a model's name; default: the resnet20 for CIFAR-10's "
        "ten classes that comes with the package.",
    ),
]
Container = Annotated[
    str | None, typer.Option(help="The key of the network, where a file holds several.")
]
Dialect = Annotated[
    str | None, typer.Option(help="Whose names a file uses, where that is not clear.")
]
Ema = Annotated[bool, typer.Option("--ema", help="Take the averaged weights of a training run.")]


@dataclass(frozen=True)
class Known:
    """What a person says of a checkpoint, for what its file does not say, each by an option."""

    model: Annotated[
        str | None, typer.Option(help="The network it holds, where the checkpoint does not say.")
    ] = None
    weights: Annotated[
        str | None, typer.Option(help="Weights for a model that is given by name.", metavar="FILE")
    ] = None
    container: Container = None
    dialect: Dialect = None
    ema: Ema = False
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="How images are prepared, where the checkpoint does not say: imagenet, or "
            '"mean=0.49,0.48,0.45 std=0.25,0.24,0.26", of pixels from 0 to 1.',
        ),
    ] = None
    outputs: Annotated[
        str | None,
        typer.Option(
            help="softmax (one of all classes) or sigmoid (each by itself), where the checkpoint "
            "does not say what its outputs mean.",
        ),
    ] = None
    head: Annotated[
        str | None,
        typer.Option(help="keep: the classifier of --weights, also where it has other classes."),
    ] = None

    @property
    def reading(self) -> "ReadingOptions":
        """What `load_weights` is told."""
        return {"container": self.container, "dialect": self.dialect, "ema": self.ema}

    @property
    def spec(self) -> Spec | None:
        """The network that ``model`` names. Raises UsageError for a name that no model has."""
        return get_spec(self.model) if self.model else None

    @property
    def options(self) -> list[str]:
        """The options that were given, but --outputs, which an exported file may not say either."""
        return [f"--{name}" for name, value in vars(self).items() if value and name != "outputs"]


READING = ("model", "container", "dialect", "ema")


def takes(kind: type, *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command have an option for each of these fields of a dataclass, or for all of them.

    They stand before its parameters that are keywords only, and come to it as ``**options``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in signature(command).parameters.values() if p.kind != Parameter.VAR_KEYWORD]
        first = [each for each in own if each.kind != Parameter.KEYWORD_ONLY]
        return with_parameters(command, [*first, *options_of(kind, *names), *own[len(first) :]])

    return decorate


def options_of(kind: Any, *names: str) -> list[Parameter]:
    """Return an option for each of these fields of a dataclass, or for all of them."""
    found = [field for field in fields(kind) if field.name in names or not names]
    return [option(field.name, field.type, field.default) for field in found]


def option(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    """Return a parameter of a command."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_parameters(
    command: Callable[..., None], parameters: Iterable[Parameter]
) -> Callable[..., None]:
    """Let a command have these parameters, in their order, and return it."""
    named = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
    # Both are what typer reads options from.
    command.__signature__ = Signature(named)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in named}
    return command


def explain(network: "ResNet", outputs: str | None) -> None:
    """Give a network's outputs the meaning that ``--outputs`` names, and say what is unknown.

    Raises UsageError.
    """
    from resnets.weights.assumptions import notes
    from resnets.weights.outputs import given

    if word := given(outputs):
        network.outputs, network.thresholds, network.calibration = word, (), None
    for note in notes(network.assumed, network.spec):
        say(f"note: {note}")


def note_unsaid(network: "ResNet") -> None:
    """Say what a file of a network will not say, because nothing has said it."""
    from resnets.data.preprocess import known

    if known(network.preprocess) is None:
        say(
            "note: nothing says how its images are prepared, so the file does not either; "
            "--preprocess imagenet writes down the usual constants"
        )
    if network.outputs is None:
        say(
            "note: nothing says what its outputs mean, so the file does not either; --outputs "
            "softmax or sigmoid writes it down"
        )


def prepare(network: "ResNet", preparation: str | None) -> None:
    """Give a network the preprocessing that ``--preprocess`` says. Raises UsageError."""
    if preparation is not None:
        from resnets.cli.preparation import preprocessing

        spec = network.spec
        network.preprocess = preprocessing(preparation, spec.in_channels, spec.image_size)


def open_network(
    word: str, known: Known, *, head: "Head" = "error"
) -> tuple["ResNet", dict[str, Any]]:
    """Return the network in a run folder or checkpoint, or of a name with ``--weights``.

    With it comes how its weights came about, as far as the file says. ``head`` is "error" where
    the classifier is needed, "optional" where it may lack and "drop" where nothing reads it. Raises
    UsageError for a name alone, and CheckpointError for a bad file.
    """
    if known.weights is None and not is_path(word) and is_named(word):
        from resnets.weights.shipped import names

        ours = names(get_spec(word).name)
        raise UsageError(
            f"{word}: a name alone has fresh weights, which are of no use elsewhere",
            hint="give --weights"
            + (f", such as {', '.join(ours)}, which comes with the package" if ours else "")
            + ", or a run folder",
        )
    if known.weights is not None:
        get_spec(word)  # before torch takes its seconds to load
    from resnets.models import create_model, restore
    from resnets.weights.shipped import shipped

    if known.weights is None:
        network, metadata = restore(
            word, known.model, needs_classifier=head == "error", **known.reading
        )
        made = metadata.made
    elif own := shipped(get_spec(word).name, known.weights):
        network, metadata = restore(own)
        made = metadata.made
    else:
        head = cast("Head", known.head) if known.head else head
        network = create_model(word, weights=known.weights, head=head, **known.reading).eval()
        if head == "drop":
            network.reset_classifier(0)
        made = {}
    prepare(network, known.preprocess)
    explain(network, known.outputs)
    return network, made


def open_answering(
    path: str, known: Known, runtime: str = "auto", threads: int = 0, count: int | None = None
) -> "Runtime":
    """Return what computes an exported file, or a network, ready for so many images."""
    from resnets.inference.runtimes import choose, is_export, open_runtime

    choose(Path(path), runtime)  # before torch takes its seconds to load
    if not is_export(Path(path)):
        network, made = open_network(path, known)
        from resnets.inference.runtimes.torch_runtime import Network

        return _said(Network(network, threads, made))
    check_says_itself(path, known)
    from resnets.weights.outputs import given

    word = given(known.outputs)
    exported = open_runtime(path, runtime, threads=threads, count=count)
    if word:
        exported.outputs, exported.thresholds, exported.calibration = word, (), None
    return _said(exported)


def check_says_itself(path: str, known: Known) -> None:
    """Raise UsageError where more is said of an exported file than what its outputs mean."""
    if known.options:
        raise UsageError(
            f"{path}: an exported file says itself what it holds and how images are prepared",
            hint=f"leave out {' and '.join(known.options)}",
        )


def _said(answering: "Runtime") -> "Runtime":
    """Return what computes a model, its outputs being explained."""
    answering.outputs = said_meaning(answering.outputs, answering.spec.num_classes)
    return answering


def said_meaning(outputs: str | None, count: int) -> "Outputs":
    """Return what so many outputs mean, and say it where nothing does.

    Raises CheckpointError where it has to be said.
    """
    from resnets.weights.outputs import ASSUMED, meaning

    found = meaning(outputs, count)
    if outputs is None:
        say(f"note: {ASSUMED}. --outputs sigmoid if each stands alone")
    return found


def is_path(word: str) -> bool:
    """Whether a word means a file or a folder, rather than a model's name."""
    path = Path(word)
    return path.exists() or bool(path.suffix) or len(path.parts) > 1


def default_model() -> Path:
    """Return the weights that are meant where no model is named, and say so."""
    from resnets.weights.shipped import DEFAULT, shipped

    model, weights = DEFAULT
    say(f"{model} for {weights}, which comes with the package; name a run folder for your own")
    path = shipped(model, weights)
    assert path is not None
    return path


def model_beside(known: Known) -> str | None:
    """Return what ``--model`` names; raises UsageError for ``--weights`` without it."""
    if known.model is None and known.weights is not None:
        raise UsageError("--weights: of which model?", hint="give its name as --model")
    return known.model


def chosen_model(
    model: str | None, known: Known, *, head: "Head" = "optional"
) -> tuple["ResNet", bool]:
    """Return the model that ``--model`` and ``--weights`` mean, and whether it has learnt anything.

    It has no classifier where its file has none. Raises UsageError for a name that no model has,
    and CheckpointError for a bad file.
    """
    model = model_beside(replace(known, model=model)) or str(default_model())
    if known.weights is not None or is_path(model):
        return open_network(model, known, head=head)[0], True
    spec = get_spec(model)  # before torch takes its seconds to load
    import torch

    from resnets.models import create_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # fresh weights are the same every time
        network = create_model(spec).eval()
    prepare(network, known.preprocess)
    return network, False
