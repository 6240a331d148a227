"""Drawings say what the modules are, and are sound, self-contained SVG."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from every_model import each_model
from resnets.analysis.drawing import draw
from resnets.nn import ResNet
from resnets.nn.blocks import Block
from resnets.nn.layers import DropPath
from resnets.spec import ActivationOrder, Spec
from resnets.zoo import ZOO, get_spec

NAMESPACE = "{http://www.w3.org/2000/svg}"
SMALL = replace(get_spec("resnet8_b"), name="small")
VARIANTS = [
    *(replace(SMALL, activation_order=order) for order in get_args(ActivationOrder)),
    *(
        replace(
            SMALL,
            block="bottleneck",
            depths=(2, 1, 1),
            activation_order=order,
            shortcut=shortcut,
        )
        for order in get_args(ActivationOrder)
        for shortcut in ("none", "C", "D")
    ),
    replace(SMALL, gate="exclusive", gate_bias=-3.0),
    replace(SMALL, gate="shortcut_only", activation_order="preactivation"),
    replace(SMALL, shortcut_scale=0.5, residual_scale=0.25),
    replace(SMALL, shortcut_dropout=0.5, drop_path=0.1),
    replace(SMALL, attention="se", norm="group", activation="silu", dropout=0.2),
    replace(SMALL, attention="eca", norm="frozen_batch", activation="gelu", padding="same"),
    replace(get_spec("resnet8"), zero_pad="both", activation="leaky_relu"),
    replace(get_spec("resnext50_32x4d"), stem="deep_tiered", output_stride=8),
    replace(get_spec("resnet18d"), output_stride=8, multi_grid=(1, 2)),
    *(get_spec(n) for n in ("resnet50_v1", "resnet18_v2", "keras_resnet20_v2", "resnet20_v2")),
    get_spec("keras_applications_resnet50_v2"),
]


def elements(svg: str, path: str) -> list[ET.Element]:
    """The boxes of one path of all drawn blocks, in the drawing's order."""
    return [g for g in ET.fromstring(svg).iter(f"{NAMESPACE}g") if g.get("class") == path]


def words(svg: str) -> list[str]:
    return [node.text for node in ET.fromstring(svg).iter(f"{NAMESPACE}text")]


def top(group: ET.Element) -> float:
    return float(group.find(f"{NAMESPACE}rect").get("y"))


@pytest.mark.parametrize("spec", VARIANTS, ids=repr)
def test_boxes_are_the_blocks_own_layers_in_their_order(spec):
    svg = draw(spec)
    ran = layers_as_they_run(spec)
    drawn: dict[str, dict[str, list[ET.Element]]] = {}
    for path in ("before", "residual", "after"):
        for group in elements(svg, path):
            stage, position, name = group.get("data-layer").split(".", 2)
            drawn.setdefault(f"{stage}.{position}", {}).setdefault(path, []).append(group)
    assert drawn
    for place, paths in drawn.items():
        heights = []
        for path, layers in ran[place].items():
            groups = paths.get(path, [])
            names = [f"{place}.{name}" for name, _ in layers]
            assert [g.get("data-layer") for g in groups] == names
            for group, (name, module) in zip(groups, layers, strict=True):
                check_words(group.find(f"{NAMESPACE}text").text, module, name)
            heights += [top(group) for group in groups]
        assert heights == sorted(set(heights))  # from top to bottom


def layers_as_they_run(spec: Spec) -> dict[str, dict[str, list[tuple[str, nn.Module]]]]:
    """The layers that each block calls before its shortcut, then before its join, and after it."""
    calls: dict[str, list[tuple[str, nn.Module]]] = {}

    def note(block, name):
        def hook(module, args):
            calls.setdefault(block, []).append((name, module))

        return hook

    with torch.device("meta"):
        network = ResNet(spec).eval()
        for place, block in network.named_modules():
            if isinstance(block, Block):
                for name, layer in block.named_children():
                    layer.register_forward_pre_hook(note(place, name))
        network(torch.empty(1, 3, 64, 64))
    found = {}
    for place, layers in calls.items():
        names = [name for name, _ in layers]
        split, addition = names.index("downsample"), names.index("join")
        paths = (layers[:split], layers[split + 1 : addition], layers[addition + 1 :])
        present = [[c for c in path if not isinstance(c[1], nn.Identity)] for path in paths]
        found[place] = dict(zip(("before", "residual", "after"), present, strict=True))
    return found


def check_words(text, module, name):
    if name.startswith("conv"):
        side, channels = re.match(r"(\d)×\1 conv, (\d+)", text).groups()
        assert module.kernel_size == (int(side), int(side))
        assert module.out_channels == int(channels)
        assert (f"/{module.stride[0]}" in text) == (module.stride[0] > 1)
        assert (f"C = {module.groups}" in text) == (module.groups > 1)
        assert (f"dilation {module.dilation[0]}" in text) == (module.dilation[0] > 1)
    elif name.startswith("bn"):
        norms = {"BN": "BatchNorm2d", "frozen BN": "FrozenBatchNorm2d", "GN": "GroupNorm"}
        assert norms[text.partition(",")[0]] == type(module).__name__
    elif "activation" in name:
        assert text.replace("leaky ReLU", "LeakyReLU") == type(module).__name__
    elif name == "se":
        assert text.startswith(("SE", "ECA"))
    else:
        assert isinstance(module, DropPath)


