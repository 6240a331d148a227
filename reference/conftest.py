"""The reference libraries, and models with weights that hide no difference.

torchvision's compiled operators are absent on a CPU-only torch; their schemas are declared first,
so that torchvision, and timm with it, can be imported. None of them is called here.
"""

import os

import pytest
import torch
from torch import nn

os.environ["KERAS_BACKEND"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

OPERATORS = [
    *("roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool"),
    *("_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align", "nms", "qnms"),
    *("deform_conv2d", "_deform_conv2d_backward"),
]
for operator in OPERATORS:
    torch.library.define(f"torchvision::{operator}", "(Tensor x) -> Tensor")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scramble(model: nn.Module) -> nn.Module:
    """Give norms, biases and statistics values that matter, and return the model."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.2)
    return model
