"""Messages of protobuf, as far as what is in them can be told without their descriptions."""

from collections.abc import Iterable
from typing import Any

from resnets.readers.allowance import Allowance

_FIELD_BYTES = 250  # of memory that a field takes, with what is made of it
_LONGEST_NAME = 1000

Message = dict[int, list[Any]]  # by the numbers of fields: numbers, and views of the bytes


def message(data: memoryview, allowance: Allowance) -> Message:
    """Return the fields of a message. Raises ValueError for bytes that are none."""
    found: Message = {}
    at = 0
    while at < len(data):
        allowance.take(_FIELD_BYTES)
        key, at = _varint(data, at)
        value: Any
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 in (1, 2, 5):
            size, at = _varint(data, at) if key & 7 == 2 else (8 if key & 7 == 1 else 4, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("a field of an unknown kind")
        if at > len(data):
            raise ValueError("a field that ends too soon")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number in groups of seven bits, as a signed one of 64, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number that ends too soon")
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number - (1 << 64) if number >> 63 else number, at
    raise ValueError("a number without end")


def integers(values: Iterable[Any], allowance: Allowance) -> list[int]:
    """Return numbers that may be packed into one field."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        at = 0
        while at < len(value):
            allowance.take(_FIELD_BYTES)
            number, at = _varint(value, at)
            numbers.append(number)
    return numbers


def text_of(message: Message, number: int) -> str:
    """Return the text in a field; an empty one where the field is missing."""
    return decoded(message.get(number, [b""])[-1])


def decoded(text: Any) -> str:
    """Return the text in a field's bytes."""
    if len(text) > _LONGEST_NAME:
        raise ValueError("a name that is longer than any is")
    return str(text, "utf-8")
