"""The record of a session up to now, of which charts, drawdowns and months are made.

Columns are computed when they are first needed, and kept: make a new record after a step.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from candlestep.sandbox.clock import format_time, interval_name, parse_time
from candlestep.sandbox.config import SessionConfig, Time
from candlestep.sandbox.exchange.account import Portfolio
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.margin.reports import MarginPosition, positions_of
from candlestep.sandbox.exchange.orders import Fill, Order
from candlestep.sandbox.html_tables import html_table
from candlestep.sandbox.market.candles import Candles
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.market.price_table import Prices
from candlestep.sandbox.market.symbols import listed_symbols
from candlestep.sandbox.money import AMOUNT_PLACES, format_decimal
from candlestep.sandbox.performance.chart_columns import (
    Range,
    candle_columns,
    fill_markers,
    fitting_interval,
    gathered_markers,
    thinned,
)
from candlestep.sandbox.performance.charts import (
    Chart,
    Curve,
    FillMarker,
    PriceLine,
    drawdowns_chart,
    to_figure,
    trading_chart,
)
from candlestep.sandbox.performance.drawdowns import (
    DrawdownPeriod,
    underwater,
    worst_drawdowns,
)
from candlestep.sandbox.performance.equity import (
    EquityCurve,
    equity_curve,
    equity_instants,
    exposed_value,
    total_equity,
)
from candlestep.sandbox.performance.metrics import EquitySeries, series_within
from candlestep.sandbox.performance.monthly_returns import MonthlyReturn, monthly_returns
from candlestep.sandbox.performance.order_lines import order_lines


class TradingRecord:
    """The account, the orders and the fills of a session, as of its virtual time."""

    def __init__(self, config: SessionConfig, exchange: Exchange) -> None:
        """Record a session as it is now. Linear in its orders and changes, and fast."""
        self.config = config
        self.market = exchange.market
        self.time = exchange.now
        """The virtual time, in milliseconds."""
        self.orders: Sequence[Order] = exchange.orders.copy()
        self.fills: Sequence[Fill] = exchange.fills.copy()
        self._history = exchange.history.copy()
        self._liquidation_prices = _liquidation_prices(exchange)

    def text(self, status: str, step: int, portfolio: Portfolio) -> str:
        """Return the state of the session in one line."""
        clock = self.config.clock
        pending = sum(order.status == "pending" for order in self.orders)
        return (
            f"{status} at {format_time(self.time)}, step {step} of"
            f" {clock.total_steps} x {interval_name(clock.interval)}, equity"
            f" {format_decimal(portfolio.total_equity)} {self.currency}, fills: {len(self.fills)},"
            f" pending: {pending}, of {listed_symbols(self.market.symbols)}"
        )

    @property
    def start(self) -> int:
        """The start of the session, in milliseconds."""
        return self.config.clock.start

    @property
    def currency(self) -> str:
        """The quote currency of the account."""
        return self.config.currency

    @property
    def starting_balance(self) -> float:
        """The equity at the start."""
        return float(self.config.starting_balance)

    @cached_property
    def series(self) -> EquitySeries:
        """Equity at every instant at which it may have changed, within the covered time.

        Drawdowns and returns of it are those of the metrics.
        """
        covered = self.market.covered(self.start, self.time)
        start, end = (self.start, self.start) if covered is None else covered
        return series_within(EquitySeries(self.curve.time, self.curve.equity), start, end)

    @cached_property
    def curve(self) -> Curve:
        """Equity, drawdown and exposure at every instant from the start to now."""
        instants = equity_instants(self._history, self.market, self.start, self.time)
        equity = as_floats(total_equity(self._history, self.market, instants), AMOUNT_PLACES)
        value = as_floats(exposed_value(self._history, self.market, instants), AMOUNT_PLACES)
        with np.errstate(divide="ignore", invalid="ignore"):
            exposure = np.where(equity > 0, value / equity * 100, 0.0)
        depths = underwater(EquitySeries(instants, equity), self.starting_balance)
        return Curve(instants, equity, depths, exposure)

    def equity_at(self, times: Sequence[int]) -> EquityCurve:
        """Return the account at each of ``times`` (ms, sorted, up to now)."""
        return equity_curve(self._history, self.market, times)

    def worst_drawdowns(self, count: int = 5) -> list[DrawdownPeriod]:
        """Return the deepest drawdowns; see ``drawdowns.worst_drawdowns``."""
        return worst_drawdowns(self.series, self.starting_balance, count)

    def monthly_returns(self) -> list[MonthlyReturn]:
        """Return the return of each month; see ``monthly_returns.monthly_returns``."""
        return monthly_returns(self.series, self.starting_balance)

    def chart(
        self, symbol: str | None = None, start: int | None = None, end: int | None = None
    ) -> Chart:
        """Return the chart of a range of times (ms), by default all up to now.

        ``symbol`` is by default the one with the most fills. Raises ``SymbolNotFound``.
        """
        shown = Range(self.start if start is None else start, self.time if end is None else end)
        if symbol is None:
            symbol = self.main_symbol
        candles = self.market.candles_of(symbol)
        symbol = candles.symbol
        interval = fitting_interval(candles, shown, self.config.clock.interval)
        return trading_chart(
            candle_columns(candles, shown, self.time, interval),
            gathered_markers(self._markers.get(symbol, ()), shown, interval),
            [*self._order_lines(candles, shown), *self._levels(symbol, shown)],
            thinned(self.curve, shown),
            self.currency,
        )

    def plot(
        self, symbol: str | None = None, start: Time | None = None, end: Time | None = None
    ) -> Any:
        """Return the chart of a range of times, by default all up to now, as a Plotly figure.

        ``symbol`` is by default the one with the most fills. Raises ``SymbolNotFound``,
        ``InvalidParameter``, and ``ImportError`` without plotly.
        """
        first = None if start is None else parse_time(start, "start")
        last = None if end is None else parse_time(end, "end")
        return to_figure(self.chart(symbol, first, last))

    def equity_figure(self) -> Any:
        """Return a Plotly figure of equity, with the five worst drawdowns shaded."""
        curve = thinned(self.curve, Range(self.start, self.time))
        return to_figure(drawdowns_chart(curve, self.worst_drawdowns(), self.currency))

    def html_table(self, status: str, portfolio: Portfolio) -> str:
        """Return the account in brief as HTML, for notebooks."""
        pending = sum(order.status == "pending" for order in self.orders)
        rows = {
            "status": status,
            "time": format_time(self.time),
            "symbols": len(self.market.symbols),
            "equity": portfolio.total_equity,
            "available cash": portfolio.available_cash,
            "positions": portfolio.position_value,
            "fills": len(self.fills),
            "pending orders": pending,
        }
        return html_table("Session", (), rows.items())

    @cached_property
    def main_symbol(self) -> str:
        """The symbol with the most fills; without fills, the first of the market."""
        counts = dict.fromkeys(self.market.symbols, 0)
        for fill in self.fills:
            counts[fill.symbol] += 1
        return max(counts, key=lambda symbol: counts[symbol])

    def _levels(self, symbol: str, shown: Range) -> list[PriceLine]:
        """Return the levels of a symbol that are not orders: the liquidation price of a position."""
        price = self._liquidation_prices.get(symbol)
        if price is None:
            return []
        label = f"liquidation price {price:,.10g}"
        return [PriceLine("liquidation", price, shown.start, min(shown.end, self.time), label)]

    def _order_lines(self, candles: Candles, shown: Range) -> list[PriceLine]:
        orders = self._orders_by_symbol.get(candles.symbol, ())
        close_only = self.config.trigger == "close"
        return order_lines(orders, candles, shown, self.time, close_only=close_only)

    @cached_property
    def _orders_by_symbol(self) -> dict[str, list[Order]]:
        by_symbol: dict[str, list[Order]] = {}
        for order in self.orders:
            by_symbol.setdefault(order.symbol, []).append(order)
        return by_symbol

    @cached_property
    def _markers(self) -> dict[str, list[FillMarker]]:
        """A marker for each fill, by symbol."""
        by_symbol: dict[str, list[Fill]] = {}
        for fill in self.fills:
            by_symbol.setdefault(fill.symbol, []).append(fill)
        return {symbol: fill_markers(fills) for symbol, fills in by_symbol.items()}


def _liquidation_prices(exchange: Exchange) -> dict[str, float]:
    """Return the liquidation price of each open position that has one; a spot account has none."""
    if not exchange.history.is_margined or not exchange.account.open_holdings:
        return {}
    prices = Prices(exchange.market.price_table, exchange.now)
    portfolio = exchange.clearing.portfolio(prices, exchange.now)
    return {
        position.symbol: float(position.liquidation_price)
        for position in positions_of(exchange.clearing, portfolio, exchange.now)
        if isinstance(position, MarginPosition) and position.liquidation_price is not None
    }


class KeptRecord:
    """A record that results keep to be plotted; it takes no part in comparing results.

    A copy in another process is empty: the candles stay where they are.
    """

    def __init__(self, record: TradingRecord | None = None) -> None:
        self.record = record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeptRecord)

    def __hash__(self) -> int:
        return hash(KeptRecord)

    def __reduce__(self) -> tuple[type["KeptRecord"], tuple[()]]:
        return KeptRecord, ()
