"""Other people's names for our tensors: one table per dialect.

A dialect is data: rows that pair a module of ours with a module of theirs, how the parts of a
module are called, which nets the dialect can hold, and what a file that speaks it proves about its
net. `resnets.weights.naming` writes with these tables; files are read by their structure, and what
a dialect would have written is what it proves something about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["conv", "norm", "linear"]
Channels = tuple[float, ...]  # red first
Leaves = Mapping[Kind, Mapping[str, str]]  # our leaf of each kind of module -> their ending

WEIGHTED = {"weight": ".weight", "bias": ".bias"}
STATISTICS = {"running_mean": ".running_mean", "running_var": ".running_var"}
COUNTED = {**WEIGHTED, **STATISTICS, "num_batches_tracked": ".num_batches_tracked"}
TORCH: Leaves = {"conv": WEIGHTED, "norm": COUNTED, "linear": WEIGHTED}
TORCH_FROZEN: Leaves = {**TORCH, "norm": {**WEIGHTED, **STATISTICS}}
CAFFE2: Leaves = {
    "conv": {"weight": "_w", "bias": "_b"},
    "norm": {"weight": "_s", "bias": "_b", "running_mean": "_rm", "running_var": "_riv"},
    "linear": {"weight": "_w", "bias": "_b"},
}
CAFFE2_LIVE: Leaves = {
    **CAFFE2,
    "norm": {
        "weight": "_gamma",
        "bias": "_beta",
        "running_mean": "_running_mean",
        "running_var": "_running_var",
    },
}


@dataclass(frozen=True)
class Row:
    """One module of ours and of theirs; the first row that fits is the one that counts.

    Names have places for numbers: ``{block}``, ``{block+1}`` where counting starts elsewhere, and
    ``{i|a,b,c}`` for words in place of 1, 2 and 3. ``pool`` counts the poolings before a projection
    (option D has one), so that its convolution is downsample.{pool}. ``when`` limits a row to a
    situation: ``deep`` stems, ``pre``-activation nets, ``pool`` before projections (each 0 or 1).
    """

    kind: Kind
    ours: str
    theirs: str
    when: Mapping[str, int] = field(default_factory=dict)

    def only(self, **when: int) -> "Row":
        """Return the same row for one situation."""
        return replace(self, when=when)


@dataclass(frozen=True)
class Input:
    """What images a net was trained on: channel order and, for red, green, blue in 0..1, scale.

    Inputs are (pixel / 255 - mean) / std; the first convolution of a ``bgr`` net has blue first.
    """

    mean: Channels
    std: Channels
    bgr: bool = False


def of_255(mean: Channels, std: Channels = (1.0, 1.0, 1.0)) -> Input:
    """Return the input of a BGR net from its constants for pixels 0..255, blue first."""
    (b, g, r), (b_std, g_std, r_std) = mean, std
    return Input((r / 255, g / 255, b / 255), (r_std / 255, g_std / 255, b_std / 255), bgr=True)


IMAGENET_INPUT = Input((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE2_INPUT = of_255((102.9801, 115.9465, 122.7717))
DETECTRON2_INPUT = of_255((103.53, 116.28, 123.675))
CAFFE2_RESNEXT_INPUT = of_255((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
PYCLS_INPUT = Input(IMAGENET_INPUT.mean, IMAGENET_INPUT.std, bgr=True)


@dataclass(frozen=True)
class Proof:
    """What a file of this dialect proves about its net where it shows the signs in ``when``.

    Signs are what `translate.signs` sees in tensors and in what a file says beside them.
    """

    fields: Mapping[str, Any]
    when: Mapping[str, Any] = field(default_factory=dict)
    input: Input | None = None


@dataclass(frozen=True)
class Dialect:
    """One way to name a residual network's tensors."""

    name: str
    source: str  # who speaks it, for people
    rows: tuple[Row, ...]
    # Which nets it can hold: any of these; fields that are not mentioned must have the default.
    # Nothing listed: all of them.
    holds: tuple[Mapping[str, tuple[Any, ...]], ...]
    leaves: Leaves = field(default_factory=lambda: TORCH)
    prefix: str = ""  # before every name but the classifier's; may be absent in a file
    proves: tuple[Proof, ...] = ()
    head: Literal["linear", "convolution"] = "linear"
    affine_norms: bool = False  # norms are a scale and a shift: their statistics are folded in
    stages: tuple[int, ...] = ()  # how many its nets have, where that tells it from another

    def proven(self, signs: Mapping[str, Any]) -> tuple[dict[str, Any], Input | None]:
        """Return what a file with these signs proves: fields of the spec, and its images."""
        proofs = [p for p in self.proves if all(signs[sign] == v for sign, v in p.when.items())]
        fields = {name: value for proof in proofs for name, value in proof.fields.items()}
        return fields, next((proof.input for proof in proofs if proof.input), None)


