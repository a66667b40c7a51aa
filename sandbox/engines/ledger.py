"""Posting the fills of an engine to an exact ledger, the one that sessions use too.

From here on nothing depends on the engine: equity, realized PnL and metrics are computed from its
fills by the same functions as those of the sandbox.
"""

from collections.abc import Sequence
from copy import copy
from decimal import Decimal

import msgspec
import numpy as np

from candlestep.sandbox import (
    ClosedTrade,
    Fill,
    InvalidParameter,
    Market,
    Position,
    Results,
    SessionConfig,
    closed_trades,
    format_time,
)
from candlestep.sandbox.engines.orders import EngineFill, EngineOrders, EngineResult
from candlestep.sandbox.exchange.costs.costs import Cost, Terms
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.margin.reports import figures_of, positions_of
from candlestep.sandbox.exchange.orders import OrderTicket
from candlestep.sandbox.market.candles import Integers
from candlestep.sandbox.market.fixed_point import Units, as_floats
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    PRICE_PLACES,
    decimal_of,
    rounded,
    rounded_product,
    total,
)
from candlestep.sandbox.performance.equity import total_equity
from candlestep.sandbox.performance.results import compute_results
from candlestep.sandbox.strategies import Signal, SignalPlan

# Relative difference allowed: an engine may treat amounts that differ by less as equal.
_EQUAL = 1e-9
_ROUNDING = 2e-8
_PRICE_ROUNDING = 1e-16


class EngineRun(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run by an engine; amounts in quote currency."""

    results: Results
    """Results, with metrics from ``compute_metrics`` for every engine."""
    equity_time: Integers
    """The start, the end of each candle of the timeframe, and the end of the run; in ms."""
    equity: Units
    """Equity at each of these, in whole numbers of 1e-8."""
    fills: Sequence[Fill]
    trades: Sequence[ClosedTrade]
    signals: Sequence[Signal]
    candles: int
    """Number of candles of the timeframe that the strategy saw, of all symbols."""
    positions: Sequence[Position]
    """Positions open at the end."""

    @property
    def open_value(self) -> Decimal:
        """Market value of the open positions."""
        return total(position.market_value for position in self.positions)

    @property
    def unrealized_pnl(self) -> Decimal:
        """Unrealized PnL of the open positions."""
        return total(position.unrealized_pnl for position in self.positions)


def post_to_ledger(
    plan: SignalPlan, market: Market, orders: EngineOrders, result: EngineResult
) -> EngineRun:
    """Return the outcome of the session of ``plan`` with the fills of an engine.

    Quantities and amounts are rounded to 8 places and prices to 16, as in the sandbox. Raises
    ``ValueError`` if the resulting equity differs from that of the engine, which is a fault of the
    engine or of its adapter.
    """
    config, clock = at_last_prices(plan.config), plan.config.clock
    market = market.part(config.market_type)
    exchange = config.open_exchange(market)
    for engine_fill in result.fills:
        _post(engine_fill, orders, exchange, config.costs.fixed)
    exchange.advance(clock.end)
    _require_no_liquidation(exchange)
    clearing, history, fills = exchange.clearing, exchange.history, exchange.fills
    equity = as_floats(total_equity(history, market, orders.time), AMOUNT_PLACES)
    _require_equal(orders, result, equity, fills)
    times = np.arange(clock.start, clock.end + 1, plan.timeframe)
    if times[-1] != clock.end:
        times = np.append(times, clock.end)
    portfolio = clearing.portfolio(market.prices(clock.end), clock.end)
    return EngineRun(
        results=compute_results(
            config,
            market,
            status="completed",
            time=clock.end,
            account=clearing.account,
            portfolio=portfolio,
            history=history,
            fills=fills,
            margin=figures_of(clearing, market, clock.start, clock.end),
        ),
        equity_time=times,
        equity=total_equity(history, market, times),
        fills=fills,
        trades=closed_trades(fills),
        signals=orders.signals,
        candles=plan.candles,
        positions=positions_of(clearing, portfolio, clock.end),
    )


def at_last_prices(config: SessionConfig) -> SessionConfig:
    """Return the session with positions valued at last prices, the only ones that engines know."""
    margin = config.margin
    if margin is None:
        return config
    config = copy(config)
    config.margin = msgspec.structs.replace(margin, mark="last")
    return config


def _post(
    engine_fill: EngineFill, orders: EngineOrders, exchange: Exchange, slippage: Decimal
) -> None:
    """Post a fill of an engine to the account of ``exchange``, at its time."""
    exchange.advance(int(orders.time[engine_fill.row]))
    symbol = orders.symbols[engine_fill.column]
    is_buy = engine_fill.quantity > 0
    held = exchange.account.holding(symbol).quantity
    quantity = held.copy_abs()
    # What closes a position closes all of it; the engine's sum of several orders may have lost a
    # digit.
    if not held or (held > 0) == is_buy:
        quantity = rounded(decimal_of(abs(engine_fill.quantity)), AMOUNT_PLACES)
    price = rounded(decimal_of(engine_fill.price), PRICE_PLACES)
    fee = rounded(decimal_of(engine_fill.fee), AMOUNT_PLACES)
    cost = Cost(rounded_product(quantity, price), fee)
    ticket = OrderTicket(symbol, "buy" if is_buy else "sell", "market", quantity)
    exchange.book(ticket, Terms(quantity, price, slippage, cost))


def _require_no_liquidation(exchange: Exchange) -> None:
    for liquidation in exchange.clearing.liquidations:
        raise InvalidParameter(
            "engine",
            f"does not liquidate, but the position in {liquidation.symbol} lacks margin at"
            f" {format_time(liquidation.time)}; use the engine sandbox",
            feature="liquidation",
        )


def _require_equal(
    orders: EngineOrders, result: EngineResult, equity: np.ndarray, fills: Sequence[Fill]
) -> None:
    allowed = np.full(len(equity), _ROUNDING) + np.abs(equity) * _EQUAL
    for fill, engine_fill in zip(fills, result.fills, strict=True):
        rounding = _ROUNDING + float(fill.quantity) * _PRICE_ROUNDING
        allowed[engine_fill.row :] += rounding + float(fill.quote_amount) * _EQUAL
    wrong = np.flatnonzero(~(np.abs(equity - result.equity) <= allowed))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"its equity at {format_time(int(orders.time[row]))} is {result.equity[row]}, but its"
            f" fills give {equity[row]}"
        )
