"""Levels, pyramids and dilation against torchvision 0.28 and timm 1.0.31, with the same weights.

Detectors and DeepLabV3 are torchvision's own classes on our backbone, compared with torchvision's
own models. Its non-maximum suppression is one of the compiled operators that are absent here: a few
lines of Python stand in for it, on both sides. Training RetinaNet and DeepLabV3 need none.
"""

import re
import sys
from functools import partial

import pytest
import timm
import torch
import torchvision
from test_timm import PREACTIVATED, SAME_KEYS, renamed
from test_torchvision import NAMES
from torchvision.models import detection, segmentation
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from conftest import scramble
from resnets import create_backbone
from resnets.integrations.torchvision import PyramidBackbone, RenamedBackbone
from resnets.nn import FeaturePyramid

LEVELS = ("c1", "c2", "c3", "c4", "c5")
SIZES = [(225, 301), (64, 96)]


def assert_equal(ours, theirs, bound=1e-6):
    """The largest difference of each map, relative to its largest value."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= bound * b.abs().max()


def fill(backbone, state):
    """The backbone in evaluation mode; ``state`` holds exactly its keys, or a classifier too."""
    backbone.load_state_dict({key: t for key, t in state.items() if not key.startswith("fc.")})
    return backbone.eval()


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_feature_extractor(name):
    theirs = scramble(torchvision.models.get_model(name)).eval()
    ours = fill(create_backbone(name, levels=LEVELS), theirs.state_dict())
    nodes = {"relu": "c1", **{f"layer{i}": f"c{i + 1}" for i in range(1, 5)}}
    extractor = create_feature_extractor(theirs, nodes)
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected, maps = extractor(x), ours(x)
        assert list(maps) == list(LEVELS)
        assert_equal(maps.values(), [expected[name] for name in maps])


@pytest.mark.parametrize(("theirs", "ours"), SAME_KEYS.items())
def test_timm_features(theirs, ours):
    theirs = scramble(timm.create_model(theirs, features_only=True)).eval()
    ours = fill(create_backbone(ours, levels=LEVELS), theirs.state_dict())
    compare_with_timm(ours, theirs)


@pytest.mark.parametrize("name", PREACTIVATED)
def test_timm_features_of_preactivation_nets(name):
    """As the stages end, before the next activation: our default is timm's."""
    theirs = scramble(timm.create_model(name, features_only=True)).eval()
    state = {
        re.sub(r"^stages_", "stages.", key.replace("stem_conv", "stem.conv")): tensor
        for key, tensor in theirs.state_dict().items()
    }
    compare_with_timm(fill(create_backbone(name, levels=LEVELS), renamed(state)), theirs)


def compare_with_timm(ours, theirs):
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            assert_equal(ours(x).values(), theirs(x))
    assert ours.feature_info.channels() == theirs.feature_info.channels()
    assert ours.feature_info.reduction() == theirs.feature_info.reduction()


@pytest.mark.parametrize("name", PREACTIVATED)
def test_the_last_activated_map_is_what_timms_head_reads(name):
    theirs = scramble(timm.create_model(name)).eval()
    ours = fill(create_backbone(name, activated=True), renamed(theirs.state_dict()))
    x = torch.randn(1, 3, 97, 64)
    with torch.no_grad():
        assert_equal([ours(x)["c5"]], [theirs.forward_features(x)])


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_torchvision_dilation(name, stride):
    dilate = [False, stride <= 8, stride <= 16]
    build = partial(torchvision.models.get_model, name, replace_stride_with_dilation=dilate)
    theirs = scramble(build()).double().eval()
    ours = create_backbone(name, levels=LEVELS, output_stride=stride).double()
    fill(ours, theirs.state_dict())
    nodes = {"relu": "c1", **{f"layer{i}": f"c{i + 1}" for i in range(1, 5)}}
    x = torch.randn(1, 3, 113, 151, dtype=torch.float64)
    with torch.no_grad():
        expected, maps = create_feature_extractor(theirs, nodes)(x), ours(x)
    assert_equal(maps.values(), [expected[name] for name in maps], 1e-10)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnetv2_50"])
