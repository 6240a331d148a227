"""What the annotated source says beside the docstrings and comments of the code itself.

NOTES are keyed by class or method of nn/blocks.py, after a ``:`` by the beginning of the line where
a part of it begins; FIELDS by the field of Spec. Tests fail where a key is missing or out of date.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import schematics
from schematics import each

from resnets.spec import Spec
from resnets.zoo import get_spec

NOTES = {
    "": """
A residual network is a long row of blocks that all do one thing: they compute a change, `F(x)`, and
add it to what they were given, `x`. This file is that row's only building brick. It is written so
that the line which adds is easy to find, and so that the five orders of *Identity Mappings* (He et
al. 2016) can be read one below the other.

What is not here: which shortcut a block has (`nn/shortcuts.py` decides;
[chapter 3](../learn/3-options.md)), where a block stands and which stride and width it has
(`nn/places.py` computes a table of that from the spec), and how blocks are strung together
(`nn/trunk.py`).
""",
    "Layer": """
What a layer is to this file: something that takes a tensor and returns one. A module of torch is
that, too.
""",
    "Block": """
All blocks inherit from this class. It owns what does not depend on how many convolutions there
are: the norms, the shortcut, the addition and its place. A subclass states only its convolutions
and the expression `F`.

The declarations say what exists after `__init__`; the modules themselves are made there, because
how many channels a norm has depends on the order of activation.
""",
    "Block.__init__": """
A block is built from two values: the **spec**, which is the same for all blocks of a net, and its
**place**, which says what is different here: channels in and out, stride, dilation, whether this
is the very first block.

In an order that activates the input, a block whose shortcut is a convolution has to decide whether
that convolution reads the activated input or the raw one. The paper's appendix activates both;
others do not. It is decided here, once, and kept as a word that `activated` compares.
""",
    "Block.__init__: convolutions =": """
The subclass makes the convolutions; they are called `conv1`, `conv2`, … so that the keys of a
checkpoint are torchvision's. `last_weighted` is the layer that `zero_init_residual` starts at
zero: the last norm where one ends the residual, else the last convolution.
""",
    "Block.__init__: norm_first =": """
A norm behind a convolution has that convolution's output channels; a norm before it has its input
channels. The norm that would stand before the first convolution is left out where the input comes
activated already (by the stem).
""",
    'Block.__init__: if self.order == "relu_only': """
ReLU in place saves memory by overwriting its input. Here that would change what the shortcut
carries, so that this one activation keeps its input as it is.
""",
    "Block.__init__: self.se": """
What a net does not have is `nn.Identity()` and not a branch in `forward`: squeeze-and-excitation,
stochastic depth, a shortcut that changes the shape. So the code that runs reads like the formula,
whatever the spec says.
""",
    "Block.forward": """
The whole choice of order: the spec's word *is* the name of the method. There is no chain of `if`s
to read before one finds what a block computes.
""",
    "Block.add": """
The `+` of the paper. Usually `join` is a sum; it can also be a scaled or a gated one (He et al.
2016, Table 1), or the residual alone, which makes a plain net of the same layers.
""",
    "Block.original": """
The block of 2015. The ReLU stands *behind* the addition, so what leaves a block is never negative,
and the identity is only an identity up to the next ReLU. [Chapter 5](../learn/5-order.md) has what
follows from that.
""",
    "Block.relu_before_addition": """
Tempting, as the sum is then an identity. But the residual ends in a ReLU, so it can only ever
*add*: from block to block the signal grows and nothing takes away. 7.84 % error beside 6.61
(ResNet-110, CIFAR-10; He et al. 2016, Table 2).
""",
    "Block.relu_only_preactivation": """
ReLU before the convolutions, batch norm behind them: no better than the original (6.71 beside
6.61 %), perhaps because the first ReLU reads what no norm has normalised.
""",
    "Block.preactivation": """
Norm and ReLU before each convolution. Nothing stands on the way from one addition to the next, so
that `x_L = x_l + F_l + F_(l+1) + … + F_(L-1)`: the last block's input is the first's plus
everything in between. 6.37 % beside 6.61, and with 1,001 layers 4.92 beside 7.61 (He et al. 2016,
Tables 2 and 3).
""",
    "Block.activated": """
Called twice by a pre-activated block: before the paths part (`"both paths"`) and at the head of
the residual (`"residual"`). Exactly one of the two activates, or none where the stem has done it.
""",
    "SingleBlock": """
