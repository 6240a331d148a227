"""The network: blocks, shortcuts, stems, and the ResNet that a spec describes."""

from resnets.nn.backbone import Backbone as Backbone
from resnets.nn.fpn import FeaturePyramid as FeaturePyramid
from resnets.nn.resnet import ResNet as ResNet
