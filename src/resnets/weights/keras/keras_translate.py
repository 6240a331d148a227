"""A Keras file's tensors under our keys: by its config, by its layers' names, or by their order."""

from dataclasses import replace
from typing import Any

from resnets.errors import CheckpointError
from resnets.readers.content import Content
from resnets.spec import Spec
from resnets.weights.dialects import Input
from resnets.weights.keras.front import Front
from resnets.weights.keras.keras_variables import to_ours
from resnets.weights.keras.names import application_names, ordered_names
from resnets.weights.keras.topology import read_topology
from resnets.weights.naming import traits
from resnets.weights.state_dict import StateDict
from resnets.weights.structure.tensor_modules import LEAVES
from resnets.weights.tensors import some
from resnets.weights.translate import exchange_red_and_blue
from resnets.zoo import get_spec

# What keras.applications' names say of a network: all its releases stride, pad and count alike.
PROVEN = ("bottleneck_stride", "norm_eps", "norm_momentum")
PROVEN_V2 = (*PROVEN, "stride_position", "stem_pool")


def translate_keras(
    state: StateDict, content: Content, spec: Spec | None = None, *, images: Input | None = None
) -> StateDict:
    """Return the tensors of a Keras file as ours.

    The config tells the network exactly. Without one, keras.applications' names do; layers with
    automatic names are told apart by their order, for which ``spec`` must say what they are.
    Raises CheckpointError where the layers make no network that is known here.
    """
    layers = list(dict.fromkeys(key.rpartition("/")[0] for key in state.tensors))
    hints: dict[str, Any] = {}
    seen, outputs, front = spec, None, Front()
    if content.config is not None:
        topology = read_topology(content.config, state.tensors)
        names, seen, outputs = topology.names, topology.spec, topology.outputs
        why = "by the model's config"
        front = topology.front
        hints = {**traits(seen), "norm_momentum": seen.norm_momentum}
    elif names := application_names(layers):
        why = "as keras.applications names it"
        is_v2 = "norm" in names.values()
        applications = get_spec(f"keras_applications_resnet50{'_v2' if is_v2 else ''}")
        hints = {name: getattr(applications, name) for name in (PROVEN_V2 if is_v2 else PROVEN)}
    elif spec is not None:
        names, why = ordered_names(state.tensors, spec), "by order and shape"
    else:
        raise CheckpointError(
            f"its layers are only numbered, such as {some(layers)}",
            hint="name the network it was saved from, or give the whole model "
            "(model.save('x.keras') writes it)",
        )
    tensors = to_ours(state.tensors, names, seen)
    adapted = {}
    is_bgr = images.bgr if images else front.is_bgr
    if is_bgr and exchange_red_and_blue(tensors):
        adapted["conv1.weight"] = "input channels from blue-green-red to red first"
    return replace(
        state,
        tensors=tensors,
        dialect="keras",
        sources={
            f"{names[layer]}.{LEAVES[part]}": key
            for key in state.tensors
            for layer, part in [key.rsplit("/", 1)]
            if names.get(layer)
        },
        reasons={module: why for module in names.values() if module},
        unexpected=tuple(
            key for key in state.tensors if key.rpartition("/")[0] not in (*names, *front.used)
        ),
        hints=hints,
        input=images or front.input,
        frame=front.frame,
        adapted=adapted,
        outputs=outputs,
        notes=front.notes,
    )
