"""Drawings of networks for lectures: the whole net, and its blocks enlarged."""

from resnets.analysis.drawing.layout import draw as draw
from resnets.analysis.drawing.layout import draw_maps as draw_maps
from resnets.analysis.drawing.layout import draw_units as draw_units
