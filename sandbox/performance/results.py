"""The results of a session, computed from its account, its history and its fills."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.exchange.account import Account
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.orders import Fill
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, ZERO, add, percentage, rounded, subtract, total
from candlestep.sandbox.performance.equity import equity_instants, total_equity
from candlestep.sandbox.performance.metrics import (
    EquitySeries,
    Metrics,
    compute_metrics,
    trade_figures,
)

SessionStatus = Literal["running", "completed", "cancelled"]


class PairResult(msgspec.Struct, frozen=True):
    """The contribution of one symbol: fills, win rate in percent, realized plus unrealized PnL."""

    symbol: str
    trades: int
    win_rate: float | None
    net_pnl: Decimal


class Results(msgspec.Struct, frozen=True):
    """The outcome of a session so far, or at its end; amounts in quote currency."""

    status: SessionStatus
    final_equity: Decimal
    total_pnl: Decimal
    roi_pct: Decimal
    """``total_pnl`` in percent of the starting balance, at 8 places."""
    total_trades: int
    total_fees: Decimal
    metrics: Metrics
    by_pair: tuple[PairResult, ...]
    """Symbols with fills, sorted."""


def compute_results(
    config: SessionConfig,
    market: Market,
    *,
    status: SessionStatus,
    time: int,
    account: Account,
    history: AccountHistory,
    fills: Sequence[Fill],
) -> Results:
    """Compute the outcome as of ``time`` (ms). Linear in the candles."""
    instants = equity_instants(history, market, config.clock.start, time)
    equity = total_equity(history, market, instants)
    portfolio = account.portfolio(market.prices(time))
    total_pnl = subtract(portfolio.total_equity, config.starting_balance)
    unrealized = {position.symbol: position.unrealized_pnl for position in portfolio.positions}
    return Results(
        status=status,
        final_equity=rounded(portfolio.total_equity, AMOUNT_PLACES),
        total_pnl=rounded(total_pnl, AMOUNT_PLACES),
        roi_pct=percentage(total_pnl, config.starting_balance),
        total_trades=len(fills),
        total_fees=rounded(total(fill.fee for fill in fills), AMOUNT_PLACES),
        metrics=compute_metrics(
            EquitySeries(instants, as_floats(equity, AMOUNT_PLACES)),
            fills,
            starting_balance=float(config.starting_balance),
            interval=config.clock.interval,
            candles_in_market=history.steps_in_market(config.clock, time),
        ),
        by_pair=_by_pair(account, fills, unrealized),
    )


def _by_pair(
    account: Account, fills: Sequence[Fill], unrealized: dict[str, Decimal]
) -> tuple[PairResult, ...]:
    by_symbol: dict[str, list[Fill]] = {}
    for fill in fills:
        by_symbol.setdefault(fill.symbol, []).append(fill)
    return tuple(
        PairResult(
            symbol,
            len(by_symbol[symbol]),
            trade_figures(by_symbol[symbol]).win_rate,
            add(account.holding(symbol).realized_pnl, unrealized.get(symbol, ZERO)),
        )
        for symbol in sorted(by_symbol)
    )
