"""mmdetection's class: its arguments, keys, numbers, initialisation and files.

What is compared with was computed by the frameworks' own code: mmdet 3.3.0, mmsegmentation 1.2.2
and mmpretrain 1.2.0 with mmengine 0.10.7 and mmcv 2.2.0's builders of layers, on torch 2.13. Beside
the numbers below, 70 configurations were run in float64 with the same weights: depths 18, 50 and
101, both styles, deep stems, average pooling, strides, dilations, contracted and multi-grid ones,
widths, group norms, ResNeXt, expansion. Keys were the same and outputs equal to the bit, state
dicts loaded both ways and through mmengine's own loader. From one seed ``init_weights`` drew the
same values for 17 of 20 `init_cfg`s; truncated normals, and norms drawn in one entry with
convolutions, come from the same distribution in another order. A step of training moved the same
parameters by the same amounts, to 2e-7 in float32.
"""

import hashlib
import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from resnets import create_backbone, create_model, get_spec, load_weights
from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.integrations.mmdetection import ResNet, Resnet, ResNetV1c, ResNetV1d, ResNeXt
from resnets.nn.freezing import FixedBatchNorm2d
from resnets.nn.places import places

X = torch.randn(2, 3, 75, 64, generator=torch.Generator().manual_seed(0))

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
    assert [x.shape[1] for x in ResNet(18, out_indices=(3, 0))(X)] == [64, 512]
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


GROUPED = {"type": "GN", "num_groups": 32}
DILATED = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}
# class, arguments, how many tensors there are, and the mean of each map's absolute values.
COMPUTED_THERE = [
    (
        ResNet,
        {"depth": 18},
        120,
        [1.2326760863011808, 2.910498934618702, 5.584750952926199, 8.717184440997578],
    ),
    (
        ResNet,
        {"depth": 18, "strides": (2, 2, 1, 1), "dilations": (1, 1, 2, 4), "out_indices": (3, 0)},
        126,
        [1.1757183677232346, 4.172415396730298],
    ),
    (
        ResNet,
        {
            "depth": 50,
            "style": "caffe",
            "base_channels": 32,
            "strides": (1, 2, 2, 1),
            "dilations": (1, 1, 1, 2),
        },
        318,
        [1.9911215888451086, 10.187227522117517, 175.98396730171643, 575.560550417859],
    ),
    (
        ResNet,
        {
            "depth": 50,
            "deep_stem": True,
            "avg_down": True,
            "stem_channels": 32,
            "base_channels": 32,
        },
        330,
        [2.871601097581658, 13.586000803357232, 286.4346331289986, 1080.019721903941],
    ),
    (
        ResNet,
        {
            "depth": 50,
            "norm_cfg": GROUPED,
            "num_stages": 3,
            "strides": (1, 2, 2),
            "dilations": (1, 1, 1),
            "out_indices": (2,),
        },
        129,
        [1.670012435209483],
    ),
    (
        ResNet,
        {"depth": 50, "avg_down": True, "base_channels": 32, **DILATED},
        318,
        [1.9911215888451086, 10.30459770682404, 177.43748817578822, 560.1556084049366],
    ),
    (
        ResNet,
        {"depth": 101, "in_channels": 4, "base_channels": 16, "out_indices": (3,)},
        624,
        [7473923.764675703],
    ),
    (
        ResNeXt,
        {"depth": 50, "groups": 32, "base_width": 2, "base_channels": 32},
        318,
        [2.911096686444776, 20.02920895236752, 342.9457399913739, 1305.0918595275461],
    ),
    (
        ResNetV1c,
        {
            "depth": 50,
            "base_channels": 16,
            "contract_dilation": True,
            "multi_grid": (1, 2, 4),
            **DILATED,
        },
        324,
        [6.99077860493095, 70.05395457053461, 779.2189581081698, 2446.062983495396],
    ),
    (
        ResNet,
        {
            "depth": 50,
            "stem_channels": 64,
            "base_channels": 16,
            "expansion": 2,
            "drop_path_rate": 0.2,
            "out_indices": (0, 3),
        },
        318,
        [1.796974442744632, 368.75565476212313],
    ),
]


