"""Every entry of the zoo, whole: two sizes, forward and backward, deepcopy, compile, export."""

import copy
from datetime import date, timedelta

import pytest
import torch

from every_model import DAYS, each_model, families, of_the_day
from resnets import ResNet
from resnets.zoo import ZOO


def test_every_model_has_its_day_and_every_family_each_day():
    days = [of_the_day(date(2026, 12, 24) + timedelta(day)) for day in range(DAYS)]
    assert {name for models in days for name in models} == set(ZOO)
    assert all(set(family) & set(models) for family in families().values() for models in days)
    assert max(map(len, days)) < len(ZOO) / 5


# The deeper ones take seconds each; every axis does the same with a short net (test_resnet.py).
SHALLOW = ["resnet18", "resnet20", "resnet20_v2", "plain20", "keras_resnet20_v2"]


@pytest.mark.parametrize("name", each_model(SHALLOW))
def test_runs_copies_compiles_and_exports(name):
    torch.manual_seed(0)
    torch._dynamo.reset()  # it counts the graphs of one forward() over all models
    # float64: at its start resnet1202_c, six hundred projections deep, has gradients and, with
    # fresh statistics, outputs that float32 cannot hold.
    spec = ZOO[name]
    model = ResNet(spec).double()
    small = 16 if spec.stem == "3x3" else 64
    for size in (small, small + 13):
        twin = copy.deepcopy(model)
        logits = twin(torch.randn(2, spec.in_channels, size, size, dtype=torch.float64))
        assert logits.shape == (2, spec.num_classes)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())
    assert all(p.grad is None for p in model.parameters())
    x = torch.randn(2, spec.in_channels, small, small, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(x)  # for statistics that fit
        expected = model.eval()(x)
        bound = 1e-10 * expected.abs().max()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert (compiled(x) - expected).abs().max() <= bound
        exported = torch.export.export(model, (x,)).module()
        assert (exported(x) - expected).abs().max() <= bound
