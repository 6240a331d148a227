"""Interleaved measurement: by turns, the order reversed every round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from resnets.errors import ResnetsError

Measure = Callable[[], float]  # one measurement: things a second


@dataclass
class Rounds:
    """Rates by case, one a round; the yardstick's by round; and why cases fell out."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    yardsticks: list[list[float]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def interleave(
    cases: Mapping[str, Callable[[], Measure]],
    rounds: int,
    *,
    yardstick: Measure,
    say: Callable[[str], None] = lambda line: None,
) -> Rounds:
    """Prepare all cases, then measure each once a round: A B C, then C B A, and so on.

    ``yardstick``, work that is always the same, is measured before, between and after them. A case
    that fails, while it gets ready or later, is left out whole, and the others go on.
    """
    found = Rounds()
    ready: dict[str, Measure] = {}

    def fails(name: str, error: Exception) -> None:
        found.failed[name] = reason(error)
        say(f"{name}: left out: {found.failed[name]}")
        ready.pop(name, None)
        found.rates.pop(name, None)

    for name, prepare in cases.items():
        try:
            ready[name] = prepare()
        except Exception as error:  # other people's code: it may raise anything
            fails(name, error)
    found.rates |= {name: [] for name in ready}
    for number in range(rounds if ready else 0):
        found.yardsticks.append([yardstick()])
        for name in list(ready)[:: -1 if number % 2 else 1]:
            try:
                found.rates[name].append(ready[name]())
            except Exception as error:  # as above
                fails(name, error)
            found.yardsticks[-1].append(yardstick())
    return found


def reason(error: Exception) -> str:
    """Return the first line of what an error says, cut to a line's length."""
    text = error.message if isinstance(error, ResnetsError) else str(error)
    line = next(iter(text.strip().splitlines()), "")
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "CPUAllocator" in text:
        line = "out of memory"
    return line[:160] or type(error).__name__