def filled(model: ResNet) -> ResNet:
    """The model with values that follow from the order of mmdetection's keys."""
    generator, state = torch.Generator().manual_seed(0), {}
    for key, tensor in sorted(model.state_dict().items()):
        drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        if tensor.ndim == 4:
            drawn = (drawn - 0.5) * (24 / tensor[0].numel()) ** 0.5
        elif tensor.ndim:
            drawn += 0.5 if key.endswith(("weight", "running_var")) else -0.5
        state[key] = drawn if tensor.ndim else tensor
    model.double().load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize(("cls", "arguments", "tensors", "means"), COMPUTED_THERE)
def test_the_same_weights_compute_the_same(cls, arguments, tensors, means):
    model = filled(cls(**arguments))
    assert len(model.state_dict()) == tensors
    count = 2 * arguments.get("in_channels", 3) * 70 * 64
    x = torch.linspace(-1, 1, count, dtype=torch.float64).sin().reshape(2, -1, 70, 64)
    with torch.no_grad():
        found = [float(y.abs().mean()) for y in model(x)]
    assert found == pytest.approx(means, rel=1e-11)


def test_default_strides_and_dilations_are_the_specs():
    for depth, style in ((18, "pytorch"), (50, "caffe"), (152, "pytorch")):
        with torch.device("meta"):
            model = ResNet(depth, style=style, avg_down=depth == 152)
        assert model.table == places(model.spec)


def test_levels_know_what_strides_and_dilations_do():
    levels = ResNet(50, **DILATED).levels
    assert [level.stride for level in levels.values()] == [2, 4, 8, 8, 8]
    assert levels["c5"].receptive_field > ResNet(50, output_stride=8).levels["c5"].receptive_field


def test_keys_of_deep_stems_and_group_norms_are_theirs():
    model = ResNetV1d(50, norm_cfg=GROUPED)
    keys = set(model.state_dict())
    stem = {f"stem.{n}.weight" for n in range(0, 8) if n not in (2, 5)}
    assert stem <= keys
    assert {"layer1.0.gn3.bias", "layer1.0.downsample.2.bias", "layer4.2.gn1.weight"} <= keys
    assert not any("bn" in key or key.startswith("conv1") for key in keys)
    holder = nn.ModuleDict({"backbone": pickle.loads(pickle.dumps(deepcopy(model)))})
    held = holder.state_dict()
    assert held.keys() == {f"backbone.{key}" for key in keys}
    holder.load_state_dict({key: tensor + 1 for key, tensor in held.items()})
    stem_norm = dict(holder["backbone"].named_parameters())["bn1.weight"]
    assert torch.equal(stem_norm, held["backbone.stem.7.weight"])  # the same tensor, changed
    assert torch.equal(stem_norm, model.bn1.weight + 1)


def test_torchvisions_keys_load_as_well():
    """A state dict from before the keys were mmdetection's."""
    model = ResNetV1d(18)
    ours = {f"conv1.{n}.weight": torch.full_like(model.conv1[n].weight, n) for n in (0, 3, 6)}
    model.load_state_dict(ours, strict=False)
    assert [model.conv1[n].weight.mean().item() for n in (0, 3, 6)] == [0, 3, 6]


KAIMING = {"type": "Kaiming", "layer": "Conv2d"}
ONES = {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]}


def convolutions(model):
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]


