"""Seeing what a network sees: the maps of every stage, and where a class is found in an image."""

from resnets.analysis.features.features_page import write_features
from resnets.analysis.features.maps import grad_cam, stage_maps

__all__ = ["grad_cam", "stage_maps", "write_features"]
