"""Show the table of arrows in architecture.md: `python docs/write_arrows.py`."""

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("architecture.md")
BEGIN = "<!-- arrows: written by docs/write_arrows.py from tests/test_architecture.py -->"
END = "<!-- end -->"


def with_arrows(page: str, rooms: dict[str, str]) -> str:
    """Return the page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    lines = [f"{room:<13} {named and '-> ' + named}".rstrip() for room, named in rooms.items()]
    return f"{before}{BEGIN}\n\n```\n" + "\n".join(lines) + f"\n```\n\n{END}{after}"


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1] / "tests"))
    from test_architecture import ROOMS

    PAGE.write_text(with_arrows(PAGE.read_text(encoding="utf-8"), ROOMS), encoding="utf-8")