def drawn(model):
    """What mmengine's Kaiming draws for the convolutions, in their order."""
    torch.manual_seed(5)
    empty = [torch.empty_like(weight) for weight in convolutions(model)]
    return [nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu") for w in empty]


@pytest.mark.parametrize("norm_cfg", [None, GROUPED])
def test_a_list_of_initialisers(norm_cfg):
    model = ResNet(18, norm_cfg=norm_cfg, init_cfg=[KAIMING, ONES])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3)
    expected = drawn(model)
    torch.manual_seed(5)
    model.init_weights()
    assert all(map(torch.equal, convolutions(model), expected))
    # An explicit init_cfg is all there is: zero_init_residual is about the default.
    assert (model.layer1[0].bn2.weight == 1).all()
    assert (model.layer1[0].bn2.bias == 0).all()


def test_later_initialisers_win_and_overrides_are_of_one_part():
    class NormalInit:
        """Newer configurations give mmengine's classes."""

    model = ResNet(
        18,
        init_cfg=[
            {"type": NormalInit, "std": 0.1, "layer": "Conv2d"},
            {
                "type": "Constant",
                "val": 0.5,
                "layer": ["Conv2d"],
                "override": [
                    {"name": "norm1", "type": "Constant", "val": 7, "bias_prob": 0.5},
                    {"name": "layer4"},
                ],
            },
        ],
    )
    model.init_weights()
    assert (model.layer3[0].conv1.weight == 0.5).all()
    assert (model.bn1.weight == 7).all()
    assert (model.bn1.bias == 0).all()  # log(1)
    assert (model.layer4[0].bn1.weight == 0.5).all()
    assert (model.layer3[0].bn1.weight == 1).all()


@pytest.fixture
def detector(tmp_path):
    """A detector's checkpoint, and the backbone in it."""
    backbone = filled(ResNetV1d(50, style="caffe", norm_cfg=GROUPED, base_channels=32)).float()
    state = {f"backbone.{key}": tensor for key, tensor in backbone.state_dict().items()}
    state["bbox_head.fc.weight"] = torch.ones(80, 4)
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, tmp_path / "detector.pth")
    return tmp_path / "detector.pth", backbone


@pytest.mark.parametrize("prefix", ["backbone.", "backbone", None])
def test_a_detectors_checkpoint(detector, prefix):
    path, backbone = detector
    pretrained = {"type": "Pretrained", "checkpoint": str(path), "map_location": "cpu"}
    zeros = {"type": "Constant", "val": 0, "layer": "Conv2d"}  # what is loaded comes last
    model = ResNetV1d(
        50,
        style="caffe",
        norm_cfg=GROUPED,
        base_channels=32,
        init_cfg=[{**pretrained, **({"prefix": prefix} if prefix else {})}, zeros],
    )
    model.init_weights()
    loaded = model.state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in backbone.state_dict().items())


def test_load_weights_takes_its_own_names(detector):
    path, backbone = detector
    model = ResNetV1d(50, style="caffe", norm_cfg=GROUPED, base_channels=32)
    report = load_weights(model, path)
    assert (report.share, report.missing, report.skipped) == (1, (), {})
    assert report.unexpected == ("bbox_head.fc.weight",)
    loaded = model.state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in backbone.state_dict().items())
    short = ResNetV1d(50, num_stages=2, out_indices=(0, 1), norm_cfg=GROUPED, base_channels=32)
    report = load_weights(short, path)
    assert {key[:7] for key in report.skipped} == {"layer3.", "layer4."}
    assert torch.equal(short.bn1.weight, backbone.bn1.weight)


@pytest.mark.parametrize("prefix", ["backbone.", None])
def test_a_classifier_of_mmpretrains(tmp_path, prefix):
    """Its stems have pairs of conv and bn, and its v1d nets no pooling where nothing shrinks."""
    expected = ResNetV1d(50, base_channels=32).state_dict()
    state = {}
    for key, tensor in expected.items():
        head, place, *rest = key.split(".")
        if head == "stem":
            key = f"stem.{int(place) // 3}.{('conv', 'bn')[int(place) % 3]}.{rest[0]}"
        key = key.replace("layer1.0.downsample.1", "layer1.0.downsample.0")
        key = key.replace("layer1.0.downsample.2", "layer1.0.downsample.1")
        state[f"backbone.{key}"] = tensor
    state |= {"head.fc.weight": torch.ones(5, 1024), "head.fc.bias": torch.ones(5)}
    torch.save({"state_dict": state}, tmp_path / "v1d.pth")
    pretrained = {"type": "Pretrained", "checkpoint": str(tmp_path / "v1d.pth"), "prefix": prefix}
    model = ResNetV1d(50, base_channels=32, init_cfg=pretrained)
    model.init_weights()
    assert all(torch.equal(expected[key], tensor) for key, tensor in model.state_dict().items())


