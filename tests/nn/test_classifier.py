"""What timm users ask of a classifier: its parts, and another head."""

import pytest
import torch

import resnets


def test_forward_is_features_and_head():
    model = resnets.create_model("resnet20").eval()
    x = torch.randn(2, 3, 32, 32)
    features = model.forward_features(x)
    pooled = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, features.mean((2, 3)))
    assert torch.equal(model.forward_head(features), model(x))
    assert torch.equal(model.get_classifier()(pooled), model(x))
    assert model.num_features == 64


def test_reset_classifier():
    model = resnets.create_model("resnet20").double().eval()
    model.classes = tuple("abcdefghij")
    body = {key: tensor.clone() for key, tensor in model.state_dict().items() if "fc" not in key}
    model.reset_classifier(7)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert model(x).shape == (2, 7)
    assert (model.spec.num_classes, model.classes) == (7, ())
    assert model.fc.weight.requires_grad
    assert (model.fc.bias == 0).all()
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in body.items())
    model.reset_classifier(0)
    assert torch.equal(model(x), model.forward_head(model.forward_features(x), True))
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet50", "resnet18_v2", "resnet20"])
def test_feature_info(name):
    """The maps that its modules put out."""
    model = resnets.create_model(name).eval()
    spec = model.spec
    seen = {}
    for module in model.feature_info.module_name():
        model.get_submodule(module).register_forward_hook(
            lambda _, args, out, module=module: (
                seen.update({module: out.shape}) if module not in seen else None
            )
        )
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    assert [entry["module"] for entry in model.feature_info] == list(seen)
    assert model.feature_info.channels() == [shape[1] for shape in seen.values()]
    assert model.feature_info.reduction() == [64 // shape[2] for shape in seen.values()]
    assert len(seen) == len(spec.depths) + 1
