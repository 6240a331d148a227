"""load_weights: anyone's checkpoint into a network, all of it or nothing, with a report."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, UsageError
from resnets.nn import Backbone, ResNet
from resnets.nn.freezing import FixedBatchNorm2d, FrozenBatchNorm2d
from resnets.spec import Spec, fields_told
from resnets.weights import assumptions, catalog
from resnets.weights.biases import fold_biases
from resnets.weights.checkpoint import Checkpoint, Source, open_checkpoint
from resnets.weights.fit import HEAD, Head, InChannels, fit
from resnets.weights.load_report import LoadReport
from resnets.weights.naming import traits
from resnets.weights.shipped import names

# What may differ between a file's network and ours.
_TOLERATED = {*fields_told("tolerated"), "stages", "grouped"}

UNPREPARED = "nothing says how its images were prepared: set model.preprocess"


class LoadError(CheckpointError):
    """Weights that do not fit; ``report`` says what fits and what does not."""

    def __init__(self, message: str, report: LoadReport, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report


def load_weights(
    model: nn.Module,
    source: Source,
    *,
    head: Head = "error",
    in_channels: InChannels | None = None,
    dialect: str | None = None,
    container: str | None = None,
    ema: bool = False,
    check_variant: bool = True,
) -> LoadReport:
    """Load weights from a file, a run folder or a state dict, and report on every tensor.

    ``model`` is a ResNet or a Backbone, also one that DataParallel or torch.compile wraps; what a
    backbone has not built is skipped. ``head``: "error" when the classifier does not fit, "drop" to
    leave the file's out, "keep" to give the model the file's, "optional" to go without where the
    file has none. ``in_channels``: how the first convolution is spread over another number of
    channels, "sum", "mean", "repeat", "slice" or "random". ``dialect`` and ``container`` say what
    cannot be told from the file; ``ema`` prefers averaged weights. ``check_variant=False`` loads
    weights that are known to be made for another function of the same shapes, such as v1.5 into v1.

    ``model.preprocess``, and with the classifier ``model.classes`` and ``model.outputs``, become
    what the file or the catalogue says, and unknown where neither does; ``model.assumed`` names the
    choices of the network that nothing shows. Values keep the model's precision; what was rounded
    is noted.

    All of it happens or nothing: raises LoadError, a CheckpointError with the report, when
    anything of the backbone is missing or does not fit, CheckpointError for a file that is
    damaged, unsafe or no network, and UsageError for a model or an option that cannot be meant.
    """
    network = unwrapped(model, "load_weights")
    own, published = names(network.spec.name), {entry.name for entry in catalog.entries()}
    if isinstance(source, str) and source in {*own, *published} and not Path(source).exists():
        if source not in own:
            catalog.find(network.spec.name, source)  # which says what there is
        raise UsageError(
            f"load_weights: {source} is no file but the name of published weights",
            hint=f'create_model("{network.spec.name}", weights="{source}")',
        )
    checkpoint = open_checkpoint(
        source, dialect=dialect, container=container, ema=ema, spec=network.spec
    )
    return load_checkpoint(
        network, checkpoint, head=head, in_channels=in_channels, check_variant=check_variant
    )


Network = ResNet | Backbone


def load_checkpoint(
    model: Network,
    checkpoint: Checkpoint,
    *,
    head: Head = "error",
    in_channels: InChannels | None = None,
    check_variant: bool = True,
) -> LoadReport:
    """Do what `load_weights` does, with a checkpoint that is open already."""
    notes = list(checkpoint.notes)
    left_out = checkpoint.tensors.keys() & (model.left_out if isinstance(model, Backbone) else ())
    found = {key: tensor for key, tensor in checkpoint.tensors.items() if key not in left_out}
    classes = len(found[HEAD[0]]) if HEAD[0] in found else model.spec.num_classes
    wanted = model.tensors
    takes_over = isinstance(model, ResNet) and head == "keep" and found.keys() >= set(HEAD)
    if takes_over:
        dtype = next(model.parameters()).dtype
        wanted |= {key: torch.empty(found[key].shape, dtype=dtype, device="meta") for key in HEAD}
    folded, gone, impossible = fold_biases(found, model.spec)
    taken, report = fit(folded, wanted, head=head, in_channels=in_channels)
    wrong = [*report.mismatched, *report.missing, *report.unexpected, *checkpoint.state.strange]
    notes += [f"{key}: a bias without a place: {why}" for key, why in impossible.items()]
    notes += [*_unproven(checkpoint, model.spec), *report.notes]
    if wrong:
        notes.append("nothing was loaded")
    report = replace(
        _completed(report, checkpoint, model, taken),
        adapted={
            **checkpoint.state.adapted,
            **dict.fromkeys(gone, "folded into the mean of the norm that follows"),
            **report.adapted,
        },
        skipped={
            **report.skipped,
            **dict.fromkeys(sorted(left_out), "the backbone has no such part"),
        },
        notes=tuple(notes),
    )
    if wrong:
        raise _misfit(checkpoint, model.spec, wrong, report)
    if check_variant and (differing := _differing(checkpoint, model.spec)):
        raise _other_function(checkpoint, model.spec, differing, report)

    if takes_over and classes != getattr(model.fc, "out_features", 0):
        place = next(model.parameters())
        width = found[HEAD[0]].shape[1]
        model.fc = nn.Linear(width, classes, device=place.device, dtype=place.dtype)
    if takes_over:
        model.spec = replace(model.spec, num_classes=classes)
    model.load_state_dict({**model.tensors, **taken})
    _carry_norms(model, checkpoint.proven)
    _carry_meaning(model, checkpoint, takes_head=HEAD[0] in taken)
    model.assumed = tuple(assumptions.taken(checkpoint.unknown, model.spec))
    return report


def unwrapped(model: nn.Module, function: str) -> Network:
    """Return the network in what DataParallel or torch.compile have made of it.

    Raises UsageError, in the name of the ``function`` that was given it, where there is none.
    """
    network: Any = model
    while not isinstance(network, Network):
        inner = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            raise UsageError(
                f"{function}: {type(model).__name__} is no network of resnets",
                hint="create_model makes one",
            )
        network = inner
    if any(parameter.is_meta for parameter in network.parameters()):
        raise UsageError(
            f"{function}: the model is on the meta device, which holds no values",
            hint='model.to_empty(device="cpu") first',
        )
    return network


def _unproven(checkpoint: Checkpoint, spec: Spec) -> list[str]:
    """Return what to check by hand: choices that neither keys, shapes nor the file's kin show."""
    notes = assumptions.notes(checkpoint.unknown, spec)
    if spec.block == "bottleneck" and checkpoint.is_by_names("bottleneck_stride"):
        stride = assumptions.STRIDES[checkpoint.proven["bottleneck_stride"]]
        notes.insert(0, f"taken for {stride} because of its names ({checkpoint.state.dialect}'s)")
    if checkpoint.preprocess is None:
        notes.append(UNPREPARED)
    if "fc.weight" in checkpoint.tensors and not checkpoint.names_fit:
        found, count = len(checkpoint.classes), len(checkpoint.tensors["fc.weight"])
        notes.append(f"it names {found:,} classes for {count:,} outputs: left out")
    return notes


