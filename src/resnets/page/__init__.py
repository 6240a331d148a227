"""What every HTML page has in common: one self-contained file, its style, numbers in words."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from resnets import wording


def environment(room: str) -> Environment:
    """Return the templates of a room, such as "resnets.report", on top of the shared ones.

    ``base.html`` fetches nothing and runs nothing; ``wording``'s functions are filters.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(room), PackageLoader("resnets.page")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    for function in (
        wording.count,
        wording.duration,
        wording.fact,
        wording.moment,
        wording.percent,
        wording.plural,
        wording.rate,
        wording.short,
    ):
        found.filters[function.__name__] = function
    return found
