"""Reference of the files that are written: the records in them, field by field, from the source."""

import ast
from collections.abc import Iterator

from website.python_api import fields_table
from website.python_source import Definition, find, module, public
from website.tables import table

# The files of a run folder, in the order in which they matter to a reader.
RUN_FOLDER = {
    "recipe.yaml": "the [recipe](../recipes/index.md), resolved: every setting",
    "run.json": "what was run, on what, and what came of it: [`Record`](#Record)",
    "model.safetensors": "the weights, with their [metadata](weights.md)",
    "report.html": "all of it for people: `resnets report` writes it anew",
    "metrics.jsonl": "a line for each epoch: [`Epoch`](#Epoch)",
    "ledger.jsonl": "a line for each epoch, which samples it used: [`LedgerLine`](#LedgerLine)",
    "mistakes.json": "the most confident mistakes on the test split: [`Mistake`](#Mistake)s",
    "data.json": "what was left out of the data: [`Preparation`](#Preparation)",
    "pictures.sha256": "the digest of every image, as `sha256sum -c` reads it",
    "nonfinite.json": "where a loss became NaN or infinite: what it was computed from",
    "architecture.svg": "the drawing of the network",
    "new-images.html": "the page of `resnets report RUN --compare-data`",
    "state": "the states from which it resumes; may be deleted when it is finished",
    "tensorboard": "the same numbers as TensorBoard reads them",
    "tracking": "what trackers have got",
}
# Title, words and what is on the page: "module:Record", or "module" for all records in it.
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "weights": (
        "Weights and exports",
        "Files of weights and exports hold one JSON text under the key `resnets`: in the metadata "
        "of safetensors, in `metadata_props` of ONNX, in `rt_info` of OpenVINO, in `extra_files` "
        "of a `.pt2`. State-dict keys are torchvision's. An export has its certificate beside it, "
        "which says what it was compared with.",
        (
            *("weights.metadata:Metadata", "weights.metadata:Input", "data.preprocess:Preprocess"),
            *("weights.calibration:Calibration", "weights.calibration:Unknown"),
        ),
    ),
    "tune": (
        "Searches",
        "`resnets tune` leaves a folder of run folders, `recipe.yaml` that they have in common, "
        "`best.yaml`, `report.html` and `tune.json`:",
        ("run_folder.trials:Search", "run_folder.trials:Trial"),
    ),
    "tables": (
        "Tables",
        "`predict --out` writes `.jsonl`, `.csv` or `.parquet`: a row for each image, in the order "
        "in which they were given, with `path`, `error` where it could not be read, `class_1`, "
        "`probability_1` and so on, and where there is a calibration `label_set`, `unknown` and "
        "`unknown_score`. JSON lines have what `predict --json` prints. `embed --out` writes "
        "`.npz` or `.parquet` with `path` and `embedding`, float32. The table of a `--part` has "
        "`TABLE.part.json` beside it:",
        (
            "inference.partition:PartRecord",
            "inference.partition:Section",
            "inference.partition:Told",
        ),
    ),
}


def pages() -> dict[str, str]:
    """Return the pages, by their paths."""
    return {
        f"reference/files/{name}.md": "\n".join(_page(title, words, entries))
        for name, (title, words, entries) in PAGES.items()
    } | {
        "reference/files/index.md": _index(),
        "reference/files/run-folder.md": "\n".join(_run_folder()),
    }


def _index() -> str:
    rows = [("[Run folders](run-folder.md)", "what a training leaves behind")]
    rows += [
        (f"[{title}]({name}.md)", words.split(": ")[0].split(". ")[0].rstrip(".:"))
        for name, (title, words, _) in PAGES.items()
    ]
    rows += [("[Packs](../../packs.md)", "many images in one file, a tar")]
    return "\n".join(
        [
            "# Files",
            "",
            "Everything that is written is plain data: tensors, JSON, YAML, tables. Files that may "
            "change their form say its version as `schema_version`; earlier ones stay readable.",
            "",
            table(("", ""), rows),
            "",
        ]
    )


def _run_folder() -> Iterator[str]:
    yield "# Run folders\n"
    yield "A run folder is the only interface between training and everything after it.\n"
    missing = {*run_folder_files()} ^ RUN_FOLDER.keys()
    if missing:
        raise LookupError(f"RunFolder and RUN_FOLDER of website/records.py differ by {missing}")
    yield f"{table(('file', ''), ((f'`{name}`', words) for name, words in RUN_FOLDER.items()))}\n"
    spelled = ast.literal_eval(_constant("run_folder.record", "IN_FILES"))
    pairs = " and ".join(f"`{name}` is called `{key}`" for name, key in spelled.items())
    yield (
        "The records' fields are the keys of the files, but that in them, as in those of all "
        f"versions, {pairs}. What a version did not write has its default.\n"
    )
    records = {found.name: found for found in public("run_folder.record") if found.fields}
    first = ("Record", "Epoch", "LedgerLine", "Mistake", "Preparation")
    for name in (*first, *(each for each in records if each not in first)):
        yield from _record(records[name])


def run_folder_files() -> list[str]:
    """Return the names of the files that `RunFolder` knows, from its `__init__`."""
    node = find("run_folder.directory", "RunFolder").node
    return [
        _named(each.value.right)
        for each in ast.walk(node)
        if isinstance(each, ast.Assign)
        and isinstance(each.value, ast.BinOp)
        and ast.unparse(each.targets[0]).startswith("self.")
        and ast.unparse(each.value.left) == "path"
    ]


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    text = ast.unparse(node)
    if text == "FOLDER_WEIGHTS[0]":
        return str(ast.literal_eval(_constant("readers.paths", "FOLDER_WEIGHTS"))[0])
    return str(ast.literal_eval(_constant("run_folder.directory", text)))


def _constant(home: str, name: str) -> str:
    """Return the value of a module's constant, as it is written."""
    for node in module(home).tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.unparse(node.value)
    raise LookupError(f"resnets.{home} has no {name}")


def _page(title: str, words: str, entries: tuple[str, ...]) -> Iterator[str]:
    yield f"# {title}\n\n{words}\n"
    for entry in entries:
        home, _, name = entry.partition(":")
        yield from _record(find(home, name))


def _record(found: Definition) -> Iterator[str]:
    yield f"## `{found.name}` {{ #{found.name} }}\n\n{found.docstring}\n"
    yield f"{fields_table(found.fields)}\n"
