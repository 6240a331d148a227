"""Print the table of all models; with --write, put the tables and the golden counts in place."""

import sys
from collections.abc import Iterable
from pathlib import Path

from resnets import profile
from resnets.zoo import ZOO

ROOT = Path(__file__).parents[1]
README, MODELS = ROOT / "README.md", ROOT / "docs/models.md"
GOLDEN = ROOT / "tests/reference/zoo.csv"
BEGIN, END = "<!-- models: rewritten by `make table` -->", "<!-- end of models -->"
CHOSEN = {  # of the README, in a few words
    "resnet18": "He et al. 2015: basic blocks",
    "resnet50": "v1.5, torchvision's; `resnet50_v1` is the paper's",
    "resnet50d": "He et al. 2019: deep stem, averaged shortcuts",
    "resnext50_32x4d": "Xie et al. 2017: 32 groups",
    "wide_resnet50_2": "Zagoruyko & Komodakis 2016: twice as wide inside",
    "se_resnet50": "Hu et al. 2018: squeeze-and-excitation",
    "resnet20": "He et al. 2015, for CIFAR; trained weights come along",
    "resnet164_v2": "He et al. 2016, for CIFAR: pre-activation",
}


def golden() -> str:
    """Return the exact counts of every model, at its own size and classes, as CSV."""
    costs = (profile(name) for name in ZOO)
    rows = [f"{cost.name},{cost.parameters},{cost.macs}\n" for cost in costs]
    return "".join(["model,parameters,macs\n", *rows])


def rows() -> dict[str, str]:
    """Return the golden counts of every model as the beginning of a row in Markdown."""
    counts = (row.split(",") for row in GOLDEN.read_text(encoding="utf-8").splitlines()[1:])
    return {
        name: f"| `{name}` | {int(parameters):,} | {int(macs):,} |"
        for name, parameters, macs in counts
    }


def table() -> str:
    """Return the golden counts of all models, with what each is."""
    return _table("what it is", (f"{row} {ZOO[name].variant} |" for name, row in rows().items()))


def short_table() -> str:
    """Return the golden counts of a few models, in a few words."""
    counted = rows()
    chosen = (f"{counted[name]} {words} |" for name, words in CHOSEN.items())
    return _table("", [*chosen, f"| [all {len(ZOO)}](docs/models.md) | | | |"])


def _table(heading: str, lines: Iterable[str]) -> str:
    head = [f"| model | parameters | multiply-adds | {heading} |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*head, *lines])


def pages() -> dict[Path, str]:
    """Return the pages that hold a table, each with a fresh one."""
    return {README: _placed(README, short_table()), MODELS: _placed(MODELS, table())}


def _placed(page: Path, fresh: str) -> str:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{fresh}\n\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        GOLDEN.write_text(golden(), encoding="utf-8")
        for page, text in pages().items():
            page.write_text(text, encoding="utf-8")
    else:
        print(table())
