"""Same weights, same output as timm 1.0.31: stems, shortcuts, attention, pre-activation."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from conftest import scramble
from resnets import ResNet, get_spec
from resnets.training.recipe import FinetuneRecipe
from resnets.training.thawing import Thawing

# timm's name -> ours; state-dict keys are the same.
SAME_KEYS = {
    "resnext50_32x4d": "resnext50_32x4d",
    **{name: name for name in ("resnet18", "resnet50", "resnet50c", "resnet50d", "resnet50s")},
    **{name: name for name in ("resnet50t", "resnet18d", "resnet34d", "resnet101d", "resnet152d")},
    **{f"seresnet{d}": f"se_resnet{d}" for d in (18, 34, 50, 101, 152)},
    "seresnext50_32x4d": "se_resnext50_32x4d",
    "ecaresnet50d": "eca_resnet50d",
    "ecaresnet101d": "eca_resnet101d",
    "resnext101_32x4d": "resnext101_32x4d",
    "wide_resnet50_2": "wide_resnet50_2",
    "resnet200d": "resnet200d",
    **{name: name for name in ("resnet101c", "resnet152s", "seresnet152d", "ecaresnet50t")},
}
PREACTIVATED = [f"resnetv2_{depth}" for depth in (18, 34, 50, 101, 152)]


def assert_equal(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    x = torch.randn(2, 3, 97, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.double().eval()(x)
        difference = (ours.double().eval()(x) - expected).abs().max()
    assert difference <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize(("theirs", "ours"), SAME_KEYS.items())
def test_same_keys(theirs, ours):
    theirs, ours = scramble(timm.create_model(theirs)), ResNet(get_spec(ours))
    ours.load_state_dict(theirs.state_dict())
    assert_equal(ours, theirs)


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's ResNetV2 under our names."""
    result = {}
    for key, tensor in state.items():
        parts = key.split(".")
        if parts[0] == "stages":
            name = parts[4].replace("norm", "bn")
            name = {"downsample": "downsample.0"}.get(name, name)
            key = ".".join([f"layer{int(parts[1]) + 1}", parts[3], name, parts[-1]])
        elif parts[0] == "head":
            key, tensor = f"fc.{parts[-1]}", tensor.flatten(1) if tensor.ndim > 1 else tensor
        result[key.replace("stem.conv.", "conv1.")] = tensor
    return result


@pytest.mark.parametrize("name", PREACTIVATED)
def test_preactivation(name):
    theirs = scramble(timm.create_model(name))
    ours = ResNet(get_spec(name))
    ours.load_state_dict(renamed(theirs.state_dict()))
    assert_equal(ours, theirs)


def test_the_first_shortcut_of_basic_nets_does_differ():
    """What the field first_shortcut_input is for: the same weights, another function."""
    theirs = scramble(timm.create_model("resnetv2_18"))
    ours = ResNet(get_spec("resnet18_v2"))
    ours.load_state_dict(renamed(theirs.state_dict()))
    with pytest.raises(AssertionError):
        assert_equal(ours, theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "seresnet50"])
@pytest.mark.parametrize("decay", [0.5, 0.75, 0.9])
def test_layer_decay(name, decay):
    """The same factor of the rate for every parameter, to the last bit but one."""
    ours = {"seresnet50": "se_resnet50"}.get(name, name)
    thawing = Thawing(FinetuneRecipe(layer_decay=decay), get_spec(ours))
    model = timm.create_model(name)
    groups = param_groups_layer_decay(model, layer_decay=decay)
    theirs = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    for key, parameter in model.named_parameters():
        assert thawing.place(key)[1] == pytest.approx(theirs[id(parameter)], rel=1e-15), key


def test_layer_decay_with_a_norm_after_the_last_stage():
    spec = get_spec("resnet50_v2")
    model = timm.create_model("resnetv2_50")
    groups = param_groups_layer_decay(model, layer_decay=0.8)
    theirs = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    thawing = Thawing(FinetuneRecipe(layer_decay=0.8), spec)
    same = {"norm.weight": "norm.weight", "fc.weight": "head.fc.weight"}
    same |= {"conv1.weight": "stem.conv.weight"}
    same |= {
        f"layer{s + 1}.{b}.conv1.weight": f"stages.{s}.blocks.{b}.conv1.weight"
        for s, depth in enumerate(spec.depths)
        for b in range(depth)
    }
    for key, other in same.items():
        assert thawing.place(key)[1] == pytest.approx(theirs[id(parameters[other])], rel=1e-15), key
