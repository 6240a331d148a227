"""Error rates as the papers print them, one row for each number.

Models are called by our names where the family has one for them, else in the paper's words.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Published:
    """One published top-1 error: where it stands, on what, and what it took to reach it.

    ``table`` is empty where the number stands outside a table. ``error_percent`` is None where the
    paper says only that training failed.
    """

    paper: str
    table: str
    dataset: str  # "cifar10", "cifar100", "imagenet"
    protocol: str  # "test", "10-crop", "median of 5", ...
    model: str = ""
    error_percent: float | None = None
    note: str = ""
    iterations: int | None = None  # the training budget, in the unit that the paper gives
    epochs: int | None = None
    batch: int | None = None
    recipe: str = ""  # ours that follows the paper, where there is one

    @property
    def accuracy_percent(self) -> float | None:
        """Top-1 accuracy in percent, with the decimals of the error."""
        return None if self.error_percent is None else round(100 - self.error_percent, 2)

    @property
    def source(self) -> str:
        """The paper and its table, for a citation."""
        return f"{self.paper}, Table {self.table}" if self.table else self.paper


def published(model: str, dataset: str) -> list[Published]:
    """Return the published rows of a model on a dataset, in the order of the papers."""
    key = dataset.lower().replace("-", "")
    return [row for row in TABLES if (row.model, row.dataset) == (model, key)]


def _rows(shared: Published, *entries: tuple[str, float | None, str]) -> tuple[Published, ...]:
    return tuple(
        replace(shared, model=model, error_percent=error, note=note)
        for model, error, note in entries
    )


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
_CIFAR_2016 = Published(
    HE2016, "1", "cifar10", "median of 5", iterations=64_000, batch=128, recipe="he2016_cifar"
)
_CIFAR_2017 = Published(
    XIE2017, "7", "cifar10", "mean of 10", epochs=300, batch=128, recipe="resnext_cifar"
)

TABLES: tuple[Published, ...] = (
    *_rows(
        _IMAGENET_2015,
        ("plain18", 27.94, ""),
        ("plain34", 28.54, ""),
        ("resnet18_a", 27.88, ""),
        ("resnet34_a", 25.03, ""),
    ),
    *_rows(
        replace(_IMAGENET_2015, table="3"),
        ("resnet34_a", 25.03, "top-5 7.76"),
        ("resnet34", 24.52, "top-5 7.46"),
        ("resnet34_c", 24.19, "top-5 7.40"),
        ("resnet50_v1", 22.85, "top-5 6.71"),
        ("resnet101_v1", 21.75, "top-5 6.05"),
        ("resnet152_v1", 21.43, "top-5 5.71"),
    ),
    *_rows(
        _CIFAR_2015,
        ("resnet20", 8.75, ""),
        ("resnet32", 7.51, ""),
        ("resnet44", 7.17, ""),
        ("resnet56", 6.97, ""),
        ("resnet1202", 7.93, "training error below 0.1"),
    ),
    *_rows(
        replace(_CIFAR_2015, recipe="he2015_cifar_110"),
        ("resnet110", 6.43, "best of 5; 6.61 ± 0.16"),
    ),
    # The paper shows its plain CIFAR nets as curves only; one seed, so a soft band.
    *_rows(
        Published("independent re-run of He et al. 2015", "", "cifar10", "test"),
        ("plain20", 9.63, "one seed"),
        ("plain32", 9.92, "one seed"),
        ("plain44", 10.36, "one seed"),
        ("plain56", 14.22, "one seed"),
    ),
    *_rows(
        Published(KERAS, "", "cifar10", "test", epochs=200, recipe="keras_cifar"),
        ("keras_resnet20_v1", 7.84, ""),
        ("keras_resnet32_v1", 7.54, ""),
        ("keras_resnet44_v1", 7.50, ""),
        ("keras_resnet56_v1", 7.29, ""),
        ("keras_resnet110_v1", 7.35, ""),
        ("keras_resnet56_v2", 6.99, ""),
        ("keras_resnet110_v2", 6.85, ""),
    ),
    *_rows(
        _CIFAR_2016,
        ("resnet110", 6.61, "original shortcut"),
        ("resnet110 shortcut scaled 0 (plain)", None, FAILS),
        ("resnet110 shortcut scaled 0.5 and residual 1", None, FAILS),
        ("resnet110 shortcut scaled 0.5 and residual 0.5", 12.35, ""),
        ("resnet110 exclusive gating b=-6", 8.70, ""),
        ("resnet110 exclusive gating b=-7", 9.81, ""),
        ("resnet110 exclusive gating b=0..-5", None, FAILS),
        ("resnet110 shortcut-only gating b=0", 12.86, ""),
        ("resnet110 shortcut-only gating b=-6", 6.91, ""),
        ("resnet110 1x1 conv shortcut", 12.22, ""),
        ("resnet110 dropout shortcut 0.5", None, FAILS),
    ),
    *_rows(
        replace(_CIFAR_2016, table="2"),
        ("resnet110", 6.61, "original"),
        ("resnet110 BN after addition", 8.17, ""),
        ("resnet110 ReLU before addition", 7.84, ""),
        ("resnet110 ReLU-only pre-activation", 6.71, ""),
        ("resnet110_v2", 6.37, "full pre-activation"),
        ("resnet164", 5.93, "original"),
        ("resnet164 BN after addition", 6.50, ""),
        ("resnet164 ReLU before addition", 6.14, ""),
        ("resnet164 ReLU-only pre-activation", 5.91, ""),
        ("resnet164_v2", 5.46, "full pre-activation"),
    ),
    *_rows(
        replace(_CIFAR_2016, table="3"),
        ("resnet1001", 7.61, ""),
        ("resnet1001_v2", 4.92, ""),
    ),
    *_rows(
        replace(_CIFAR_2016, table="3", dataset="cifar100"),
        ("resnet164", 25.16, ""),
        ("resnet164_v2", 24.33, ""),
        ("resnet1001", 27.82, ""),
        ("resnet1001_v2", 22.71, ""),
    ),
    *_rows(
        Published(XIE2017, "3", "imagenet", "1-crop", batch=256),
        ("resnet50", 23.9, "1x64d"),
        ("resnext50_2x40d", 23.0, ""),
        ("resnext50_4x24d", 22.6, ""),
        ("resnext50_8x14d", 22.3, ""),
        ("resnext50_32x4d", 22.2, ""),
        ("resnet101", 22.0, "1x64d"),
        ("resnext101_32x4d", 21.2, ""),
    ),
    *_rows(
        Published(XIE2017, "4", "imagenet", "1-crop", batch=256),
        ("resnet101_1x100d", 21.3, "top-5 5.7"),
        ("resnext101_2x64d", 20.7, "top-5 5.5"),
        ("resnext101_64x4d", 20.4, "top-5 5.3"),
    ),
    *_rows(
        _CIFAR_2017,
        ("resnext29_8x64d", 3.65, ""),
        ("resnext29_16x64d", 3.58, ""),
    ),
    *_rows(
        replace(_CIFAR_2017, dataset="cifar100"),
        ("resnext29_8x64d", 17.77, ""),
        ("resnext29_16x64d", 17.31, ""),
    ),
)
