"""Averaged weights against the recurrence in float64."""

import pytest
import torch
from torch import nn

from resnets.training.ema import Average


def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    return net.double().to(memory_format=torch.channels_last)


def disturb(net: nn.Module) -> None:
    for tensor in net.state_dict().values():
        tensor.add_(torch.randn(tensor.shape) if tensor.is_floating_point() else 1)


def test_the_average_is_the_recurrence():
    net = model()
    average = Average(net, 0.5)
    expected = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    for step in range(1, 12):
        disturb(net)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for key, tensor in net.state_dict().items():
            counts = not tensor.is_floating_point()
            expected[key] = (
                tensor.clone() if counts else decay * expected[key] + (1 - decay) * tensor
            )
    assert average.tensors.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(average.tensors[key], tensor, rtol=1e-13, atol=1e-13)
    assert average.tensors["1.num_batches_tracked"] == 11


def test_an_average_of_equal_weights_is_those_weights():
    net = model()
    average = Average(net, 0.999)
    for step in range(5):
        average.update(step)
    assert all(average.tensors[k].equal(v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_averages_are_in_the_model_for_a_while(fails):
    net = model()
    average = Average(net, 0.9)
    disturb(net)
    average.update(1)
    net[0].weight.data[0, 0, 0, 0] = torch.nan
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    averages = {key: tensor.clone() for key, tensor in average.tensors.items()}
    try:
        with average.applied():
            assert all(v.equal(averages[k]) for k, v in net.state_dict().items())
            net(torch.randn(5, 3, 3, 3).double())  # moves the statistics
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    for key, tensor in net.state_dict().items():
        same = tensor.reshape(-1).view(torch.uint8), before[key].reshape(-1).view(torch.uint8)
        assert same[0].equal(same[1]), key
    assert all(average.tensors[key].equal(tensor) for key, tensor in averages.items())
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_saved_averages_go_on_alike():
    net = model()
    first = Average(net, 0.9)
    disturb(net)
    first.update(1)
    second = Average(net, 0.9)
    second.load({key: tensor.clone() for key, tensor in first.tensors.items()})
    disturb(net)
    first.update(2)
    second.update(2)
    assert all(second.tensors[key].equal(tensor) for key, tensor in first.tensors.items())


def test_updates_leave_the_model_alone_and_training_leaves_the_average_alone():
    net = model()
    average = Average(net, 0.9)
    kept = {key: tensor.clone() for key, tensor in average.tensors.items()}
    disturb(net)
    assert all(average.tensors[key].equal(tensor) for key, tensor in kept.items())
    moved = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    average.update(1)
    assert all(net.state_dict()[key].equal(tensor) for key, tensor in moved.items())
