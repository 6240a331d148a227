"""What the site shows of the repository: pages, and the files that they link to, in their places.

The pages read well where they are, with links to files beside them. In the copies these links go
where the site has what they name.
"""

import html
import re
import shutil
from collections.abc import Callable, Iterator
from os.path import normpath, relpath
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {  # of the repository, but for docs/, and where the site has them
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "results": "results/index.md",
    "results/README.md": "results/index.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/fast_cifar.md": "benchmarks/fast_cifar.md",
    "src/resnets/training/recipes": "reference/recipes/index.md",
    "src/resnets/nn/blocks.py": "reference/blocks.md",
    "src/resnets/spec.py": "reference/spec.md",
    "docs": "index.md",
}
_SHOWN = (".txt", ".json", ".svg", ".png", ".jpg", ".html", ".css", ".js")  # by any browser
_LINK = re.compile(r"(\]\(|\b(?:src|href)=\")(?!#|[a-z]+:)([^)\s\"]+)")
_CODE = re.compile(r"(`[^`]*`)")
_FENCE = re.compile(r"^ *(```+|~~~+)")


def pages() -> list[str]:
    """Return the paths of the pages that people wrote, below the repository."""
    docs = (path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [*sorted(docs), *(path for path in PAGES if path.endswith(".md"))]


def place(path: str) -> str:
    """Return where the site has a file of the repository, as a path below its top."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and not path.endswith((".py", ".sh")):
        return path.removeprefix("docs/")
    parts = path.split("/")
    if parts[0] == "results" and len(parts) == 2 and (ROOT / path).is_dir():
        return f"results/runs.md#{path_anchor(parts[1])}"
    if (ROOT / path).is_dir():
        return f"files/{path}/index.html"
    return f"files/{path}" if path.endswith(_SHOWN) else f"files/{path}.txt"


def path_anchor(name: str) -> str:
    """Return the anchor of a heading that is a folder's name."""
    return re.sub(r"[^\w-]", "", name.lower())


def write_pages(folder: Path) -> None:
    """Copy the pages, pictures, and the files that pages link to, into the site's source."""
    for path in pages():
        if path == "README.md":  # whose place the home page has
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        target = folder / place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(linked(text, path, copier(folder, path)), encoding="utf-8")
    for file in [*(ROOT / "docs/pictures").rglob("*.*"), *(ROOT / "docs").glob("*.css")]:
        copy(file.relative_to(ROOT).as_posix(), folder)


def copier(folder: Path, page: str) -> Callable[[str], None]:
    """Return what copies a file that a page links to; it raises SystemExit where there is none."""

    def copy_linked(path: str) -> None:
        if not (ROOT / path).exists():
            raise SystemExit(f"{page}: links to {path}, which does not exist")
        if not place(path).partition("#")[0].endswith(".md"):
            copy(path, folder)

    return copy_linked


def copy(path: str, folder: Path) -> None:
    """Copy a file of the repository to its place, or a folder with a list of what is in it."""
    target = folder / place(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (ROOT / path).is_dir():
        shutil.copyfile(ROOT / path, target)
        return
    inside = sorted(each.name for each in (ROOT / path).iterdir())
    for name in inside:
        copy(f"{path}/{name}", folder)
    target.write_text(listing(path, inside), encoding="utf-8")


def listing(path: str, inside: list[str]) -> str:
    """Return the page of a folder, which links to what is in it."""
    links = []
    for name in inside:
        there = relpath(place(f"{path}/{name}"), f"files/{path}")
        links.append(f'<li><a href="{html.escape(there)}">{html.escape(name)}</a>')
    head = '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    return f"{head}<title>{path}</title><h1>{path}</h1><ul>{''.join(links)}</ul>\n"


def linked(text: str, path: str, copy_linked: Callable[[str], None]) -> str:
    """Return the text of a page, with its links as they are from its place on the site.

    ``copy_linked`` is called with the path of each file that is linked to.
    """
    here, there = Path(path).parent, Path(place(path)).parent

    def moved(match: re.Match[str]) -> str:
        name, hash_mark, anchor = match[2].partition("#")
        target = normpath(here / name)
        copy_linked(target)
        moved_to = relpath(place(target), there)
        return f"{match[1]}{moved_to}{hash_mark}{anchor}"

    def outside(line: str) -> str:
        parts = _CODE.split(line)
        parts[::2] = (_LINK.sub(moved, part) for part in parts[::2])
        if line.startswith("|"):  # bars in code, which this Markdown takes as they are
            parts[1::2] = (part.replace("\\|", "|") for part in parts[1::2])
        return "".join(parts)

    return "".join(line if code else outside(line) for code, line in by_code(text))


def by_code(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the lines of a page, each with whether it stands in a block of code."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
            yield True, line
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
            yield True, line
        else:
            yield bool(fence), line
