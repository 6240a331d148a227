"""What nothing shows of the network that weights were made for, and what a load takes it as."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from resnets.errors import UsageError
from resnets.spec import Spec, fields_told
from resnets.weights.naming import traits
from resnets.zoo import get_spec

STRIDES = {"1x1": "v1", "3x3": "v1.5"}


def taken(names: Iterable[str], spec: Spec) -> dict[str, str]:
    """Return what a network takes these choices as; those that it does not have to make are out."""
    small = spec.stem == "3x3"
    ours = {**traits(spec), "output_stride": spec.output_stride}
    # What no spec says, because all networks here have it alike.
    ours |= {"stem_stride": 1 if small else 2, "stem_padding": 1, "norm_groups": 32}
    if small:
        ours["stem_pool"] = "none"
    found = {name: ours[name] for name in names if name in ours}
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in found.items()
    }


def notes(names: Iterable[str], spec: Spec) -> list[str]:
    """Return in sentences what nothing in a file says, and what it was taken as."""
    choices = taken(names, spec)
    told = []
    if stride := choices.pop("bottleneck_stride", None):
        told.append(
            "nothing says whether these are v1 weights (stride on the 1x1) or v1.5 (on the 3x3); "
            f"taken as {stride}. Compare both: resnets inspect FILE --images DIR"
        )
    told += [
        f"nothing in the file says what {name} is; taken as {choices.pop(name)}. Labelled images "
        "decide: with the wrong one far fewer answers are right"
        for name in ("shortcut", "zero_pad")
        if name in choices
    ]
    if choices:
        rest = ", ".join(f"{name} {value}" for name, value in choices.items())
        told.append(f"nothing in the file says these; taken as {rest}")
    return told


def as_the_file_has_it(spec: Spec, stated: Mapping[str, Any], given: Iterable[str] = ()) -> Spec:
    """Return a named net's spec, with what its name leaves open as a file states it.

    Where a bottleneck's stride is belongs to the name: resnet50 is v1.5.
    What is in ``given`` somebody has said by hand: it stays, and may be refused.
    """
    ours, default = traits(spec), Spec.__dataclass_fields__
    changes = {
        name: stated[name]
        for name in fields_told("open")
        if name in stated
        and name in ours
        and name not in given
        and ours[name] == default[name].default
    }
    return replace(spec, **changes)


def call(spec: Spec, **typed: str) -> str:
    """Return the call of create_model that makes a network, by its name where it has one.

    ``typed`` are further arguments, as they are to stand there.
    """
    try:
        named = get_spec(spec.name).to_dict()
        words = [json.dumps(spec.name)]
    except UsageError:
        named = spec.to_dict()
        words = [repr(spec)]
    options = {
        name: _literal(value)
        for name, value in spec.to_dict().items()
        if name != "name" and value != named[name]
    }
    words += [f"{name}={value}" for name, value in {**options, **typed}.items()]
    return f"create_model({', '.join(words)})"


def _literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
