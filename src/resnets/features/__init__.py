"""Seeing what a network sees: the maps of every stage, and where a class is found in a picture."""

from resnets.features.maps import grad_cam, stage_maps
from resnets.features.page import write_features

__all__ = ["grad_cam", "stage_maps", "write_features"]
