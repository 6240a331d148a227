"""The first page of the reference."""

from website import commands, errors, recipes, records
from website.python_api import PAGES
from website.tables import table


def pages() -> dict[str, str]:
    """Return the page, by its path."""
    count = sum(1 for each in recipes.list_recipes())
    exits = sorted({kind.code for kind in errors.KINDS}, key=int)
    rows = (
        ("[Models](../models.md)", "what each is, its exact cost, and whose weights there are"),
        (
            "[The block, annotated](blocks.md)",
            "the source of a residual block beside prose; and [the fields of Spec](spec.md)",
        ),
        (
            "[Python](python/index.md)",
            ", ".join(f"[{title}](python/{name}.md)" for name, (title, *_) in PAGES.items()),
        ),
        ("[Commands](commands/index.md)", f"{len(commands.commands())}, each with its examples"),
        ("[Recipes](recipes/index.md)", f"{count}, and [every setting](settings.md)"),
        ("[Errors](errors/index.md)", f"exit codes {', '.join(exits)}: what to do"),
        (
            "[Files](files/index.md)",
            ", ".join(
                [
                    "[Run folders](files/run-folder.md)",
                    *(f"[{title}](files/{name}.md)" for name, (title, *_) in records.PAGES.items()),
                ]
            ),
        ),
    )
    text = "# Reference\n\nWritten from the code whenever the site is built.\n\n"
    return {"reference/index.md": f"{text}{table(('', ''), rows)}\n"}