ANY = ("any value",)

CONV = "layer{stage}.{block}.conv{i}"
NORM = "layer{stage}.{block}.bn{i}"
PROJECTION = "layer{stage}.{block}.downsample.{pool}"
PROJECTION_NORM = "layer{stage}.{block}.downsample.{pool+1}"
SQUEEZE = "layer{stage}.{block}.se.fc{i}"
CHANNEL_ATTENTION = "layer{stage}.{block}.se.conv"
GATE = "layer{stage}.{block}.join.gate"
V2_BLOCK = "stages.{stage-1}.blocks.{block}"
HF_BLOCK = "encoder.stages.{stage-1}.layers.{block}"
BOTTLENECK = "stage_{stage}.stage_{stage}_bottleneck_{block}"
Rows = tuple[Row, ...]
Names = tuple[str, str]  # of a convolution and of its norm


def rows(block: Names, projection: Names, fc: str, stem: Names = ("conv1", "bn1")) -> Rows:
    """Return the rows of a net with one convolution as its stem and no pooling in shortcuts."""
    return (
        *(Row("conv", "conv1", stem[0]), Row("norm", "bn1", stem[1])),
        *(Row("conv", CONV, block[0]), Row("norm", NORM, block[1])),
        Row("conv", PROJECTION, projection[0], {"pool": 0}),
        Row("norm", PROJECTION_NORM, projection[1], {"pool": 0}),
        Row("linear", "fc", fc),
    )


def deep_stem(name: str) -> Rows:
    """Return the rows of a stem of three convolutions, numbered as children of ``conv1`` are."""
    return (
        *(Row("conv", f"conv1.{n}", name.format(n)) for n in (0, 3, 6)),
        *(Row("norm", f"conv1.{n}", name.format(n)) for n in (1, 4)),
    )


STEM = (Row("conv", "conv1", "conv1"), Row("norm", "bn1", "bn1"))
BLOCK = (Row("conv", CONV, CONV), Row("norm", NORM, NORM))
SHORTCUT = (
    Row("conv", PROJECTION, PROJECTION),
    Row("norm", PROJECTION_NORM, PROJECTION_NORM),
)
ATTENTION = tuple(Row("conv", name, name) for name in (SQUEEZE, CHANNEL_ATTENTION))
FC = Row("linear", "fc", "fc")
OURS = (*STEM, *deep_stem("conv1.{}"), *BLOCK, *SHORTCUT, *ATTENTION, FC)

CAFFE2_ROWS = rows(
    stem=("conv1", "res_conv1_bn"),
    block=("res{stage+1}_{block}_branch2{i|a,b,c}", "res{stage+1}_{block}_branch2{i|a,b,c}_bn"),
    projection=("res{stage+1}_{block}_branch1", "res{stage+1}_{block}_branch1_bn"),
    fc="fc1000",
)
SHORTCUT_CHILDREN = rows(
    block=(CONV, NORM),
    projection=(
        "layer{stage}.{block}.shortcut.{pool}",
        "layer{stage}.{block}.shortcut.{pool+1}",
    ),
    fc="linear",
)

ON_3X3 = Proof({"bottleneck_stride": "3x3"}, when={"block": "bottleneck"})
ON_1X1 = Proof({"bottleneck_stride": "1x1"}, when={"block": "bottleneck", "grouped": False})
RESNEXT_ON_3X3 = Proof({"bottleneck_stride": "3x3"}, when={"block": "bottleneck", "grouped": True})

