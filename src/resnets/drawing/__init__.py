"""Drawings of networks for lectures: the whole net, and its blocks enlarged."""

from resnets.drawing.page import draw as draw
