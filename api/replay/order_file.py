"""Files of orders as people record them: CSV, JSON lines, or a list of JSON objects."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from candlestep.api.sessions.player import read_order
from candlestep.data.errors import NOT_JSON, UnreadableFile
from candlestep.data.given_files import require_file
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, SandboxError, parse_time
from candlestep.sandbox.exchange.instructions import parse_request

FIELDS = (
    "time",
    "symbol",
    "side",
    "type",
    "quantity",
    "price",
    "trigger_price",
    "client_order_id",
    "time_in_force",
    "post_only",
    "reduce_only",
    "trail_percent",
    "trail_amount",
    "activation_price",
    "quote_amount",
    "stop_loss",
    "take_profit",
    "cancel",
)
"""The fields of an order in a file. ``cancel`` is the client_order_id of an order to cancel."""

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_DELIMITERS = ",;\t|"
_SHOWN = 5
_ROWS_BETWEEN_CHECKS = 1000
_SECONDS_BELOW, _MILLISECONDS_BELOW, _MICROSECONDS_BELOW = 10**11, 10**14, 10**17
"""A number that is a time counts seconds below the first, and so on."""

_read_json = msgspec.json.Decoder(float_hook=str).decode

Row = Mapping[str, object]


class FileOrder(NamedTuple):
    """An order of a file, or the cancellation of one."""

    line: int
    """The line of a file of lines, else the number of the object; from 1."""
    time: int
    """Milliseconds."""
    order: dict[str, Any]
    """The fields of the order; empty for a cancellation."""
    cancels: str | None
    """The client_order_id of the order to cancel."""


class BadOrder(NamedTuple):
    """A row that cannot be placed, and why."""

    line: int
    reason: str


def bad_orders(file: str, rows: Sequence[BadOrder]) -> UnreadableFile:
    """Return the error that names the first of the rows that cannot be placed."""
    shown = "; ".join(f"line {row.line}: {row.reason}" for row in rows[:_SHOWN])
    rest = f"; and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    noun = "row" if len(rows) == 1 else "rows"
    return UnreadableFile(
        file,
        f"{len(rows)} bad {noun}, nothing was placed: {shown}{rest}",
        rows=[row._asdict() for row in rows[:_SHOWN]],
    )


def read_orders(
    path: Path, columns: Mapping[str, str], check: Callable[[], object] | None = None
) -> list[FileOrder]:
    """Return the orders of a file, in its order.

    ``columns`` has the name in the file of each field that is called otherwise there. Columns with
    another name are refused, unless ``columns`` names any. Raises ``UnreadableFile``, which names
    all bad rows by line, and what ``check`` raises, which is called now and then.
    """
    require_file(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise UnreadableFile(path.name, "it is not text in UTF-8") from None
    orders: list[FileOrder] = []
    bad: list[BadOrder] = []
    known: set[str] = set()
    unseen = {name.lower() for name in columns.values()}
    for number, (line, row) in enumerate(_rows(path.name, text, columns)):
        if check is not None and number % _ROWS_BETWEEN_CHECKS == 0:
            check()
        if isinstance(row, str):
            bad.append(BadOrder(line, row))
            continue
        unseen -= {name.lower() for name in row}
        try:
            _require_columns(path.name, list(row), columns)
            orders.append(_order(line, _fields(row, columns), known))
        except UnreadableFile:
            raise
        except SandboxError as error:
            bad.append(BadOrder(line, error.message))
    if not orders and not bad:
        raise UnreadableFile(path.name, "it has no orders")
    if unseen:
        raise UnreadableFile(path.name, f"it has no column {', '.join(sorted(unseen))}")
    if bad:
        raise bad_orders(path.name, bad)
    return orders


def _rows(file: str, text: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Row | str]]:
    """Yield each row with its line; a text instead of a row says what is wrong with it."""
    start = text.lstrip()[:1]
    if start == "[":
        yield from enumerate(_objects(file, text), 1)
    elif start == "{":
        for line, content in enumerate(text.splitlines(), 1):
            if content.strip():
                yield line, _object(content)
    else:
        yield from _csv_rows(file, text, columns)


def _objects(file: str, text: str) -> list[Row | str]:
    try:
        rows = _read_json(text)
    except NOT_JSON as error:
        raise UnreadableFile(file, f"it is not valid JSON: {error}") from None
    return [row if isinstance(row, dict) else "it is not an object" for row in rows]


def _object(content: str) -> Row | str:
    try:
        row = _read_json(content)
    except NOT_JSON as error:
        return f"it is not valid JSON: {error}"
    return row if isinstance(row, dict) else "it is not an object"


def _csv_rows(file: str, text: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Row | str]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] | None = None
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if header is None:
                header = values
                _require_columns(file, [name for name in header if name], columns)
            elif len(values) != len(header):
                yield reader.line_num, f"it has {len(values)} columns, the header {len(header)}"
            else:
                named = zip(header, values, strict=True)
                row = {name: value for name, value in named if name or value}
                if "" in row and not columns:
                    yield reader.line_num, f"{row['']!r} is in a column without a name"
                else:
                    yield reader.line_num, row
    except csv.Error as error:
        raise UnreadableFile(file, f"line {reader.line_num}: {error}") from None


def _require_columns(file: str, names: Sequence[str], columns: Mapping[str, str]) -> None:
    """Raise ``UnreadableFile`` if it is not clear what the columns of these names are.

    Unless the user has named some, each has to mean something.
    """
    if len({name.lower() for name in names}) < len(names):
        for field in FIELDS:
            wanted = columns.get(field, field)
            same = [name for name in names if name.lower() == wanted.lower()]
            if len(same) > 1 and not (columns and same.count(wanted) == 1):
                raise UnreadableFile(file, f"it has the column {wanted} twice")
    if columns:
        return
    unknown = [name for name in names if name.lower() not in FIELDS]
    if unknown:
        raise UnreadableFile(
            file,
            f"its columns {', '.join(unknown[:_SHOWN])} are unknown; name those to use, such as"
            " --columns time=datetime,quantity=amount (the others are left out)",
        )


def _fields(row: Row, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a row that are set, as text."""
    by_name = {name.lower(): value for name, value in row.items()}
    fields = {}
    for field in FIELDS:
        name = columns.get(field, field)
        value = row.get(name, by_name.get(name.lower()))
        text = _text(field, value)
        if text:
            fields[field] = text
    return fields