BLOCKS = ("basic", "bottleneck")
GROUPED: dict[str, tuple[Any, ...]] = {"groups": ANY, "width_per_group": ANY}
POSTACTIVATED: dict[str, tuple[Any, ...]] = {
    "block": BLOCKS,
    "shortcut": ("B", "C", "D"),
    "stem": ANY,
    **GROUPED,
    "attention": ANY,
    "attention_reduction": ANY,
}
TIMM_V2: dict[str, tuple[Any, ...]] = {
    "block": BLOCKS,
    "activation_order": ("preactivation",),
    "first_shortcut_input": ("raw",),
}
PLAIN_7X7: dict[str, tuple[Any, ...]] = {"block": BLOCKS, "shortcut": ("B", "C"), "stem": ("7x7",)}
CIFAR: dict[str, tuple[Any, ...]] = {"block": BLOCKS, "shortcut": ("B",), "stem": ("3x3",)}
EITHER_STRIDE: dict[str, tuple[Any, ...]] = {"bottleneck_stride": ("1x1", "3x3")}
CAFFE2_HOLDS = (
    {**PLAIN_7X7, **GROUPED, "bottleneck_stride": ("1x1",), "grouped": (False,)},
    {**PLAIN_7X7, **GROUPED, "grouped": (True,)},
)

