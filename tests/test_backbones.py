"""create_backbone with weights from files: the use that it exists for."""

import pytest
import torch
from torch import nn

import resnets
from resnets.errors import CheckpointError


def changed(before, after):
    return {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}


@pytest.fixture
def file(tmp_path):
    """A resnet50 with a thousand classes and three channels, trained under DataParallel."""
    torch.manual_seed(0)
    model = resnets.create_model("resnet50")
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        else:
            buffer.fill_(12345)
    torch.save({"state_dict": nn.DataParallel(model).state_dict(), "epoch": 89}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_fine_tuning_a_frozen_backbone(file):
    """Ten steps under model.train(): what is frozen is bit for bit what the file holds."""
    torch.manual_seed(0)
    backbone = resnets.create_backbone("resnet50", weights=file, in_channels=4, frozen_stages=2)
    model = nn.ModuleDict(
        {"backbone": backbone, "head": nn.Conv2d(sum(backbone.channels), 2, kernel_size=1)}
    )
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    model.train()
    for _ in range(10):
        features = model["backbone"](torch.randn(2, 4, 64, 64))
        assert [tuple(x.shape[1:]) for x in features.values()] == [
            *((256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)),
        ]
        pooled = [x.mean((2, 3), keepdim=True) for x in features.values()]
        loss = model["head"](torch.cat(pooled, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    after = backbone.state_dict()
    frozen = {key for key in before if key.startswith(("conv1", "bn1", "layer1", "layer2"))}
    assert changed(before, after) == before.keys() - frozen
    stored = torch.load(file, weights_only=True)["state_dict"]
    for key in frozen - {"conv1.weight"}:  # which is spread over four channels
        assert torch.equal(after[key], stored[f"module.{key}"])
    assert after["layer2.3.bn3.num_batches_tracked"] == 12345
    assert after["layer3.0.bn1.num_batches_tracked"] == 12355
    expected = stored["module.conv1.weight"][:, [0, 1, 2, 0]] * (3 / 4)
    torch.testing.assert_close(after["conv1.weight"], expected)


def test_the_maps_are_those_of_the_classifier_that_the_file_holds(file):
    backbone = resnets.create_backbone("resnet50", weights=file, levels=("c3", "c5")).eval()
    model = resnets.create_model("resnet50", weights=file).eval()
    x = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        assert torch.equal(backbone(x)["c5"], model.forward_features(x))
    # Dilation changes no weight.
    dilated = resnets.create_backbone(
        "resnet50", weights=file, output_stride=8, multi_grid=(1, 2, 4)
    )
    assert dilated.spec.multi_grid == (1, 2, 4)
    assert not changed(dilated.state_dict(), backbone.state_dict())


def test_what_loads_in_one_loads_in_the_other(file, tmp_path):
    with pytest.warns(UserWarning, match="frozen_stages=3, norm_eval=True without weights"):
        backbone = resnets.create_backbone("resnet50", frozen_stages=3, norm_eval=True)
    report = resnets.load_weights(backbone, file)
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    torch.save(backbone.state_dict(), tmp_path / "b.pth")
    classifier = resnets.create_model("resnet50", num_classes=3)
    report = resnets.load_weights(classifier, tmp_path / "b.pth", head="drop")
    assert len(report.loaded) == len(backbone.state_dict())
    assert not changed(classifier.state_dict(), backbone.state_dict())
    short = resnets.create_backbone("resnet50", levels=["c3"])
    report = resnets.load_weights(short, file)
    assert {key.split(".")[0] for key in report.skipped} == {"layer3", "layer4", "fc"}
    torch.save(short.state_dict(), tmp_path / "c.pth")
    again = resnets.create_backbone("resnet50", levels=["c3"])
    resnets.load_weights(again, tmp_path / "c.pth")
    assert not changed(again.state_dict(), short.state_dict())


def test_weights_of_another_network(file):
    with pytest.raises(CheckpointError, match="do not fit resnet101"):
        resnets.create_backbone("resnet101", weights=file)


def test_a_backbones_own_file_comes_back(tmp_path):
    """Its later stages were never built; a whole network's file gives the same."""
    first = resnets.create_backbone("resnet18", levels=("c1", "c3"))
    torch.save(first.state_dict(), tmp_path / "part.pth")
    again = resnets.create_backbone("resnet18", levels=("c3",), weights=tmp_path / "part.pth")
    state = first.state_dict()
    assert not changed(state, again.state_dict())
    with pytest.raises(CheckpointError, match="missing"):
        resnets.create_backbone("resnet18", weights=tmp_path / "part.pth")
    whole = resnets.create_model("resnet18")
    report = resnets.load_weights(first, whole.state_dict())
    assert first.layer2[0].conv1.weight.equal(whole.layer2[0].conv1.weight)
    assert report.skipped["fc.weight"] == "the backbone has no such part"
    assert report.share == 1


def test_weights_that_come_with_the_package():
    """As create_model has them, its classifier left out."""
    backbone = resnets.create_backbone("resnet20", weights="cifar10")
    model = resnets.create_model("resnet20", weights="cifar10").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(x)[list(backbone.levels)[-1]], model.forward_features(x))
    assert backbone.preprocess == model.preprocess
