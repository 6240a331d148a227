"""What every HTML page has in common: one self-contained file, its style, numbers in words."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from resnets import formatting


@cache
def environment(room: str, folder: str = "templates") -> Environment:
    """Return the templates of a room, such as "resnets.report", on top of the shared ones.

    ``base.css`` is the face of every page, ``base.html`` fetches nothing and runs nothing;
    ``formatting``'s functions are filters. To compile a page takes longer than to fill it in, so
    they are kept.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(room, folder), PackageLoader("resnets.report")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    words = ("count", "duration", "fact", "moment", "percent", "plural", "short", "speed")
    found.filters |= {name: getattr(formatting, name) for name in words}
    return found
