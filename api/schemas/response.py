"""The base class of answers that show the attributes of an object."""

from collections.abc import Callable
from functools import cache
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

import msgspec
from msgspec import UNSET

from candlestep.api.schemas.fields import Money, Time, money
from candlestep.sandbox import format_time

Writer = Callable[[Any], str]

_MONEY, _TIME = get_args(Money)[1], get_args(Time)[1]


class Response(msgspec.Struct, frozen=True):
    """The base class of answers that show the attributes of an object."""

    @classmethod
    def of(cls, source: Any, /, **fields: Any) -> Self:
        """Return the answer whose fields are the attributes of ``source``, except ``fields``.

        The attributes of fields that are ``Money`` or ``Time`` are decimals and milliseconds. A
        field that may be unset is left out if ``source`` lacks its attribute, or has None for it
        where it may not be null.
        """
        for name, write in _writers(cls):
            if name not in fields:
                value = getattr(source, name)
                fields[name] = value if write is None or value is None else write(value)
        for name, write, may_be_null in _optional_writers(cls):
            if name not in fields:
                value = getattr(source, name, UNSET)
                if value is None and not may_be_null:
                    value = UNSET
                is_plain = write is None or value is None or value is UNSET
                fields[name] = value if is_plain or write is None else write(value)
        return cls(**fields)


@cache
def _writers(response: type[Response]) -> list[tuple[str, Writer | None]]:
    """Return the fields of a type of answers, with what writes each as text."""
    fields = msgspec.structs.fields(response)
    return [(field.name, _writer(field.type)) for field in fields if field.default is not UNSET]


@cache
def _optional_writers(response: type[Response]) -> list[tuple[str, Writer | None, bool]]:
    """Return the fields that may be unset, with what writes each, and whether each may be null."""
    fields = [field for field in msgspec.structs.fields(response) if field.default is UNSET]
    return [(field.name, _writer(field.type), _may_be_null(field.type)) for field in fields]


def _may_be_null(annotation: Any) -> bool:
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _may_be_null(arguments[0])
    return type(None) in arguments


def _writer(annotation: Any) -> Writer | None:
    """Return what writes a field that is ``Money`` or ``Time``, described further or optional."""
    arguments = get_args(annotation)
    if _MONEY in arguments:
        return money
    if _TIME in arguments:
        return format_time
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return next((write for one in arguments if (write := _writer(one)) is not None), None)
    return None
