"""The losses of several classes an image, and what is counted, against the papers in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnets.data.mixing import Mix
from resnets.errors import UsageError
from resnets.training.recipe import Recipe, load_recipe
from resnets.training.step import Outcome, build_optimizer, training_step

SETTINGS = [(4.0, 1.0, 0.05), (4.0, 0.0, 0.05), (0.0, 0.0, 0.0), (2.5, 1.5, 0.0), (1.0, 3.0, 0.2)]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double()


def batch(count: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = 3 * torch.randn(count, 3, 2, 2, generator=generator, dtype=torch.float64)
    return images, torch.rand(count, 5, generator=generator) < 0.3


def recipe(**values) -> Recipe:
    return Recipe(name="test", batch_size=9, schedule={"epochs": 1}, **values)


def step(net: nn.Module, plan: Recipe, images: Tensor, shares: Tensor, true: Tensor) -> Outcome:
    optimizer = build_optimizer(net, plan.optimizer)
    found = training_step(net, optimizer, images, shares, true, lr=0.1, recipe=plan)
    assert found is not None
    return found


def papers(x: np.ndarray, y: np.ndarray, negative: float, positive: float, clip: float) -> float:
    """Ben-Baruch et al. 2021, equations 1, 5 and 6, of one image's class."""
    p = 1 / (1 + np.exp(-x))
    shifted = max(p - clip, 0)
    of_present = (1 - p) ** positive * np.log(p)
    of_absent = shifted**negative * np.log(1 - shifted)
    return -y * of_present - (1 - y) * of_absent


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_asymmetric_loss_is_the_papers(setting, mixed, smoothing):
    negative, positive, clip = setting
    images, true = batch()
    share = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    shares = share * true + (1 - share) * true.roll(1, 0) if mixed else true
    net = model()
    before = copy.deepcopy(net)
    asymmetric = {"gamma_negative": negative, "gamma_positive": positive, "clip": clip}
    plan = recipe(loss="asymmetric", asymmetric=asymmetric, label_smoothing=smoothing)
    outcome = step(net, plan, images, shares, true)

    x = before(images).detach().numpy()
    y = shares.double().numpy() * (1 - smoothing) + smoothing / 2

    def mean(moved: np.ndarray) -> float:
        each = [papers(*pair, *setting) for pair in zip(moved.flat, y.flat, strict=True)]
        return float(np.mean(each))

    assert outcome.loss == pytest.approx(mean(x), rel=1e-12)
    # By the weights of the classifier: its input times the derivative by each logit.
    slopes, h = np.zeros_like(x), 1e-6
    for place in np.ndindex(x.shape):
        moved = np.stack([x, x])
        moved[(0, *place)] -= h
        moved[(1, *place)] += h
        slopes[place] = (mean(moved[1]) - mean(moved[0])) / (2 * h)
    wanted = slopes.T @ images.flatten(1).numpy()
    np.testing.assert_allclose(net[1].weight.grad.numpy(), wanted, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_torchs(smoothing):
    """Smoothed towards one half, as Keras's BinaryCrossentropy is."""
    images, true = batch()
    net, theirs = model(), model()
    wanted = true.double() * (1 - smoothing) + smoothing / 2
    loss = nn.BCEWithLogitsLoss()(theirs(images), wanted)
    loss.backward()
    plan = recipe(loss="binary_cross_entropy", label_smoothing=smoothing)
    outcome = step(net, plan, images, true, true)
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(net[1].weight.grad, theirs[1].weight.grad, rtol=1e-12, atol=1e-12)
    assert outcome.correct == ((theirs(images) > 0) == true).all(1).sum()


def test_an_image_is_correct_when_all_of_its_classes_are():
    images, true = batch()
    net = model()
    known = net(images) > 0  # no image right by chance alone: some are made so
    true[:4] = known[:4]
    true[4:] = known[4:]
    true[4:, 2] = ~known[4:, 2]
    outcome = step(net, recipe(loss="binary_cross_entropy"), images, true, true)
    assert outcome.correct == 4


@pytest.mark.parametrize("setting", SETTINGS)
def test_certain_answers_have_finite_gradients(setting):
    negative, positive, clip = setting
    images = torch.tensor([[1.0, -1.0]]) * 200
    net = nn.Linear(2, 4, bias=False)
    net.weight.data = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    true = torch.tensor([[True, True, False, False]])
    asymmetric = {"gamma_negative": negative, "gamma_positive": positive, "clip": clip}
    plan = recipe(loss="asymmetric", asymmetric=asymmetric)
    assert np.isfinite(step(net, plan, images, true, true).loss)
    assert net.weight.isfinite().all()


def test_powers_whose_gradient_is_infinite_are_refused():
    with pytest.raises(UsageError, match="gamma_negative is 0, which weighs nothing, or 1 and mor"):
        load_recipe("default", ["asymmetric.gamma_negative=0.5"])


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0)])
def test_mixed_images_have_the_classes_of_both(alphas):
    """Each class's share is that of the images that have it; one class an image, as ever."""
    generator = torch.Generator().manual_seed(3)
    images, others = torch.rand(2, 50, 3, 8, 8, generator=generator)
    labels, theirs = torch.randint(5, (2, 50), generator=generator)
    ids, mix = torch.arange(50), Mix(0, *alphas, 5)
    _, one, _ = mix(images, labels, others, theirs, ids, 2)
    hot, their_hot = (nn.functional.one_hot(each, 5).bool() for each in (labels, theirs))
    mixed, several, _ = mix(images, hot, others, their_hot, ids, 2)
    torch.testing.assert_close(several, one, rtol=0, atol=1e-7)
    both = torch.ones(50, 5, dtype=torch.bool)
    assert (mix(images, both, others, both, ids, 2)[1] - 1).abs().max() < 1e-6
    assert (mix(images, ~both, others, ~both, ids, 2)[1] == 0).all()
    assert mixed.shape == images.shape
