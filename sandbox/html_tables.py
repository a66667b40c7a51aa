"""Tables as HTML without script, which notebooks show of results, orders and fills."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from typing import Any

from candlestep.sandbox.clock import format_time
from candlestep.sandbox.money import format_decimal

MOST_ROWS = 60
"""The most rows that a table shows: the first and the last ones."""

_STYLE = "text-align:{};font-variant-numeric:tabular-nums;white-space:nowrap"


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as HTML. Numbers are aligned to the right, and every text is escaped."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    head = f"<thead><tr>{heads}</tr></thead>" if header else ""
    return f"<table><caption>{escape(caption)}</caption>{head}<tbody>{body}</tbody></table>"


def shown_rows(rows: Sequence[Any]) -> list[Any]:
    """Return the rows that a table has room for, with None in the place of those left out."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    half = MOST_ROWS // 2
    return [*rows[:half], None, *rows[-half:]]


def field_value(name: str, value: Any) -> Any:
    """Return the value of a field as a table shows it: times as text."""
    if type(value) is int and (name == "time" or name.endswith(("_time", "_at", "_from", "_to"))):
        return format_time(value)
    return value


def _cell(value: Any) -> str:
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = f"{value:,.4f}"
    elif isinstance(value, Decimal):
        text = format_decimal(value)
    style = _STYLE.format("right" if is_number else "left")
    return f'<td style="{style}">{escape(text)}</td>'