A shortcut around each single layer. He et al. 2015 saw no advantage in it (sec. 3.2); the paper of
2016 has a net of 110 such layers in its Table 3: 9.90 % error, and 8.91 where it is pre-activated.
""",
    "SingleBlock.convolutions": "A list of one: what is said of blocks holds for it too.",
    "SingleBlock.residual": """
Without a ReLU in between, the residual is linear in its input: all that bends is the ReLU after the
sum.
""",
    "SingleBlock.preactivated_residual": "`bn1` and its ReLU are in `activated`, as elsewhere.",
    "SingleBlock.bn_after_addition": "The one norm reads the sum.",
    "BasicBlock": "The block of ResNet-18 and ResNet-34, and of all of the CIFAR nets of 2015.",
    "BasicBlock.convolutions": """
The stride is on the first convolution, so that the second already works on the smaller map.
`norm_follows` tells nets that give a bias only to convolutions without a norm behind them.
""",
    "BasicBlock.residual": """
Read from the inside out: convolution, norm, ReLU, convolution, norm. No ReLU at the end: the
addition comes first.
""",
    "BasicBlock.preactivated_residual": """
The same five layers, each norm one place earlier. `bn1` and its ReLU are in `activated`, as the
shortcut may need their result.
""",
    "BasicBlock.bn_after_addition": """
The norm has moved from the residual's end to behind the sum, and so onto the way of the identity:
8.17 % error beside 6.61 (He et al. 2016, Table 2). One layer in another place.
""",
    "BottleneckBlock": """
The block of ResNet-50 and deeper: a 1×1 convolution makes the channels fewer, the 3×3 works on
few, and another 1×1 makes them many again. [Chapter 4](../learn/4-bottleneck.md) counts what that
saves. With `groups` above 1 it is ResNeXt's block.
""",
    "BottleneckBlock.convolutions": """
Three lines for one of the best known traps: the paper of 2015 puts the stride on the first 1×1
(v1), ResNeXt's and most published weights have it on the 3×3 (v1.5). Both have the same parameters
and the same keys, so that weights load into the wrong one without a word, and answer worse.
""",
    "BottleneckBlock.residual": """
Three convolutions, each with its norm, ReLU between them and none at the end.
""",
    "BottleneckBlock.preactivated_residual": """
The only expression with a name in between, for the length of the line. It reuses `x`, so that the
map before it is not kept in memory.
""",
    "BottleneckBlock.bn_after_addition": "As in the basic block: the last norm reads the sum.",
    "BLOCKS": """
The spec's word to the class. A new kind of block is a class above and a row here.
""",
}


class Field(NamedTuple):
    """An entry of the page of Spec: prose, and the drawings beside it with their caption."""

    prose: str
    drawings: Callable[[], list[str]] | None = None
    caption: str = ""


def short(name: str) -> Spec:
    """Return a net with two blocks in its first stage and one in others: enough to draw blocks."""
    spec = get_spec(name)
    return replace(spec, depths=(2, *(1 for _ in spec.depths[1:])))


SMALL = short("resnet20")  # option A, post-activation, 16-32-64
PROJECTED = short("resnet20_b")
V2 = short("resnet20_b_v2")
BOTTLENECK = short("resnet50")
SAME, NEW = 1, 2  # the block that keeps its shape, and the one that changes it


def _values(spec: Spec, field: str, values: dict[str, str], number: int) -> list[str]:
    return each(
        *(
            (f"{field} = {value}", words, replace(spec, **{field: value}), number)
            for value, words in values.items()
        )
    )


def orders() -> list[str]:
    """Return a block in each order, with the error of He et al. 2016, Table 2."""
    words = {
        "original": "Fig. 4 (a): 6.61 %",
        "bn_after_addition": "Fig. 4 (b): 8.17 %",
        "relu_before_addition": "Fig. 4 (c): 7.84 %",
        "relu_only_preactivation": "Fig. 4 (d): 6.71 %",
        "preactivation": "Fig. 4 (e): 6.37 %",
    }
    return each(
        *(
            (order, line, replace(SMALL, activation_order=order), SAME)
            for order, line in words.items()
        )
    )


FIELDS = {
    "name": Field("""
What the net was asked for by. It appears in reports and files and is no part of the architecture:
two specs that differ in nothing else are equal.
"""),
    "block": Field(
        """
