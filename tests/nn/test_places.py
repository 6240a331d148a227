"""Where blocks stand: strides and dilations of every stage, written out from the papers."""

from dataclasses import replace

import pytest

from resnets.nn.places import places
from resnets.zoo import ZOO, get_spec


def table(name: str, **changes) -> list[list[tuple[int, int, int]]]:
    """Stride, dilation of the first 3x3 and of the others, of each block of each stage."""
    spec = replace(get_spec(name), **changes)
    return [[(p.stride, p.first_dilation, p.dilation) for p in stage] for stage in places(spec)]


PLAIN, HALVED = (1, 1, 1), (2, 1, 1)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("resnet18", {}, [[PLAIN] * 2, [HALVED, PLAIN], [HALVED, PLAIN], [HALVED, PLAIN]]),
        # Chen et al. 2017, Fig. 3 (b): where a stride goes, the first 3x3 still has the old rate.
        (
            "resnet18",
            {"output_stride": 16},
            [[PLAIN] * 2, *[[HALVED, PLAIN]] * 2, [(1, 1, 2), (1, 2, 2)]],
        ),
        (
            "resnet18",
            {"output_stride": 8},
            [[PLAIN] * 2, [HALVED, PLAIN], [(1, 1, 2), (1, 2, 2)], [(1, 2, 4), (1, 4, 4)]],
        ),
        # Chen et al. 2017, sec. 3.2.1: the last stage's rate times the units.
        (
            "resnet18",
            {"output_stride": 16, "multi_grid": (1, 2)},
            [[PLAIN] * 2, *[[HALVED, PLAIN]] * 2, [(1, 2, 2), (1, 4, 4)]],
        ),
        # keras.applications' V2: a stage's last block strides, and what follows it is dilated.
        (
            "keras_applications_resnet50_v2",
            {"depths": (2, 2, 2, 1), "output_stride": 8},
            [[PLAIN, HALVED], [PLAIN, (1, 1, 2)], [(1, 2, 2), (1, 2, 4)], [(1, 4, 4)]],
        ),
        # A stem without pooling leaves one stride more before the maps are small enough.
        (
            "resnet18",
            {"stem_pool": "none", "output_stride": 8},
            [[PLAIN] * 2, *[[HALVED, PLAIN]] * 2, [(1, 1, 2), (1, 2, 2)]],
        ),
    ],
)
def test_strides_and_dilations(name, changes, expected):
    assert table(name, **changes) == expected


@pytest.mark.parametrize("name", ZOO)
def test_each_block_reads_what_the_one_before_it_gives(name):
    spec = ZOO[name]
    row = [place for stage in places(spec) for place in stage]
    assert [len(stage) for stage in places(spec)] == list(spec.depths)
    assert [p.is_first for p in row] == [True] + [False] * (len(row) - 1)
    assert [p.in_channels for p in row] == [spec.stem_width, *(p.out_channels for p in row[:-1])]
    assert row[-1].out_channels == spec.channels[-1]
    dilated = places(replace(spec, output_stride=8))
    for plain, other in zip(row, (place for stage in dilated for place in stage), strict=True):
        assert plain.stride == other.stride * other.replaced_stride
        assert plain.projects == other.projects


def test_projections():
    """He et al. 2015, sec. 3.3: A none, B where the shape changes, C everywhere."""

    def projects(name):
        return ["".join("x" if p.projects else "." for p in row) for row in places(get_spec(name))]

    assert projects("resnet18_a") == ["..", "..", "..", ".."]
    assert projects("resnet18") == ["..", "x.", "x.", "x."]
    assert projects("resnet50") == ["x..", "x...", "x.....", "x.."]
    assert projects("resnet18_c") == ["xx", "xx", "xx", "xx"]
    assert projects("keras_applications_resnet50_v2") == ["x..", "x...", "x.....", "x.."]


def test_drop_path_falls_linearly_to_the_first_block():
    rates = [
        p.drop_path for row in places(replace(get_spec("resnet20"), drop_path=0.9)) for p in row
    ]
    assert rates == pytest.approx([0.1 * (i + 1) for i in range(9)])
