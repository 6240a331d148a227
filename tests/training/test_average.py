"""Averaged weights against the recurrence in float64, and against what publishes recipes."""

import pytest
import torch
from torch import nn

from conftest import tiny_dataset
from resnets.training.ema import Average, decays, share_of_the_first
from resnets.training.recipe import load_recipe
from resnets.training.train import train


def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    return net.double().to(memory_format=torch.channels_last)


def disturb(net: nn.Module) -> None:
    for tensor in net.state_dict().values():
        tensor.add_(torch.randn(tensor.shape) if tensor.is_floating_point() else 1)


def test_the_average_is_the_recurrence():
    net = model()
    recipe = load_recipe("default", ["ema=0.5"])
    average = Average(net, decays(recipe, steps=100, batches=10))
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


class TheirAverage(torch.optim.swa_utils.AveragedModel):
    """torchvision's references/classification: buffers too, of the decay that is adjusted."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        def mean(average, value, _):
            return decay * average + (1 - decay) * value if value.is_floating_point() else value

        super().__init__(net, avg_fn=mean, use_buffers=True)


@pytest.mark.parametrize(("batches", "every", "warmup"), [(7, 3, 2), (4, 1, 1), (5, 4, 0)])
def test_torchvisions_average(batches, every, warmup):
    """Driven as its script does: copies until the warm-up is over, updates begin with an epoch."""
    epochs, size, decay = 6, 50, 0.998
    settings = [f"ema={decay}", f"ema_every={every}", "ema_form=torchvision", "schedule.warmup=0"]
    settings += [f"batch_size={size}", f"schedule.warmup_epochs={warmup}"]
    recipe = load_recipe("default", settings)
    net = model()
    average = Average(net, decays(recipe, epochs * batches, batches))
    theirs = TheirAverage(net, 1 - min(1.0, (1 - decay) * size * every / epochs))
    step = 0
    for epoch in range(epochs):
        for number in range(batches):
            disturb(net)
            step += 1
            average.update(step)
            if number % every == 0:
                theirs.update_parameters(net)
                if epoch < warmup:
                    theirs.n_averaged.fill_(0)
            for key, tensor in theirs.module.state_dict().items():
                torch.testing.assert_close(average.tensors[key], tensor, rtol=1e-12, atol=1e-12)
    assert not average.tensors["0.weight"].equal(net[0].weight)


def test_torchvisions_decay_of_its_recipe():
    """1,281,024 draws in batches of 1024: 0.99998 becomes 1 - 0.00002 * 1024 * 32 / 600."""
    settings = ["ema=0.99998", "ema_every=32", "ema_form=torchvision", "batch_size=1024"]
    settings += ["schedule.epochs=600", "schedule.warmup=0", "schedule.warmup_epochs=5"]
    recipe = load_recipe("default", settings)
    decay = decays(recipe, 600 * 1251, 1251)
    first = 5 * 1251 + 1  # of the first epoch after the warm-up
    assert [decay(step) for step in (1, 2, 32, 33, first, first + 1)] == [0, 1, 1, 0, 0, 1]
    assert decay(first + 32) == pytest.approx(1 - 0.00002 * 1024 * 32 / 600, rel=1e-14)


def test_a_run_may_be_too_short_for_its_average():
    recipe = load_recipe("torchvision_v2_imagenet")
    assert share_of_the_first(recipe, 600 * 1251, 1251) == 0.1
    few = load_recipe(recipe, ["batch_size=64"])
    decay = 1 - 0.00002 * 64 * 32 / 600  # one update an epoch, of which the first six copy
    assert share_of_the_first(few, 600 * 28, 28) == pytest.approx(decay**594, rel=1e-9)
    other = load_recipe(few, ["ema=0.999", "ema_form=tensorflow", "ema_every=1"])
    assert share_of_the_first(other, 600 * 28, 28) == 0.1


def test_such_a_run_says_so(tmp_path, capsys):
    settings = ["ema=0.9999", "ema_form=torchvision", "schedule.iterations=2", "data.holdout=0"]
    train(tiny_dataset(), model="resnet8", settings=settings, out=tmp_path / "run")
    assert (
        "% of the averaged weights will be those that the average began" in capsys.readouterr().err
    )


def test_timms_decay():
    """ModelEmaV3 with a warm-up: 1 - (1 + n)^(-2/3) after n updates, at most the decay."""
    decay = decays(load_recipe("default", ["ema=0.999", "ema_form=timm"]), 10**6, 100)
    assert decay(1) == 0
    assert [decay(n + 1) for n in (1, 7, 26)] == pytest.approx([1 - 2 ** (-2 / 3), 0.75, 8 / 9])
    assert decay(31_700) == 0.999


def test_an_average_of_equal_weights_is_those_weights():
    net = model()
    average = Average(net, lambda step: 0.999)
    for step in range(5):
        average.update(step)
    assert all(average.tensors[k].equal(v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_averages_are_in_the_model_for_a_while(fails):
    net = model()
    average = Average(net, lambda step: 0.9)
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
    first = Average(net, lambda step: 0.9)
    disturb(net)
    first.update(1)
    second = Average(net, lambda step: 0.9)
    second.load({key: tensor.clone() for key, tensor in first.tensors.items()})
    disturb(net)
    first.update(2)
    second.update(2)
    assert all(second.tensors[key].equal(tensor) for key, tensor in first.tensors.items())


def test_updates_leave_the_model_alone_and_training_leaves_the_average_alone():
    net = model()
    average = Average(net, lambda step: 0.9)
    kept = {key: tensor.clone() for key, tensor in average.tensors.items()}
    disturb(net)
    assert all(average.tensors[key].equal(tensor) for key, tensor in kept.items())
    moved = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    average.update(1)
    assert all(net.state_dict()[key].equal(tensor) for key, tensor in moved.items())