Two 3×3 convolutions, or 1×1, 3×3 and 1×1 with a quarter of the channels in the middle. At equal
cost a bottleneck is deeper and wider. `single` is one 3×3 convolution (He et al. 2016, Table 3).
""",
        lambda: each(
            ("basic", "ResNet-34: 73,984 parameters", short("resnet34"), SAME),
            ("bottleneck", "ResNet-50: 70,400 parameters", BOTTLENECK, SAME),
        ),
        """
He et al. 2015, Fig. 5. The basic block has 64 channels outside, the bottleneck 256, for about the
same number of parameters.
""",
    ),
    "depths": Field(
        """
How many blocks each stage has. A stage is a run of blocks whose maps have one size. The number in
a net's name counts weighted layers: stem, 1 to 3 per block, classifier. ResNet-50 is `1 + 3 × (3 +
4 + 6 + 3) + 1`.
""",
        lambda: [schematics.maps(get_spec("resnet50"))],
        "The stages of ResNet-50 (He et al. 2015, Table 1).",
    ),
    "widths": Field("""
Channels of each stage, inside its blocks. They double where the map's side halves, so that a layer
costs the same number of multiply-adds in every stage (He et al. 2015, sec. 3.3). ImageNet's nets
have 64 to 512, those for CIFAR 16, 32, 64.
"""),
    "out_channels": Field("""
Channels that leave the blocks of each stage. Empty means `widths`, for bottlenecks four times
`widths`, which is what the papers' nets have; a few published nets have other
numbers.
"""),
    "shortcut": Field(
        """
A shortcut adds the input to the residual, so both need one shape. Where a stage begins they
differ: half the side, twice the channels. Option A subsamples and fills up with zeros, which has
no weights; B projects by a 1×1 convolution there; C projects in every block; D, of later nets,
averages before it projects, so that no pixel is dropped. `none` makes a plain net. [Chapter
3](../learn/3-options.md) compares them.
""",
        lambda: _values(
            SMALL,
            "shortcut",
            {
                "A": "no weights",
                "B": "a projection",
                "D": "averaged first",
                "none": "a plain net",
            },
            NEW,
        ),
        """
The first block of the second stage of a CIFAR net. Option C looks like B, in blocks that keep
their shape as well.
""",
    ),
    "zero_pad": Field(
        """
Where option A's zero channels go. Both compute the same function with channels in another order,
so weights trained for one compute nonsense in the other, and the file does not say which it is.
""",
        schematics.zero_padding,
        """
From 16 to 32 channels: Facebook's Torch code has the zeros at the end, a much used port on both
sides.
""",
    ),
    "projection_size": Field(
        """
The papers project by 1×1 convolutions; many a tutorial does by 3×3, which has nine times the
weights.
""",
        lambda: _values(
            PROJECTED, "projection_size", {"1x1": "512 weights", "3x3": "4,608 weights"}, NEW
        ),
        "16 to 32 channels.",
    ),
    "projection_norm": Field(
        """
Whether a batch norm follows the projection. Original nets have one; pre-activated nets never do,
as their norms stand before the convolutions.
""",
        lambda: each(
            ("true", "the usual", PROJECTED, NEW),
            ("false", "no norm", replace(PROJECTED, projection_norm=False), NEW),
        ),
    ),
    "shortcut_scale": Field(
        """
A constant that the shortcut is multiplied by. Over many blocks the constants multiply: at 0.5,
what the first block received arrives behind ten blocks as a thousandth. The paper's nets with 0.5
on the shortcut alone failed; with both at 0.5 they came to 12.35 % error beside 6.61.
""",
        lambda: each(
            (
                "scaled",
                "shortcut 0.5, residual 0.5",
                replace(SMALL, shortcut_scale=0.5, residual_scale=0.5),
                SAME,
            )
        ),
        "He et al. 2016, Fig. 2 (b) and Table 1 (ResNet-110, CIFAR-10).",
    ),
    "residual_scale": Field(
        """
The same for the residual. Both at 1 is the plain sum; see `shortcut_scale` for what other values
do.
"""
    ),
    "gate": Field(
        """
A learnt weight between 0 and 1 for each pixel and channel, `g = sigmoid(W x + b)`, as in highway
networks. *Exclusive* splits between the two paths: `(1 − g) x + g F(x)`. *Shortcut only* leaves
the residual whole. Both were worse than no gate, at best 8.70 and 6.91 % error beside 6.61: what
is multiplied onto the shortcut hinders the signal.
""",
        lambda: _values(
            SMALL,
            "gate",
            {"exclusive": "at best 8.70 %", "shortcut_only": "at best 6.91 %"},
            SAME,
        ),
        "He et al. 2016, Fig. 2 (c) and (d), Table 1 (ResNet-110, CIFAR-10).",
    ),
    "gate_bias": Field("""
Where the gate's bias `b` starts. At 0 a gate begins half open, at −6 it is nearly closed
(`sigmoid(−6) = 0.0025`) and lets the shortcut through nearly whole: the shortcut-only gate has
12.86 % error from 0 and 6.91 from −6.
"""),
    "shortcut_dropout": Field(
        """
Dropout on the shortcut (not the residual). On average it is a constant scale, and it fails in the
same way: above 20 % error at 0.5.
""",
        lambda: each(
            ("shortcut_dropout = 0.5", "failed", replace(SMALL, shortcut_dropout=0.5), SAME)
        ),
        "He et al. 2016, Fig. 2 (f) and Table 1.",
    ),
    "activation_order": Field(
        """
Where batch norm and ReLU stand. The layers are the same in all five; what differs is what lies on
the way of the identity. [Chapter 5](../learn/5-order.md) has the reasons.
""",
        orders,
        """
He et al. 2016, Fig. 4, with the error of ResNet-110 on CIFAR-10 (Table 2, median of five runs).
""",
    ),
    "projection_input": Field(
        """
In a pre-activated net, what a projection reads: the input after norm and ReLU, as in the paper's
appendix, or as it comes. The keys of a checkpoint do not tell.
""",
        lambda: _values(
            V2, "projection_input", {"activated": "the paper", "raw": "Keras's example"}, NEW
        ),
    ),
    "first_shortcut_input": Field(
        """
The same for the shortcut of the very first block, which may be an identity: does it carry the
activated stem, or the stem itself?
""",
        lambda: _values(
            V2,
            "first_shortcut_input",
            {"activated": "the paper's appendix", "raw": "as in other blocks"},
            0,
        ),
    ),
    "stem_activation": Field(
        """
In a pre-activated net, whether the stem has its own norm and ReLU. If it has, the first block does
not activate its input again.
""",
        lambda: each(
            ("stem_activation = false", "the first block activates", V2, 0),
            (
                "stem_activation = true",
                "the stem has done it",
                replace(V2, stem_activation=True),
                0,
            ),
        ),
    ),
    "bottleneck_stride": Field(
        """
Which convolution of a bottleneck halves the map. On the first 1×1 (v1, the paper) three quarters
of the pixels are never read by the block's residual; on the 3×3 (v1.5, torchvision) all are, for 6
% more multiply-adds: 4.09 instead of 3.86 billion for ResNet-50.
""",
        lambda: _values(BOTTLENECK, "bottleneck_stride", {"1x1": "v1", "3x3": "v1.5"}, NEW),
        "The first block of the second stage of ResNet-50.",
    ),
    "stride_position": Field(
        """
Which block of a stage halves the map. Keras's pre-activated ImageNet nets do it in the last block,
all others in the first.
""",
        schematics.stride_positions,
    ),
    "groups": Field(
        """
The cardinality of ResNeXt. The 3×3 convolution is cut into so many groups of channels which do not
see each other, and so costs a `groups`th of what a dense one of that width does; the block can be
wider for the same cost. [Chapter 6](../learn/6-cardinality.md) shows why that is the same as many
small blocks side by side.
""",
        lambda: each(
            ("groups = 1", "ResNet-50", BOTTLENECK, SAME),
            ("groups = 32", "ResNeXt-50 (32×4d)", short("resnext50_32x4d"), SAME),
        ),
        "Xie et al. 2017, Fig. 1: 69,632 weights on the left, 70,144 on the right, without norms.",
    ),
    "width_per_group": Field("""
Channels in each group, in a stage of width 64. The middle of a bottleneck has `groups ×
width_per_group` channels there: 32 × 4 = 128 in ResNeXt-50 (32×4d), 1 × 64 in ResNet-50, 1 × 128
in Wide ResNet-50-2. Later stages scale with their width.
"""),
    "stem": Field(
        """
What comes before the first block. `7x7` with stride 2 is for photographs of 224 pixels; on CIFAR's
32 it would throw away most of the image, so those nets begin with one 3×3 and no pooling. `deep`
replaces the 7×7 by three 3×3 (He et al. 2019, Fig. 2b).
""",
        lambda: [
            schematics.maps(get_spec("resnet18")),
            schematics.maps(get_spec("resnet20")),
            schematics.maps(get_spec("resnet18d")),
        ],
        "7x7 (ResNet-18), 3x3 (ResNet-20), deep (ResNet-18-D).",
    ),
    "stem_width": Field(
        "Channels that leave the stem: 64 for photographs, 16 in the CIFAR nets of 2015."
    ),
    "stem_pool": Field("""
A max-pooling over 3×3 pixels with stride 2 behind the stem, which halves the map again before the
first block. `zero_padded_max` is Keras's way: it fills the border with zeros instead of leaving it
out, which matters where maps may be negative.
"""),
    "attention": Field(
        """
Channels weighed by a gate that reads all channels' means, before the addition.
Squeeze-and-excitation has two small layers for it (Hu et al. 2018), ECA one convolution along the
channels (Wang et al. 2020).
""",
        lambda: _values(
            BOTTLENECK,
            "attention",
            {"se": "two layers", "eca": "a few weights"},
            1,
        ),
    ),
    "attention_reduction": Field(
        """
Of squeeze-and-excitation: the gate's middle has the channels divided by this, 16 in the paper.
"""
    ),
    "norm": Field("""
Batch norm; group norm (Wu & He 2018), which does not mix the images of a batch and suits small
batches; or batch norm whose statistics and scale stay as they were loaded, as detectors fine-tune.
"""),
    "norm_eps": Field("""
Added to the variance before the root is taken, so that nothing is divided by zero. PyTorch's nets
have 1e-5, TensorFlow's often 1e-3.
"""),
    "norm_momentum": Field("""
How much of the newest batch enters the running mean and variance that are used after training.
PyTorch counts the new part (0.1); TensorFlow writes the same as 0.9, the part that stays.
"""),
    "activation": Field("ReLU in all of the papers. The others are for nets of later years."),
    "conv_bias": Field("""
Whether convolutions add a number to each channel. Behind a convolution with a norm it is of no
use, as the norm takes the mean away again; Keras's nets have it all the same.
"""),
    "padding": Field(
        """
What stands around the map when a convolution has stride 2. TensorFlow pads as little as it needs,
and then only at the bottom and right: every window is one pixel off from torch's, so weights of
one answer worse in the other.
""",
        schematics.paddings,
        "A row of eight pixels, a 3-wide kernel with stride 2.",
    ),
    "output_stride": Field(
        """
How much smaller the last map is than the image. For segmentation 16 or 8 is wanted instead of 32:
strides of the last stages become 1 and their kernels read pixels that are 2 or 4 apart, so that
trained weights still see what they have learnt to see (Chen et al. 2017, sec. 3.1).
""",
        lambda: [
            schematics.maps(get_spec("resnet50")),
            schematics.maps(replace(get_spec("resnet50"), output_stride=8)),
        ],
        """
ResNet-50 with output stride 32 and 8: the same parameters, a last map of 7 and of 28 pixels a
side.
""",
    ),
    "multi_grid": Field(
        """
Of nets with dilation: the blocks of the last stage multiply theirs by these, such as 1, 2, 4, so
that they see differently far (Chen et al. 2017, sec. 3.2.1).
""",
        schematics.dilations,
        "The nine pixels that a 3×3 kernel reads.",
    ),
    "drop_path": Field(
        """
Stochastic depth (Huang et al. 2016): in training the residual of a block is left out for some
images of the batch, so that only the shortcut remains. The probability rises from the first block
to this value in the last; those that stay are scaled up, so that nothing changes at test time.
""",
        lambda: [schematics.stochastic_depth()],
    ),
    "dropout": Field(
        """
The probability that a feature before the classifier is set to zero in training. The papers use
none.
"""
    ),
    "zero_init_residual": Field("""
Start the last norm's scale of each residual (or the last convolution, in pre-activated nets) at
zero: every block begins as its shortcut, and the net as a shallow one. Goyal et al. 2017, sec.
5.1. It is only about the start: trained weights load either way.
"""),
    "num_classes": Field(
        "How many classes the classifier tells apart: its only layer has so many outputs."
    ),
    "in_channels": Field("""
Channels of the image: 3 for colour, 1 for grey, more for satellites. Only the first convolution
depends on it.
"""),
    "image_size": Field("""
The side of the images that the net was designed for, which costs are told for. Other sizes work:
the last map is averaged, whatever its size.
"""),
}
