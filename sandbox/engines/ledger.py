"""Posting the fills of an engine to an exact ledger, the one that sessions use too.

From here on nothing depends on the engine: equity, realized PnL and metrics are computed from its
fills by the same functions as those of the sandbox.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np

from candlestep.sandbox import (
    ClosedTrade,
    Fill,
    Market,
    Position,
    Results,
    closed_trades,
    format_time,
)
from candlestep.sandbox.engines.orders import EngineFill, EngineOrders, EngineResult
from candlestep.sandbox.exchange.account import Account
from candlestep.sandbox.exchange.costs.costs import Cost
from candlestep.sandbox.exchange.history import AccountHistory
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
    config, clock = plan.config, plan.config.clock
    account = Account(config.starting_balance)
    history = AccountHistory(clock.start, account)
    fills: list[Fill] = []
    for engine_fill in result.fills:
        fill = _post(len(fills) + 1, engine_fill, orders, account, config.costs.fixed)
        fills.append(fill)
        history.record(fill.time, account)
        history.record_holding(fill.time, fill.symbol, account)
    equity = as_floats(total_equity(history, market, orders.time), AMOUNT_PLACES)
    _require_equal(orders, result, equity, fills)
    times = np.arange(clock.start, clock.end + 1, plan.timeframe)
    if times[-1] != clock.end:
        times = np.append(times, clock.end)
    return EngineRun(
        results=compute_results(
            config,
            market,
            status="completed",
            time=clock.end,
            account=account,
            history=history,
            fills=fills,
        ),
        equity_time=times,
        equity=total_equity(history, market, times),
        fills=fills,
        trades=closed_trades(fills),
        signals=orders.signals,
        candles=plan.candles,
        positions=account.portfolio(market.prices(clock.end)).positions,
    )


def _post(
    number: int, engine_fill: EngineFill, orders: EngineOrders, account: Account, slippage: Decimal
) -> Fill:
    """Post a fill of an engine to ``account``; return it as a fill of the session."""
    symbol = orders.symbols[engine_fill.column]
    is_buy = engine_fill.quantity > 0
    # A sale sells all that is held; the engine's sum of several buys may have lost a digit.
    quantity = account.holding(symbol).quantity
    if is_buy:
        quantity = rounded(decimal_of(engine_fill.quantity), AMOUNT_PLACES)
    price = rounded(decimal_of(engine_fill.price), PRICE_PLACES)
    fee = rounded(decimal_of(engine_fill.fee), AMOUNT_PLACES)
    cost = Cost(rounded_product(quantity, price), fee)
    realized = None
    if is_buy:
        account.buy(symbol, quantity, cost)
    else:
        realized = account.sell(symbol, quantity, cost)
    return Fill(
        id=number,
        order_id=number,
        symbol=symbol,
        side="buy" if is_buy else "sell",
        type="market",
        quantity=quantity,
        price=price,
        quote_amount=cost.quote_amount,
        fee=cost.fee,
        slippage=slippage,
        realized_pnl=realized,
        time=int(orders.time[engine_fill.row]),
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
