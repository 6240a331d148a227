"""What is checked of the built site: every link, anchor and picture, and that nothing is asked for
from elsewhere."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser asks for by itself when it shows a page; a link is followed by people only.
_ASKED = {"img", "script", "iframe", "source", "video", "audio", "embed", "object"}
_HEAD_LINKS = {"stylesheet", "icon", "preload", "preconnect", "modulepreload", "manifest"}
_MADE_ELSEWHERE = "try/"  # pages that hold a program: their links are its own


class _Page(HTMLParser):
    """The anchors of a page, and what it refers to: (address, whether a browser asks for it)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "__skip", "__codelineno"}
        self.references: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        asked = tag in _ASKED or (tag == "link" and values.get("rel") in _HEAD_LINKS)
        for name in ("href", "src", "data-src"):
            if name in values and (tag != "link" or asked):
                self.references.append((values[name], asked))


def faults(site: Path) -> Iterator[str]:
    """Yield a line for each reference that leads nowhere, or that asks for something outside."""
    found = sorted(site.rglob("*.html"))
    texts = {path: path.read_text(encoding="utf-8") for path in found}
    read = {
        path.resolve(): _Page(text)
        for path, text in texts.items()
        if not path.relative_to(site).as_posix().startswith(_MADE_ELSEWHERE)
    }
    for path, page in read.items():
        name = path.relative_to(site.resolve()).as_posix()
        for address, asked in page.references:
            if wrong := _wrong(address, asked, path, site.resolve(), read):
                yield f"{name}: {wrong}"


def _wrong(
    address: str, asked: bool, path: Path, site: Path, read: dict[Path, _Page]
) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") or parts.netloc:
        return f"asks for {address}, outside of the site" if asked else None
    if parts.scheme:  # data:, mailto:
        return None
    if path.name == "404.html":  # which stands for any address, and is written for a server
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file() or not target.is_relative_to(site):
        return f"{address} does not exist"
    if target in read and unquote(parts.fragment) not in read[target].anchors:
        return f"{address}: {target.name} has no #{parts.fragment}"
    return None


def unlisted(nav: list[object], source: Path) -> Iterator[str]:
    """Yield a line for each page that the navigation lacks, or has and does not exist."""
    listed = set(_listed(nav))
    there = {path.relative_to(source).as_posix() for path in source.rglob("*.md")}
    yield from (
        f"{page}: is not in the navigation of mkdocs.yml" for page in sorted(there - listed)
    )
    yield from (f"mkdocs.yml: {page} does not exist" for page in sorted(listed - there))


def _listed(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for inner in entry.values():
            yield from _listed(inner)
    elif isinstance(entry, list):
        for inner in entry:
            yield from _listed(inner)
