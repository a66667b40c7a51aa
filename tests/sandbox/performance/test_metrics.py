"""Every figure against an independent library, on real data, and against sums by hand."""

import math
from decimal import Decimal

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from candlestep.sandbox import Candles, Market, Session, SessionConfig
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.performance.metrics import (
    EquitySeries,
    cagr,
    compute_metrics,
    max_drawdown,
    returns_on_grid,
    with_risk_free_rate,
)
from tests.support.real_candles import eurusd, minutes


def trade_to_and_fro(candles: Candles, interval: str, hold: int) -> Session:
    """Hold half of the cash for ``hold`` steps, then nothing for ``hold`` steps, to the end."""
    session = Session(
        SessionConfig(
            start_time=int(candles.complete_time[0]),
            end_time=int(candles.complete_time[-1]),
            starting_balance=10_000,
            candle_interval=interval,
            slippage={"model": "fixed_bps", "bps": 1},
        ),
        Market([candles]),
    )
    symbol = candles.symbol
    while session.status == "running":
        quantity = session.portfolio().available_cash / 2 / session.price(symbol)
        bought = session.place_order(symbol=symbol, side="buy", type="market", quantity=quantity)
        if not session.step(hold).is_complete:
            session.place_order(symbol=symbol, side="sell", type="market", quantity=bought.quantity)
            session.step(hold)
    return session


def equity_of(session: Session, candles: Candles) -> pd.Series:
    """Return equity at every candle and fill, recomputed in floats from the fills alone."""
    start = session.config.start_time
    close = pd.Series(candles.close, index=candles.complete_time)
    times = close.index[close.index >= start].union([fill.time for fill in session.fills])
    cash = np.full(len(times), 10_000.0)
    held = np.zeros(len(times))
    for fill in session.fills:
        after = times >= fill.time
        sign = 1 if fill.side == "buy" else -1
        cash[after] -= sign * float(fill.quote_amount) + float(fill.fee)
        held[after] += sign * float(fill.quantity)
    price = close.reindex(close.index.union(times)).ffill()[times]
    return pd.Series(cash + held * price.to_numpy(), pd.to_datetime(times, unit="ms", utc=True))


@pytest.mark.parametrize("case", ["EURUSD 1h", "BTCUSDT 1m 2024-10", "BTCUSDT 1m 2021-03"])
def test_figures_are_those_of_empyrical(case: str) -> None:
    symbol, interval, *month = case.split()
    candles = minutes(symbol, month[0]) if month else eurusd()
    session = trade_to_and_fro(candles, interval, hold=50 if interval == "1h" else 700)
    metrics = session.results().metrics
    equity = equity_of(session, candles)

    midnights = pd.date_range(equity.index[0].ceil("D"), equity.index[-1].floor("D"), freq="D")
    daily = equity.reindex(equity.index.union(midnights)).ffill()[midnights]
    returns = daily.pct_change().dropna()
    assert metrics.returns_grid == "1d"
    for ours, theirs in (
        (metrics.sharpe_ratio, empyrical.sharpe_ratio(returns, annualization=365)),
        (metrics.sortino_ratio, empyrical.sortino_ratio(returns, annualization=365)),
        (metrics.volatility, empyrical.annual_volatility(returns, annualization=365)),
        (metrics.var_95, -empyrical.value_at_risk(returns, 0.05)),
        (metrics.var_99, -empyrical.value_at_risk(returns, 0.01)),
        (metrics.cvar_95, -empyrical.conditional_value_at_risk(returns, 0.05)),
        (metrics.cvar_99, -empyrical.conditional_value_at_risk(returns, 0.01)),
        (metrics.total_return, equity.iloc[-1] / 10_000 - 1),
        (metrics.max_drawdown_pct, -empyrical.max_drawdown(from_start(equity)) * 100),
        (metrics.returns_skewness, stats.skew(returns)),
        (metrics.returns_kurtosis, stats.kurtosis(returns, fisher=False)),
    ):
        assert ours == pytest.approx(theirs, rel=1e-9)
    assert metrics.returns_count == len(returns)
    peaks = np.maximum(equity.cummax(), 10_000)
    assert metrics.max_drawdown_amount == pytest.approx(
        Decimal((peaks - equity).max()), abs=Decimal("1e-6")
    )
    years = (equity.index[-1] - equity.index[0]) / pd.Timedelta(days=365)
    growth = (equity.iloc[-1] / 10_000) ** (1 / years) - 1
    assert metrics.cagr == pytest.approx(growth, rel=1e-9)
    assert metrics.calmar_ratio == pytest.approx(growth / metrics.max_drawdown_pct * 100)

    pnl = [float(f.realized_pnl) for f in session.fills if f.realized_pnl is not None]
    gains, losses = [x for x in pnl if x > 0], [x for x in pnl if x < 0]
    assert metrics.win_rate == pytest.approx(100 * len(gains) / len(pnl))
    assert metrics.profit_factor == pytest.approx(sum(gains) / -sum(losses))
    assert metrics.expectancy == pytest.approx(Decimal(sum(pnl) / len(pnl)), abs=Decimal("1e-7"))