def test_a_prefix_that_no_key_has(detector):
    path, _ = detector
    pretrained = {"type": "Pretrained", "checkpoint": str(path), "prefix": "neck."}
    with pytest.raises(CheckpointError, match='no key in it begins with "neck') as caught:
        ResNet(50, init_cfg=pretrained).init_weights()
    assert "backbone" in caught.value.hint


def test_the_configuration_says_where_the_stride_is(tmp_path):
    """Caffe's nets have torchvision's names in mmdetection's files."""
    state = create_model("resnet50_v1").state_dict()
    torch.save(state, tmp_path / "resnet50_caffe.pth")
    model = ResNet(50, style="caffe", pretrained=str(tmp_path / "resnet50_caffe.pth"))
    model.init_weights()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


def test_an_address_is_fetched_once_and_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path))
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    torch.save(ResNet(18).state_dict(), tmp_path / "made.pth")
    data = (tmp_path / "made.pth").read_bytes()
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}"
    address = f"https://example.org/pretrain/{name}.pth"
    model = ResNet(18, init_cfg={"type": "Pretrained", "checkpoint": address})
    with pytest.raises(ResourceError, match="not on this machine") as caught:
        model.init_weights()
    assert address in caught.value.hint
    kept = tmp_path / "weights" / "example.org" / "pretrain" / name / f"{name}.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(data)
    model.init_weights()
    assert torch.equal(model.conv1.weight, torch.load(tmp_path / "made.pth")["conv1.weight"])
    kept.write_bytes(data[:-1])
    with pytest.raises(ResourceError, match="damaged"):
        model.init_weights()


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("torchvision://resnet50", "torchvision.IMAGENET1K_V1 of resnet50: not on this machine"),
        ("modelzoo://resnet50", "torchvision.IMAGENET1K_V1 of resnet50: not on this machine"),
        ("torchvision://resnet50.imagenet1k_v2", "torchvision.IMAGENET1K_V2 of resnet50"),
        ("torchvision://resnet50.default", "torchvision.IMAGENET1K_V2 of resnet50"),
        ("torchvision://ResNet50_Weights.IMAGENET1K_V1", "torchvision.IMAGENET1K_V1 of resnet50"),
        ("torchvision.IMAGENET1K_V1", "torchvision.IMAGENET1K_V1 of resnet50"),
        ("open-mmlab://detectron2/resnet50_caffe", "resnet50_msra-5891d200: not on this machine"),
        ("openmmlab://resnet50_v1c", "resnet50_v1c-2cccc1ad: not on this machine"),
        ("torchvision://vgg16", 'torchvision has no weights of "vgg16" here'),
        ("torchvision://resnet50.v3", 'no weights of resnet50 are called "torchvision.V3"'),
        ("open-mmlab://msra/hrnetv2_w18", "no such weights of a residual network"),
        ("mmcls://resnet50", "nothing is known at mmcls://"),
        ("https://example.org/../a.pth", "no address of a file"),
        ("nowhere.pth", "nowhere.pth: no such file"),
    ],
)
def test_addresses(address, what, tmp_path, monkeypatch):
    """What an address means, and what one that means nothing is answered."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    model = ResNet(50, init_cfg={"type": "Pretrained", "checkpoint": address})
    with pytest.raises((UsageError, CheckpointError, ResourceError), match=what) as caught:
        model.init_weights()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dcn": {"type": "DCNv2"}}, "dcn is not supported"),
        ({"stage_with_dcn": (False, True, True, True)}, "dcn is not supported"),
        ({"plugins": [{"cfg": {"type": "ContextBlock"}}]}, "plugins is not supported"),
        ({"conv_cfg": {"type": "ConvWS"}}, "conv_cfg is not supported"),
        ({"conv_cfg": {"type": "Conv2d", "padding_mode": "reflect"}}, "conv_cfg is not supported"),
        ({"strides": (1, 2)}, "strides is"),
        ({"dilations": 2}, "dilations is 2"),
        ({"output_stride": 8, **DILATED}, "output_stride beside strides or dilations"),
        ({"multi_grid": (1, 2)}, "multi_grid is"),
        ({"depth": 51}, "depth is 51"),
        ({"depth": [50]}, r"depth is \[50\]"),
        ({"style": "tensorflow"}, "style is 'tensorflow'"),
        ({"stem_channels": 0}, "stem_channels is 0"),
        ({"base_channels": None}, "base_channels is None"),
        ({"depth": 18, "expansion": 4}, "expansion is not supported"),
        ({"depth": 18, "groups": 32}, "groups is not supported"),
        ({"groups": 32, "base_channels": 48}, "base_width is not supported"),
        ({"norm_cfg": {"type": "LN"}}, "norm_cfg type is 'LN'"),
        ({"norm_cfg": "BN"}, "norm_cfg is 'BN'"),
        ({"norm_cfg": {"type": "BN", "affine": False}}, "norm_cfg affine is not supported"),
        ({"norm_cfg": {"type": "GN", "num_groups": 16}}, "norm_cfg num_groups"),
        ({"norm_cfg": {**GROUPED, "requires_grad": False}}, "norm_cfg requires_grad=False"),
        ({"out_indices": (0, 4)}, "out_indices"),
        ({"out_indices": ()}, "out_indices"),
        ({"out_indices": 3}, "out_indices is 3"),
        ({"num_stages": 2}, "out_indices"),
        ({"num_stages": 5}, "num_stages is 5"),
        ({"frozen_stages": 7}, "frozen_stages is 7"),
        ({"radix": 2}, "radix is not supported"),
        ({"with_cpp": True}, "with_cpp is not supported"),
        ({"pretrained": True}, "pretrained is True"),
        ({"pretrained": "a.pth", "init_cfg": [KAIMING]}, "and there is init_cfg"),
        ({"init_cfg": "a.pth"}, "init_cfg is 'a.pth'"),
        ({"init_cfg": {"type": "PReLU"}}, "init_cfg has the type 'PReLU'"),
        ({"init_cfg": {"type": "Constant", "layer": "Conv2d"}}, "missing .* 'val'"),
        ({"init_cfg": {**KAIMING, "mode": "fan"}}, "Mode fan not supported"),
        ({"init_cfg": {**KAIMING, "override": {"name": "fc"}}}, 'overrides "fc"'),
        ({"init_cfg": {**KAIMING, "override": {"name": "conv1", "a": 1}}}, "override of init_cfg"),
        ({"init_cfg": {"type": "Pretrained"}}, "type Pretrained"),
        ({"init_cfg": [{"type": "Pretrained", "checkpoint": "a"}] * 2}, "a second Pretrained"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        ResNet(**{"depth": 50, **arguments})
    assert caught.value.hint


def test_an_initialiser_that_norms_cannot_have():
    with pytest.raises(UsageError, match="BatchNorm2d: Fan in and fan out"):
        ResNet(18, init_cfg={**KAIMING, "override": {"name": "layer1"}}).init_weights()


def test_checkpointing_argument():
    torch.manual_seed(0)
    model = ResNet(18, with_cp=True, norm_eval=False)
    sum(x.sum() for x in model(X)).backward()
    assert model.bn1.num_batches_tracked == 1
    assert model.layer1[0].bn1.num_batches_tracked == 1
    assert get_spec("resnet18") == create_backbone("resnet18").spec
