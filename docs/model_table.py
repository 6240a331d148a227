"""Print the README's model table; with --write, put it and the golden counts where they belong."""

import sys
from pathlib import Path

from resnets import profile
from resnets.zoo import ZOO

ROOT = Path(__file__).parents[1]
README, GOLDEN = ROOT / "README.md", ROOT / "tests/reference/zoo.csv"
BEGIN, END = "<!-- models: rewritten by `make table` -->", "<!-- end of models -->"


def golden() -> str:
    """Return the exact counts of every model, at its own size and classes, as CSV."""
    costs = (profile(name) for name in ZOO)
    rows = [f"{cost.name},{cost.parameters},{cost.macs}\n" for cost in costs]
    return "".join(["model,parameters,macs\n", *rows])


def table() -> str:
    """Return the golden counts as a Markdown table, with what each model is."""
    lines = ["| model | parameters | multiply-adds | what it is |", "| --- | ---: | ---: | --- |"]
    for row in GOLDEN.read_text(encoding="utf-8").splitlines()[1:]:
        name, parameters, macs = row.split(",")
        counts = f"{int(parameters):,} | {int(macs):,}"
        lines.append(f"| `{name}` | {counts} | {ZOO[name].variant} |")
    return "\n".join(lines)


def readme() -> str:
    """Return the README with a fresh table."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        GOLDEN.write_text(golden(), encoding="utf-8")
        README.write_text(readme(), encoding="utf-8")
    else:
        print(table())
