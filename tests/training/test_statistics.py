"""Measured batch norm statistics against those of all values at once, in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from launching import launch
from resnets.machine.processes import Processes
from resnets.nn.sync_batch_norm import synchronize
from resnets.training.precise_bn import measure_statistics

SIZES = (5, 1, 7, 3)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
    ).double()


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    batches = torch.randn(sum(SIZES), 3, 8, 8, generator=generator, dtype=torch.float64)
    # As different as batches can be: their means differ more than their values.
    return [9 * k + (k + 1) * batch for k, batch in enumerate(batches.split(SIZES))]


def moments(values: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and unbiased variance (C,) of all values (N, C, H, W) at once."""
    rows = torch.cat([value.transpose(0, 1).flatten(1) for value in values], dim=1)
    return rows.mean(1), rows.var(1)


def expected(net: nn.Sequential) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The statistics of both norms; the first one's batches are each normalised by their own."""
    seen = [net[0](batch) for batch in batches()]
    normal = [F.batch_norm(x, None, None, net[1].weight, net[1].bias, training=True) for x in seen]
    return [moments(seen), moments([net[3](x.relu()) for x in normal])]


def check(net: nn.Sequential, wanted: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for norm, (mean, var) in zip((net[1], net[4]), wanted, strict=True):
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(norm.running_var, var, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_those_of_all_values(training):
    net = model().train(training)
    net[1].running_mean.fill_(torch.nan)  # what was there does not matter
    weights = [parameter.clone() for parameter in net.parameters()]
    with torch.no_grad():
        wanted = expected(net)
    measure_statistics(net, batches())
    check(net, wanted)
    assert all(a.equal(b) for a, b in zip(net.parameters(), weights, strict=True))
    assert [module.training for module in net.modules()] == [training] * 6
    assert (net[1].momentum, net[4].momentum) == (0.1, 0.1)


def test_one_batch_gives_what_training_on_it_with_momentum_one_gives():
    measured, trained = model(), model()
    batch = batches()[2]
    measure_statistics(measured, [batch, batch[:0]])
    trained[1].momentum = trained[4].momentum = 1.0
    trained(batch)
    check(measured, [(norm.running_mean, norm.running_var) for norm in (trained[1], trained[4])])


def test_float32_does_not_drift_over_many_batches():
    net = nn.Sequential(nn.BatchNorm2d(2))
    parts = torch.randn(100, 4, 2, 3, 3) * 1e-2 + 1e2
    measure_statistics(net, iter(parts))
    mean, var = moments(list(parts.double()))
    torch.testing.assert_close(net[0].running_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(net[0].running_var.double(), var, rtol=1e-3, atol=0)


def test_frozen_norms_and_norms_without_statistics_stay():
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3)
    )
    net[0].eval()
    measure_statistics(net, [torch.randn(4, 3, 2, 2) + 5])
    assert net[0].running_mean.eq(0).all()
    assert not net[0].training
    assert net[1].running_mean is None
    assert net[2].running_mean.ne(0).all()


def test_without_batches_nothing_changes():
    net = model()
    before = copy.deepcopy(net.state_dict())
    measure_statistics(net, [])
    assert all(before[key].equal(tensor) for key, tensor in net.state_dict().items())


def test_an_error_leaves_the_mode_as_it_was():
    net = model().eval()
    with pytest.raises(RuntimeError):
        measure_statistics(net, [torch.zeros(2, 5, 8, 8).double()])
    assert not any(module.training for module in net.modules())
    measure_statistics(net, [batches()[0]])  # no hook is left to count twice
    assert not net[1]._forward_pre_hooks


def measured_in_parts(processes: Processes, synchronous: bool) -> dict[str, torch.Tensor]:
    net = model()
    if synchronous:
        synchronize(net)
    parts = [batch[processes.part(len(batch))] for batch in batches()]
    if not synchronous:  # each process normalises alone: whole batches, by turns
        parts = batches()[processes.rank :: processes.count]
    measure_statistics(net, parts, processes)
    return dict(net.named_buffers())


@pytest.mark.parametrize("synchronous", [True, False])
def test_several_processes_measure_together(synchronous):
    net = model()
    with torch.no_grad():
        wanted = expected(net)
    for buffers in launch(2, measured_in_parts, synchronous):
        for name in ("1", "4"):
            norm = net.get_submodule(name)
            norm.running_mean = buffers[f"{name}.running_mean"]
            norm.running_var = buffers[f"{name}.running_var"]
        check(net, wanted)
