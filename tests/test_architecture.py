"""The arrows of docs/architecture.md: who may import whom."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "resnets"
DOCS = Path(__file__).parents[1] / "docs"
TESTS = Path(__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up: a room may import those above it in this table that it names, and no other.
# cli composes everything and nothing imports it. docs/architecture.md shows this table.
ROOMS = {
    "errors": "",
    "readers": "errors",
    "spec": "errors",
    "zoo": "errors spec",
    "formatting": "",
    "files": "errors",
    "machine": "errors",
    "nn": "errors spec",
    "data": "errors readers files formatting machine",
    "run_folder": "errors files formatting readers machine",
    "weights": "errors files readers machine spec zoo nn data run_folder",
    "models": "errors formatting readers spec zoo nn data run_folder weights",
    "papers": "errors spec zoo",
    "report": "errors files formatting run_folder papers",
    "analysis": "errors files spec zoo nn data weights report",
    "inference": "errors spec files formatting readers nn data weights models analysis",
    "evaluation": "errors files formatting machine nn data run_folder weights models report"
    " inference",
    "training": "errors files formatting readers machine spec zoo nn data weights models"
    " run_folder papers report analysis evaluation",
    "studies": "errors files formatting readers machine spec zoo nn data weights models run_folder"
    " papers report analysis inference evaluation training",
    "exporting": "errors files formatting readers machine nn data weights models inference",
    "serving": "errors files formatting readers machine nn data weights report analysis inference"
    " exporting",
    "integrations": "errors files formatting readers machine spec zoo nn data weights models"
    " inference",
}
WITHOUT_TORCH = (
    "errors",
    "spec",
    "zoo",
    "nn/places",
    "formatting",
    "files",
    "readers/documents",
    "readers/paths",
    "readers/fields",
    "readers/strict_yaml",
    "machine/cpu",
    "machine/downloads",
    "machine/sharing",
    "machine/torchrun",
    "data/images",
    "data/labelled",
    "data/class_folders",
    "data/class_words",
    "data/listing",
    "data/members",
    "data/preprocess",
    "data/scan",
    "weights/beside",
    "weights/catalog",
    "weights/fetch",
    "weights/contract",
    "weights/metadata",
    "weights/normalisation",
    "weights/outputs",
    "run_folder",
    "papers",
    "report",
    "evaluation/__init__",
    "evaluation/assess",
    "evaluation/choice",
    "evaluation/averaged",
    "evaluation/collected",
    "evaluation/ensemble",
    "evaluation/kept",
    "evaluation/labels",
    "evaluation/metrics",
    "evaluation/paired",
    "evaluation/protocols",
    "evaluation/scores",
    "inference/embedding_table",
    "inference/attempts",
    "inference/folder_job",
    "inference/gather",
    "inference/partition",
    "inference/prediction",
    "inference/runtimes/__init__",
    "inference/runtimes/onnx_runtime",
    "inference/runtimes/openvino_runtime",
    "inference/runtimes/runtime",
    "integrations/ray",
    "training/recipe",
    "studies/study",
    "serving",
    "cli",
)
HEAVY = {"torch", "safetensors", "matplotlib", "sklearn", "pooch", "pydantic", "numpy", "PIL"}
HEAVY |= {"filelock"}


@cache
def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules that a file imports: anywhere, or when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: say where it comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_one_way(path):
    own = room(path)
    if own in ("__init__", "__main__"):
        return
    used = {m.split(".")[1] for m in imports(path) if m.startswith("resnets.")}
    used -= {own, "__version__"}
    if own == "cli":
        assert "cli" not in used
        return
    allowed = set(ROOMS[own].split())
    assert used <= allowed, f"{own} must not import {used - allowed}"


def test_arrows_point_down_only():
    """The table is in an order in which each room could be written after those before it."""
    above: set[str] = set()
    for own, named in ROOMS.items():
        assert set(named.split()) <= above, f"{own} imports what stands below it"
        above.add(own)


def test_every_arrow_is_used():
    """The table above is what the code does, not what it might do."""
    for own, named in ROOMS.items():
        allowed = set(named.split())
        files = [path for path in FILES if room(path) == own]
        used = {m.split(".")[1] for f in files for m in imports(f) if m.startswith("resnets.")}
        assert allowed <= used, f"{own} does not import {allowed - used}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_torchvision_and_light_rooms(path):
    modules = {m.split(".")[0] for m in imports(path)}
    assert not modules & {"torchvision", "timm", "torchmetrics"}
    name = str(path.relative_to(PACKAGE).with_suffix(""))
    if name.startswith(WITHOUT_TORCH):
        assert "torch" not in {m.split(".")[0] for m in imports(path, top_level=True)}
    if room(path) == "cli":  # --help loads every command
        light = {m for m in imports(path, top_level=True) if m.split(".")[0] in HEAVY}
        assert not light


def test_the_page_shows_this_table():
    sys.path.insert(0, str(DOCS))
    from write_arrows import PAGE, with_arrows

    page = PAGE.read_text(encoding="utf-8")
    assert page == with_arrows(page, ROOMS), "run python docs/write_arrows.py"


def test_few_rooms():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert len(entries) <= 26, sorted(entries)


def test_no_drawers_for_odds_and_ends():
    names = {path.stem for path in FILES}
    assert not names & {"utils", "helpers", "common", "base", "misc", "manager"}


def test_no_file_name_stands_for_two_ideas():
    """But for commands, which are called like what they start."""
    names = [path.name for path in FILES if room(path) != "cli" and path.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


def test_few_patches():
    """Tests reach what they hold by arguments, files and hooks; for these few there is none."""
    patching = {"setattr", "delattr", "patch"}
    found = [
        f"{path.name}:{call.lineno}"
        for path in sorted(TESTS.rglob("*.py"))
        if any(f".{name}(" in path.read_text("utf-8") for name in patching)
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in patching
    ]
    assert len(found) <= 22, found
