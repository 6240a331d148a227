"""Tables in Markdown."""

import re
from collections.abc import Iterable


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; a head that ends in a colon is of numbers, which stand at the right."""
    names = [*heads]
    rule = ["---:" if name.endswith(":") else "---" for name in names]
    lines = [[name.removesuffix(":") for name in names], rule, *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return text as a cell has it: on a line, with bars that are no borders, but in code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def code(text: str) -> str:
    """Return text as code in a cell; nothing for nothing."""
    return f"`{' '.join(text.split())}`" if text else ""
