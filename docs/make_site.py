"""Build the site: `make site`, in seconds and without a network, into build/site.

Copies docs/ and what it links to, adds the pages that code writes, has Zensical (with
``--with mkdocs`` Material for MkDocs) make HTML of them, and checks what came out. What is wrong
ends it in one line that names page and target.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from os.path import relpath
from pathlib import Path
from typing import Any

import make_annotated
import yaml
from website import (
    checking,
    commands,
    errors,
    models,
    python_api,
    recipes,
    records,
    reference,
    runs,
    sources,
    tries,
)

ROOT = Path(__file__).parents[1]
SOURCE, SITE = ROOT / "build/site-source", ROOT / "build/site"
CONFIG = ROOT / "build/mkdocs.yml"  # mkdocs.yml with every page named
BUILDERS = {"zensical": "zensical>=0.0.73", "mkdocs": "mkdocs-material"}
_SHIM = "https://unpkg.com/iframe-worker/shim"  # what makes search work from a disk
_OPTION = re.compile(r"<code>(--[a-z][\w-]*)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FAULT = re.compile(r"\[ (\S+?):(\d+):\d+ \]")  # Zensical's place of a warning


def generated() -> dict[str, str]:
    """Return the pages that code writes, by their paths."""
    written = (reference, python_api, commands, recipes, errors, records, make_annotated)
    return {path: text for module in written for path, text in module.pages().items()}


def write_source(folder: Path) -> None:
    """Write the pages that the site is built of into a folder, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    sources.write_pages(folder)
    pages = generated() | {"results/runs.md": runs.page(lambda path: sources.copy(path, folder))}
    for path, text in pages.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    for path, change in {"models.md": models.with_table, "try.md": tries.with_pages}.items():
        page = folder / path
        page.write_text(change(page.read_text(encoding="utf-8")), encoding="utf-8")
    for page in folder.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        if "\n## " not in text and not text.startswith("---") and page.name != "index.md":
            # Without a table of contents the page has its place, too.
            page.write_text(f"---\nhide: [toc]\n---\n\n{text}", encoding="utf-8")
    tries.copy(folder)
    shutil.copytree(
        ROOT / "docs/website", folder / "website", ignore=shutil.ignore_patterns("*.py", "__*")
    )


def configuration(source: Path) -> dict[str, Any]:
    """Return what mkdocs.yml says, its navigation with every page named."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return config | {"nav": _named(config["nav"], source)}


def _named(entry: Any, source: Path) -> Any:
    """Return an entry of the navigation with the pages of a folder in the place of its name."""
    if isinstance(entry, list):
        return [named for each in entry if (named := _named(each, source))]
    if isinstance(entry, dict):
        named = ((title, _named(inner, source)) for title, inner in entry.items())
        return {title: inner for title, inner in named if inner}
    if not entry.endswith("/"):
        return entry
    inside = (path.relative_to(source).as_posix() for path in (source / entry).glob("*.md"))
    return sorted(inside, key=lambda path: (not path.endswith("/index.md"), path))


def build(builder: str) -> list[str]:
    """Make HTML of the pages, and return what the builder warns of."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", builder, "build", "--strict", "-f", str(CONFIG), "--clean"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        command, cwd=CONFIG.parent, env=environment, capture_output=True, text=True
    )
    said = _COLOUR.sub("", done.stdout + done.stderr)
    if f"No module named {builder}" in said:
        raise SystemExit(f'{builder} is not installed: pip install "{BUILDERS[builder]}"')
    if not done.returncode:
        return []
    return [f"{page}, line {line}: leads nowhere" for page, line in _FAULT.findall(said)] or [said]


def finish() -> None:
    """Mend the built pages: nothing comes from another server, options are not torn at dashes."""
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = text.replace(_SHIM, relpath(SITE / "website/worker.js", page.parent))
        mended = _OPTION.sub(r'<code><span class="option">\1</span>', mended)
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def main() -> None:
    """Build it, and check it."""
    parser = argparse.ArgumentParser(description="Build the site into build/site.")
    parser.add_argument("--with", dest="builder", choices=BUILDERS, default="zensical")
    builder = parser.parse_args().builder
    tries.make()
    write_source(SOURCE)
    config = configuration(SOURCE)
    if wrong := [*checking.unlisted(config["nav"], SOURCE)]:
        raise SystemExit("\n".join(wrong))
    places = {"docs_dir": SOURCE.name, "site_dir": SITE.name}
    CONFIG.write_text(yaml.safe_dump(config | places, sort_keys=False), encoding="utf-8")
    warnings = build(builder)
    finish()
    if wrong := [*checking.faults(SITE)] or warnings:  # which name no target
        raise SystemExit("\n".join(wrong))
    count = sum(1 for _ in SITE.rglob("*.html"))
    print(f"{SITE.relative_to(ROOT)}/index.html: {count} pages")


if __name__ == "__main__":
    main()
