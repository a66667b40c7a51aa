"""What an engine has executed, booked in the ledger that every session has: exact, and one for all.

From here on nothing depends on the engine: equity, realized PnL and metrics follow from its
executions by the functions that serve the sandbox.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from candlestep.sandbox import (
    EquityCurve,
    Fill,
    Market,
    Position,
    Results,
    SessionConfig,
    format_time,
)
from candlestep.sandbox.engines.orders import EngineFill, EngineOrders, EngineResult
from candlestep.sandbox.exchange.account import Account
from candlestep.sandbox.exchange.costs.costs import Cost
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    PRICE_PLACES,
    decimal_of,
    rounded,
    rounded_product,
)
from candlestep.sandbox.performance.equity import equity_curve, total_equity
from candlestep.sandbox.performance.results import compute_results

# What a fill may differ by: an engine may take amounts that differ by less to be equal.
_EQUAL = 1e-9
_ROUNDING = 2e-8
_PRICE_ROUNDING = 1e-16


class LedgerResult(NamedTuple):
    """A session that an engine has executed, to its end."""

    fills: tuple[Fill, ...]
    results: Results
    curve: EquityCurve
    """At the start, at every candle of the timeframe since, and at the end."""
    positions: tuple[Position, ...]
    """Those open at the end."""


def post_to_ledger(
    config: SessionConfig,
    timeframe: int,
    market: Market,
    orders: EngineOrders,
    executed: EngineResult,
) -> LedgerResult:
    """The session of ``config`` with the executions of an engine as its fills.

    Quantities and amounts are rounded to 8 places and prices to 16, as the sandbox rounds them.
    Raises ``ValueError`` if the equity that follows is not what the engine has reckoned, which
    is a fault of the engine or of what connects it.
    """
    clock = config.clock
    account = Account(config.starting_balance)
    history = AccountHistory(clock.start, account)
    fills: list[Fill] = []
    for execution in executed.executions:
        fill = _booked(len(fills) + 1, execution, orders, account, config.costs.fixed)
        fills.append(fill)
        history.record(fill.time, account)
        history.record_holding(fill.time, fill.symbol, account)
    own = as_floats(total_equity(history, market, orders.time), AMOUNT_PLACES)
    _require_equal(orders, executed, own, fills)
    times = np.arange(clock.start, clock.end + 1, timeframe)
    if times[-1] != clock.end:
        times = np.append(times, clock.end)
    return LedgerResult(
        fills=tuple(fills),
        results=compute_results(
            config,
            market,
            status="completed",
            time=clock.end,
            account=account,
            history=history,
            fills=fills,
        ),
        curve=equity_curve(history, market, times),
        positions=account.portfolio(market.prices(clock.end)).positions,
    )


def _booked(
    number: int, execution: EngineFill, orders: EngineOrders, account: Account, slippage: Decimal
) -> Fill:
    """The fill of ``execution``, after ``account`` has paid or been paid for it."""
    symbol = orders.symbols[execution.column]
    is_buy = execution.quantity > 0
    # A sale is of all that is held; the sum of several buys may have lost its last digit.
    quantity = account.holding(symbol).quantity
    if is_buy:
        quantity = rounded(decimal_of(execution.quantity), AMOUNT_PLACES)
    price = rounded(decimal_of(execution.price), PRICE_PLACES)
    cost = Cost(rounded_product(quantity, price), rounded(decimal_of(execution.fee), AMOUNT_PLACES))
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
        time=int(orders.time[execution.row]),
    )


def _require_equal(
    orders: EngineOrders, executed: EngineResult, own: np.ndarray, fills: Sequence[Fill]
) -> None:
    allowed = np.full(len(own), _ROUNDING) + np.abs(own) * _EQUAL
    for fill, execution in zip(fills, executed.executions, strict=True):
        rounding = _ROUNDING + float(fill.quantity) * _PRICE_ROUNDING
        allowed[execution.row :] += rounding + float(fill.quote_amount) * _EQUAL
    wrong = np.flatnonzero(~(np.abs(own - executed.equity) <= allowed))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"its equity at {format_time(int(orders.time[row]))} is {executed.equity[row]}, but"
            f" by its executions it is {own[row]}"
        )
