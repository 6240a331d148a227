"""torchvision and timm, imported where torchvision's compiled operators are missing."""

import sys
from importlib import import_module
from types import ModuleType

import torch

LIBRARIES = ("torchvision", "timm")

# torchvision's compiled operators, which a torch for the CPU alone may lack, and without whose
# declaration it cannot be imported. Networks call none of them.
_OPERATORS = (
    *("roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool"),
    *("_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align", "nms", "qnms"),
    *("deform_conv2d", "_deform_conv2d_backward"),
)


def import_library(name: str) -> ModuleType:
    """Import torchvision or timm, also where torchvision's compiled operators are missing."""
    try:
        return import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for operator in _OPERATORS:
        torch.library.define(f"torchvision::{operator}", "(Tensor x) -> Tensor")
    for module in [m for m in sys.modules if m.partition(".")[0] in LIBRARIES]:
        del sys.modules[module]  # what the first attempt has left
    return import_module(name)
