"""What one output position sees of the input: receptive field and stride, layer by layer."""

from dataclasses import dataclass

from torch import nn

# The residual branch sees more than the shortcut beside it; gates see what it sees.
SIDE_PATHS = {"downsample", "join", "se"}


def on_main_path(name: str) -> bool:
    """Tell whether a module of this dotted name decides what is seen."""
    return not SIDE_PATHS & set(name.split("."))


@dataclass(frozen=True)
class View:
    """``field`` pixels of the input along one side; neighbouring outputs are ``stride`` apart."""

    field: int = 1
    stride: int = 1

    def through(self, module: nn.Module) -> "View":
        """Return the view after a layer; layers that move nothing leave it as it is."""
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d):
            return self
        kernel, stride, dilation = (
            _side(getattr(module, name)) for name in ("kernel_size", "stride", "dilation")
        )
        return View(self.field + (kernel - 1) * dilation * self.stride, self.stride * stride)

    def through_all(self, module: nn.Module) -> "View":
        """Return the view after every layer on a module's main path, in the order of the names."""
        view = self
        for name, layer in module.named_modules():
            if on_main_path(name):
                view = view.through(layer)
        return view


def _side(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value