@pytest.mark.parametrize("rate", [0.05, -0.3, 1.0])
def test_over_a_risk_free_rate_the_ratios_are_those_of_empyrical(rate: float) -> None:
    growth = np.random.default_rng(5).normal(0.001, 0.02, 90)
    equity = 100 * np.cumprod(np.concatenate([[1.0], 1 + growth]))
    daily = EquitySeries(np.arange(91) * DAY, equity)
    plain = compute_metrics(daily, [], starting_balance=100.0, interval=DAY, candles_in_market=0)
    over = with_risk_free_rate(plain, daily, 100.0, rate)

    of_a_day = (1 + rate) ** (1 / 365) - 1
    returns = pd.Series(equity).pct_change().dropna()
    sharpe = empyrical.sharpe_ratio(returns, risk_free=of_a_day, annualization=365)
    sortino = empyrical.sortino_ratio(returns, required_return=of_a_day, annualization=365)
    assert over.sharpe_ratio == pytest.approx(sharpe, rel=1e-9)
    assert over.sortino_ratio == pytest.approx(sortino, rel=1e-9)
    assert with_risk_free_rate(plain, daily, 100.0, 0) == plain


def from_start(equity: pd.Series) -> pd.Series:
    return pd.concat([pd.Series([10_000.0]), equity]).pct_change().dropna()


def series(*points: tuple[int, float]) -> EquitySeries:
    time, equity = zip(*points, strict=True)
    return EquitySeries(np.array(time, dtype=np.int64), np.array(equity))


def test_drawdown_counts_from_the_starting_balance() -> None:
    assert max_drawdown(series((0, 90.0), (DAY, 95.0)), 100.0) == (0.1, DAY, 10.0)


def test_drawdown_lasts_from_the_first_instant_below_to_the_first_back_at_the_peak() -> None:
    equity = series((0, 100.0), (DAY, 80.0), (3 * DAY, 100.0), (4 * DAY, 99.0), (5 * DAY, 98.0))
    assert max_drawdown(equity, 100.0) == (0.2, 2 * DAY, 20.0)


def test_the_largest_fall_in_currency_need_not_be_the_deepest() -> None:
    equity = series((0, 100.0), (DAY, 80.0), (2 * DAY, 300.0), (3 * DAY, 270.0))
    assert max_drawdown(equity, 100.0) == (0.2, DAY, 30.0)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([60, 80, 90, 99, 100, 101, 120]),
            st.sampled_from([1, 2, 300, 511, 512, 1500]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_drawdown_is_that_of_a_loop_over_every_instant(lasting: list[tuple[int, int]]) -> None:
    """Any share of the series may lie below an earlier peak."""
    equity = [amount for amount, instants in lasting for _ in range(instants)]
    peak, depth, amount, duration = 100, 0.0, 0, 0
    since = None
    for time, worth in enumerate(equity):
        duration = max(duration, 0 if since is None else time - since)
        if worth >= peak:
            peak, since = worth, None
        elif since is None:
            since = time
        depth, amount = max(depth, (peak - worth) / peak), max(amount, peak - worth)
    drawdown = max_drawdown(series(*enumerate(map(float, equity))), 100.0)
    assert drawdown == (depth, duration, amount)


def test_drawdown_that_never_recovers_lasts_to_the_end_in_days_rounded_up() -> None:
    equity = series((0, 100.0), (DAY, 80.0), (2 * DAY + 1, 90.0))
    metrics = compute_metrics(
        equity, [], starting_balance=100.0, interval=MINUTE, candles_in_market=0
    )
    assert metrics.max_drawdown_duration_days == 2


def test_ratios_that_are_undefined_are_none() -> None:
    flat = series((0, 100.0), (20 * DAY, 100.0))
    metrics = compute_metrics(
        flat, [], starting_balance=100.0, interval=MINUTE, candles_in_market=0
    )
    undefined = ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "win_rate", "profit_factor")
    assert [getattr(metrics, name) for name in undefined] == [None] * 5
    assert [metrics.avg_win, metrics.avg_loss, metrics.best_trade, metrics.expectancy] == [None] * 4
    assert (metrics.max_drawdown_pct, metrics.max_drawdown_duration_days) == (0, 0)


