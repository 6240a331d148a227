"""How numbers and names are put into words."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

# Control characters, line and paragraph separators, bytes of names that are not UTF-8, and what
# turns the direction of writing, so that a name reads as another.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Write a fraction as percent; never as 100 % unless it is, nor as 0 %."""
    if fraction is None:
        return "–"
    while 0 < fraction < 1 and decimals < 4 and round(100 * fraction, decimals) in (0, 100):
        decimals += 1
    return f"{100 * fraction:.{decimals}f} %"


def duration(seconds: float | None) -> str:
    """Write a time with as much detail as anyone would say it."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def count(number: float | None) -> str:
    """Write a whole number with separators."""
    return "–" if number is None else f"{number:,.0f}"


def short(number: float | None) -> str:
    """Write a large number as the papers do: 0.27 M, 40.6 M, 3.86 G."""
    if number is None:
        return "–"
    if number < 1e5:
        return f"{number:,.0f}"
    unit, scale = ("M", 1e6) if number < 1e9 else ("G", 1e9)
    value = number / scale
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def speed(number: float | None) -> str:
    """Write images a second with three figures."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def plural(number: float, noun: str) -> str:
    """Write a number with its noun."""
    return (
        f"{number:,.4g} {noun}{'' if number == 1 else 's'}"
        if number < 1e4
        else (f"{number:,.0f} {noun}s")
    )


def pace(done: int, total: int, seconds: float) -> str:
    """Say how far work on images is, how fast it goes, and how long the rest takes at that.

    A total of 0 says that they are still being found.
    """
    if not total:
        return f"{plural(done, 'image')} found"
    line = f"{done:,} of {plural(total, 'image')}"
    if not done or seconds <= 0:
        return line
    per_second = done / seconds
    return f"{line}, {speed(per_second)} a second, {duration((total - done) / per_second)} left"


def fact(value: Any) -> str:
    """Write a value of a record: yes and no, and settings as a shell has them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{name}={setting}" for name, setting in value.items()) or "none"
    return str(value)


def moment(text: str) -> str:
    """Write an ISO time as a date and a time in UTC; text that is none stays as it is."""
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            return f"{when:%Y-%m-%d %H:%M}"
        return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):  # in UTC it may be before the first year
        return text


def listed(names: Collection[object], most: int) -> str:
    """Write the first of some names, each printable, and how many more there are."""
    few = ", ".join(printable(str(name)) for name in islice(names, most))
    return f"{few} and {len(names) - most:,} more" if len(names) > most else few


def printable(name: str | Path) -> str:
    """Return a name that fits on one line of UTF-8: what a terminal would obey is escaped."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))
