"""YAML without its traps: the 1.2 core schema, no duplicate keys, no tags that build objects.

PyYAML follows YAML 1.1, where ``1e-3`` is text, ``no`` is false, ``010`` is eight and ``1:30`` is
ninety; here a plain number is a number and everything else is text.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from resnets.errors import UsageError
from resnets.readers.documents import DEEPEST, damaged, read_text

LARGEST = 256 << 10  # bytes; a recipe has one or two thousand
LONGEST_NUMBER = 300  # digits; what a setting may be is said by the recipe


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (how PyYAML is told)
    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "str", "seq", "map")
    }

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if isinstance(name, list | dict):
                raise yaml.MarkedYAMLError(problem="not a key", problem_mark=key.start_mark)
            if name in seen:
                problem = f'duplicate key "{name}"'
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    kind = int if node.tag.endswith(":int") else float
    if kind is int and len(node.value) > LONGEST_NUMBER:
        problem = f"a number of {len(node.value):,} digits"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    try:
        return kind(node.value)
    except ValueError as error:  # !!int x
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def load(text: str, source: str) -> Any:
    """Return the plain values of a YAML document; ``source`` names it in errors.

    Raises UsageError, with line and column, for anything that is not plain YAML.
    """
    if len(text) > LARGEST:
        raise UsageError(f"{source}: larger than a recipe can be", hint="give a recipe")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        where, problem = source, " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError):
            mark, problem = error.problem_mark, str(error.problem)
            where += f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(
            f"{where}: {problem}", hint="values are plain YAML, such as 0.05, true or [0.5, 0.75]"
        ) from None


def read(path: Path) -> Any:
    """Return the plain values of a YAML file that training has written.

    Raises CheckpointError, with line and column, for anything else, and OSError.
    """
    try:
        return load(read_text(path, LARGEST), str(path))
    except UsageError as error:
        raise damaged(path, error.message.removeprefix(str(path)).lstrip(":, ")) from None


def dump(value: Any) -> str:
    """Return ``value`` as YAML that ``load`` reads back equal."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
