"""Where a network comes from, and how nets of the same name differ elsewhere."""

from resnets.spec import Spec


def provenance(spec: Spec) -> list[str]:
    """Return sentences about a spec: its papers first, then what other libraries do differently.

    They follow from the spec's fields, so that they hold for nets without a name too.
    """
    return [text for applies, text in _facts(spec) if applies]


def _facts(spec: Spec) -> list[tuple[bool, str]]:
    original = spec.activation_order == "original"
    keras = spec.conv_bias != "none"
    bottleneck = spec.block == "bottleneck" and original and not keras and spec.attention == "none"
    preactivated = spec.activation_order == "preactivation" and not keras
    cifar = spec.stem == "3x3"
    plain = spec.shortcut == "none"
    return [
        (original and spec.groups == 1, "He et al. 2015, Deep Residual Learning"),
        (plain, "a plain net: what residual learning was measured against"),
        (not original, "He et al. 2016, Identity Mappings, Fig. 4"),
        (spec.gate != "none" or spec.scaled, "He et al. 2016, Identity Mappings, Table 1"),
        (spec.groups > 1, "Xie et al. 2017, Aggregated Residual Transformations"),
        (spec.stem in ("deep", "deep_tiered"), "He et al. 2019, Bag of Tricks, Fig. 2"),
        (spec.attention == "se", "Hu et al. 2018, Squeeze-and-Excitation Networks"),
        (spec.attention == "eca", "Wang et al. 2020, ECA-Net"),
        (
            spec.width_per_group == 128 or (cifar and spec.widths[0] > spec.stem_width),
            "Zagoruyko & Komodakis 2016, Wide Residual Networks",
        ),
        (
            spec.groups == 1 and spec.width_per_group not in (64, 128),
            "Xie et al. 2017, Table 4: a wider net to compare cardinality with",
        ),
        (
            bottleneck and not cifar and spec.bottleneck_stride == "3x3",
            "stride on the 3x3 (v1.5), as torchvision, timm and fb.resnet.torch; the paper's Caffe "
            "models and keras.applications have it on the 1x1 (v1): same parameters, other outputs",
        ),
        (
            bottleneck and not cifar and spec.bottleneck_stride == "1x1" and spec.groups == 1,
            "stride on the 1x1 (v1), as the paper's Caffe models; torchvision and timm have it on "
            "the 3x3 (v1.5): same parameters, other outputs",
        ),
        (
            spec.shortcut == "A" and spec.zero_pad == "end",
            "fb.resnet.torch: the same; akamaster's CIFAR nets put half of the zero channels first",
        ),
        (
            (spec.shortcut, spec.block, spec.widths[0]) == ("B", "basic", 16)
            and original
            and not keras,
            "option B; the paper's CIFAR nets use option A",
        ),
        (
            preactivated
            and not cifar
            and spec.block == "basic"
            and spec.first_shortcut_input == "activated",
            "timm's resnetv2_18 and _34 add the raw stem in the first block, the paper the "
            "activated one: same parameters, other outputs",
        ),
        (
            preactivated and spec.block == "bottleneck" and not cifar,
            "timm's resnetv2: the same; keras.applications' V2 strides in a stage's last block",
        ),
        (
            keras and cifar,
            "Keras's CIFAR example: convolutions with bias, projections without norm",
        ),
        (
            spec.padding == "same",
            "TensorFlow's padding: stride 2 pads bottom and right only",
        ),
        (
            keras and not cifar,
            "keras.applications: convolutions with bias, batch-norm epsilon 1.001e-5",
        ),
    ]
