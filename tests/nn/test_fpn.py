"""The feature pyramid against its definition."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from resnets import create_backbone, get_spec
from resnets.errors import UsageError
from resnets.nn import FeaturePyramid

CHANNELS = {"c2": 4, "c3": 8, "c4": 6}


def maps(height=37, width=24):
    """Odd sizes, as strides leave them: each half of the one before, rounded up."""
    torch.manual_seed(0)
    sizes = [(height, width), (-(-height // 2), -(-width // 2))]
    sizes.append(tuple(-(-n // 2) for n in sizes[1]))
    return {
        name: torch.randn(2, channels, *size, dtype=torch.float64)
        for (name, channels), size in zip(CHANNELS.items(), sizes, strict=True)
    }


def enlarge(x, size):
    """Nearest neighbour: row i of h comes from row floor(i * H / h)."""
    rows = torch.arange(size[0]) * x.shape[2] // size[0]
    columns = torch.arange(size[1]) * x.shape[3] // size[1]
    return x[:, :, rows][..., columns]


def test_lateral_and_top_down():
    """Lin et al. 2017, Fig. 3, with every map computed on its own."""
    fpn = FeaturePyramid(CHANNELS, 5).double()
    features = maps()
    result = fpn(features)
    assert list(result) == list(fpn.outputs) == ["p2", "p3", "p4"]

    def lateral(name):
        layer = fpn.lateral[name]
        return (
            torch.einsum("nchw,oc->nohw", features[name], layer.weight[..., 0, 0])
            + (layer.bias[:, None, None])
        )

    m4 = lateral("c4")
    m3 = lateral("c3") + enlarge(m4, features["c3"].shape[2:])
    m2 = lateral("c2") + enlarge(m3, features["c2"].shape[2:])
    for merged, name in ((m2, "2"), (m3, "3"), (m4, "4")):
        layer = fpn.output[f"c{name}"]
        expected = F.conv2d(merged, layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(result[f"p{name}"], expected, rtol=1e-12, atol=1e-12)


def test_the_order_in_which_levels_are_given_does_not_matter():
    torch.manual_seed(0)
    fpn = FeaturePyramid(dict(reversed(CHANNELS.items())), 5).double()
    features = maps()
    backwards = fpn(dict(reversed(features.items())))
    assert list(backwards) == ["p2", "p3", "p4"]
    assert all(torch.equal(x, backwards[name]) for name, x in fpn(features).items())


def test_extra_maps():
    features = maps()
    pooled = FeaturePyramid(CHANNELS, 5, extra="pool").double()(features)
    assert list(pooled) == ["p2", "p3", "p4", "p5"]
    assert torch.equal(pooled["p5"], pooled["p4"][:, :, ::2, ::2])
    fpn = FeaturePyramid(CHANNELS, 5, extra="p6_p7").double()
    result = fpn(features)
    assert fpn.outputs == ("p2", "p3", "p4", "p5", "p6")
    p5 = fpn.extra["p5"](result["p4"])
    assert torch.equal(result["p5"], p5)
    assert torch.equal(result["p6"], fpn.extra["p6"](p5.clamp(min=0)))
    assert result["p6"].shape[2:] == (3, 2)
    fpn = FeaturePyramid(CHANNELS, 5, extra="p6_p7_of_c5").double()
    assert torch.equal(fpn(features)["p5"], fpn.extra["p5"](features["c4"]))


@pytest.mark.parametrize("extra", ["none", "pool", "p6_p7", "p6_p7_of_c5"])
def test_on_a_backbone_it_trains_copies_and_compiles(extra):
    torch.manual_seed(0)
    torch._dynamo.reset()
    spec = replace(get_spec("resnet18"), depths=(1,) * 4, widths=(4, 8, 8, 16), stem_width=4)
    backbone = create_backbone(spec, levels=("c3", "c4", "c5"))
    channels = dict(zip(backbone.outputs, backbone.channels, strict=True))
    model = torch.nn.Sequential(backbone, FeaturePyramid(channels, 16, extra=extra))
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 75, 101)
    sum(m.square().mean() for m in twin(x).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in twin.parameters())
    model.eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")(x)
    for name, expected in model(x).items():
        torch.testing.assert_close(compiled[name], expected)


@pytest.mark.parametrize(
    ("channels", "extra", "message"),
    [
        ({}, "none", "cannot stand on no levels"),
        ({"layer1": 64}, "none", "cannot stand on {'layer1': 64}"),
        ([64, 128], "none", r"cannot stand on \[64, 128\]"),
        (64, "none", "cannot stand on 64"),
        ({"c2": 4}, "p6", "extra is 'p6'"),
    ],
)
def test_errors(channels, extra, message):
    with pytest.raises(UsageError, match=message) as caught:
        FeaturePyramid(channels, extra=extra)
    assert caught.value.hint