def test_timm_dilation(name, stride):
    """Basic blocks, which torchvision cannot dilate, and pre-activation."""
    theirs = timm.create_model(name, features_only=True, output_stride=stride)
    theirs = scramble(theirs).double().eval()
    state = theirs.state_dict()
    if name in PREACTIVATED:
        state = {
            re.sub(r"^stages_", "stages.", key.replace("stem_conv", "stem.conv")): tensor
            for key, tensor in state.items()
        }
        state = renamed(state)
    ours = fill(create_backbone(name, levels=LEVELS, output_stride=stride).double(), state)
    x = torch.randn(1, 3, 113, 151, dtype=torch.float64)
    with torch.no_grad():
        assert_equal(ours(x).values(), theirs(x), 1e-10)
    assert ours.feature_info.reduction() == theirs.feature_info.reduction()


def pyramid_names(state, prefix=""):
    """torchvision's FeaturePyramidNetwork under our names."""
    result = {}
    for key, tensor in state.items():
        key = re.sub(r"inner_blocks\.(\d)\.0", lambda m: f"lateral.#{m[1]}", key)
        key = re.sub(r"layer_blocks\.(\d)\.0", lambda m: f"output.#{m[1]}", key)
        key = key.replace("extra_blocks.p6", "extra.p6").replace("extra_blocks.p7", "extra.p7.1")
        result[key] = tensor
    return result


def numbered(state, first):
    return {re.sub(r"#(\d)", lambda m: f"c{int(m[1]) + first}", k): t for k, t in state.items()}


@pytest.mark.parametrize(
    ("extra", "block"),
    [
        ("none", None),
        ("pool", LastLevelMaxPool()),
        ("p6_p7", LastLevelP6P7(16, 16)),
        ("p6_p7_of_c5", LastLevelP6P7(12, 16)),
    ],
)
def test_pyramid(extra, block):
    channels = {"c3": 4, "c4": 8, "c5": 12}
    theirs = FeaturePyramidNetwork(list(channels.values()), 16, block)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours = FeaturePyramid(channels, 16, extra=extra)
    ours.load_state_dict(numbered(pyramid_names(theirs.state_dict()), 3))
    for sizes in ([(29, 38), (15, 19), (8, 10)], [(16, 24), (8, 12), (4, 6)]):
        maps = {
            name: torch.randn(2, count, *size)
            for (name, count), size in zip(channels.items(), sizes, strict=True)
        }
        with torch.no_grad():
            assert_equal(ours(maps).values(), theirs(maps).values())


def non_maximum_suppression(boxes, scores, iou_threshold):
    """What torchvision's compiled operator does, one box after the other."""
    order, kept = scores.argsort(descending=True, stable=True), []
    overlaps = box_iou(boxes, boxes)
    for index in order:
        if all(overlaps[index, other] <= iou_threshold for other in kept):
            kept.append(index)
    return torch.stack(kept) if kept else order[:0]


@pytest.fixture
def stand_ins(monkeypatch):
    """Python for what is not compiled here; RoI-align has its own in torchvision, uncompiled."""
    monkeypatch.setattr(sys.modules["torchvision.ops.boxes"], "nms", non_maximum_suppression)
    module = sys.modules["torchvision.ops.roi_align"]
    monkeypatch.setattr(module, "_roi_align", module._roi_align.__wrapped__)


def detector_state(theirs, first):
    state = {
        key.replace("backbone.body", "backbone.backbone"): tensor
        for key, tensor in theirs.state_dict().items()
    }
    return numbered(pyramid_names(state), first)


def targets():
    boxes = torch.tensor([[10.0, 12.0, 60.0, 70.0], [30.0, 5.0, 90.0, 50.0]])
    return [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in range(2)]


SMALL = {"min_size": 96, "max_size": 128}


def retinanet():
    theirs = detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, trainable_backbone_layers=5, **SMALL
    )
    backbone = create_backbone("resnet50", levels=("c3", "c4", "c5"))
    sizes = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    ours = detection.RetinaNet(
        PyramidBackbone(backbone, extra="p6_p7"),
        num_classes=4,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        **SMALL,
    )
    ours.load_state_dict(detector_state(theirs, 3))
    return ours, theirs


