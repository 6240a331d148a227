"""The shapes that other frameworks expect; `reference/test_backbone.py` puts some into theirs."""

import pytest
import torch
from torch import nn

from resnets import create_backbone, create_model, get_spec
from resnets.errors import UsageError
from resnets.integrations.huggingface import AutoBackbone
from resnets.integrations.mmdetection import ResNet, Resnet
from resnets.integrations.torchvision import PyramidBackbone, RenamedBackbone
from resnets.nn.freezing import FixedBatchNorm2d

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


# mmdetection's constructor, with its defaults.
ARGUMENTS = {
    "in_channels": 3,
    "stem_channels": None,
    "base_channels": 64,
    "num_stages": 4,
    "strides": (1, 2, 2, 2),
    "dilations": (1, 1, 1, 1),
    "out_indices": (0, 1, 2, 3),
    "style": "pytorch",
    "deep_stem": False,
    "avg_down": False,
    "frozen_stages": -1,
    "conv_cfg": None,
    "norm_cfg": {"type": "BN", "requires_grad": True},
    "norm_eval": True,
    "dcn": None,
    "stage_with_dcn": (False, False, False, False),
    "plugins": None,
    "with_cp": False,
    "zero_init_residual": True,
    "pretrained": None,
    "init_cfg": None,
}


def test_the_constructor_contract():
    model = ResNet(depth=50, **ARGUMENTS)
    expected = {key for key in create_model("resnet50").state_dict() if not key.startswith("fc.")}
    assert model.state_dict().keys() == expected
    assert model.freezing == ResNet(50).freezing
    assert all(isinstance(m, FixedBatchNorm2d) for m in (model.bn1, model.layer4[2].bn3))
    model.init_weights()
    model.train()
    maps = model(X)
    assert isinstance(maps, tuple)
    assert [x.shape[1] for x in maps] == [256, 512, 1024, 2048]
    assert (model.layer1[0].bn3.weight == 0).all()  # zero_init_residual


def test_the_class_that_many_projects_carry():
    model = Resnet(depth=50, in_channels=4, frozen_stages=2)
    model.init_weights(pretrained=None)
    model.train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    c2, c3, c4, c5 = model(torch.randn(2, 4, 64, 64))
    (c2.mean() + c3.mean() + c4.mean() + c5.mean()).backward()
    optimizer.step()
    changed = {k for k, t in model.state_dict().items() if not torch.equal(t, before[k])}
    assert {key.split(".")[0] for key in changed} == {"layer3", "layer4"}


def test_arguments_mean_what_they_mean_there():
    caffe = ResNet(50, style="caffe")
    assert caffe.layer2[0].conv1.stride == (2, 2)
    assert ResNet(50).layer2[0].conv2.stride == (2, 2)
    short = ResNet(18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
    assert [x.shape[1] for x in short(X)] == [128]
    assert not hasattr(short, "layer3")
    assert [x.shape[1] for x in ResNet(18, out_indices=(3, 0))(X)] == [512, 64]
    affine = ResNet(18, norm_cfg={"type": "BN", "requires_grad": False}, norm_eval=False)
    assert not affine.bn1.weight.requires_grad
    assert isinstance(affine.bn1, nn.BatchNorm2d)
    grouped = ResNet(18, norm_cfg={"type": "GN", "num_groups": 32})
    assert isinstance(grouped.bn1, nn.GroupNorm)
    synchronised = ResNet(18, norm_cfg={"type": "SyncBN"}, norm_eval=False, frozen_stages=1)
    assert isinstance(synchronised.layer2[0].bn1, nn.SyncBatchNorm)
    assert isinstance(synchronised.layer1[0].bn1, FixedBatchNorm2d)
    vd = ResNet(50, deep_stem=True, avg_down=True)
    assert vd.spec == create_backbone("resnet50d", zero_init_residual=True).spec
    assert ResNet(18, base_channels=16).channels == (16, 32, 64, 128)
    assert ResNet(50, output_stride=8).levels["c5"].stride == 8
    assert ResNet(50, init_cfg={"type": "Pretrained", "checkpoint": "a.pth"}).pretrained == "a.pth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dcn": {"type": "DCNv2"}}, "dcn is not supported"),
        ({"stage_with_dcn": (False, True, True, True)}, "dcn is not supported"),
        ({"plugins": [{"cfg": {"type": "ContextBlock"}}]}, "plugins is not supported"),
        ({"conv_cfg": {"type": "ConvWS"}}, "conv_cfg is not supported"),
        ({"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}, "strides, dilations"),
        ({"depth": 51}, "depth is 51"),
        ({"style": "tensorflow"}, "style is 'tensorflow'"),
        ({"norm_cfg": {"type": "LN"}}, "norm_cfg type is 'LN'"),
        ({"out_indices": (0, 4)}, "out_indices"),
        ({"out_indices": ()}, "out_indices"),
        ({"num_stages": 2}, "out_indices"),
        ({"frozen_stages": 7}, "frozen_stages is 7"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        ResNet(**{"depth": 50, **arguments})
    assert caught.value.hint


def test_checkpointing_argument():
    torch.manual_seed(0)
    model = ResNet(18, with_cp=True, norm_eval=False)
    sum(x.sum() for x in model(X)).backward()
    assert model.bn1.num_batches_tracked == 1
    assert model.layer1[0].bn1.num_batches_tracked == 1
    assert get_spec("resnet18") == create_backbone("resnet18").spec
