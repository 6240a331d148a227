"""The exact cost of a network, measured by running it on torch's meta device.

Conventions: MACs are the multiply-adds of convolutions and the classifier for one image, without
bias, batch norm or pooling; activations are the outputs of convolutions, max-pooling and the
classifier (as in pycls).
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resnets.nn import ResNet
from resnets.nn.blocks import Block
from resnets.nn.receptive_field import View, on_main_path
from resnets.spec import Spec
from resnets.zoo import asked_spec


@dataclass(frozen=True)
class StageCost:
    """One row of a table like He et al. 2015, Table 1."""

    name: str
    output: tuple[int, ...]  # (C, H, W), or (classes,)
    layers: str
    blocks: int
    parameters: int
    macs: int
    activations: int
    receptive_field: int  # pixels of the input that one output position sees, along one side


@dataclass(frozen=True)
class Profile:
    """What a network costs for one image of (in_channels, image_size, image_size)."""

    name: str
    image_size: int
    parameters: int
    macs: int
    activations: int
    receptive_field: int
    stages: tuple[StageCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return asdict(self)


@dataclass
class _Layer:
    """One convolution, pooling or linear layer as it ran."""

    name: str
    module: nn.Module
    output: tuple[int, ...]

    @property
    def weights(self) -> int:
        weight = getattr(self.module, "weight", None)
        return weight.numel() if isinstance(weight, Tensor) else 0

    @property
    def macs(self) -> int:
        # Each weight multiplies once at every output position.
        return self.weights * prod(self.output[1:])

    @property
    def activations(self) -> int:
        return prod(self.output)

    @property
    def text(self) -> str:
        module = self.module
        if isinstance(module, nn.Conv2d):
            stride = f", stride {module.stride[0]}" if module.stride[0] > 1 else ""
            groups = f", C={module.groups}" if module.groups > 1 else ""
            return (
                f"{module.kernel_size[0]}x{module.kernel_size[1]}, {self.output[0]}{groups}{stride}"
            )
        if isinstance(module, nn.MaxPool2d):
            return f"{module.kernel_size}x{module.kernel_size} max-pool, stride {module.stride}"
        return f"average pool, {self.output[0]}-d fc, softmax"


def profile(
    model: str | Spec,
    *,
    image_size: int | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
) -> Profile:
    """Return the exact parameters, MACs, activations and receptive field of a model.

    What is left out is the spec's own: 224 and 1000 classes for ImageNet nets, 32 and 10 for CIFAR
    nets. Raises UsageError for an unknown name.
    """
    spec = asked_spec(
        model, image_size=image_size, num_classes=num_classes, in_channels=in_channels
    )
    return _profile(spec, spec.name)


@lru_cache(maxsize=64)
def _profile(spec: Spec, name: str) -> Profile:
    """Measure it once for the several times that a run asks; equal specs may differ in name."""
    with torch.device("meta"):
        network = ResNet(spec).eval()
        image = torch.empty(1, spec.in_channels, spec.image_size, spec.image_size)
    layers = _run(network, image)
    stages = _stages(network, layers)
    return Profile(
        name=name,
        image_size=spec.image_size,
        parameters=sum(p.numel() for p in network.parameters()),
        macs=sum(stage.macs for stage in stages),
        activations=sum(stage.activations for stage in stages),
        receptive_field=stages[-1].receptive_field,
        stages=tuple(stages),
    )


def _run(network: nn.Module, x: Tensor) -> list[_Layer]:
    """Run the network and return its layers in the order in which they ran."""
    layers: list[_Layer] = []

    def record(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            layers.append(_Layer(name, module, tuple(output.shape[1:])))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.MaxPool2d | nn.Linear):
            module.register_forward_hook(record(name))
    with Shapes():
        network(x)
    return layers


class Shapes(TorchFunctionMode):
    """Give the shapes of functions whose meta kernels are Python and import torch's compiler.

    A batch norm, most of all, would take ten times a convolution's time there.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.batch_norm, Tensor.add):
            return args[0]
        if func is F.adaptive_avg_pool2d:  # to 1x1
            return args[0][..., :1, :1]
        if func is F.linear:
            return args[0].new_empty(len(args[0]), len(args[1]))
        return func(*args, **(kwargs or {}))


def _stages(network: ResNet, layers: list[_Layer]) -> list[StageCost]:
    stages: list[StageCost] = []
    seen = View()
    names = ["conv1", *(f"layer{i + 1}" for i in range(len(network.spec.depths))), "fc"]
    for name in names:
        members = {"conv1": ("conv1", "bn1", "maxpool"), "fc": ("norm", "fc")}.get(name, (name,))
        mine = [layer for layer in layers if layer.name.split(".")[0] in members]
        # The residual branch sees more than the shortcut beside it; gates see what it sees.
        path = [layer for layer in mine if on_main_path(layer.name)]
        for layer in path:
            seen = seen.through(layer.module)
        blocks = sum(isinstance(m, Block) for m in network.get_submodule(name).children())
        # The last block shows the stage's layers without the first one's stride.
        shown = path[len(path) // blocks * (blocks - 1) :] if blocks else path
        stages.append(
            StageCost(
                name=name,
                output=path[-1].output,
                layers="; ".join(layer.text for layer in shown),
                blocks=max(1, blocks),
                parameters=sum(
                    p.numel() for m in members for p in network.get_submodule(m).parameters()
                ),
                macs=sum(layer.macs for layer in mine),
                activations=sum(layer.activations for layer in mine),
                receptive_field=seen.field,
            )
        )
    return stages
