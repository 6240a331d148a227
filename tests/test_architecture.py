"""The arrows of docs/architecture.md: who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "resnets"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import itself and these; cli composes everything and nothing imports it.
ROOMS = {
    "errors": set(),
    "wording": set(),
    "spelling": set(),
    "locks": {"errors"},
    "files": {"errors", "locks"},
    "plain": {"errors", "files"},
    "transfer": set(),
    "device": {"errors"},
    "cpu": set(),
    "sharing": set(),
    "spec": {"errors"},
    "zoo": {"errors", "spec"},
    "provenance": {"spec"},
    "nn": {"errors", "spec"},
    "profiling": {"spec", "zoo", "nn"},
    "memory": {"errors", "wording", "spec", "zoo", "nn", "profiling", "data", "training"},
    "analysis": {"nn"},
    "drawing": {"errors", "spec", "zoo", "nn", "profiling"},
    "page": {"wording"},
    "papers": set(),
    "data": {"errors", "files", "wording", "transfer"},
    "outputs": {"errors"},
    "metadata": {"errors", "spec", "data", "outputs"},
    "weights": {
        "plain",
        "spelling",
        "errors",
        "files",
        "transfer",
        "spec",
        "zoo",
        "nn",
        "data",
        "outputs",
        "metadata",
    },
    "create": {"wording", "errors", "spec", "zoo", "nn", "weights", "data"},
    "backbones": {"spec", "nn", "data", "create", "weights"},
    "plugs": {"errors", "spec", "zoo", "nn", "backbones"},
    "processes": {"errors"},
    "scores": set(),
    "evaluation": {"errors", "wording", "data", "processes", "scores"},
    "assessment": {"errors", "wording", "nn", "data", "device", "runtimes", "prediction"}
    | {"scores", "evaluation", "outputs"},
    "variants": {"errors", "nn", "data", "create", "prediction", "weights"},
    "hub": {"errors", "files", "transfer", "spec", "nn", "data", "weights", "create"},
    "runtimes": {"errors", "spelling", "data", "nn", "create", "outputs", "metadata"},
    "prediction": {"locks", "plain", "errors", "files", "nn", "data", "runtimes", "outputs"},
    "training": {
        "spelling",
        "locks",
        "plain",
        "errors",
        "files",
        "wording",
        "spec",
        "profiling",
        "nn",
        "data",
        "weights",
    }
    | {"scores", "evaluation", "processes", "cpu", "sharing"},
    "features": {"errors", "files", "nn", "analysis", "data", "page", "outputs"},
    "embedding": {
        "locks",
        "plain",
        "errors",
        "files",
        "nn",
        "analysis",
        "data",
        "weights",
        "runtimes",
    },
    "exporting": {
        "plain",
        "spelling",
        "locks",
        "errors",
        "files",
        "wording",
        "transfer",
        "nn",
        "data",
        "weights",
        "create",
    }
    | {"runtimes", "outputs"},
    "benchmarking": {"errors", "wording", "spec", "zoo", "nn", "weights", "processes", "training"}
    | {"exporting", "runtimes"},
    "report": {"plain", "errors", "files", "wording", "papers", "page"},
    "experiment": {
        "errors",
        "files",
        "spec",
        "zoo",
        "profiling",
        "drawing",
        "data",
        "create",
    }
    | {"nn", "memory", "plain", "processes", "training", "report"},
    "runs": {"errors", "spec", "metadata", "data", "device", "experiment", "processes", "training"},
    "repetition": {"errors", "files", "wording", "spec", "experiment", "processes", "training"}
    | {"papers", "report", "runs"},
    "auditing": {"plain", "errors", "wording", "spec", "scores", "data", "training", "weights"},
}
WITHOUT_TORCH = (
    "errors",
    "cpu",
    "sharing",
    "files",
    "locks",
    "plain",
    "spec",
    "outputs",
    "metadata",
    "provenance",
    "zoo",
    "page",
    "papers",
    "report",
    "cli",
    "training/recipe",
    "transfer",
    "weights/catalog",
    "weights/fetch",
    "data/images",
    "data/preprocess",
    "data/scan",
    "data/labelled",
    "scores",
    "assessment",
    "prediction",
    "runtimes/__init__",
    "runtimes/passport",
    "runtimes/runtime",
    "runtimes/onnx_runtime",
    "runtimes/openvino_runtime",
)
HEAVY = {"torch", "safetensors", "matplotlib", "sklearn", "pooch", "pydantic", "numpy", "PIL"}


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
    assert used <= ROOMS[own], f"{own} must not import {used - ROOMS[own]}"


def test_every_arrow_is_used():
    """The table above is what the code does, not what it might do."""
    for own, allowed in ROOMS.items():
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


def test_no_drawers_for_odds_and_ends():
    names = {path.stem for path in FILES}
    assert not names & {"utils", "helpers", "common", "base", "misc", "manager"}