@pytest.mark.parametrize(
    ("span", "interval", "grid"),
    [
        (14 * DAY, MINUTE, "1d"),
        (14 * DAY - MINUTE, MINUTE, "1h"),
        (3 * DAY, 4 * HOUR, "4h"),
        (3 * DAY, DAY, "1d"),
    ],
)
def test_returns_are_daily_from_two_weeks_on_else_hourly(
    span: int, interval: int, grid: str
) -> None:
    metrics = compute_metrics(
        series((0, 1.0), (span, 2.0)),
        [],
        starting_balance=1.0,
        interval=interval,
        candles_in_market=0,
    )
    assert metrics.returns_grid == grid


def test_returns_lie_between_full_hours_and_begin_with_the_starting_balance() -> None:
    equity = series((0, 99.0), (HOUR, 110.0), (2 * HOUR - 1, 121.0), (2 * HOUR + 5, 500.0))
    assert returns_on_grid(equity, HOUR, 100.0) == pytest.approx([0.1, 0.1])
    late = series((5, 99.0), (HOUR, 110.0), (2 * HOUR, 121.0))
    assert returns_on_grid(late, HOUR, 100.0) == pytest.approx([0.1])


def test_growth_too_large_for_a_number_is_none() -> None:
    assert cagr(9.0, HOUR) is None
    assert cagr(0.1, 365 * DAY) == pytest.approx(0.1)
    assert cagr(-1.0, DAY) == -1.0


def test_trade_figures_by_hand() -> None:
    minutes_at = [100, 100, 110, 110, 105, 105]
    candles = Candles(
        symbol="BTCUSDT",
        interval="1m",
        open_time=[i * MINUTE for i in range(6)],
        open=minutes_at,
        high=minutes_at,
        low=minutes_at,
        close=minutes_at,
    )
    config = SessionConfig(
        start_time=MINUTE,
        end_time=6 * MINUTE,
        starting_balance=1000,
        fee_rate=0,
        slippage={"model": "none"},
    )
    session = Session(config, Market([candles]))

    def trade(side: str, quantity: int) -> None:
        session.place_order(symbol="BTCUSDT", side=side, type="market", quantity=quantity)

    trade("buy", 2)
    session.step(2)
    trade("sell", 1)
    session.step(2)
    trade("sell", 1)
    session.step()
    metrics = session.results().metrics
    assert (metrics.total_trades, metrics.win_rate, metrics.profit_factor) == (3, 100.0, None)
    assert (metrics.avg_win, metrics.avg_loss) == (Decimal("7.5"), None)
    assert (metrics.best_trade, metrics.worst_trade) == (Decimal(10), Decimal(5))
    assert metrics.expectancy == Decimal("7.5")
    assert metrics.candles_in_market == 3
    assert metrics.trades_per_day == pytest.approx(3 / 5 * 1440)
    # 415 traded; equity is 1000 for two minutes, 1020 for two, 1015 for one.
    mean_equity = (2 * 1000 + 2 * 1020 + 1015) / 5
    year = 365 * 1440 / 5
    assert metrics.turnover == pytest.approx(415 / mean_equity * year)
    assert math.isclose(metrics.max_drawdown_pct, 5 / 1020 * 100)
    assert session.results().by_pair[0].net_pnl == 15
