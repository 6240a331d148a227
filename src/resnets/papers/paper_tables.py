"""The tables of the papers, row by row; every published figure of the package stands here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resnets.errors import check_name
from resnets.papers.published import Published, Row, Small, Table

HE2015 = "He et al. 2015"
HE2016 = "He et al. 2016"
XIE2017 = "Xie et al. 2017"
KERAS = "Keras example"

FAILS = "fails: error above 20 %"  # He et al. 2016, Table 1: "fail"

# Budgets. ImageNet: He et al. 2015, sec. 3.4, "up to 60 x 10^4 iterations". CIFAR: sec. 4.2, and
# He et al. 2016 keep that schedule. Xie et al. 2017 state epochs for CIFAR only (sec. 5.3).
_IMAGENET_2015 = Published(
    *(HE2015, "2", "imagenet", "10-crop"),
    iterations=600_000,
    batch=256,
    recipe="he2015_imagenet",
)
_CIFAR_2015 = Published(
    HE2015, "6", "cifar10", "test", iterations=64_000, batch=128, recipe="he2015_cifar"
)
_RERUN = Published("independent re-run of He et al. 2015", "", "cifar10", "test", note="one seed")
_CIFAR_2016 = Published(
    HE2016, "1", "cifar10", "median of 5", iterations=64_000, batch=128, recipe="he2016_cifar"
)
_IMAGENET_2016 = Published(HE2016, "5", "imagenet", "1-crop", batch=256)
_IMAGENET_2017 = Published(XIE2017, "3", "imagenet", "1-crop", batch=256)
_CIFAR_2017 = Published(
    XIE2017, "7", "cifar10", "mean of 10", epochs=300, batch=128, recipe="resnext_cifar"
)
_KERAS = Published(KERAS, "", "cifar10", "test", epochs=200, recipe="keras_cifar")

# He et al. 2016, sec. 4: from 0.1 without warm-up, divided by ten at 30 and 60 epochs; how many
# there are it does not say, and 90 are fb.resnet.torch's.
_BY_EPOCHS = (
    "schedule.epochs=90",
    "schedule.milestones=[0.3333333333333333,0.6666666666666666]",
    "schedule.plateau_factor=null",
    "optimizer.momentum_form=torch",
)


def _row(
    shared: Published,
    model: str,
    error: float | None,
    label: str,
    top5: float | None = None,
    *,
    note: str = "",
    **more: Any,
) -> Row:
    note = note or shared.note
    figure = replace(shared, model=model, error_percent=error, top5_percent=top5, note=note)
    return Row(label, figure, **more)


def _altered(
    shared: Published, base: str, name: str, error: float | None, label: str, **changes: Any
) -> Row:
    """Return the row of a net that the zoo has no name for."""
    note = FAILS if error is None else ""
    return _row(shared, f"{base}_{name}", error, label, note=note, base=base, changes=changes)


_IN_2 = replace(_CIFAR_2016, table="2")
_IN_3 = replace(_CIFAR_2016, table="3")
_IN_4 = replace(_CIFAR_2016, table="4")
_TEN_CROPS = replace(_IMAGENET_2015, table="3")
_SCALES = replace(_IMAGENET_2015, table="4", protocol="multi-scale")
_WIDER = replace(_IMAGENET_2017, table="4")
_V1_IMAGENET: dict[str, Any] = {"recipe": "torchvision_v1_imagenet"}
_LIKE_2015: dict[str, Any] = {"recipe": "he2015_imagenet", "settings": _BY_EPOCHS}
_AT_320 = replace(_IMAGENET_2016, protocol="1-crop at 320")


def _orders(base: str, errors: tuple[float, ...]) -> tuple[Row, ...]:
    """Return the rows of a net with each order of batch norm and ReLU (He et al. 2016, Fig. 4)."""
    original, after, before, relu_only, full = errors
    depth = base.removeprefix("resnet")
    return (
        _row(_IN_2, base, original, f"ResNet-{depth}, original", note="original"),
        _altered(
            *(_IN_2, base, "bn_after_addition", after, f"ResNet-{depth}, BN after addition"),
            activation_order="bn_after_addition",
        ),
        _altered(
            *(_IN_2, base, "relu_before_addition", before),
            f"ResNet-{depth}, ReLU before addition",
            activation_order="relu_before_addition",
        ),
        _altered(
            *(_IN_2, base, "relu_only_preactivation", relu_only),
            f"ResNet-{depth}, ReLU-only pre-activation",
            activation_order="relu_only_preactivation",
        ),
        _row(
            *(_IN_2, f"{base}_v2", full, f"ResNet-{depth}, full pre-activation"),
            note="full pre-activation",
        ),
    )


_TABLES = (
    Table(
        "he2015.table2",
        "Plain and residual nets on ImageNet",
        "34 plain layers are worse than 18; with shortcuts without parameters they are better",
        (
            _row(_IMAGENET_2015, "plain18", 27.94, "18 layers, plain"),
            _row(_IMAGENET_2015, "resnet18_a", 27.88, "18 layers, ResNet"),
            _row(_IMAGENET_2015, "plain34", 28.54, "34 layers, plain"),
            _row(_IMAGENET_2015, "resnet34_a", 25.03, "34 layers, ResNet"),
        ),
    ),
    Table(
        "he2015.table3",
        "Shortcut options and deeper nets on ImageNet",
        "options A, B and C are close together; depth to 152 layers keeps helping",
        (
            _row(_TEN_CROPS, "plain34", 28.54, "plain-34", 10.02, repeats=True),
            _row(_TEN_CROPS, "resnet34_a", 25.03, "ResNet-34 A", 7.76),
            _row(_TEN_CROPS, "resnet34", 24.52, "ResNet-34 B", 7.46),
            _row(_TEN_CROPS, "resnet34_c", 24.19, "ResNet-34 C", 7.40),
            _row(_TEN_CROPS, "resnet50_v1", 22.85, "ResNet-50", 6.71),
            _row(_TEN_CROPS, "resnet101_v1", 21.75, "ResNet-101", 6.05),
            _row(_TEN_CROPS, "resnet152_v1", 21.43, "ResNet-152", 5.71),
        ),
        "VGG-16, GoogLeNet and PReLU-net, which are no residual networks",
    ),
    Table(
        "he2015.table4",
        "Single models at several scales on ImageNet",
        "one net of 152 layers is better than the ensembles before it",
        (
            _row(_SCALES, "resnet34", 21.84, "ResNet-34 B", 5.71),
            _row(_SCALES, "resnet34_c", 21.53, "ResNet-34 C", 5.60),
            _row(_SCALES, "resnet50_v1", 20.74, "ResNet-50", 5.25),
            _row(_SCALES, "resnet101_v1", 19.87, "ResNet-101", 4.60),
            _row(_SCALES, "resnet152_v1", 19.38, "ResNet-152", 4.49),
        ),
        "nets of other papers",
    ),
    Table(
        "he2015.table5",
        "The ensemble on ImageNet's test set",
        "six nets of different depth together",
        (
            _row(
                replace(_SCALES, table="5", protocol="ensemble, multi-scale"),
                "ensemble",
                None,
                "ResNet (ILSVRC'15)",
                3.57,
                note="on the test set, whose labels are not public",
                lacks="six trained nets, and labels that are not public: measured on what --data "
                "has of them, from --weights-for ensemble=FILE, once for each net",
            ),
        ),
        "ensembles of other papers",
    ),
    Table(
        "he2015.table6",
        "Residual nets on CIFAR-10",
        "to 110 layers each deeper net is better; 1,202 overfit",
        (
            _row(_CIFAR_2015, "resnet20", 8.75, "ResNet, 20 layers", parameters="0.27M"),
            _row(_CIFAR_2015, "resnet32", 7.51, "ResNet, 32 layers", parameters="0.46M"),
            _row(_CIFAR_2015, "resnet44", 7.17, "ResNet, 44 layers", parameters="0.66M"),
            _row(_CIFAR_2015, "resnet56", 6.97, "ResNet, 56 layers", parameters="0.85M"),
            _row(
                replace(_CIFAR_2015, recipe="he2015_cifar_110"),
                *("resnet110", 6.43, "ResNet, 110 layers"),
                note="best of 5; 6.61 ± 0.16",
                parameters="1.7M",
            ),
            _row(
                *(_CIFAR_2015, "resnet1202", 7.93, "ResNet, 1202 layers"),
                note="training error below 0.1",
                parameters="19.4M",
            ),
            # The paper shows its plain nets as curves only (Fig. 6); one seed, so a soft band.
            *(
                _row(
                    _RERUN,
                    *(f"plain{depth}", error, f"plain, {depth} layers (Fig. 6)"),
                    recipe="he2015_cifar",
                )
                for depth, error in ((20, 9.63), (32, 9.92), (44, 10.36), (56, 14.22))
            ),
        ),
        "FitNet and Highway nets, which are no residual networks",
    ),
    Table(
        "he2016.table1",
        "Kinds of shortcuts on CIFAR-10",
        "whatever is put on the shortcut of a ResNet-110 makes it worse",
        (
            _row(
                *(_CIFAR_2016, "resnet110", 6.61, "original shortcut"),
                note="original shortcut",
            ),
            _row(
                _CIFAR_2016,
                *("plain110", None, "constant scaling, shortcut 0, F 1 (plain)"),
                note=FAILS,
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "scaled_0.5_1", None),
                "constant scaling, shortcut 0.5, F 1",
                shortcut_scale=0.5,
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "scaled_0.5_0.5", 12.35),
                "constant scaling, shortcut 0.5, F 0.5",
                shortcut_scale=0.5,
                residual_scale=0.5,
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "exclusive_gating_0", None),
                "exclusive gating, initial bias 0 to −5 (here 0)",
                gate="exclusive",
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "exclusive_gating_6", 8.70),
                "exclusive gating, initial bias −6",
                gate="exclusive",
                gate_bias=-6.0,
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "exclusive_gating_7", 9.81),
                "exclusive gating, initial bias −7",
                gate="exclusive",
                gate_bias=-7.0,
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "shortcut_only_gating_0", 12.86),
                "shortcut-only gating, initial bias 0",
                gate="shortcut_only",
            ),
            _altered(
                *(_CIFAR_2016, "resnet110", "shortcut_only_gating_6", 6.91),
                "shortcut-only gating, initial bias −6",
                gate="shortcut_only",
                gate_bias=-6.0,
            ),
            _row(_CIFAR_2016, "resnet110_c", 12.22, "1x1 conv shortcut"),
            _altered(
                *(_CIFAR_2016, "resnet110", "shortcut_dropout", None),
                "dropout shortcut, 0.5",
                shortcut_dropout=0.5,
            ),
        ),
        small=Small("ResNet-20 in place of ResNet-110", {"depths": (3, 3, 3)}),
    ),
    Table(
        "he2016.table2",
        "Where batch norm and ReLU stand, on CIFAR-10",
        "full pre-activation is the best order, batch norm after the addition the worst",
        (
            *_orders("resnet110", (6.61, 8.17, 7.84, 6.71, 6.37)),
            *_orders("resnet164", (5.93, 6.50, 6.14, 5.91, 5.46)),
        ),
        small=Small(
            "ResNet-20 in place of ResNet-110, and no ResNet-164",
            {"depths": (3, 3, 3)},
            (
                "resnet110",
                "resnet110_bn_after_addition",
                "resnet110_relu_before_addition",
                "resnet110_relu_only_preactivation",
                "resnet110_v2",
            ),
        ),
    ),
    Table(
        "he2016.table3",
        "Original and pre-activation units on CIFAR",
        "the deeper the net, the more pre-activation helps",
        (
            *(
                _row(_IN_3, f"resnet110_1layer{v}", error, f"ResNet-110 (1-layer skip), {unit}")
                for v, error, unit in (("", 9.90, "baseline"), ("_v2", 8.91, "pre-activation"))
            ),
            _row(_IN_3, "resnet110", 6.61, "ResNet-110, baseline", repeats=True),
            _row(_IN_3, "resnet110_v2", 6.37, "ResNet-110, pre-activation", repeats=True),
            _row(_IN_3, "resnet164", 5.93, "ResNet-164, baseline", repeats=True),
            _row(_IN_3, "resnet164_v2", 5.46, "ResNet-164, pre-activation", repeats=True),
            _row(_IN_3, "resnet1001", 7.61, "ResNet-1001, baseline"),
            _row(_IN_3, "resnet1001_v2", 4.92, "ResNet-1001, pre-activation"),
            *(
                _row(
                    replace(_IN_3, dataset="cifar100"),
                    *(model, error, f"ResNet-{depth}, {unit}, CIFAR-100"),
                )
                for model, error, depth, unit in (
                    ("resnet164", 25.16, 164, "baseline"),
                    ("resnet164_v2", 24.33, 164, "pre-activation"),
                    ("resnet1001", 27.82, 1001, "baseline"),
                    ("resnet1001_v2", 22.71, 1001, "pre-activation"),
                )
            ),
        ),
    ),
    Table(
        "he2016.table4",
        "The best nets on CIFAR",
        "with pre-activation 1,001 layers are better than 164",
        (
            _row(*(_IN_4, "resnet164_v2", 5.46, "ResNet-164"), parameters="1.7M", repeats=True),
            _row(
                *(_IN_4, "resnet1001_v2", 4.92, "ResNet-1001"),
                note="4.89 ± 0.14",
                parameters="10.2M",
                repeats=True,
            ),
            _row(
                replace(_IN_4, batch=64),
                *("resnet1001_v2", 4.62, "ResNet-1001, batches of 64"),
                note="4.69 ± 0.20",
                parameters="10.2M",
                settings=("batch_size=64",),
                mark="batch64",
            ),
            _row(
                replace(_IN_4, dataset="cifar100"),
                *("resnet164_v2", 24.33, "ResNet-164, CIFAR-100"),
                repeats=True,
            ),
            _row(
                replace(_IN_4, dataset="cifar100"),
                *("resnet1001_v2", 22.71, "ResNet-1001, CIFAR-100"),
                note="22.68 ± 0.22",
                repeats=True,
            ),
        ),
        "nets of other papers",
    ),
    Table(
        "he2016.table5",
        "Original and pre-activation units on ImageNet",
        "200 original layers are worse than 152, 200 pre-activated ones better",
        (
            _row(
                *(_IMAGENET_2016, "resnet152_v1", 23.0, "ResNet-152, original, 224"),
                *(6.7,),
                **_LIKE_2015,
            ),
            _row(_AT_320, "resnet152_v1", 21.3, "ResNet-152, original, 320", 5.5, **_LIKE_2015),
            _row(
                *(_AT_320, "resnet152_v2", 21.1, "ResNet-152, pre-activation, 320", 5.5),
                **_LIKE_2015,
            ),
            _row(_AT_320, "resnet200_v1", 21.8, "ResNet-200, original, 320", 6.0, **_LIKE_2015),
            _row(
                *(_AT_320, "resnet200_v2", 20.7, "ResNet-200, pre-activation, 320", 5.3),
                **_LIKE_2015,
            ),
            _row(
                *(_AT_320, "resnet200_v2", 20.1),
                *("ResNet-200, pre-activation, 320, scale and aspect ratio", 4.8),
                recipe="he2015_imagenet",
                settings=(*_BY_EPOCHS, "augment.area=[0.08,1]"),
                mark="aspect",
            ),
        ),
        "Inception v3",
    ),
    Table(
        "xie2017.table3",
        "Cardinality against width on ImageNet",
        "of nets that cost the same, more groups are better than wider layers",
        tuple(
            _row(_IMAGENET_2017, model, error, label, note=note, **_V1_IMAGENET)
            for model, error, label, note in (
                ("resnet50", 23.9, "ResNet-50, 1 x 64d", "1x64d"),
                ("resnext50_2x40d", 23.0, "ResNeXt-50, 2 x 40d", ""),
                ("resnext50_4x24d", 22.6, "ResNeXt-50, 4 x 24d", ""),
                ("resnext50_8x14d", 22.3, "ResNeXt-50, 8 x 14d", ""),
                ("resnext50_32x4d", 22.2, "ResNeXt-50, 32 x 4d", ""),
                ("resnet101", 22.0, "ResNet-101, 1 x 64d", "1x64d"),
                ("resnext101_2x40d", 21.7, "ResNeXt-101, 2 x 40d", ""),
                ("resnext101_4x24d", 21.4, "ResNeXt-101, 4 x 24d", ""),
                ("resnext101_8x14d", 21.3, "ResNeXt-101, 8 x 14d", ""),
                ("resnext101_32x4d", 21.2, "ResNeXt-101, 32 x 4d", ""),
            )
        ),
        small=Small(
            "CIFAR-10 and nets of 20 layers of half the width in place of ImageNet and 50 layers, "
            "by the recipe of the paper's CIFAR nets",
            {
                "depths": (2, 2, 2),
                "widths": (32, 64, 128),
                "stem": "3x3",
                "stem_width": 32,
                "num_classes": 10,
                "image_size": 32,
            },
            (
                *("resnet50", "resnext50_2x40d", "resnext50_4x24d", "resnext50_8x14d"),
                "resnext50_32x4d",
            ),
            "cifar10",
            "resnext_cifar",
            "_narrow",
        ),
    ),
    Table(
        "xie2017.table4",
        "Twice the cost: deeper, wider or of more groups, on ImageNet",
        "more groups are worth more than depth or width",
        (
            _row(_WIDER, "resnet200_v2", 21.7, "ResNet-200", 5.8, **_V1_IMAGENET),
            _row(
                *(_WIDER, "resnet101_1x100d", 21.3, "ResNet-101, wider, 1 x 100d", 5.7),
                **_V1_IMAGENET,
            ),
            _row(_WIDER, "resnext101_2x64d", 20.7, "ResNeXt-101, 2 x 64d", 5.5, **_V1_IMAGENET),
            _row(_WIDER, "resnext101_64x4d", 20.4, "ResNeXt-101, 64 x 4d", 5.3, **_V1_IMAGENET),
        ),
    ),
    Table(
        "xie2017.table7",
        "ResNeXt on CIFAR",
        "more of the wide groups are better still",
        tuple(
            _row(
                replace(_CIFAR_2017, dataset=dataset),
                *(f"resnext29_{width}", error, f"ResNeXt-29, {width.replace('x', ' x ')}{where}"),
                parameters=parameters,
            )
            for width, dataset, error, parameters, where in (
                ("8x64d", "cifar10", 3.65, "34.4M", ""),
                ("16x64d", "cifar10", 3.58, "68.1M", ""),
                ("8x64d", "cifar100", 17.77, "", ", CIFAR-100"),
                ("16x64d", "cifar100", 17.31, "", ", CIFAR-100"),
            )
        ),
        "Wide ResNet, by its own paper's recipe",
    ),
    Table(
        "keras.cifar10",
        "The CIFAR-10 example of Keras",
        "Adam, batches of 32 and 200 epochs; version 2 is full pre-activation",
        tuple(
            _row(
                *(_KERAS, f"keras_resnet{depth}_v{version}", error),
                f"ResNet{depth} v{version}",
            )
            for version, depth, error in (
                *((1, 20, 7.84), (1, 32, 7.54), (1, 44, 7.50), (1, 56, 7.29), (1, 110, 7.35)),
                *((2, 56, 6.99), (2, 110, 6.85)),
            )
        ),
    ),
)
TABLES: Mapping[str, Table] = {table.key: table for table in _TABLES}
FIGURES: tuple[Published, ...] = tuple(
    row.figure for table in _TABLES for row in table.rows if not row.repeats
)


def published(model: str, dataset: str) -> list[Published]:
    """Return the published figures of a model on a dataset, in the order of the papers."""
    key = dataset.lower().replace("-", "")
    return [row for row in FIGURES if (row.model, row.dataset) == (model, key)]


def find_table(key: str) -> Table:
    """Return a table by its key. Raises UsageError, naming the nearest or all, for another."""
    check_name("table", key, TABLES)
    return TABLES[key]
