"""The shapes that other frameworks expect; `reference/test_backbone.py` puts some into theirs."""

import pytest
import torch

from resnets import create_backbone, create_model
from resnets.errors import UsageError
from resnets.integrations.huggingface import AutoBackbone
from resnets.integrations.torchvision import PyramidBackbone, RenamedBackbone

X = torch.randn(2, 3, 75, 64, generator=torch.Generator().manual_seed(0))


def test_pyramid():
    model = PyramidBackbone(create_backbone("resnet18"), 16)
    maps = model(X)
    assert model.out_channels == 16
    assert list(maps) == list(model.outputs) == ["p2", "p3", "p4", "p5", "p6"]
    assert {x.shape[1] for x in maps.values()} == {16}


def test_renamed():
    backbone = create_backbone("resnet18", levels=("c4", "c5"), output_stride=8)
    maps = RenamedBackbone(backbone, {"out": "c5", "aux": "c4"}).eval()(X)
    expected = backbone.eval()(X)
    assert list(maps) == ["out", "aux"]
    assert torch.equal(maps["out"], expected["c5"])


PLUGS = {
    "pyramid": PyramidBackbone,
    "renamed": lambda backbone: RenamedBackbone(backbone, {"out": "c5"}),
    "auto": AutoBackbone,
}


@pytest.mark.parametrize("plug", PLUGS)
@pytest.mark.parametrize("thing", ["resnet18", None, create_model("resnet8", num_classes=2)])
def test_what_is_no_backbone(plug, thing):
    with pytest.raises(UsageError, match=f"a {type(thing).__name__} is no backbone"):
        PLUGS[plug](thing)


def test_a_level_that_is_not_returned():
    with pytest.raises(UsageError, match="does not return c5") as caught:
        RenamedBackbone(create_backbone("resnet18", levels=("c4",)), {"out": "c5"})
    assert "levels=('c5',)" in caught.value.hint


def test_auto_backbone():
    """The attributes and calls of transformers' backbones that its models use."""
    backbone = create_backbone("resnet50", levels=("c3", "c5")).eval()
    model = AutoBackbone(backbone)
    assert model.stage_names == ["stem", "stage1", "stage2", "stage3", "stage4"]
    assert model.out_features == ["stage2", "stage4"]
    assert model.out_indices == [2, 4]
    assert model.channels == [512, 2048]
    assert model.num_features == [64, 256, 512, 1024, 2048]
    assert model.out_feature_channels == {"stage2": 512, "stage4": 2048}
    output = model.forward_with_filtered_kwargs(X, output_attentions=True)
    assert [x.shape[1] for x in output.feature_maps] == model.channels
    assert [x.shape[1] for x in model(pixel_values=X).feature_maps] == model.channels
    assert output.hidden_states is output.attentions is None
