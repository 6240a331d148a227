"""Whether plain data are of the type that a file of ours has, said with file and field."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from resnets.readers.documents import damaged

# Strict: a text is no number, nor is true.
Count = Annotated[int, Field(strict=True, ge=0, le=1 << 53)]
Real = Annotated[float, Field(strict=True, ge=-1e100, le=1e100)]

T = TypeVar("T")


def check(kind: type[T], value: Any, where: str | Path) -> T:
    """Return a value as the type that it has to be of. Raises CheckpointError, naming the field."""
    try:
        found: T = _adapter(kind).validate_python(value)  # type: ignore[arg-type]
        return found
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise damaged(where, f"{place + ': ' if place else ''}{reason}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
