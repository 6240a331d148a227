"""Weights in pieces are multiplied out to what torch's own functions leave."""

import pytest
import torch
from torch import nn
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)

from resnets import create_model, load_weights
from resnets.errors import CheckpointError
from resnets.weights.reparametrised import multiplied_out


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network() -> nn.Module:
    """Convolution, norm and classifier, in evaluation as a file's weights are."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1), nn.Linear(8, 4))


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def assert_alike(result: dict[str, torch.Tensor], model: nn.Module) -> None:
    expected = model.state_dict()
    assert result.keys() == expected.keys()
    assert all(torch.equal(result[key], tensor) for key, tensor in expected.items())


def weighted(model: nn.Module) -> list[nn.Module]:
    return [module for module in model if not isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_pruned(name):
    model = network()
    for module in model:
        prune.random_unstructured(module, name, amount=0.5)
    prune.ln_structured(model[0], "weight", amount=0.25, n=2, dim=0)  # a second time
    tensors = stored(model)
    result, done = multiplied_out(tensors)
    for module in model:
        prune.remove(module, name)
    if name == "bias":
        prune.remove(model[0], "weight")
    assert_alike(result, model)
    assert done[f"0.{name}"] == "multiplied by its mask (pruning)"
    assert done.keys() >= {f"{place}.{name}" for place in range(4)}


def test_masks_of_other_types():
    """Some save masks in a byte each."""
    model = network()
    prune.random_unstructured(model[0], "weight", amount=0.5)
    tensors = stored(model)
    tensors["0.weight_mask"] = tensors["0.weight_mask"].bool()
    result, _ = multiplied_out(tensors)
    prune.remove(model[0], "weight")
    assert_alike(result, model)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(dim, dtype):
    model = network().to(dtype)
    for module in weighted(model):
        weight_norm(module, dim=dim)
    tensors = stored(model)
    for key in tensors:
        if key.endswith("_g"):
            tensors[key] *= 1.7
    model.load_state_dict(tensors)
    result, done = multiplied_out(tensors)
    for module in weighted(model):
        remove_weight_norm(module)
    assert_alike(result, model)
    assert set(done) == {"0.weight", "2.weight", "3.weight"}


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_as_a_parametrisation(dim):
    model = network()
    for module in weighted(model):
        parametrizations.weight_norm(module, dim=dim)
        with torch.no_grad():
            module.parametrizations.weight.original0.mul_(1.7)
    tensors = stored(model)
    assert "0.parametrizations.weight.original1" in tensors
    result, _ = multiplied_out(tensors)
    for module in weighted(model):
        parametrize.remove_parametrizations(module, "weight")
    assert_alike(result, model)


@pytest.mark.parametrize("steps", [1, 30])
def test_spectral_norm(steps):
    """Also after few power iterations, when u and v are not the singular vectors yet."""
    model = network()
    for module in weighted(model):
        spectral_norm(module)
    for _ in range(steps):
        (
            model[0](torch.randn(1, 3, 4, 4)),
            model[2](torch.randn(1, 8, 1, 1)),
            model[3](torch.randn(1, 8)),
        )
    tensors = stored(model)
    result, done = multiplied_out(tensors)
    for module in weighted(model):
        remove_spectral_norm(module)
    assert_alike(result, model)
    assert done["3.weight"] == "divided by its largest singular value (spectral norm)"


def test_spectral_norm_as_a_parametrisation():
    model = network()
    for module in weighted(model):
        parametrizations.spectral_norm(module)
    tensors = stored(model.eval())
    result, _ = multiplied_out(tensors)
    for module in weighted(model):
        parametrize.remove_parametrizations(module, "weight")
    assert_alike(result, model)


def test_spectral_norm_before_torch_1():
    """It kept the product, and no v."""
    model = network()
    spectral_norm(model[0])
    model[0](torch.randn(1, 3, 4, 4))
    tensors = stored(model.eval())
    del tensors["0.weight_v"]
    with pytest.raises(CheckpointError, match=r"how 0\.weight is computed from .*0\.weight_u"):
        multiplied_out(tensors)
    model[0](torch.randn(1, 3, 4, 4))
    tensors = {"0.weight": model[0].weight.detach(), **tensors}
    result, _ = multiplied_out(tensors)
    remove_spectral_norm(model[0])
    assert result.keys() == model.state_dict().keys()
    assert torch.equal(result["0.weight"], model[0].weight)


def test_a_network_of_ours_after_pruning(tmp_path):
    """Order and names are such that the rest of the way needs to know nothing of it."""
    ours = create_model("resnet20_b").eval()
    plain = create_model("resnet20_b")
    for module in ours.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.4)
    result, done = multiplied_out(ours.state_dict())
    assert len(done) == 21
    assert list(result) == list(plain.state_dict())
    load_weights(plain, result)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), ours(x))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_what_nothing_explains_is_named():
    model = network()
    parametrize.register_parametrization(model[0], "weight", Doubled())
    with pytest.raises(CheckpointError, match=r"0\.parametrizations\.weight\.original") as caught:
        multiplied_out(model.state_dict())
    assert "remove_parametrizations" in caught.value.hint
    model = network()
    parametrizations.orthogonal(model[3])
    with pytest.raises(CheckpointError, match=r"3\.parametrizations\.weight\.0\.base"):
        multiplied_out(model.state_dict())
    model = network()
    for _ in range(2):  # one on the other
        parametrizations.spectral_norm(model[0])
    with pytest.raises(CheckpointError, match=r"0\.parametrizations\.weight\.1\._u"):
        multiplied_out(model.state_dict())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    ("take_apart", "key", "shape"),
    [
        (lambda module: prune.identity(module, "weight"), "weight_mask", (8, 3, 1, 1)),
        (weight_norm, "weight_g", (7, 1, 1, 1)),
        (weight_norm, "weight_g", (8, 3, 1, 1)),
        (weight_norm, "weight_g", (8,)),
        (spectral_norm, "weight_v", (26,)),
        (spectral_norm, "weight_u", (8, 1)),
        (parametrizations.weight_norm, "parametrizations.weight.original0", (8, 8, 1, 1)),
    ],
)
def test_pieces_that_do_not_fit(take_apart, key, shape):
    model = network()
    take_apart(model[0])
    tensors = stored(model) | {f"0.{key}": torch.ones(shape)}
    with pytest.raises(CheckpointError, match=r"0\.weight cannot be computed") as caught:
        multiplied_out(tensors)
    assert str(shape) in caught.value.message


@pytest.mark.parametrize(
    ("scale", "direction"),
    [
        (torch.ones(0, 1), torch.ones(0, 3)),  # ends the process where torch is asked for it
        (torch.ones(2, 1), torch.ones(2, 3).half()),
        (torch.ones(2, 1).int(), torch.ones(2, 3).int()),
    ],
)
def test_pieces_that_torch_cannot_compute_with(scale, direction):
    with pytest.raises(CheckpointError, match=r"fc\.weight cannot be computed"):
        multiplied_out({"fc.weight_g": scale, "fc.weight_v": direction})


def test_a_mask_beside_a_whole_weight():
    """As lottery tickets are kept: where the product is stored, the mask says nothing more."""
    mask = (torch.rand(8, 3) > 0.5).float()
    weight = torch.randn(8, 3) * mask
    result, done = multiplied_out({"weight": weight, "weight_mask": mask, "bias": mask[0]})
    assert list(result) == ["weight", "bias"]
    assert torch.equal(result["weight"], weight)
    assert set(done) == {"weight"}
    with pytest.raises(CheckpointError, match="weight_mask masks values of weight"):
        multiplied_out({"weight": weight + 1, "weight_mask": mask})


@pytest.mark.parametrize(
    "names", [("weight_orig",), ("a_u", "a_v"), ("x_mask",), ("w_v",), ("a", "a_mask")]
)
def test_what_only_sounds_alike_is_left_alone(names):
    tensors = {name: torch.randn(3, 4 + n) for n, name in enumerate(names)}
    assert multiplied_out(tensors) == (tensors, {})
