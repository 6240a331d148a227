"""Drawings of networks for lectures: the whole net, and its blocks enlarged."""

from resnets.analysis.drawing.layout import draw as draw
