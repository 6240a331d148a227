"""Make the annotated pages of the reference: nn/blocks.py beside prose, and the fields of Spec.

The code, its docstrings and its comments are read from the source; annotated_notes.py has the rest.
``pages`` returns Markdown for the site; run as a script it writes the pages into a folder.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

from annotated_notes import FIELDS, NOTES
from schematics import size

from resnets.spec import Spec

PACKAGE = Path(__file__).parents[1] / "src" / "resnets"
BLOCKS = PACKAGE / "nn" / "blocks.py"
SPEC = PACKAGE / "spec.py"

BLOCKS_HEAD = """---
hide:
  - toc
---

# The residual block, annotated

`src/resnets/nn/blocks.py`, whole, in its own order. In strong type are its docstrings, in italics
its comments."""

ROW = """<div class="annotated" markdown>
<div class="prose" markdown>

{prose}

</div>
<div class="code" markdown>

```python
{code}
```

</div>
</div>"""

SPEC_HEAD = """# A network as data: the fields of Spec

A residual network is one frozen `Spec`: a value for each choice on which the papers, or their
implementations, differ. `resnets.get_spec("resnet50")` returns one, `dataclasses.replace(spec,
groups=32, width_per_group=4)` a neighbour of it, and `resnets.create_model(spec)` the network.
Blocks are drawn off the modules that a spec makes; the text in small type is the comment beside the
field in `src/resnets/spec.py`. [The course](../learn/index.md) tells the same as a story."""


def pages() -> dict[str, str]:
    """Return the annotated pages as Markdown, by their paths in the site."""
    return {"reference/blocks.md": blocks_page(), "reference/spec.md": spec_page()}


@dataclass(frozen=True)
class Section:
    """A piece of source code and what is said beside it."""

    key: str  # of its note, such as "Block.add"
    lines: tuple[str, ...]  # with their indentation
    docstring: str

    @property
    def title(self) -> str:
        """The name that is defined here; empty where a definition continues."""
        return self.key if ":" not in self.key else ""

    @property
    def comments(self) -> str:
        """What stands on lines of its own in the code."""
        found = [line.strip()[1:].strip() for line in self.lines if _is_comment(line)]
        return " ".join(found)

    @property
    def code(self) -> str:
        """The rest of the code, a method's moved to the left."""
        indent = 4 if "." in self.key else 0
        kept = "\n".join(line[indent:] for line in self.lines if not _is_comment(line))
        return re.sub(r"(class .*:\n)\n", r"\1", kept.strip("\n"))


