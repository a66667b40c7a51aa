"""The base class of answers that show the attributes of an object."""

from collections.abc import Callable
from functools import cache
from typing import Any, Self, get_args

import msgspec

from candlestep.api.schemas.fields import Money, Time, money
from candlestep.sandbox import format_time

Writer = Callable[[Any], str]

_MONEY, _TIME = get_args(Money)[1], get_args(Time)[1]


class Response(msgspec.Struct, frozen=True):
    """The base class of answers that show the attributes of an object."""

    @classmethod
    def of(cls, source: Any, /, **fields: Any) -> Self:
        """Return the answer whose fields are the attributes of ``source``, except ``fields``.

        The attributes of fields that are ``Money`` or ``Time`` are decimals and milliseconds.
        """
        for name, write in _writers(cls):
            if name not in fields:
                value = getattr(source, name)
                fields[name] = value if write is None or value is None else write(value)
        return cls(**fields)


@cache
def _writers(response: type[Response]) -> list[tuple[str, Writer | None]]:
    """Return the fields of a type of answers, with what writes each as text."""
    return [(field.name, _writer(field.type)) for field in msgspec.structs.fields(response)]


def _writer(annotation: Any) -> Writer | None:
    """Return what writes a field that is ``Money`` or ``Time``, described further or optional."""
    arguments = get_args(annotation)
    if _MONEY in arguments:
        return money
    if _TIME in arguments:
        return format_time
    return _writer(arguments[0]) if type(None) in arguments[1:] else None