def test_every_kind_of_block_of_a_net_is_drawn():
    """As many drawings as there are different blocks, up to size and stride."""
    for name, count in {"plain34": 2, "resnet34_c": 2, "resnet50": 2, "resnet20_v2": 3}.items():
        svg = draw(name)
        assert len({g.get("data-layer").rsplit(".", 1)[0] for g in elements(svg, "residual")}) == (
            count
        )


def test_kinds_of_one_name_are_told_apart():
    for name, titles in {
        "resnet50": ["Identity shortcut", "Projection shortcut"],
        "plain34": ["No shortcut, same shape", "No shortcut, new shape"],
        "resnet18_v2": ["Identity shortcut", "Identity shortcut, first block"],
    }.items():
        shown = words(draw(name))
        assert [title for title in titles if title in shown] == titles
    assert "block 2 of layer1; 12 of the 16 blocks are of this kind" in words(draw("resnet50"))


def test_shortcuts_and_joins():
    def shortcut(spec: Spec | str, path: str = "shortcut") -> list[str]:
        return [g.find(f"{NAMESPACE}text").text for g in elements(draw(spec), path)]

    def signs(spec: Spec | str) -> str:
        return "".join(sorted(g.get("data-sign") for g in elements(draw(spec), "sign")))

    assert shortcut("plain18") == []
    assert signs("plain18") == ""
    assert shortcut("resnet18") == ["1×1 conv, 128, /2", "BN"]
    assert signs("resnet18") == "++"
    assert shortcut("resnet18_v2") == ["1×1 conv, 128, /2"]
    assert shortcut("resnet20") == ["zero-pad +16 channels, /2"]
    assert shortcut("resnet50d") == ["2×2 average pool, /2", "1×1 conv, 512", "BN"]
    assert "subsample, /2" in shortcut("keras_applications_resnet50_v2")
    assert shortcut(replace(SMALL, shortcut_dropout=0.5)).count("dropout 0.5") == 2
    scaled = replace(SMALL, shortcut_scale=0.5)
    assert signs(scaled) == "++××"
    assert words(draw(scaled)).count("0.5") == 2
    exclusive = replace(SMALL, gate="exclusive")
    assert signs(exclusive) == "++××××"
    assert shortcut(exclusive, "gate") == ["1×1 conv, 16", "σ", "1×1 conv, 32", "σ"]
    assert signs(replace(SMALL, gate="shortcut_only")) == "++××"


def test_known_nets():
    shown = words(draw("resnet50"))
    for stage, blocks, size in (
        ("layer1", 3, "256 × 56 × 56"),
        ("layer2", 4, "512 × 28 × 28"),
        ("layer3", 6, "1024 × 14 × 14"),
        ("layer4", 3, "2048 × 7 × 7"),
    ):
        start = shown.index(stage)
        assert shown[start : start + 3] == [stage, size, f"{blocks} blocks"]
    assert {"resnet50", "7×7 conv, 64, /2", "3×3 max pool, /2", "1000"} <= set(shown)
    assert any(line.startswith("25,557,032 parameters") for line in shown)
    assert "layer1, 3 blocks, 256 x 56 x 56" in draw("resnet50")  # read aloud
    assert "after BN, ReLU" in words(draw("resnet50_v2"))
    assert {"3×3 conv, 32, /2", "3×3 conv, 64"} <= set(words(draw("resnet50d")))


@pytest.mark.parametrize("name", each_model())
def test_every_net_draws(name):
    """Sound XML whose boxes and texts stay on the page, with nothing from outside."""
    svg = draw(name)
    root = ET.fromstring(svg)
    width, height = float(root.get("width")), float(root.get("height"))
    for node in root.iter():
        assert node.tag.removeprefix(NAMESPACE) in {
            *("svg", "title", "desc", "rect", "text", "g", "path", "circle")
        }
        if "x" in node.attrib:
            assert 0 < float(node.get("x")) < width
            assert 0 < float(node.get("y")) < height
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"url\(|href|@import|<script|<style", svg)


def test_same_spec_same_drawing():
    assert draw("resnet20") == draw("resnet20") == draw(get_spec("resnet20"))


def test_names_are_escaped():
    svg = draw(replace(SMALL, name='<b> & "c"'))
    assert ET.fromstring(svg).find(f"{NAMESPACE}title").text == '<b> & "c"'
    assert '<b> & "c"' in words(svg)


def test_neighbouring_labels_do_not_touch():
    """In the row of maps, at 0.56 em a character, a digit's width: also in a net of many stages."""
    many = replace(ZOO["resnet50"], depths=(1,) * 6, widths=(64, 128, 256, 512, 1024, 2048))
    for spec in (many, ZOO["resnet50d"], get_spec("resnet110")):
        lines: dict[str, list[tuple[float, float]]] = {}
        for node in ET.fromstring(draw(spec)).iter(f"{NAMESPACE}text"):
            if node.get("text-anchor") == "middle":
                half = 0.28 * float(node.get("font-size")) * len(node.text)
                x = float(node.get("x"))
                lines.setdefault(node.get("y"), []).append((x - half, x + half))
        for spans in lines.values():
            for (_, end), (start, _) in zip(sorted(spans), sorted(spans)[1:], strict=False):
                assert end < start
