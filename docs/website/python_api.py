"""Reference of the Python functions and classes: a page for each room that users import from."""

from collections.abc import Iterator

from website.python_source import Definition, Field, find, module, public
from website.tables import cell, code, table

# Title, words, and what is on the page: "module:Name", or "module" for all that it defines.
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "models": (
        "Models",
        "A network by name, by spec or out of a file, and what it costs.",
        (
            *(":create_model", ":create_backbone", ":open_model", ":get_spec", ":list_models"),
            *(":profile", ":Spec", ":ResNet", ":Backbone", "nn:FeaturePyramid", ":HubResNet"),
        ),
    ),
    "training": (
        "Training",
        "From data to a run folder, and what can be asked before and after.",
        (
            *(":train", ":train_seeds", ":plan", ":find_lr", ":tune", ":peak_memory", ":audit"),
            *(":find_suspects", ":apply_suspects", ":Machine", "training.recipe:load_recipe"),
            *("training.recipe:list_recipes", "run_folder.directory:RunFolder"),
        ),
    ),
    "use": (
        "Use",
        "What a trained network is for.",
        (
            *(":predict", ":evaluate", "evaluation:Assessment", ":export"),
            *("inference.runtimes:open_runtime", "inference.prediction_table:predict_table"),
            *("inference.partition:Part", "inference.gather:gather"),
            *("serving.demo:write_page",),
        ),
    ),
    "weights": (
        "Weights",
        "Files of weights, of any library's, read and written.",
        (
            *(":load_weights", ":save_weights", "weights.load_report:LoadReport"),
            *("weights.catalog:Entry", "weights.catalog:entries"),
        ),
    ),
    "data": (
        "Data",
        "Data sets, and how an image becomes numbers.",
        ("data:open_dataset", "data.dataset:Dataset", "data.dataset:Split", "data.preprocess"),
    ),
    "studies": (
        "Studies and papers",
        "What `resnets study` and `resnets reproduce` do, and the papers' figures as data.",
        (
            *("studies.study:Study", "studies.study:write", "studies.degradation:study"),
            *("studies.layer_responses:study", "studies.gradients:study", "studies.lesion:study"),
            *("studies.gradient_paths:study", "studies.landscape:study"),
            *("studies.stochastic_depth:study", "studies.reproduction:reproduce"),
            *("papers.published", "papers.paper_tables"),
        ),
    ),
    "forms": ("Equivalent blocks", "", ("nn.forms",)),
    "responses": ("Responses and gradients", "", ("analysis.responses",)),
    "integrations": (
        "Integrations",
        "The backbone in the shape that other libraries expect.",
        (
            *("integrations.torchvision", "integrations.huggingface"),
            *("integrations.segmentation_models", "integrations.mmdetection"),
            "integrations.ray:Predictor",
        ),
    ),
    "errors": ("Errors", "What the functions raise.", ("errors",)),
    "processors": ("Processors", "For programs of one's own.", ("machine.sharing:sharing_cores",)),
}


def pages() -> dict[str, str]:
    """Return the pages, by their paths."""
    return {
        f"reference/python/{name}.md": "\n".join(_page(title, words, entries))
        for name, (title, words, entries) in PAGES.items()
    } | {"reference/python/index.md": "\n".join(_index())}


def _index() -> Iterator[str]:
    yield from ("# Python", "", "Written from the docstrings and signatures of the package.", "")
    yield from ("```python", "import resnets", "```", "")
    for name, (title, words, entries) in PAGES.items():
        yield f"## {title}\n"
        yield from filter(None, [words, ""])
        yield table(
            ("", ""),
            (
                (f"[`{_path(each)}`]({name}.md#{_title(each)})", _first_sentence(each))
                for each in _found(entries)
            ),
        )
        yield ""


def _found(entries: tuple[str, ...]) -> list[Definition]:
    found: list[Definition] = []
    for entry in entries:
        home, colon, name = entry.partition(":")
        if not colon:
            found += public(home)
        else:
            found.append(find(home or _home(name), name))
    return found


def _home(name: str) -> str:
    from resnets import _HOME

    return _HOME[name]


def _path(found: Definition) -> str:
    """Return how it is imported: from the package itself, where that has it."""
    from resnets import _HOME

    return f"resnets.{found.name}" if found.name in _HOME else _in_room(found)


def _in_room(found: Definition) -> str:
    return f"resnets.{found.home.name}.{found.name}"


def _title(found: Definition) -> str:
    """Return what tells it apart on its page: the name, with its module's where several have it."""
    module_name = found.home.name.rpartition(".")[2]
    return f"{module_name}.study" if found.name == "study" else found.name


def _first_sentence(found: Definition) -> str:
    return cell(found.docstring.split("\n\n")[0].replace("\n", " "))


def _page(title: str, words: str, entries: tuple[str, ...]) -> Iterator[str]:
    yield f"# {title}\n"
    if not words:
        words = (module(entries[0]).tree.body[0].value.value or "").strip()  # type: ignore[attr-defined]
    yield f"{words}\n"
    for found in _found(entries):
        yield from _entry(found)


def _entry(found: Definition) -> Iterator[str]:
    yield f"## `{_title(found)}` {{ #{_title(found)} }}\n"
    room, _, name = _path(found).rpartition(".")
    head = f"from {room} import {name}"
    yield f"```python\n{head}\n" + (f"\n{found.signature}\n" if found.signature else "") + "```\n"
    if found.bases:
        yield f"A class, derived from {', '.join(f'`{base}`' for base in found.bases)}.\n"
    yield f"{found.docstring}\n"
    if found.fields:
        yield f"{fields_table(found.fields)}\n"
    for member in found.members:
        if member.is_property:
            yield f"### `{found.name}.{member.name}`\n"
        else:
            yield f"### `{found.name}.{member.name}()`\n"
            yield f"```python\n{member.signature}\n```\n"
        yield f"{member.docstring}\n"


def fields_table(fields: list[Field]) -> str:
    """Return the fields of a record as a table."""
    rows = (
        (code(each.name), code(each.type), code(each.default), cell(each.words)) for each in fields
    )
    return table(("field", "type", "default", ""), rows)
