"""Layer responses and gradient norms, against direct computation; nothing is left behind."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import scramble
from resnets import create_model, get_spec
from resnets.analysis.responses import gradient_norms, layer_responses


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 32, 32)


def unchanged(model, before):
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before, strict=True))
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_responses_are_those_of_the_batch_norms(images):
    model = create_model("resnet8")
    before = [t.clone() for t in model.state_dict().values()]
    responses = {m.name: m.value for m in layer_responses(model, images)}
    assert model.training
    unchanged(model, before)
    assert list(responses)[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert len(responses) == 7
    with torch.no_grad():
        model.eval()
        stem = model.bn1(model.conv1(images))
        assert responses["conv1"] == pytest.approx(stem.std(correction=0).item(), rel=1e-5)
        block, x = model.layer1[0], F.relu(stem)
        first = block.bn1(block.conv1(x))
        assert responses["layer1.0.conv1"] == pytest.approx(
            first.std(correction=0).item(), rel=1e-5
        )
        second = block.bn2(block.conv2(F.relu(first)))
        assert responses["layer1.0.conv2"] == pytest.approx(
            second.std(correction=0).item(), rel=1e-5
        )


def test_responses_follow_the_scale_of_the_norm(images):
    model = create_model("resnet8")
    base = {m.name: m.value for m in layer_responses(model, images)}
    torch.nn.init.constant_(model.layer3[0].bn2.weight, 3.0)
    scaled = {m.name: m.value for m in layer_responses(model, images)}
    assert scaled["layer3.0.conv2"] == pytest.approx(3 * base["layer3.0.conv2"], rel=1e-5)
    assert scaled["layer2.0.conv2"] == base["layer2.0.conv2"]


@pytest.mark.parametrize("name", ["plain8", "resnet8_b", "resnet11_v2", "resnet11"])
def test_every_3x3_layer_has_a_response(name, images):
    model = create_model(name)
    measured = [m.name for m in layer_responses(model, images)]
    expected = [
        n
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert measured == expected


SMALL = {"depths": (1, 1), "widths": (8, 16), "image_size": 32}


@pytest.mark.parametrize(
    ("spec", "behind"),
    [
        (
            replace(get_spec("resnet18d"), **SMALL, out_channels=()),
            {"conv1.0": "conv1.1", "conv1.3": "conv1.4", "conv1.6": "bn1"},
        ),
        (
            replace(get_spec("resnet8_b"), projection_size="3x3"),
            {"layer2.0.downsample.0": "layer2.0.downsample.1", "layer2.0.conv2": "layer2.0.bn2"},
        ),
        (
            replace(get_spec("resnet8"), activation_order="bn_after_addition"),
            {"layer1.0.conv1": "layer1.0.bn1", "layer1.0.conv2": "layer1.0.conv2"},
        ),
        (get_spec("resnet11_v2"), {"layer1.0.conv2": "layer1.0.conv2"}),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_responses_are_of_what_follows_before_the_addition(spec, behind, images):
    model = scramble(create_model(spec)).eval()
    heard = {}
    for layer, module in behind.items():
        model.get_submodule(module).register_forward_hook(
            lambda _, given, output, layer=layer: heard.update({layer: output.std(correction=0)})
        )
    responses = {m.name: m.value for m in layer_responses(model, images)}
    assert {layer: responses[layer] for layer in behind} == pytest.approx(
        {layer: value.item() for layer, value in heard.items()}, rel=1e-5
    )


def test_gradient_norms_equal_backward(images):
    model = create_model("resnet14")
    labels = torch.arange(4)
    before = [t.clone() for t in model.state_dict().values()]
    norms = {m.name: m.value for m in gradient_norms(model, images, labels)}
    unchanged(model, before)
    twin = copy.deepcopy(model).train()
    F.cross_entropy(twin(images), labels).backward()
    for name, value in norms.items():
        gradients = torch.cat([p.grad.flatten() for p in twin.get_submodule(name).parameters()])
        assert value == pytest.approx(gradients.norm().item(), rel=1e-4)
    assert list(norms) == [f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1)]
