"""The results of a session, computed from its account, its history and its fills."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from candlestep.sandbox.clock import Clock, format_time
from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.errors import InvalidState
from candlestep.sandbox.exchange.account import Ledger, Portfolio
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.history import AccountHistory
from candlestep.sandbox.exchange.margin.reports import MarginFigures, figures_of
from candlestep.sandbox.exchange.orders import Fill
from candlestep.sandbox.html_tables import html_table
from candlestep.sandbox.market.coverage import SessionWarning, market_coverage
from candlestep.sandbox.market.fixed_point import as_floats
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.market.price_table import Prices
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    ZERO,
    add,
    format_decimal,
    percentage,
    rounded,
    subtract,
    total,
)
from candlestep.sandbox.performance.equity import equity_instants, total_equity
from candlestep.sandbox.performance.exposure import candles_in_market
from candlestep.sandbox.performance.metrics import (
    EquitySeries,
    Metrics,
    compute_metrics,
    series_within,
    trade_figures,
)
from candlestep.sandbox.performance.trading_record import KeptRecord, TradingRecord

SessionStatus = Literal["running", "completed", "cancelled"]


class PairResult(msgspec.Struct, frozen=True):
    """The contribution of one symbol: fills, win rate in percent, realized plus unrealized PnL.

    On perpetuals the realized PnL includes funding and insurance, so that pairs add up to the total.
    """

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
    warnings: tuple[SessionWarning, ...]
    """The stretches of the whole session in which a symbol has no candles; see ``Coverage``. On
    perpetuals ``MARKS_UNUSED`` where mark prices are too coarse to be used, and at the end of a session
    ``DATA_ENDED`` for each position whose candles ended before."""
    coverage: dict[str, float]
    """By symbol, the share of the session's steps that have a candle; see ``Coverage``."""
    total_funding: Decimal | None = None
    """Funding received less funding paid. None on spot, like all that follows up to
    ``funding_applied``."""
    total_liquidation_fees: Decimal | None = None
    """The part of ``total_fees`` that liquidations cost."""
    liquidations: int | None = None
    """Number of positions that were liquidated."""
    insurance: Decimal | None = None
    """Debts that the insurance fund took over."""
    max_leverage_used: Decimal | None = None
    """Highest exposure, the notional of all positions at their marks, over equity after a fill."""
    mark_source: str | None = None
    """Source of the values of positions: ``mark``, the mark price; ``last``, the last price; ``mixed``, where
    the mark price has holes."""
    mark_holes: int | None = None
    """Candles of the session so far that are valued at last prices although the market has marks."""
    funding_expected: int | None = None
    """Settlements at which a position was held, whether or not the market has their rates."""
    funding_applied: int | None = None
    """Those of them that were paid at a rate of the market; the rest, whose rates are missing, were
    paid at ``funding_rate_default``."""
    kept_record: KeptRecord = KeptRecord()
    """Record for ``plot``; it takes no part in comparisons, and copies in other processes lack it."""

    def record(self) -> TradingRecord:
        """Return what the session had done; raises ``InvalidState`` for a copy of results."""
        if self.kept_record.record is None:
            raise InvalidState(
                "these results are a copy, without candles; plot those that the session returned"
            )
        return self.kept_record.record

    def plot(self) -> Any:
        """Return a Plotly figure of equity, with the five worst drawdowns shaded.

        Raises ``InvalidState`` for a copy of results, and ``ImportError`` without plotly.
        """
        return self.record().equity_figure()

    def _repr_html_(self) -> str:
        metrics = self.metrics
        rows = {
            "final equity": self.final_equity,
            "PnL": self.total_pnl,
            "ROI, %": float(self.roi_pct),
            "fees": self.total_fees,
            "trades": self.total_trades,
            "win rate, %": metrics.win_rate,
            "Sharpe ratio": metrics.sharpe_ratio,
            "Sortino ratio": metrics.sortino_ratio,
            "max drawdown, %": metrics.max_drawdown_pct,
            "CAGR, %": None if metrics.cagr is None else metrics.cagr * 100,
        }
        return html_table(f"Results ({self.status})", (), rows.items())

    def __repr__(self) -> str:
        metrics = self.metrics
        sharpe = "none" if metrics.sharpe_ratio is None else f"{metrics.sharpe_ratio:.2f}"
        return (
            f"Results({self.status}, final equity {format_decimal(self.final_equity)}, PnL"
            f" {format_decimal(self.total_pnl)} ({self.roi_pct:.2f} %), trades: {self.total_trades},"
            f" fees {format_decimal(self.total_fees)}, Sharpe ratio {sharpe}, max drawdown"
            f" {metrics.max_drawdown_pct:.2f} %)"
        )


