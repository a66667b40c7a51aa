"""Data frames of other libraries: candles made of them, and pandas frames made of results.

narwhals and pandas are optional, the extra ``frames``; the functions that need them import them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.clock import interval_name, parse_time
from candlestep.sandbox.errors import InvalidCandles, InvalidParameter, InvalidSymbol
from candlestep.sandbox.html_tables import field_value, html_table, shown_rows
from candlestep.sandbox.market.symbols import parse_symbol, respell_symbol

Frame = Any
"""A data frame of pandas."""

_ALIASES = {
    "open_time": (
        "open_time", "opentime", "timestamp", "datetime", "date_time", "time", "date", "ts", "t",
    ),
    "open": ("open", "open_price", "o"),
    "high": ("high", "high_price", "h"),
    "low": ("low", "low_price", "l"),
    "close": ("close", "close_price", "c"),
    "volume": ("volume", "base_volume", "base_asset_volume", "vol", "v"),
}  # fmt: skip
"""The names of each column, in lower case and with ``_`` between words; earlier ones first."""
_SYMBOL_NAMES = ("symbol", "ticker", "pair", "instrument")
_MOST_LISTED = 15

Row = TypeVar("Row", bound=msgspec.Struct)


class Table(list[Row]):
    """A list of values of one type, which ``to_frame`` turns into a pandas frame."""

    def __init__(self, row_type: type[Row], rows: Iterable[Row] = ()) -> None:
        super().__init__(rows)
        self.row_type = row_type

    def _repr_html_(self) -> str:
        names = [field.name for field in plain_fields(self.row_type)]
        rows = [
            ["…"] * len(names)
            if row is None
            else [field_value(name, getattr(row, name)) for name in names]
            for row in shown_rows(self)
        ]
        return html_table(f"{len(self)} × {self.row_type.__name__}", names, rows)

    def to_frame(self) -> Frame:
        """Return a pandas frame: a row for each value, a column for each of its plain fields.

        Amounts, prices and fractions are floats, times are ``datetime64[ms, UTC]``; what is None
        is NaN or NaT. Raises ``ImportError`` without pandas.
        """
        columns = {}
        for field in plain_fields(self.row_type):
            types = get_args(field.type) or (field.type,)
            values = [getattr(row, field.name) for row in self]
            columns[field.name] = _column(field.name, types, values)
        return pandas_frame(columns)


def plain_fields(row_type: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """Return the fields of a type of rows that hold no further structs."""
    return [
        field
        for field in msgspec.structs.fields(row_type)
        if not any(
            isinstance(kind, type) and issubclass(kind, msgspec.Struct)
            for kind in get_args(field.type) or (field.type,)
        )
    ]


def _column(name: str, types: Sequence[Any], values: Sequence[Any]) -> Any:
    if Decimal in types or float in types:
        return np.array([np.nan if value is None else float(value) for value in values])
    if name.endswith(("time", "_at")):
        return np.array(values, dtype="datetime64[ms]")
    return np.array(values, dtype=np.int64) if types == (int,) else values


def pandas_frame(columns: Mapping[str, Any], index: str | None = None) -> Frame:
    """Return a pandas frame of columns, of which ``index`` may name one.

    Those of ``datetime64`` are in UTC. Raises ``ImportError`` without pandas.
    """
    try:
        import pandas
    except ImportError:
        raise ImportError(_missing("pandas")) from None
    frame = pandas.DataFrame(
        {
            name: pandas.DatetimeIndex(column, tz="UTC")
            if isinstance(column, np.ndarray) and column.dtype.kind == "M"
            else column
            for name, column in columns.items()
        }
    )
    return frame if index is None else frame.set_index(index)


def candle_columns(frame: Any, symbol: str, interval: int) -> dict[str, NDArray[Any]]:
    """Return the columns of candles of ``interval`` ms in a frame of pandas, polars or Arrow.

    They are the arguments of ``Candles``, told by the names in ``_ALIASES``; an index of times
    comes first. Raises ``InvalidParameter`` for a column that is missing or speaks of another
    symbol, and ``ImportError`` without narwhals.
    """
    try:
        import narwhals
    except ImportError:
        raise ImportError(_missing("narwhals")) from None
    try:
        table = narwhals.from_native(frame, eager_only=True)
    except (TypeError, narwhals.exceptions.NarwhalsError):
        raise InvalidParameter(
            "frame",
            "must be a data frame of pandas or polars (not a lazy one) or an Arrow table, each"
            f" column with one name of its own; got a {type(frame).__name__}",
        ) from None
    names = {_normalised(name): name for name in reversed(table.columns)}
    _require_symbol(table, names, symbol)
    # What names the base currency counts it, whatever another column of volume does.
    by_column = {**_ALIASES, "volume": (*_volumes_of_base(symbol), *_ALIASES["volume"])}
    found = {
        column: table[names[alias]]
        for column, aliases in by_column.items()
        if (alias := next((alias for alias in aliases if alias in names), None)) is not None
    }
    index = narwhals.maybe_get_index(table)
    if index is not None and _is_of_times(index):
        found["open_time"] = narwhals.from_native(index.to_series(), series_only=True)
    _require_columns(found, table.columns)
    for name, series in found.items():
        missing = series.is_null().to_numpy()
        if missing.any():
            row = int(missing.argmax())
            raise InvalidCandles(name, f"row {row} has none; drop or fill such rows", row=row)
    times = _milliseconds(found.pop("open_time"))
    if len(times) > 1 and np.diff(times).min() > interval:
        raise InvalidParameter(
            "interval",
            f"no two rows are {interval_name(interval)} apart; give the interval of the candles",
        )
    return {"open_time": times, **{name: series.to_numpy() for name, series in found.items()}}


def _normalised(name: object) -> str:
    return re.sub(r"[\s\-]+", "_", str(name).strip().lower())


def _volumes_of_base(symbol: str) -> tuple[str, ...]:
    """Return the names of a volume that say that it counts the base currency of a pair."""
    try:
        base = parse_symbol(symbol).base.lower()
    except InvalidSymbol:
        return ()
    return (f"volume_{base}", f"volume_({base})")


def _is_of_times(index: Any) -> bool:
    """Return whether a pandas index has the times of the rows."""
    return (
        str(index.dtype).startswith("datetime64")
        or _normalised(index.name) in _ALIASES["open_time"]
    )


def _require_symbol(table: Any, names: Mapping[str, str], symbol: str) -> None:
    """Raise unless the column of symbols, if there is one, names ``symbol`` alone."""
    name = next((names[name] for name in _SYMBOL_NAMES if name in names), None)
    if name is None:
        return
    inside = sorted(map(str, table[name].unique().to_list()))
    if len(inside) > 1:
        raise InvalidParameter(
            "frame",
            f"has candles of {len(inside)} symbols ({', '.join(inside)[:100]}); select the rows of"
            " one",
        )
    if inside and respell_symbol(inside[0]) != respell_symbol(symbol):
        raise InvalidParameter("symbol", f"is {symbol}, and the frame's column says {inside[0]}")


def _require_columns(found: Mapping[str, Any], names: Sequence[object]) -> None:
    listed = ", ".join(str(name)[:30] for name in names[:_MOST_LISTED])
    missing = [name for name in _ALIASES if name not in found and name != "volume"]
    if "volume" not in found and any("vol" in _normalised(name) for name in names):
        missing.append("volume")
    if missing:
        raise InvalidParameter(
            "frame",
            f"has no column for {', '.join(missing)}; it has {listed}. Name the columns open_time,"
            " open, high, low, close, volume",
        )


def _milliseconds(series: Any) -> NDArray[np.int64]:
    """Return times in ms, from times of any unit and zone, whole milliseconds, or text."""
    import narwhals

    if isinstance(series.dtype, narwhals.Datetime | narwhals.Date):
        series = series.dt.timestamp("ms")
    if series.dtype.is_integer():
        return np.asarray(series.to_numpy(), dtype=np.int64)
    times = np.empty(len(series), dtype=np.int64)
    for row, value in enumerate(series.to_list()):
        try:
            times[row] = parse_time(value, "open_time")
        except InvalidParameter as refusal:
            words = refusal.message.removeprefix("open_time: ")
            raise InvalidCandles("open_time", f"row {row}: {words}", row=row) from None
    return times


def _missing(library: str) -> str:
    return f"data frames need {library}: pip install 'candlestep[frames]'"