DIALECTS: tuple[Dialect, ...] = (
    # MoCo, DINO, fb.resnet.torch's ports and the CIFAR nets of bearpaw and chenyaofo say the same.
    Dialect(
        "torchvision",
        "torchvision, and timm's ResNet",
        OURS,
        holds=(POSTACTIVATED,),
        # A net with biases has these names because it is ours. Caffe's nets, which stride on the
        # 1x1, are passed on under these names too, with their statistics folded in.
        proves=(Proof(ON_3X3.fields, {**ON_3X3.when, "biased": False, "folded": False}),),
    ),
    Dialect(
        "timm",
        "timm's ResNetV2 (its ResNet speaks torchvision)",
        (
            Row("conv", "conv1", "stem.conv", {"pre": 1, "deep": 0}),
            *(Row("conv", f"conv1.{3 * n}", f"stem.conv{n + 1}", {"pre": 1}) for n in (0, 1, 2)),
            *(Row("norm", f"conv1.{3 * n + 1}", f"stem.norm{n + 1}", {"pre": 1}) for n in (0, 1)),
            Row("conv", CONV, f"{V2_BLOCK}.conv{{i}}", {"pre": 1}),
            Row("norm", NORM, f"{V2_BLOCK}.norm{{i}}", {"pre": 1}),
            # Whether a pooling stands before it, the stem tells: nets with a deep one have it.
            *(
                Row(
                    *("conv", PROJECTION, f"{V2_BLOCK}.downsample.conv"),
                    {"pre": 1, "pool": average, "deep": average},
                )
                for average in (0, 1)
            ),
            Row("norm", "norm", "norm", {"pre": 1}),
            Row("linear", "fc", "head.fc", {"pre": 1}),
            *(row.only(pre=0) for row in OURS),
        ),
        holds=(
            POSTACTIVATED,
            {**TIMM_V2, "shortcut": ("B",), "stem": ("7x7",)},
            {**TIMM_V2, "shortcut": ("D",), "stem": ("deep", "deep_tiered")},
        ),
        proves=(
            ON_3X3,
            Proof({"first_shortcut_input": "raw"}, when={"pre": 1, "first_projects": False}),
        ),
        head="convolution",
    ),
    Dialect(
        "detectron2",
        "detectron2",
        rows(
            stem=("stem.conv1", "stem.conv1.norm"),
            block=("res{stage+1}.{block}.conv{i}", "res{stage+1}.{block}.conv{i}.norm"),
            projection=("res{stage+1}.{block}.shortcut", "res{stage+1}.{block}.shortcut.norm"),
            fc="linear",
        ),
        holds=({**PLAIN_7X7, **GROUPED, **EITHER_STRIDE},),
        leaves=TORCH_FROZEN,
        proves=(
            Proof({}, {"author": "torchvision"}, IMAGENET_INPUT),
            Proof(ON_3X3.fields, {**ON_3X3.when, "author": "torchvision"}),
            Proof({}, {"author": "Caffe2"}, CAFFE2_INPUT),
            Proof(ON_1X1.fields, {**ON_3X3.when, "author": "Caffe2"}),
        ),
    ),
    Dialect(
        "caffe2",
        "Caffe2 (MSRA's nets as Detectron has them)",
        CAFFE2_ROWS,
        holds=CAFFE2_HOLDS,
        leaves=CAFFE2,
        proves=(
            ON_1X1,
            RESNEXT_ON_3X3,
            Proof({}, {"grouped": False}, CAFFE2_INPUT),
            Proof({}, {"grouped": True}, CAFFE2_RESNEXT_INPUT),
        ),
        affine_norms=True,
    ),
    Dialect(
        "caffe2_live",
        "Caffe2 with live norms (MSRA's nets as detectron2 has them)",
        CAFFE2_ROWS,
        holds=CAFFE2_HOLDS,
        leaves=CAFFE2_LIVE,
        proves=(ON_1X1, RESNEXT_ON_3X3, Proof({}, input=DETECTRON2_INPUT)),
    ),
    Dialect(
        "mmlab",
        "mmpretrain",
        (
            *(Row("conv", f"conv1.{3 * n}", f"stem.{n}.conv") for n in (0, 1, 2)),
            *(Row("norm", f"conv1.{3 * n + 1}", f"stem.{n}.bn") for n in (0, 1)),
            Row("norm", "bn1", "stem.2.bn", {"deep": 1}),
            *STEM,
            *BLOCK,
            # Where nothing shrinks there is no pooling before the projection.
            Row("conv", PROJECTION.replace("{stage}", "1"), "layer1.{block}.downsample.0"),
            Row("norm", PROJECTION_NORM.replace("{stage}", "1"), "layer1.{block}.downsample.1"),
            *SHORTCUT,
            Row("conv", SQUEEZE, "layer{stage}.{block}.se_layer.conv{i}.conv"),
            Row("linear", "fc", "head.fc"),
        ),
        holds=(
            {
                **POSTACTIVATED,
                **EITHER_STRIDE,
                "shortcut": ("B", "D"),
                "stem": ("7x7", "3x3", "deep"),
                "attention": ("none", "se"),
            },
        ),
        prefix="backbone.",
    ),
    Dialect(
        "mmdetection",
        "mmdetection, which has a pooling before every projection of a v1d net",
        (
            *deep_stem("stem.{}"),
            Row("norm", "bn1", "stem.7", {"deep": 1}),
            *(*STEM, *BLOCK, *SHORTCUT),
            Row("linear", "fc", "head.fc"),
        ),
        holds=(
            {
                **POSTACTIVATED,
                **EITHER_STRIDE,
                "shortcut": ("B", "D"),
                "stem": ("7x7", "deep"),
                "attention": ("none",),
            },
        ),
        prefix="backbone.",
    ),
    Dialect(
        "huggingface",
        "Hugging Face transformers' ResNet",
        rows(
            stem=("embedder.embedder.convolution", "embedder.embedder.normalization"),
            block=(
                f"{HF_BLOCK}.layer.{{i-1}}.convolution",
                f"{HF_BLOCK}.layer.{{i-1}}.normalization",
            ),
            projection=(f"{HF_BLOCK}.shortcut.convolution", f"{HF_BLOCK}.shortcut.normalization"),
            fc="classifier.1",
        ),
        # Its configuration can say 1x1; the file of weights cannot.
        holds=({**PLAIN_7X7, "shortcut": ("B",)},),
        prefix="resnet.",
        proves=(ON_3X3, Proof(ON_1X1.fields, {**ON_3X3.when, "downsample_in_bottleneck": True})),
    ),
    *(
        Dialect(
            name,
            words,
            rows(
                stem=(f"{stem}.conv", f"{stem}.bn"),
                block=(
                    f"{stage}.b{{block+1}}.f.{{i|a,b,c}}",
                    f"{stage}.b{{block+1}}.f.{{i|a,b,c}}_bn",
                ),
                projection=(f"{stage}.b{{block+1}}.proj", f"{stage}.b{{block+1}}.bn"),
                fc="head.fc",
            ),
            holds=(
                {
                    **PLAIN_7X7,
                    **GROUPED,
                    **EITHER_STRIDE,
                    "shortcut": ("B",),
                    "stem": ("7x7", "3x3"),
                },
            ),
            proves=(Proof({}, {"stem": "7x7"}, PYCLS_INPUT),),
        )
        for name, words, stem, stage in (
            ("pycls", "pycls", "stem", "s{stage}"),
            ("pycls_2019", "the first pycls, whose stem is s1", "s1", "s{stage+1}"),
        )
    ),
    Dialect(
        "akamaster",
        "akamaster's CIFAR nets, whose option A is a lambda without weights",
        SHORTCUT_CHILDREN,
        holds=(
            {
                **CIFAR,
                "block": ("basic",),
                "shortcut": ("A", "B"),
                "zero_pad": ("both",),
                "stages": (3,),
            },
        ),
        proves=(Proof({"shortcut": "A", "zero_pad": "both"}, when={"projects": False}),),
        stages=(3,),
    ),
    Dialect(
        "pytorch_cifar",
        "kuangliu's pytorch-cifar, four stages",
        SHORTCUT_CHILDREN,
        holds=({**CIFAR, "stages": (4,)},),
        proves=(ON_3X3,),
        stages=(4,),
    ),
    Dialect(
        "preresnet",
        "bearpaw's pre-activation CIFAR nets, whose projections read the raw input",
        (STEM[0], *BLOCK, SHORTCUT[0].only(pool=0), Row("norm", "norm", "bn"), FC),
        holds=(
            {
                **CIFAR,
                "activation_order": ("preactivation",),
                "projection_input": ("raw",),
                "first_shortcut_input": ("raw",),
                "stages": (3,),
            },
        ),
        proves=(
            ON_3X3,
            Proof({"projection_input": "raw"}, when={"projects": True}),
            Proof({"first_shortcut_input": "raw"}, when={"first_projects": False}),
        ),
    ),
    Dialect(
        "wide_resnet",
        "xternalz's WideResNet-pytorch",
        (
            STEM[0],
            Row("conv", CONV, "block{stage}.layer.{block}.conv{i}"),
            Row("norm", NORM, "block{stage}.layer.{block}.bn{i}"),
            Row("conv", PROJECTION, "block{stage}.layer.{block}.convShortcut", {"pool": 0}),
            Row("norm", "norm", "bn1"),
            FC,
        ),
        holds=(
            {
                **CIFAR,
                "block": ("basic",),
                "activation_order": ("preactivation",),
                "first_shortcut_input": ("raw",),
                "stages": (3,),
            },
        ),
        proves=(
            Proof({"projection_input": "activated"}, when={"projects": True}),
            Proof({"first_shortcut_input": "raw"}, when={"first_projects": False}),
        ),
    ),
    Dialect(
        "resnext_pytorch",
        "prlz77's ResNeXt.pytorch",
        rows(
            stem=("conv_1_3x3", "bn_1"),
            block=(
                f"{BOTTLENECK}.conv_{{i|reduce,conv,expand}}",
                f"{BOTTLENECK}.bn{{i|_reduce,,_expand}}",
            ),
            projection=(
                f"{BOTTLENECK}.shortcut.shortcut_conv",
                f"{BOTTLENECK}.shortcut.shortcut_bn",
            ),
            fc="classifier",
        ),
        holds=({**CIFAR, **GROUPED, "block": ("bottleneck",), "stages": (3,)},),
        proves=(ON_3X3,),
    ),
    Dialect(
        "native",
        "resnets itself: everything",
        (*OURS, Row("norm", "norm", "norm"), Row("conv", GATE, GATE)),
        holds=(),
    ),
)

BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