def session_results(config: SessionConfig, exchange: Exchange, status: SessionStatus) -> Results:
    """Compute the outcome of a session as it is now, with its record. Linear in the candles."""
    now, clearing, market = exchange.now, exchange.clearing, exchange.market
    return compute_results(
        config,
        market,
        status=status,
        time=now,
        account=exchange.account,
        portfolio=clearing.portfolio(Prices(market.price_table, now), now),
        history=exchange.history,
        fills=exchange.fills,
        record=TradingRecord(config, exchange),
        margin=figures_of(clearing, market, config.clock.start, now),
    )


def compute_results(
    config: SessionConfig,
    market: Market,
    *,
    status: SessionStatus,
    time: int,
    account: Ledger,
    portfolio: Portfolio,
    history: AccountHistory,
    fills: Sequence[Fill],
    record: TradingRecord | None = None,
    margin: MarginFigures | None = None,
) -> Results:
    """Compute the outcome as of ``time`` (ms). Linear in the candles.

    The metrics rest on the time that candles cover, from the first open to the last completion by
    then.
    """
    clock = config.clock
    instants = equity_instants(history, market, clock.start, time)
    equity = total_equity(history, market, instants)
    series = EquitySeries(instants, as_floats(equity, AMOUNT_PLACES))
    covered = market.covered(clock.start, time)
    start, end = (clock.start, clock.start) if covered is None else covered
    coverage = market_coverage(clock, market)
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
            series_within(series, start, end),
            fills,
            starting_balance=float(config.starting_balance),
            interval=clock.interval,
            candles_in_market=candles_in_market(history, market, clock, time),
            capped_fills=sum(config.costs.is_capped(fill.slippage) for fill in fills),
        ),
        by_pair=_by_pair(account, fills, unrealized),
        warnings=(
            *coverage.warnings,
            *unused_marks((clock.start, clock.end), margin),
            *_open_at_data_end(market, portfolio, clock, time, margin),
        ),
        coverage=coverage.shares,
        kept_record=KeptRecord(record),
        **({} if margin is None else msgspec.structs.asdict(margin)),
    )


def unused_marks(span: Span, margin: MarginFigures | None) -> list[SessionWarning]:
    """Return a warning if there are mark prices in a session, of which none could value a position."""
    if margin is None or margin.mark_source != "last" or not margin.mark_holes:
        return []
    message = (
        "the mark prices are coarser than the candles, or miss where there are candles: positions were"
        " valued and liquidated at last prices; import mark prices of the interval of the candles"
    )
    return [SessionWarning("MARKS_UNUSED", None, *span, message)]


def _open_at_data_end(
    market: Market, portfolio: Portfolio, clock: Clock, time: int, margin: MarginFigures | None
) -> tuple[SessionWarning, ...]:
    """Return a warning for each perpetual still held at the session's end without candles."""
    if margin is None or time < clock.end:
        return ()
    ends = {
        holding.symbol: market.candles_of(holding.symbol).complete_time_of(-1)
        for holding in portfolio.holdings
    }
    return tuple(
        SessionWarning(
            "DATA_ENDED",
            symbol,
            end,
            time,
            f"the position in {symbol} was open when its candles ended at {format_time(end)}, and"
            " stands at the last price; close it before, or set settle_at_data_end to true",
        )
        for symbol, end in ends.items()
        if end < time
    )


def _by_pair(
    account: Ledger, fills: Sequence[Fill], unrealized: dict[str, Decimal]
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
