"""The page of a blind session as it was: under real names, times and prices, beside the real market."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple, Protocol

from candlestep.api.schemas.fields import money
from candlestep.api.views.view import NOTHING, Call, Figure, View, ViewTable, month_rows
from candlestep.sandbox import Fill, Market, Order, format_time, parse_time
from candlestep.sandbox.money import format_decimal
from candlestep.sandbox.performance.chart_columns import (
    Range,
    candle_columns,
    fill_markers,
    fitting_interval,
    gathered_markers,
    thinned,
)
from candlestep.sandbox.performance.charts import Chart, trading_chart
from candlestep.sandbox.performance.metrics import EquitySeries
from candlestep.sandbox.performance.monthly_returns import monthly_returns
from candlestep.sandbox.performance.order_lines import order_lines
from candlestep.sandbox.performance.trading_record import TradingRecord

QUERY = "&reading=real"
"""The query with which the further pages of tables keep the reading."""
NO_CHART = (
    "The days of this session were drawn anew from the real ones, so that its real time jumps from day"
    " to day: as it was, it has no chart and no months."
)
_OF_MIRROR = (
    "The chart shows the market as it was, of which the session showed the mirror: where the one"
    " rose, the other fell. Equity is that of the session."
)

_SYMBOL, _QUANTITY = "Symbol", "Quantity"
_TIMES = ("Time", "Placed", "Closed", "Peak", "Trough", "Recovery")
_PRICES = ("Price", "Trigger", "Executed at")


class Reading(Protocol):
    """The real names, times and prices of a blind session."""

    @property
    def market(self) -> Market: ...
    @property
    def shift(self) -> int | None: ...
    def fill(self, fill: Fill) -> Fill: ...
    def order(self, order: Order) -> Order: ...
    def symbol(self, shown: str) -> str: ...
    def time(self, time: int) -> int: ...
    def price(self, shown: str, time: int, price: Decimal) -> Decimal: ...
    def quantity(self, quantity: Decimal, shown: Decimal, real: Decimal) -> Decimal: ...


class _Row(NamedTuple):
    """The cells of a row by the names of their columns, and the time at which it stands."""

    cells: dict[str, str]
    time: int | None


def real_view(
    view: View,
    trading: TradingRecord,
    reading: Reading,
    facts: Sequence[Figure],
    subtitle: str,
    *,
    is_mirror: bool,
) -> View:
    """Return a view that is read as it was; equity and metrics are the same.

    Where days were drawn anew, it has no chart and no months, and says why.
    """
    shift = reading.shift
    months = []
    if shift is not None:
        series = EquitySeries(trading.series.time - shift, trading.series.equity)
        months = month_rows(monthly_returns(series, trading.starting_balance))
    return replace(
        view,
        subtitle=subtitle,
        symbols=() if shift is None else [reading.symbol(symbol) for symbol in view.symbols],
        figure_path=None if shift is None else f"{view.figure_path}?reading=real",
        make_chart=None,
        months=months,
        progress_text=_real_text(view.progress_text, reading),
        metrics=[one._replace(text=_real_text(one.text, reading)) for one in view.metrics],
        calls=[_real_call(call, has_chart=shift is not None) for call in view.calls],
        problem=NO_CHART if shift is None else _OF_MIRROR if is_mirror else None,
        configuration=[*facts, *view.configuration],
        tables=[_real_table(table, reading) for table in view.tables],
    )


def real_chart(
    trading: TradingRecord,
    reading: Reading,
    symbol: str | None = None,
    start: int | None = None,
    end: int | None = None,
) -> Chart:
    """Return the chart of a range of real times (ms), by default all: the real market and what was done.

    ``symbol`` is a real one, by default that with the most fills; equity is that of the session, whose
    days must not have been drawn anew. Raises ``SymbolNotFound``.
    """
    shift = reading.shift
    assert shift is not None, "asked for only where there is one"
    now = trading.time - shift
    shown = Range(trading.start - shift if start is None else start, now if end is None else end)
    candles = reading.market.candles_of(symbol or reading.symbol(trading.main_symbol))
    interval = fitting_interval(candles, shown, trading.config.clock.interval)
    mine = candles.symbol
    fills = [reading.fill(one) for one in trading.fills if reading.symbol(one.symbol) == mine]
    orders = [reading.order(one) for one in trading.orders if reading.symbol(one.symbol) == mine]
    curve = trading.curve._replace(time=trading.curve.time - shift)
    return trading_chart(
        candle_columns(candles, shown, now, interval),
        gathered_markers(fill_markers(fills), shown, interval),
        # A trail is one of the prices that were shown.
        order_lines(orders, None, shown, now, close_only=False),
        thinned(curve, shown),
        trading.currency,
    )


def _real_table(table: ViewTable, reading: Reading) -> ViewTable:
    names = [column.name for column in table.columns]
    rows = []
    for row in table.rows:
        cells = dict(zip(names, row, strict=True))
        times = [cells[name] for name in _TIMES if name in cells and _is_time(cells[name])]
        real = _real_cells(_Row(cells, parse_time(times[0]) if times else None), reading)
        rows.append([real[name] for name in names])
    shift = reading.shift
    spans = () if shift is None else [(start - shift, end - shift) for start, end in table.spans]
    return replace(table, rows=rows, spans=spans, query=QUERY)


def _real_call(call: Call, *, has_chart: bool) -> Call:
    """Return the call behind a part of the page as it was; only the chart is read otherwise."""
    return (
        call._replace(path=f"{call.path}?reading=real")
        if has_chart and call.part == "chart"
        else call
    )


def _real_text(text: str, reading: Reading) -> str:
    """Return a text with the time in it, if there is one, as it was."""
    words = text.split(" ")
    return " ".join(
        format_time(reading.time(parse_time(word))) if _is_time(word) else word for word in words
    )


def _real_cells(row: _Row, reading: Reading) -> dict[str, str]:
    """Return the cells of a row as they were; prices and quantities only where a time is known."""
    real = dict(row.cells)
    for name in _TIMES:
        if _is_time(real.get(name, "")):
            real[name] = format_time(reading.time(parse_time(real[name])))
    symbol = row.cells.get(_SYMBOL)
    if symbol is None:
        return real
    real[_SYMBOL] = reading.symbol(symbol)
    if row.time is None:
        return real
    for name in _PRICES:
        text = row.cells.get(name, NOTHING)
        if text != NOTHING:
            real[name] = money(reading.price(symbol, row.time, Decimal(text)))
    priced = next((name for name in _PRICES if row.cells.get(name, NOTHING) != NOTHING), None)
    if priced is not None and row.cells.get(_QUANTITY, NOTHING) != NOTHING:
        quantity = Decimal(row.cells[_QUANTITY])
        shown, now = Decimal(row.cells[priced]), Decimal(real[priced])
        real[_QUANTITY] = format_decimal(reading.quantity(quantity, shown, now))
    return real


def _is_time(text: str) -> bool:
    return text[4:5] == "-" and text.endswith("Z")