def _text(field: str, value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "true"
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        return str(value)
    raise InvalidParameter(field, f"must be a text or a number, got {json.dumps(value)[:40]}")


def _order(line: int, fields: dict[str, str], known: set[str]) -> FileOrder:
    """Return the order of a row; ``known`` has the ids of the orders before it.

    Raises ``InvalidParameter``.
    """
    time = _time(fields.pop("time", ""))
    cancels = fields.pop("cancel", "")
    if cancels.lower() == "false":
        cancels = ""
    own_id = fields.get("client_order_id")
    if cancels.lower() == "true":
        cancels = own_id or ""
        if not cancels:
            raise InvalidParameter("client_order_id", "is missing: it names the order to cancel")
    if cancels:
        if cancels not in known:
            raise InvalidParameter("cancel", f"no order above has the client_order_id {cancels!r}")
        return FileOrder(line, time, {}, cancels)
    if own_id is not None:
        if own_id in known:
            raise InvalidParameter("client_order_id", f"{own_id!r} is that of an order above")
        known.add(own_id)
    order: dict[str, Any] = dict(fields)
    order["symbol"] = normalise_symbol(fields.get("symbol", ""))
    for name in ("side", "type"):
        if name in fields:
            order[name] = fields[name].lower().replace("-", "_").replace(" ", "_")
    if order.get("type") == "market":
        # Lists of orders have the price at which a market order has filled.
        order.pop("price", None)
    if "time_in_force" in fields:
        order["time_in_force"] = fields["time_in_force"].lower()
    for name in ("post_only", "reduce_only"):
        if name in fields:
            order[name] = _boolean(name, fields[name])
    read_order(order)
    parse_request(time, **order)
    return FileOrder(line, time, order, None)


def _boolean(field: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise InvalidParameter(field, f"must be true or false, got {text[:40]}")
    return text.lower() in _TRUE


def _time(text: str) -> int:
    """Return a time in milliseconds: ISO 8601, or a number of seconds, milli- or microseconds."""
    if not text:
        raise InvalidParameter("time", "is missing")
    if not (text.isascii() and text.isdigit()):
        time = parse_time(text, "time")
        # An order must not be placed before its time.
        return time + bool(datetime.fromisoformat(text).microsecond % 1000)
    number = int(text[:20])
    if number < _SECONDS_BELOW:
        return number * 1000
    if number < _MILLISECONDS_BELOW:
        return number
    if number < _MICROSECONDS_BELOW:
        return -(-number // 1000)
    raise InvalidParameter("time", f"{text[:40]} is not a number of seconds or milliseconds")
