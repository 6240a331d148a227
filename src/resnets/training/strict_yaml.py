"""YAML without its traps: the 1.2 core schema, no duplicate keys, no tags that build objects.

PyYAML follows YAML 1.1, where ``1e-3`` is text, ``no`` is false, ``010`` is eight and ``1:30`` is
ninety; here a plain number is a number and everything else is text.
"""

import re
from typing import Any

import yaml

from resnets.errors import UsageError


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (how PyYAML is told)
    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "str", "seq", "map")
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, name in enumerate(keys):
            if name in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.MarkedYAMLError(problem=f'duplicate key "{name}"', problem_mark=mark)
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
    try:
        return kind(node.value)
    except ValueError as error:  # !!int x, or more digits than Python reads
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def load(text: str, source: str) -> Any:
    """Return the plain values of a YAML document; ``source`` names it in errors.

    Raises UsageError, with line and column, for anything that is not plain YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        raise UsageError(
            f"{where}: {error.problem}",
            hint="values are plain YAML, such as 0.05, true or [0.5, 0.75]",
        ) from None
    except yaml.YAMLError as error:
        raise UsageError(
            f"{source}: {error}", hint="values are plain YAML, such as 0.05, true or [0.5, 0.75]"
        ) from None


def dump(value: Any) -> str:
    """Return ``value`` as YAML that ``load`` reads back equal."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
