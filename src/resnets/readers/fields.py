"""Whether plain data are of the type that a file of ours has, said with file and field."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from resnets.readers.documents import damaged

if TYPE_CHECKING:  # a model that is built checks no file
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class _Between:
    """Bounds of a number, strictly: a text is no number, nor is true."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return handler(source) | {"strict": True, "ge": self.low, "le": self.high}


Count = Annotated[int, _Between(0, 1 << 53)]
Real = Annotated[float, _Between(-1e100, 1e100)]

T = TypeVar("T")


def check(kind: type[T], value: Any, where: str | Path) -> T:
    """Return a value as the type that it has to be of. Raises CheckpointError, naming the field."""
    from pydantic import ValidationError

    try:
        found: T = _adapter(kind).validate_python(value)  # type: ignore[arg-type]
        return found
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise damaged(where, f"{place + ': ' if place else ''}{reason}") from None


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
