"""Names with places for numbers, such as ``res{stage+1}.{block}.conv{i}``: read and written alike.

A place is ``{name}``, ``{name+1}`` or ``{name-1}`` for a number that is stored shifted, or
``{name|abc}`` for a number that is spelt as a letter: the first letter is the smallest value.
"""

import re
from collections.abc import Mapping
from functools import cached_property

# The smallest value of each number in our own names; `pool` counts the poolings before a
# projection (option D has one), so that its convolution is downsample.{pool}.
FIRST = {"stage": 1, "block": 0, "i": 1, "pool": 0}
_PLACE = re.compile(r"\{(?P<name>\w+)(?P<shift>[+-]\d+)?(?:\|(?P<letters>\w+))?\}")


class Template:
    """One name with its places."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _PLACE.split(text)  # literal, name, shift, letters, literal, name, ...

    @cached_property
    def names(self) -> frozenset[str]:
        """Which numbers it has places for."""
        return frozenset(self._parts[1::4])

    @cached_property
    def pattern(self) -> str:
        """A regular expression whose groups are the places."""
        result = re.escape(self._parts[0])
        seen = set()
        for name, _, letters, literal in self._places:
            group = f"[{letters}]" if letters else "0|[1-9][0-9]{0,4}"
            result += f"(?P={name})" if name in seen else f"(?P<{name}>{group})"
            result += re.escape(literal)
            seen.add(name)
        return result

    def numbers(self, groups: Mapping[str, str]) -> dict[str, int] | None:
        """Return the numbers behind a match's groups, without their shift; None if one is none."""
        result = {}
        for name, shift, letters, _ in self._places:
            text = groups[name]
            if letters:
                result[name] = FIRST[name] + letters.index(text)
            else:
                result[name] = int(text) - int(shift or 0)
            if result[name] < FIRST[name]:
                return None
        return result

    def fill(self, numbers: Mapping[str, int]) -> str | None:
        """Return the name for these numbers; None where there is no letter for one."""
        result = self._parts[0]
        for name, shift, letters, literal in self._places:
            number = numbers[name]
            if letters:
                if number - FIRST[name] >= len(letters):
                    return None
                result += letters[number - FIRST[name]]
            else:
                result += str(number + int(shift or 0))
            result += literal
        return result

    @cached_property
    def _places(self) -> list[tuple[str, str | None, str | None, str]]:
        parts = self._parts
        return [
            (parts[k], parts[k + 1], parts[k + 2], parts[k + 3]) for k in range(1, len(parts), 4)
        ]