def faster_rcnn():
    theirs = detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, trainable_backbone_layers=5, **SMALL
    )
    backbone = PyramidBackbone(create_backbone("resnet50"), extra="pool")
    sizes = ((32,), (64,), (128,), (256,), (512,))
    ours = detection.FasterRCNN(
        backbone,
        num_classes=4,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        box_roi_pool=MultiScaleRoIAlign(["p2", "p3", "p4", "p5"], 7, 2),
        **SMALL,
    )
    ours.load_state_dict(detector_state(theirs, 2))
    return ours, theirs


def losses_and_gradients(model, pictures):
    torch.manual_seed(1)  # the samplers draw
    losses = model.train()(pictures, targets())
    sum(losses.values()).backward()
    return losses


def test_retinanet_trains_as_torchvisions():
    """Losses and gradients; no compiled operator and no stand-in is called."""
    ours, theirs = (model.double() for model in retinanet())
    pictures = [torch.rand(3, 96, 112, dtype=torch.float64) for _ in range(2)]
    expected = losses_and_gradients(theirs, pictures)
    losses = losses_and_gradients(ours, pictures)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-10, atol=0)
    compare_gradients(ours, theirs)


def compare_gradients(ours, theirs):
    for name in ("layer1.0.conv1", "layer4.2.conv3"):
        a = ours.backbone.backbone.get_submodule(name).weight.grad
        b = theirs.backbone.body.get_submodule(name).weight.grad
        assert (a - b).abs().max() <= 1e-8 * b.abs().max()


@pytest.mark.parametrize("build", [retinanet, faster_rcnn])
def test_detectors_detect_as_torchvisions(build, stand_ins):
    """With stand-ins for what is not compiled."""
    ours, theirs = (model.double().eval() for model in build())
    pictures = [torch.rand(3, 96, 112, dtype=torch.float64), torch.rand(3, 75, 101).double()]
    for model in (ours, theirs):
        if build is retinanet:
            model.score_thresh, model.topk_candidates = 0.0, 50
        else:
            model.roi_heads.score_thresh = 0.0
            model.rpn._post_nms_top_n = model.rpn._pre_nms_top_n = {"training": 40, "testing": 40}
    with torch.no_grad():
        for a, b in zip(ours(pictures), theirs(pictures), strict=True):
            assert len(a["boxes"]) > 0
            assert torch.equal(a["labels"], b["labels"])
            assert_equal([a["boxes"], a["scores"]], [b["boxes"], b["scores"]], 1e-8)


def test_faster_rcnn_trains_as_torchvisions(stand_ins):
    """With stand-ins for what is not compiled."""
    ours, theirs = (model.double() for model in faster_rcnn())
    for model in (ours, theirs):
        model.rpn._post_nms_top_n = model.rpn._pre_nms_top_n = {"training": 40, "testing": 40}
    pictures = [torch.rand(3, 96, 112, dtype=torch.float64) for _ in range(2)]
    expected = losses_and_gradients(theirs, pictures)
    losses = losses_and_gradients(ours, pictures)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-8, atol=1e-10)
    compare_gradients(ours, theirs)


def test_deeplab():
    """Both outputs and a training step, all of it: nothing in it is compiled."""
    theirs = segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    )
    scramble(theirs)
    backbone = create_backbone("resnet50", levels=("c4", "c5"), output_stride=8)
    ours = segmentation.DeepLabV3(
        RenamedBackbone(backbone, {"out": "c5", "aux": "c4"}),
        segmentation.deeplabv3.DeepLabHead(2048, 5),
        segmentation.fcn.FCNHead(1024, 5),
    )
    state = {
        re.sub(r"^backbone\.", "backbone.backbone.", key): tensor
        for key, tensor in theirs.state_dict().items()
    }
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 97, 65)
    with torch.no_grad():
        expected = theirs.eval()(x)
        maps = ours.eval()(x)
    assert maps.keys() == expected.keys() == {"out", "aux"}
    assert_equal(maps.values(), expected.values())
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(1)  # dropout
        sum(out.square().mean() for out in model.double()(x.double()).values()).backward()
    a = ours.backbone.backbone.layer1[0].conv1.weight.grad
    b = theirs.backbone.layer1[0].conv1.weight.grad
    assert (a - b).abs().max() <= 1e-8 * b.abs().max()