def _differing(checkpoint: Checkpoint, spec: Spec) -> dict[str, Any]:
    """Return the choices that the file proves and the network makes otherwise."""
    ours = traits(spec)
    return {
        name: value
        for name, value in checkpoint.proven.items()
        if name in ours and name not in _TOLERATED and ours[name] != value
    }


def _completed(
    report: LoadReport, checkpoint: Checkpoint, model: Network, taken: Mapping[str, Tensor]
) -> LoadReport:
    """Return the report of a fit, with what it was that was fitted."""
    state, names = checkpoint.state, checkpoint.state.sources
    sizes = {key: parameter.numel() for key, parameter in model.named_parameters()}
    sizes |= {key: t.numel() for key, t in taken.items() if key in sizes}  # a kept head
    return replace(
        report,
        source=checkpoint.source,
        format=checkpoint.content.format,
        container=state.container,
        prefix=state.prefix,
        dialect=state.dialect,
        looks_like=checkpoint.guess.words,
        unexpected=(*(names.get(key, key) for key in report.unexpected), *state.unexpected),
        ignored=state.ignored,
        parameters=sum(sizes.values()),
        parameters_loaded=sum(size for key, size in sizes.items() if key in taken),
    )


def _misfit(checkpoint: Checkpoint, spec: Spec, wrong: list[str], report: LoadReport) -> LoadError:
    counts = {
        "missing": len(report.missing),
        "unexpected": len(wrong) - len(report.missing) - len(report.mismatched),
        "of another shape": len(report.mismatched),
    }
    what = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    hint = f"the file looks like {checkpoint.guess.words}"
    if all(key in HEAD for key in wrong):
        hint += '; head="drop" does without its classifier'
        if report.mismatched:
            hint += ', head="keep" takes it over'
    elif made_for := _call(checkpoint):
        hint += f"; {made_for} is such a network"
    example = wrong[0]
    if example in report.mismatched:
        file, model = report.mismatched[example]
        example = f"{example} {file} for {model}"
    return LoadError(
        f"{checkpoint.source}: its weights do not fit {spec.name}: {what}, "
        f"such as {example}\n{report}",
        report,
        hint=hint,
    )


