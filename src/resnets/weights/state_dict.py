"""The tensors of one network on their way from a file's names to ours, and what is told of it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from resnets.weights.dialects import Input
from resnets.weights.structure.tensor_modules import split


@dataclass(frozen=True)
class StateDict:
    """Tensors under the names of whoever saved them; once translated, under ours.

    Translated they are in torch's layouts, and in the file's own precision.
    """

    tensors: dict[str, Tensor]
    container: str = ""  # the key or keys they lay under, and which others were passed over
    prefix: str = ""  # what stood before every name
    ignored: tuple[str, ...] = ()  # optimizer state and counters
    dialect: str = ""
    # our key -> theirs, in the file's order; what the file does not have: none
    sources: dict[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()  # unknown keys
    hints: dict[str, Any] = field(default_factory=dict)  # of the spec, what dialect or file proves
    input: Input | None = None  # what images the net was trained on, red first, where known
    # Of a Preprocess, what a file says of scaling and cropping: resize, size, fit, interpolation
    frame: dict[str, Any] = field(default_factory=dict)
    strange: tuple[str, ...] = ()  # of the unexpected, what stands within the network
    reasons: dict[str, str] = field(default_factory=dict)  # our module -> why it is theirs
    contradiction: str = ""  # between names and order, of norms
    undecided: tuple[str, ...] = ()  # fields of the spec that neither names nor order show
    adapted: dict[str, str] = field(default_factory=dict)  # our key -> what was done to its values
    outputs: str | None = None  # as a config says (`weights.outputs`)
    notes: tuple[str, ...] = ()  # what the file says beside its tensors and cannot be used

    @property
    def alignment(self) -> list[dict[str, Any]]:
        """Each module in the file's order: ``theirs``, ``ours``, its weight's ``shape`` and why."""
        modules: dict[str, dict[str, Any]] = {}
        for key, theirs in (self.sources or {key: key for key in self.tensors}).items():
            ours, shape = key.rpartition(".")[0], list(self.tensors[key].shape)
            why = self.reasons.get(ours, "by its name")
            module = {"theirs": split(theirs)[0], "ours": ours, "shape": shape, "why": why}
            module = modules.setdefault(ours, module)
            module["shape"] = max(module["shape"], shape, key=len)
        return list(modules.values())