def sections(source: str) -> list[Section]:
    """Return a module's sections in its order: its head, and each class, method and value."""
    lines = source.splitlines()
    tree = ast.parse(source)
    # A docstring and then imports; what is defined comes behind them.
    nodes = [node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    head = lines[_behind_docstring(tree) : nodes[0].lineno - 1]
    found = [Section("", tuple(head), ast.get_docstring(tree) or "")]
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", 0)
            assert isinstance(target, ast.Name)
            found.append(Section(target.id, tuple(lines[node.lineno - 1 : node.end_lineno]), ""))
            continue
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        head = lines[node.lineno - 1 : node.body[0].lineno - 1]
        head += lines[_behind_docstring(node) : methods[0].lineno - 1]
        found.append(Section(node.name, tuple(head), ast.get_docstring(node) or ""))
        for method in methods:
            found += _parts(f"{node.name}.{method.name}", method, lines)
    return found


def _parts(key: str, method: ast.FunctionDef, lines: list[str]) -> Iterator[Section]:
    """Yield a method's sections: one, or as many as there are notes on its parts."""
    starts = {method.lineno - 1: key}
    for note in NOTES:
        if note.startswith(f"{key}: "):
            beginning = note.partition(": ")[2]
            (at,) = [
                number
                for number in range(method.lineno, method.end_lineno or 0)
                if lines[number].strip().startswith(beginning)
            ]
            while _is_comment(lines[at - 1]):
                at -= 1
            starts[at] = note
    docstring = ast.get_docstring(method) or ""
    for start, end in pairwise([*sorted(starts), method.end_lineno]):
        piece, said = lines[start:end], ""
        if docstring and start < method.lineno:
            said = docstring
            piece = (
                lines[start : method.body[0].lineno - 1] + lines[_behind_docstring(method) : end]
            )
        yield Section(starts[start], tuple(piece), said)


def _is_comment(line: str) -> bool:
    return line.strip().startswith("#")


def _behind_docstring(node: Any) -> int:
    """Return the index of the first line behind a docstring, or of the body where there is none."""
    return node.body[0].end_lineno if ast.get_docstring(node) else node.body[0].lineno - 1


def blocks_page() -> str:
    """Return nn/blocks.py with prose beside its code."""
    rows = [_row(section) for section in sections(BLOCKS.read_text(encoding="utf-8"))]
    return "\n\n".join([BLOCKS_HEAD, *rows]) + "\n"


def _row(section: Section) -> str:
    """Return prose and code as two columns; Markdown inside of them is rendered."""
    prose = []
    if section.title:
        level = "###" if "." in section.title else "##"
        anchor = re.sub(r"[._]+", "-", section.title.lower()).strip("-")
        prose.append(f"{level} `{section.title}` {{ #{anchor} }}")
    if section.docstring:
        lead = re.sub(r"\s+", " ", section.docstring.replace("``", "`"))
        prose.append(f"{lead}\n{{ .docstring }}")
    prose.append(NOTES[section.key].strip())
    if section.comments:
        prose.append(f"*{section.comments}*")
    return ROW.format(prose="\n\n".join(prose), code=section.code)


def spec_page() -> str:
    """Return an entry for each field of Spec: its values, what it means, and drawings."""
    said = _comments(SPEC.read_text(encoding="utf-8"))
    entries = [_entry(field.name, _values(field), said[field.name]) for field in fields(Spec)]
    return "\n\n".join([SPEC_HEAD, *entries]) + "\n"


def _comments(source: str) -> dict[str, str]:
    """Return what is said in comments before and behind each field of Spec."""
    lines = source.splitlines()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    (spec,) = [node for node in classes if node.name == "Spec"]
    found = {}
    for node in spec.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            at = node.lineno - 1
            words = [lines[(node.end_lineno or 0) - 1][node.end_col_offset or 0 :]]
            while _is_comment(lines[at - 1]):
                at -= 1
                words.insert(0, lines[at])
            found[node.target.id] = " ".join(line.strip().lstrip("# ") for line in words).strip()
    return found


def _values(field: Any) -> str:
    """Return a field's possible values and its default."""
    hint = get_type_hints(Spec)[field.name]
    choices = get_args(hint)
    if choices == (int, ...):
        kind = "whole numbers, one for each stage"
    elif choices:
        kind = ", ".join(f'`"{choice}"`' for choice in choices)
    else:
        kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
    shown = f'"{field.default}"' if isinstance(field.default, str) else field.default
    return f"{kind}; default `{shown}`"


def _entry(name: str, values: str, comment: str) -> str:
    field = FIELDS[name]
    parts = [f"## `{name}` {{ #{name.replace('_', '-')} }}", values, field.prose.strip()]
    if comment:
        parts.append(f"<small>{comment}</small>")
    if field.drawings:
        caption = f"<figcaption>{field.caption}</figcaption>" if field.caption else ""
        svgs = field.drawings()
        drawings = "".join(re.sub(r">\s+<", "><", svg.strip()) for svg in svgs)
        wide = " wide" * (max(size(svg)[0] for svg in svgs) > 800)
        parts.append(f'<figure class="drawing{wide}">{drawings}{caption}</figure>')
    return "\n\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    for path, text in pages().items():
        target = arguments.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
