"""The network: blocks, shortcuts, stems, and the ResNet that a spec describes."""

from resnets.nn.resnet import ResNet as ResNet
