"""The values of an agent as a server reads them: numbers and times as text, what is None left out."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from candlestep.sandbox import InvalidParameter, PriceLevel, format_time, parse_time
from candlestep.sandbox.money import python_number

_encode = msgspec.json.Encoder().encode


def body_of(fields: Mapping[str, Any]) -> bytes:
    """Return the body of a request with these fields."""
    return _encode(plain_fields(fields))


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not None, with values that JSON has."""
    return {name: _plain(name, value) for name, value in fields.items() if value is not None}


def plain_until(until: object) -> Any:
    """Return a condition at which steps end; a price level as its fields."""
    if isinstance(until, PriceLevel):
        until = msgspec.structs.asdict(until)
    return plain_fields(until) if isinstance(until, Mapping) else until


def _plain(name: str, value: object) -> Any:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, date) or name.endswith(("_time", "_at")):
        return format_time(parse_time(value, name))
    if isinstance(value, Mapping):
        return plain_fields(value)
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    number = python_number(value)
    if isinstance(number, int):
        return number
    if isinstance(number, float | Decimal):
        return str(number)
    raise InvalidParameter(name, f"cannot be a {type(value).__name__}")
