"""Print the README's model table; with --write, put it between the README's markers."""

import sys
from pathlib import Path

from resnets import profile
from resnets.zoo import ZOO

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- models: rewritten by `make table` -->", "<!-- end of models -->"


def table() -> str:
    """Return the table: one row a model, exact counts at the model's own size and classes."""
    lines = ["| model | parameters | multiply-adds | what it is |", "| --- | ---: | ---: | --- |"]
    for name, spec in ZOO.items():
        cost = profile(spec)
        lines.append(f"| `{name}` | {cost.parameters:,} | {cost.macs:,} | {spec.variant} |")
    return "\n".join(lines)


def readme() -> str:
    """Return the README with a fresh table."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        README.write_text(readme(), encoding="utf-8")
    else:
        print(table())
