"""Surfaces on one scale: levels, what is cut off, and drawings that belong to their page."""

import numpy as np
import pytest

from resnets.report import svg
from resnets.report.surfaces import Scale, contours, perspective

BOWL = np.array(
    [[0.1 + a * a + b * b for a in (-1, -0.5, 0, 0.5, 1)] for b in (-1, -0.5, 0, 0.5, 1)]
)


def test_a_scale_spans_all_surfaces_up_to_its_top():
    scale = Scale([BOWL, 3 * BOWL], top=100)
    assert scale.levels[0] == pytest.approx(0.1)
    assert scale.levels[-1] == pytest.approx(3 * BOWL.max())
    ratios = scale.levels[1:] / scale.levels[:-1]
    assert ratios == pytest.approx(ratios[0])
    assert set(scale.marks) <= {0.1, 0.2, 0.5, 1, 2, 5, 10}
    assert all(scale.levels[0] <= mark <= scale.levels[-1] for mark in scale.marks)


def test_what_is_higher_or_no_number_is_cut_off():
    wild = BOWL.copy()
    wild[0, 0], wild[4, 4] = np.nan, 1e30
    scale = Scale([wild], top=20)
    assert scale.levels[-1] == pytest.approx(20)
    clipped = scale.clipped(wild)
    assert clipped[0, 0] == clipped[4, 4] == scale.levels[-1]
    assert (clipped[1:4, 1:4] == wild[1:4, 1:4]).all()
    flat = Scale([np.full((5, 5), 2.0)], top=1)  # which still has levels that rise
    assert (np.diff(flat.levels) > 0).all()


@pytest.mark.parametrize("draw", [contours, perspective])
def test_drawings_say_what_they_show_and_have_the_pages_colours(draw):
    plot = draw("bowl", "resnet20 <b>", BOWL, 0.5, Scale([BOWL], top=20))
    assert plot.title == "resnet20 <b>"
    assert (
        "resnet20 &lt;b&gt;. 0.1 in the middle, 0.1 at the lowest, 2.1 at the highest." in plot.svg
    )
    assert "<b>" not in plot.svg
    assert svg.VARIABLES[svg.MUTED] in plot.svg
    assert not any(colour in plot.svg for colour in svg.VARIABLES)
    assert ">0.5</text>" in plot.svg
    assert plot.svg == draw("bowl", "resnet20 <b>", BOWL, 0.5, Scale([BOWL], top=20)).svg
