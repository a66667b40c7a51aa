"""JSON from outside: bounded, with numbers normalised, converted to typed structs."""

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.money import parse_number

DEEPEST = 32
"""Deepest nesting of lists and objects."""
MOST_VALUES = 5_000
"""Largest number of values in a strategy, nested ones included."""
LONGEST_SOURCE = 65_536
"""Longest text, in characters."""

_LARGEST_WHOLE = 2**53
_NAMED_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)

T = TypeVar("T")


def normalise_json(value: object, field: str) -> Any:
    """Copy a JSON-like ``value`` so that equal numbers are spelt alike, ``1.0`` as ``1``.

    Raises ``InvalidParameter``, which names the place, for values that JSON cannot hold, numbers
    that are not finite, and more or deeper data than any strategy needs.
    """
    return _Copy().of(value, field, 0)


def convert(value: object, type: type[T], field: str) -> T:
    """Convert a normalised ``value`` to a struct; raises ``InvalidParameter`` naming the place."""
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
    path = field + place.rstrip("`")
    if message.startswith("."):
        name, _, message = message.partition(": ")
        path += name
    field_message = _NAMED_FIELD.fullmatch(message)
    if field_message is not None:
        path = f"{path}.{abbreviate(field_message[2])}"
        message = "is not a known field; correct its name or leave it out"
        if field_message[1] == "missing required":
            message = "is missing"
    raise InvalidParameter(path.removeprefix("."), message.replace("`", ""))


def field_error(name: str, message: str) -> ValueError:
    """Return an error for the ``__post_init__`` of a struct to raise for its field ``name``.

    ``convert`` turns it into an ``InvalidParameter``.
    """
    return ValueError(f".{name}: {message}")


class _Copy:
    def __init__(self) -> None:
        self._values = 0

    def of(self, value: object, field: str, depth: int) -> Any:
        self._values += 1
        if self._values > MOST_VALUES:
            raise InvalidParameter(
                field, f"the strategy has more than {MOST_VALUES} values; simplify it"
            )
        if depth > DEEPEST:
            raise InvalidParameter(field, f"is nested more than {DEEPEST} deep; flatten it")
        match value:
            case None | bool():
                return value
            case int() | float():
                return _number(value, field)
            case np.generic() if value.dtype.kind in "iuf":
                return _number(float(parse_number(field, value)), field)
            case str():
                return _text(value, field)
            case list() | tuple():
                return [
                    self.of(member, f"{field}[{place}]", depth + 1)
                    for place, member in enumerate(value)
                ]
            case Mapping():
                return {
                    _key(key, field): self.of(
                        member, f"{field}.{abbreviate(key)}".lstrip("."), depth + 1
                    )
                    for key, member in value.items()
                }
        raise InvalidParameter(field, f"must be JSON, got a {type(value).__name__}")


def _number(value: float, field: str) -> int | float:
    if not math.isfinite(value) if isinstance(value, float) else abs(value) > _LARGEST_WHOLE:
        raise InvalidParameter(
            field, f"{abbreviate(value)} is not a finite number of double precision"
        )
    return int(value) if value == int(value) and abs(value) <= _LARGEST_WHOLE else float(value)


def _text(value: str, field: str) -> str:
    if len(value) > LONGEST_SOURCE:
        raise InvalidParameter(field, f"is longer than {LONGEST_SOURCE} characters; shorten it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidParameter(
                field, "contains half of a surrogate pair, which is not a character"
            ) from None
    return value


def _key(key: object, field: str) -> str:
    if not isinstance(key, str):
        raise InvalidParameter(field, f"has the key {abbreviate(key)}; keys must be strings")
    return _text(key, field)