def _other_function(
    checkpoint: Checkpoint, spec: Spec, differing: dict[str, Any], report: LoadReport
) -> LoadError:
    ours = traits(spec)
    facts = ", ".join(f"{name} {value} for {ours[name]}" for name, value in differing.items())
    made_for = _call(checkpoint)
    what = f"{made_for} is what they were trained as; " if made_for else ""
    return LoadError(
        f"{checkpoint.source}: its weights fit {spec.name} in every shape, but are made for "
        f"another function ({checkpoint.author}): {facts}",
        report,
        hint=f"{what}check_variant=False loads them all the same",
    )


def _call(checkpoint: Checkpoint) -> str:
    """Return a call that makes a network for these weights; empty where none is sure to."""
    spec = checkpoint.spec
    if spec is None or HEAD[0] not in checkpoint.tensors:
        return ""
    if checkpoint.entry:
        spec = replace(spec, name=checkpoint.entry.model)
    with torch.device("meta"):
        wanted = ResNet(spec).state_dict()
    folded, *_ = fold_biases(checkpoint.tensors, spec)
    _, report = fit(folded, wanted)
    unfit = report.mismatched or report.missing or report.unexpected or checkpoint.state.strange
    if unfit or _differing(checkpoint, spec):
        return ""
    return assumptions.call(spec)


def _carry_norms(model: Network, proven: Mapping[str, Any]) -> None:
    """Give batch norms the file's epsilon and momentum."""
    learnt = nn.BatchNorm2d | FixedBatchNorm2d
    for module in model.modules():
        if isinstance(module, learnt | FrozenBatchNorm2d) and "norm_eps" in proven:
            module.eps = proven["norm_eps"]
        if isinstance(module, learnt) and "norm_momentum" in proven:
            module.momentum = proven["norm_momentum"]
    carried = {key: proven[key] for key in ("norm_eps", "norm_momentum") if key in proven}
    model.spec = replace(model.spec, **carried)


def _carry_meaning(model: Network, checkpoint: Checkpoint, *, takes_head: bool) -> None:
    """Give the model the preprocessing of the file and, with the classifier, what it answers.

    What the model had was true of other weights: where the file says nothing it is unknown.
    """
    model.preprocess = None
    if checkpoint.preprocess is not None:
        model.preprocess = over_channels(checkpoint.preprocess, model.spec.in_channels)
    if takes_head and isinstance(model, ResNet):
        model.classes = checkpoint.classes if checkpoint.names_fit else ()
        model.outputs, model.thresholds = checkpoint.outputs, checkpoint.thresholds
        model.calibration = checkpoint.calibration


def over_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """Return the preprocessing for another number of channels.

    One channel gets the average of the constants, as a grey image would; more get them in turn.
    """
    if channels == preprocess.channels:
        return preprocess

    def spread(values: tuple[float, ...]) -> tuple[float, ...]:
        if channels == 1:
            return (sum(values) / len(values),)
        return tuple(values[i % len(values)] for i in range(channels))

    mean, std = spread(preprocess.channel_mean), spread(preprocess.std)
    return replace(preprocess, channels=channels, mean=mean, std=std)
