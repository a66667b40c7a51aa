"""The page of a blind session as it was: under real names, times and prices, beside the real market."""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple, Protocol

from candlestep.api.schemas.fields import money
from candlestep.api.views.view import (
    NOTHING,
    Call,
    Column,
    Download,
    Figure,
    View,
    ViewTable,
    month_rows,
)
from candlestep.sandbox import Fill, Market, Order, format_time, parse_time
from candlestep.sandbox.clock import DAY
from candlestep.sandbox.money import AMOUNT_PLACES, format_decimal, multiply, rounded_ratio
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
    " to day: as it was, it has no chart and no months. A table below has the days."
)
_OF_MIRROR = (
    "The chart shows the market as it was, of which the session showed the mirror: where the one"
    " rose, the other fell. Equity is that of the session."
)

_SYMBOL, _QUANTITY = "Symbol", "Quantity"
_TIMES = ("Time", "Placed", "Closed", "Peak", "Trough", "Recovery")
_PRICES = ("Price", "Trigger", "Executed at", "Current price", "Mark price", "Liquidation price")
_ENTRIES = ("Avg entry price", "Entry price")
_RATE, _TERMS = "Rate", "Terms"
_PRICE_IN_TERMS = re.compile(r"\b(from|stop|target) ([0-9.]+)")
_AMOUNT_IN_TERMS = re.compile(r"\btrails ([0-9.]+)(?! %)(?=,|$)")


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
    def rate(self, rate: Decimal) -> Decimal: ...


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

    Where days were drawn anew, it has no chart and no months, but a table of the days.
    """
    shift = reading.shift
    tables = [_real_table(table, trading, reading) for table in view.tables]
    if shift is None:
        tables.append(_drawn_days(trading, reading))
    months = []
    if shift is not None:
        series = EquitySeries(trading.series.time - shift, trading.series.equity)
        months = month_rows(monthly_returns(series, trading.starting_balance))
    return replace(
        view,
        subtitle=subtitle,
        symbols=() if shift is None else [reading.symbol(symbol) for symbol in view.symbols],
        figure_path=None if shift is None else f"{view.figure_path}?reading=real",
        make_chart=None if shift is None else lambda: real_chart(trading, reading),
        months=months,
        progress_text=_real_text(view.progress_text, reading),
        metrics=[one._replace(text=_real_text(one.text, reading)) for one in view.metrics],
        calls=[_real_call(call, has_chart=shift is not None) for call in view.calls],
        problem=NO_CHART if shift is None else _OF_MIRROR if is_mirror else None,
        configuration=[*facts, *view.configuration],
        tables=tables,
        downloads=[_real_download(file) for file in view.downloads],
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


def _real_download(file: Download) -> Download:
    """Return the download of a table or of the page in this reading; the recording has one only."""
    has_readings = not file.path.endswith("/recording")
    return file._replace(path=f"{file.path}?reading=real") if has_readings else file


def _drawn_days(trading: TradingRecord, reading: Reading) -> ViewTable:
    """Return the days of a session whose days were drawn anew, a row for each block of them."""
    blocks: list[tuple[int, int, int]] = []
    for day in range(trading.start // DAY * DAY, trading.time, DAY):
        # A time belongs to the day that ends with it.
        real = reading.time(day + DAY) - DAY
        if blocks and real == blocks[-1][1] + blocks[-1][2] * DAY:
            shown, first, count = blocks.pop()
            blocks.append((shown, first, count + 1))
        else:
            blocks.append((day, real, 1))
    rows = [
        [format_time(shown)[:10], format_time(real)[:10], str(count)]
        for shown, real, count in blocks
    ]
    columns = [Column("Shown from"), Column("Was from"), Column("Days", is_number=True)]
    return ViewTable("days", "Days as they were drawn", columns, rows, len(rows))


def _real_table(table: ViewTable, trading: TradingRecord, reading: Reading) -> ViewTable:
    names = [column.name for column in table.columns]
    # What is held stands at the prices of the end.
    end = trading.time if table.key == "positions" else None
    rows = []
    for row in table.rows:
        cells = dict(zip(names, row, strict=True))
        times = [cells[name] for name in _TIMES if name in cells and _is_time(cells[name])]
        real = _real_cells(_Row(cells, parse_time(times[0]) if times else end), reading)
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
    known = {name for name, text in row.cells.items() if text != NOTHING}
    for name in known.intersection(_PRICES):
        real[name] = _price(reading, symbol, row.time, row.cells[name])
    if _RATE in known:
        real[_RATE] = money(reading.rate(Decimal(row.cells[_RATE])))
    priced = next((name for name in _PRICES if name in known), None)
    if priced is not None:
        was = Decimal(row.cells[priced]), Decimal(real[priced])
        real |= _scaled_cells(row.cells, known, *was, reading)
    if _TERMS in known:
        time = row.time
        real[_TERMS] = _PRICE_IN_TERMS.sub(
            lambda found: f"{found[1]} {_price(reading, symbol, time, found[2])}", real[_TERMS]
        )
    return real


def _scaled_cells(
    cells: dict[str, str], known: set[str], shown: Decimal, real: Decimal, reading: Reading
) -> dict[str, str]:
    """Return the cells that change as a price did: quantities that keep their worth, and distances."""
    scaled = {}
    if _QUANTITY in known:
        quantity = reading.quantity(Decimal(cells[_QUANTITY]), shown, real)
        scaled[_QUANTITY] = format_decimal(quantity)
    for name in known.intersection(_ENTRIES):
        scaled[name] = _times(Decimal(cells[name]), shown, real)
    if _TERMS in known:
        scaled[_TERMS] = _AMOUNT_IN_TERMS.sub(
            lambda found: f"trails {_times(Decimal(found[1]), shown, real)}", cells[_TERMS]
        )
    return scaled


def _times(amount: Decimal, shown: Decimal, real: Decimal) -> str:
    return money(rounded_ratio(multiply(amount, real), shown, AMOUNT_PLACES))


def _price(reading: Reading, symbol: str, time: int, shown: str) -> str:
    return money(reading.price(symbol, time, Decimal(shown)))


def _is_time(text: str) -> bool:
    return text[4:5] == "-" and text.endswith("Z")
