"""Functions and classes as their source states them: nothing is imported for it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src/resnets"
_WIDTH = 88
_COMMENT = re.compile(r"^[^#\"]*(?:\"[^\"]*\"[^#\"]*)*#\s?(?P<words>.*)$")


@dataclass(frozen=True)
class Module:
    """A module of the package: its name below resnets ("nn.forms"), text and syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        """Its lines, of which line n is the entry n - 1."""
        return self.text.splitlines()


@cache
def module(name: str) -> Module:
    """Return a module by its name below resnets; "" is the package itself."""
    path = PACKAGE.joinpath(*filter(None, name.split(".")))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    return Module(name, text, ast.parse(text))


@dataclass(frozen=True)
class Field:
    """A field of a record: its name, type and default as they are written, and its comments."""

    name: str
    type: str
    default: str
    words: str


@dataclass(frozen=True)
class Definition:
    """A public function or class, where it is defined."""

    name: str
    home: Module
    node: ast.FunctionDef | ast.ClassDef

    @property
    def docstring(self) -> str:
        """Its docstring, without the indentation."""
        return ast.get_docstring(self.node) or ""

    @property
    def signature(self) -> str:
        """How it is called; of a class with what `__init__` takes, if it says so itself."""
        if isinstance(self.node, ast.FunctionDef):
            return called(self.name, self.node)
        makers = (each for each in _methods(self.node) if each.name == "__init__")
        maker = next(makers, None)
        return called(self.name, maker) if maker else ""

    @property
    def bases(self) -> list[str]:
        """What a class derives from."""
        node = self.node
        return [ast.unparse(each) for each in node.bases] if isinstance(node, ast.ClassDef) else []

    @property
    def fields(self) -> list[Field]:
        """The public fields of a record, with the comments beside and above them."""
        return [*_fields(self)] if isinstance(self.node, ast.ClassDef) else []

    @property
    def members(self) -> list["Definition"]:
        """The public methods and properties of a class that have something to say."""
        if not isinstance(self.node, ast.ClassDef):
            return []
        public = (each for each in _methods(self.node) if not each.name.startswith("_"))
        return [
            Definition(each.name, self.home, each) for each in public if ast.get_docstring(each)
        ]

    @property
    def is_property(self) -> bool:
        """Whether it is read, not called."""
        names = {ast.unparse(each) for each in self.node.decorator_list}
        return bool(names & {"property", "cached_property", "functools.cached_property"})


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (each for each in node.body if isinstance(each, ast.FunctionDef))


def find(home: str, name: str) -> Definition:
    """Return what a module defines or imports under a name. Raises LookupError where it is not."""
    found = module(home)
    for node in found.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return Definition(name, found, node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnets"):
            for each in node.names:
                if (each.asname or each.name) == name:
                    there = (node.module or "").removeprefix("resnets").lstrip(".")
                    return find(there, each.name)
    raise LookupError(f"resnets.{home} has no {name}")


def public(home: str) -> list[Definition]:
    """Return the public functions and classes that a module defines, in its order."""
    found = module(home)
    return [
        Definition(node.name, found, node)
        for node in found.tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node)
    ]


def called(name: str, node: ast.FunctionDef) -> str:
    """Return a signature, on a line or with a line for each parameter."""
    arguments = node.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments = ast.arguments(
            **{each: getattr(arguments, each) for each in ast.arguments._fields}
            | {"args": arguments.args[1:]}
        )
    gives = f" -> {annotation(node.returns)}" if node.returns else ""
    gives = "" if gives == " -> None" else gives
    parameters = [*_parameters(arguments)]
    line = f"{name}({', '.join(parameters)}){gives}"
    if len(line) <= _WIDTH:
        return line
    each = "".join(f"    {part},\n" for part in parameters)
    return f"{name}(\n{each}){gives}"


def annotation(node: ast.expr) -> str:
    """Return a type as it is written, also where it is written as a string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return unparsed(node)


def unparsed(node: ast.AST) -> str:
    """Return an expression with double quotes, as our source has them."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    """Yield the parameters as they are written, with the bare star."""

    def one(argument: ast.arg, default: ast.expr | None = None) -> str:
        kind = f": {annotation(argument.annotation)}" if argument.annotation else ""
        equals = " = " if kind else "="
        value = "" if default is None else f"{equals}{unparsed(default)}"
        return f"{argument.arg}{kind}{value}"

    before = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(before) - len(arguments.defaults)) + list(arguments.defaults)
    yield from map(one, before, defaults)
    if arguments.vararg:
        yield f"*{one(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    yield from map(one, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        yield f"**{one(arguments.kwarg)}"


def _fields(found: Definition) -> Iterator[Field]:
    """Yield the fields of a class body."""
    above: list[str] = []
    lines, last = found.home.lines, found.node.lineno
    for node in found.node.body:
        between = lines[last : node.lineno - 1]
        above = [line.strip().removeprefix("#").strip() for line in between if _is_comment(line)]
        last = node.end_lineno or node.lineno
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.target.id.startswith("_"):
            continue
        beside = _COMMENT.match(lines[last - 1])
        words = " ".join([*above, *([beside["words"]] if beside else [])])
        default = _default(node.value) if node.value else ""
        yield Field(node.target.id, _type(node.annotation, found.home), default, words)


def _type(node: ast.expr, home: Module) -> str:
    """Return the type of a field; of an alias with choices what it stands for."""
    for each in home.tree.body:
        value = each.value if isinstance(each, ast.Assign | ast.AnnAssign) else None
        names = each.targets if isinstance(each, ast.Assign) else []
        if value and isinstance(node, ast.Name) and node.id in map(ast.unparse, names):
            return unparsed(value)
    return annotation(node)


def _is_comment(line: str) -> bool:
    return line.strip().startswith("#")


def _default(value: ast.expr) -> str:
    """Return a default as a reader means it: what `field` and the like are given."""
    if isinstance(value, ast.Call):
        named = {each.arg: each.value for each in value.keywords}
        if "default_factory" in named:
            return f"{unparsed(named['default_factory'])}()"
        if "default" in named:
            return unparsed(named["default"])
        if ast.unparse(value.func) in ("told", "Field") and value.args:
            return unparsed(value.args[0])
        if ast.unparse(value.func) == "field":
            return ""
    return unparsed(value)
