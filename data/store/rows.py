"""Conversions between rows of the store and structs, and of values for its columns."""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.money import EXACT

Struct = TypeVar("Struct", bound=msgspec.Struct)

_MOST_DIGITS = 38


def to_struct(kind: type[Struct], row: Sequence[Any], json_columns: Collection[str] = ()) -> Struct:
    """Return a row as a struct whose fields are in the order of its columns.

    ``json_columns`` names the fields that are stored as JSON.
    """
    return kind(**named_values(kind.__struct_fields__, row, json_columns))


def named_values(
    names: Iterable[str], row: Sequence[Any], json_columns: Collection[str] = ()
) -> dict[str, Any]:
    """Return the values of a row by name, with those of ``json_columns`` decoded."""
    values = dict(zip(names, row, strict=True))
    for name in json_columns:
        if values[name] is not None:
            values[name] = msgspec.json.decode(values[name])
    return values


def to_json(value: Any) -> str:
    """Return a value as text for a JSON column."""
    return msgspec.json.encode(value).decode()


def text_column(values: Sequence[str | None]) -> NDArray[np.object_]:
    """Return a column of text for ``Store.insert``; None becomes NULL."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def exact_text(value: Decimal | None, places: int) -> str | None:
    """Return the digits of a decimal for a column DECIMAL(38, ``places``).

    The column would round silently, so a value of more decimal places raises ``ValueError``. One
    that is too large raises ``InvalidParameter``.
    """
    if value is None:
        return None
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or any(
        digits[places + exponent :] if exponent < -places else ()
    ):
        raise ValueError(f"{value} has more than {places} decimal places")
    if value.adjusted() >= _MOST_DIGITS - places:
        raise InvalidParameter(
            "results", f"{value:.3E} is too large to be stored; start with a smaller balance"
        )
    return f"{value:f}"


def amount_column(units: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Return a column for ``Store.insert`` and the SQL of its exact values.

    ``units`` are amounts in hundred-millionths. In the SQL, ``{0}`` is a placeholder for the name
    of the column.
    """
    if units.dtype != object:
        return units, "{0}::DECIMAL(30, 0) * 0.00000001::DECIMAL(8, 8)"
    amounts = [EXACT.scaleb(Decimal(unit), -8) for unit in units.tolist()]
    return text_column([exact_text(amount, 8) for amount in amounts]), "{0}::DECIMAL(38, 8)"
