"""Performance figures, each defined once for everything that reports it.

Formulas are the textbook's, as in Bacon, *Practical Portfolio Performance Measurement and
Attribution*, 2nd ed. (2008), and as the empyrical library computes them. A ratio that is
undefined (no losses, no variation, too few returns) is None, never 0 or infinity.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np

from candlestep.sandbox.clock import DAY, HOUR, candle_span, interval_name, parse_interval
from candlestep.sandbox.exchange.orders import Fill
from candlestep.sandbox.market.candles import Floats, Integers
from candlestep.sandbox.money import AMOUNT_PLACES, PRICE_PLACES, rounded, rounded_ratio, total

YEAR = 365 * DAY
_DAILY_FROM = 14 * DAY
_STRETCH = 512
"""Number of instants that are tested at once for equity staying below its peak."""


class EquitySeries(NamedTuple):
    """Equity as a step function: ``equity[i]`` holds from ``time[i]`` (ms) to the next."""

    time: Integers
    equity: Floats


class Metrics(msgspec.Struct, frozen=True):
    """Figures of a session; each names its unit, and amounts are in quote currency.

    They rest on the *covered time* of the session: from the first open to the last completion of
    its candles. Holes inside count, with constant prices; what an account does after the last
    candle counts as of its completion.
    """

    total_return: float
    """Final over starting equity less 1; a fraction."""
    cagr: float | None
    """Compound annual growth: ``(final / start) ** (365 days / span) - 1``; a fraction."""
    sharpe_ratio: float | None
    """Mean return over its sample standard deviation, annualised; risk-free rate 0."""
    sortino_ratio: float | None
    """Mean return over the root mean square of the negative ones, annualised."""
    calmar_ratio: float | None
    """``cagr`` over the maximum drawdown."""
    volatility: float | None
    """Sample standard deviation of returns, annualised; a fraction."""
    max_drawdown_pct: float
    """Largest fall from a peak, in percent of the peak, at every candle."""
    max_drawdown_duration_days: int
    """Longest time under water: from the first instant below a peak to the first back at it."""
    var_95: float | None
    """Loss that a return exceeds in 5 % of cases (historical, interpolated); a fraction ≥ 0."""
    var_99: float | None
    cvar_95: float | None
    """Mean loss of the worst 5 % of returns; a fraction ≥ 0."""
    cvar_99: float | None
    total_trades: int
    """Fills."""
    trades_per_day: float
    win_rate: float | None
    """Percent of the fills that realize PnL which realize a gain."""
    profit_factor: float | None
    """Sum of gains over sum of losses."""
    avg_win: Decimal | None
    avg_loss: Decimal | None
    """Mean losing PnL: negative."""
    best_trade: Decimal | None
    worst_trade: Decimal | None
    expectancy: Decimal | None
    """Mean realized PnL of the fills that realize any, after fees."""
    turnover: float | None
    """Traded notional over time-weighted mean equity, per year."""
    candles_in_market: int
    """Steps at which a symbol was held that had a candle: one whose open is before the step's time,
    and whose completion is not."""
    returns_grid: str
    """Interval of the returns behind the ratios: ``1d`` from 14 covered days on, else ``1h`` or
    coarser."""
    max_drawdown_amount: Decimal | None = None
    """Largest fall from a peak in quote currency, at every candle; that of ``max_drawdown_pct`` may
    be another. None, like the next three, in results from before they were computed."""
    returns_count: int | None = None
    """Number of returns behind the ratios."""
    returns_skewness: float | None = None
    """Third central moment of the returns over the cube of their standard deviation."""
    returns_kurtosis: float | None = None
    """Fourth central moment over the fourth power of the standard deviation: 3 if normal."""
    capped_fills: int | None = None
    """Fills whose slippage was 10 %, the most of the volume model: orders too large for the volume
    of the candles. None, like the next two, in results from before they were computed."""
    covered_from: int | None = None
    """The time, in milliseconds, from which candles cover the session; None if none do."""
    covered_to: int | None = None
    """The time, in milliseconds, up to which candles cover the session."""


class TradeFigures(msgspec.Struct, frozen=True):
    """Figures of a set of fills; see ``Metrics``."""

    total_trades: int
    win_rate: float | None
    profit_factor: float | None
    avg_win: Decimal | None
    avg_loss: Decimal | None
    best_trade: Decimal | None
    worst_trade: Decimal | None
    expectancy: Decimal | None


class Drawdown(NamedTuple):
    """The deepest and the longest fall below a peak.

    ``depth`` is a fraction of the peak, ``duration`` the milliseconds under water, ``amount`` the
    largest fall in currency, which need not be the deepest.
    """

    depth: float
    duration: int
    amount: float


def compute_metrics(
    series: EquitySeries,
    fills: Sequence[Fill],
    *,
    starting_balance: float,
    interval: int,
    candles_in_market: int,
    capped_fills: int = 0,
) -> Metrics:
    """Compute all figures of a session from its equity over the covered time, and its fills.

    ``interval`` is the session's candle interval in milliseconds. Linear in the lengths.
    """
    start, end = int(series.time[0]), int(series.time[-1])
    span = end - start
    total_return = float(series.equity[-1]) / starting_balance - 1
    grid = max(DAY if span >= _DAILY_FROM else HOUR, interval)
    returns = returns_on_grid(series, grid, starting_balance)
    annual = math.sqrt(YEAR / grid)
    drawdown = max_drawdown(series, starting_balance)
    growth = cagr(total_return, span)
    return Metrics(
        total_return=total_return,
        cagr=growth,
        sharpe_ratio=sharpe_ratio(returns, annual),
        sortino_ratio=sortino_ratio(returns, annual),
        calmar_ratio=None if growth is None or not drawdown.depth else growth / drawdown.depth,
        volatility=None if len(returns) < 2 else float(returns.std(ddof=1)) * annual,
        max_drawdown_pct=drawdown.depth * 100,
        max_drawdown_duration_days=-(-drawdown.duration // DAY),
        var_95=value_at_risk(returns, 0.05),
        var_99=value_at_risk(returns, 0.01),
        cvar_95=conditional_value_at_risk(returns, 0.05),
        cvar_99=conditional_value_at_risk(returns, 0.01),
        **msgspec.structs.asdict(trade_figures(fills)),
        trades_per_day=len(fills) * DAY / span if span else 0.0,
        turnover=_turnover(series, fills, span),
        candles_in_market=candles_in_market,
        returns_grid=interval_name(grid),
        max_drawdown_amount=rounded(Decimal(repr(drawdown.amount)), AMOUNT_PLACES),
        returns_count=len(returns),
        returns_skewness=_standardised_moment(returns, 3),
        returns_kurtosis=_standardised_moment(returns, 4),
        capped_fills=capped_fills,
        covered_from=start if span else None,
        covered_to=end if span else None,
    )


def series_within(series: EquitySeries, start: int, end: int) -> EquitySeries:
    """Return equity from ``start`` to ``end``, not before the series and in this order.

    Changes after ``end`` count as of then: the last equity stays that of the series.
    """
    time, equity = series
    if (start, end) == (time[0], time[-1]):
        return series
    first, stop = np.searchsorted(time, start, "right"), np.searchsorted(time, end)
    at_start = [] if start == end else [first - 1]
    places = np.concatenate([at_start, np.arange(first, stop), [len(time) - 1]]).astype(np.intp)
    times = time[places]
    times[0], times[-1] = start, end
    return EquitySeries(times, equity[places])


def with_risk_free_rate(
    metrics: Metrics, series: EquitySeries, starting_balance: float, rate: float
) -> Metrics:
    """Return ``metrics`` with ratios that compare the returns of ``series`` with a risk-free rate.

    ``rate`` is a yearly fraction above -1; each return is compared with the yield over the same
    time, ``(1 + rate) ** (grid / 365 days) - 1``. The series must have the equity at every instant
    of ``metrics.returns_grid``; only the time that the metrics cover counts.
    """
    if metrics.covered_from is not None and metrics.covered_to is not None:
        series = series_within(series, metrics.covered_from, metrics.covered_to)
    grid = parse_interval(metrics.returns_grid)
    target = math.pow(1 + rate, grid / YEAR) - 1
    excess = returns_on_grid(series, grid, starting_balance) - target
    annual = math.sqrt(YEAR / grid)
    return msgspec.structs.replace(
        metrics,
        sharpe_ratio=sharpe_ratio(excess, annual),
        sortino_ratio=sortino_ratio(excess, annual),
    )


def returns_on_grid(series: EquitySeries, grid: int, starting_balance: float) -> Floats:
    """Return simple returns between the bounds of buckets of ``grid`` ms (UTC) within the series.

    The time before the first and after the last bound is left out, so that each return spans
    the same time. At the very start equity is the starting balance, so that the costs of buying
    there count. Equity of 0 ends the series of returns.
    """
    first, _ = candle_span(int(series.time[0]), 0, grid)
    instants = np.arange(first, int(series.time[-1]) + 1, grid)
    if len(instants) < 2:
        return np.empty(0)
    equity = series.equity[np.searchsorted(series.time, instants, side="right") - 1]
    if first == series.time[0]:
        equity[0] = starting_balance
    if (equity <= 0).any():
        equity = equity[: int(np.argmax(equity <= 0)) + 1]
    return equity[1:] / equity[:-1] - 1


def sharpe_ratio(returns: Floats, annual: float) -> float | None:
    """Return ``mean / sample standard deviation * annual``; Sharpe (1994) with risk-free rate 0."""
    if len(returns) < 2 or _is_constant(returns):
        return None
    return float(returns.mean() / returns.std(ddof=1)) * annual


def sortino_ratio(returns: Floats, annual: float) -> float | None:
    """Return ``mean / sqrt(mean(min(return, 0) ** 2)) * annual``; Sortino and Price (1994), target 0."""
    if len(returns) < 2:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.mean()) / downside * annual if downside else None


def cagr(total_return: float, span: int) -> float | None:
    """Return the compound annual growth rate of ``total_return`` over ``span`` milliseconds."""
    if not span:
        return None
    try:
        return float(math.pow(max(1 + total_return, 0.0), YEAR / span) - 1)
    except OverflowError:
        return None


def value_at_risk(returns: Floats, tail: float) -> float | None:
    """Return the historical VaR: the ``tail`` quantile of returns as a loss, 0 if it is a gain."""
    return max(0.0, -float(np.quantile(returns, tail))) if len(returns) else None


def conditional_value_at_risk(returns: Floats, tail: float) -> float | None:
    """Return the mean loss of the worst ``tail`` of returns, at least one; 0 if it is a gain."""
    if not len(returns):
        return None
    worst = int((len(returns) - 1) * tail) + 1
    return max(0.0, -float(np.mean(np.partition(returns, worst - 1)[:worst])))


def max_drawdown(series: EquitySeries, starting_balance: float) -> Drawdown:
    """Return the deepest and the longest fall below a peak; the starting balance is the first peak.

    Equity is compared as given; a float holds an amount at 8 places up to 90 million. Linear, and
    quick where it is below an earlier peak for long.
    """
    series = _condensed(series, starting_balance)
    peaks = np.maximum.accumulate(series.equity)
    np.maximum(peaks, starting_balance, out=peaks)
    below = series.equity < peaks
    if not below.any():
        return Drawdown(0.0, 0, 0.0)
    amount = float(np.subtract(peaks, series.equity).max())
    deepest = int(np.divide(series.equity, peaks, out=peaks).argmin())
    peak = max(starting_balance, float(series.equity[: deepest + 1].max()))
    depth = (peak - float(series.equity[deepest])) / peak
    # Alternately where equity falls below and comes back; it may begin and end below.
    turns = np.flatnonzero(below[1:] != below[:-1]) + 1
    first, last = ([0] if below[0] else []), ([len(below) - 1] if below[-1] else [])
    times = series.time[np.concatenate([first, turns, last]).astype(np.intp)]
    return Drawdown(depth, int((times[1::2] - times[::2]).max()), amount)


def _condensed(series: EquitySeries, starting_balance: float) -> EquitySeries:
    """Return a shorter series with the same drawdowns.

    Each stretch that stays below an earlier peak becomes one point: its lowest equity, at its
    first time.
    """
    stretches = (len(series.equity) - 1) // _STRETCH  # The end itself stays as it is.
    body = series.equity[: stretches * _STRETCH].reshape(stretches, _STRETCH)
    highest, lowest = body.max(axis=1), body.min(axis=1)
    peaks = np.maximum.accumulate(np.concatenate([[starting_balance], highest]))[:-1]
    stays_below = highest < peaks
    is_kept = np.ones(len(series.equity), dtype=bool)
    in_stretches = is_kept[: stretches * _STRETCH].reshape(stretches, _STRETCH)
    in_stretches[stays_below, 1:] = False
    equity = series.equity[is_kept]
    lengths = np.where(stays_below, 1, _STRETCH)
    equity[(np.cumsum(lengths) - lengths)[stays_below]] = lowest[stays_below]
    return EquitySeries(series.time[is_kept], equity)


def trade_figures(fills: Sequence[Fill]) -> TradeFigures:
    """Compute figures of ``fills`` from those that realize PnL, after fees."""
    realized = [fill.realized_pnl for fill in fills if fill.realized_pnl is not None]
    wins = [pnl for pnl in realized if pnl > 0]
    losses = [pnl for pnl in realized if pnl < 0]
    factor = rounded_ratio(total(wins), total(losses).copy_abs(), PRICE_PLACES) if losses else None
    return TradeFigures(
        total_trades=len(fills),
        win_rate=len(wins) / len(realized) * 100 if realized else None,
        profit_factor=None if factor is None else float(factor),
        avg_win=_mean(wins),
        avg_loss=_mean(losses),
        best_trade=max(realized, default=None),
        worst_trade=min(realized, default=None),
        expectancy=_mean(realized),
    )


def _turnover(series: EquitySeries, fills: Sequence[Fill], span: int) -> float | None:
    weighted = float(np.multiply(np.diff(series.time), series.equity[:-1]).sum())
    if not span or not weighted:
        return None
    return float(total(fill.quote_amount for fill in fills)) / (weighted / span) * (YEAR / span)


def _standardised_moment(returns: Floats, order: int) -> float | None:
    """Return the central moment of ``order`` over that power of the population's deviation."""
    if len(returns) < 2 or _is_constant(returns):
        return None
    around = returns - returns.mean()
    return float(np.mean(around**order) / np.mean(around**2) ** (order / 2))


def _is_constant(returns: Floats) -> bool:
    return bool(returns.min() == returns.max())


def _mean(amounts: Sequence[Decimal]) -> Decimal | None:
    return rounded_ratio(total(amounts), Decimal(len(amounts)), AMOUNT_PLACES) if amounts else None
