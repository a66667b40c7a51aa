"""Figures rest on the time that candles cover, so that every door to the same span shows the same."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from candlestep.sandbox import Candles, Market, Metrics, Session, SessionConfig, parse_time
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.performance.metrics import EquitySeries, series_within
from tests.support.candles import minutes
from tests.support.case_strategies import cases
from tests.support.real_candles import eurusd, perpetual_hours
from tests.support.session_cases import Case, apply, start_session


def session(
    candles: Candles, start: int, end: int, interval: str = "1h", **settings: Any
) -> Session:
    config = SessionConfig(
        start_time=start, end_time=end, candle_interval=interval, allow_gaps=True, **settings
    )
    return Session(config, Market([candles]))


def trade(opened: Session, trades: list[tuple[int, str, str]]) -> Metrics:
    """Trade at these times, run to the end, and return the figures."""
    clock = opened.config.clock
    for time, side, quantity in trades:
        if time > opened.time:
            opened.step((time - opened.time) // clock.interval)
        [symbol] = opened.market.symbols
        opened.place_order(symbol=symbol, side=side, type="market", quantity=quantity)
    opened.step(opened.total_steps - opened.step_number)
    return opened.results().metrics


def test_a_session_past_its_candles_has_the_figures_of_the_time_before() -> None:
    """XRPUSDT, whose hours end on 21 November, in a session until 20 December."""
    candles = perpetual_hours("XRPUSDT")
    start, end = parse_time("2021-11-18"), parse_time("2021-12-20")
    free: dict[str, Any] = {"fee_rate": 0, "slippage": {"model": "none"}}
    buy = [(start, "buy", "9000")]
    metrics = trade(session(candles, start, end, **free), buy)
    assert metrics.candles_in_market == 77
    assert metrics.sharpe_ratio == pytest.approx(-2.08, abs=0.005)
    assert metrics.volatility == pytest.approx(0.78, abs=0.005)
    last = int(candles.complete_time[-1])
    assert (metrics.covered_from, metrics.covered_to) == (start, last)
    assert metrics.returns_grid == "1h", "by the three days that are covered"
    assert metrics == trade(session(candles, start, last, **free), buy)


def test_time_before_and_after_the_candles_does_not_count() -> None:
    """Weekends, the holes of EURUSD, do, with returns of 0."""
    candles = eurusd()
    first, last = int(candles.open_time[0]), int(candles.complete_time[-1])
    hours = [int(time) for time in candles.complete_time[[10, 300, 301, 2000, 3500]]]
    sides = ["buy", "sell", "buy", "buy", "sell"]
    trades = [(time, side, "1000") for time, side in zip(hours, sides, strict=True)]
    exact = trade(session(candles, first, last), trades)
    assert (exact.covered_from, exact.covered_to) == (first, last)
    for before, after in ((40 * DAY, 0), (0, 3 * HOUR), (5 * HOUR, 90 * DAY)):
        assert trade(session(candles, first - before, last + after), trades) == exact
    assert exact.returns_count == last // DAY - -(-first // DAY), "weekends included"


def test_holes_count_for_the_time_but_not_as_candles() -> None:
    holed = Candles(
        symbol="A", interval="1m", open_time=[minute * MINUTE for minute in (0, 1, 7, 8, 9)],
        open=[5] * 5, high=[5] * 5, low=[5] * 5, close=[5] * 5,
    )  # fmt: skip
    metrics = trade(session(holed, 0, 20 * MINUTE, "1m"), [(MINUTE, "buy", "1")])
    assert metrics.candles_in_market == 5 - 1 + 1, "the one that completes at the buy, and 4 more"
    assert (metrics.covered_from, metrics.covered_to) == (0, 10 * MINUTE)
    assert metrics.trades_per_day == pytest.approx(144)


@given(cases())
def test_candles_in_market_are_those_of_a_loop_over_the_steps(case: Case) -> None:
    opened = start_session(case)
    for command in case.commands:
        apply(opened, command)
    clock, expected = opened.config.clock, 0
    candles = {
        symbol: list(zip(series.open_time.tolist(), series.complete_time.tolist(), strict=True))
        for symbol in opened.market.symbols
        for series in [opened.market.candles_of(symbol)]
    }
    for step in range(1, opened.step_number + 1):
        time = clock.time(step)
        held: dict[str, Decimal] = dict.fromkeys(candles, Decimal(0))
        for fill in opened.fills:
            if fill.time <= time:
                held[fill.symbol] += fill.quantity if fill.side == "buy" else -fill.quantity
        expected += any(
            held[symbol] and any(a < time <= b for a, b in candles[symbol]) for symbol in candles
        )
    assert opened.results().metrics.candles_in_market == expected


@given(cases())
def test_the_covered_time_is_that_of_the_candles_so_far(case: Case) -> None:
    opened = start_session(case)
    for command in case.commands[:4]:
        apply(opened, command)
    start, now = opened.config.clock.start, opened.time
    spans = [
        (max(int(first), start), min(int(last), now))
        for symbol in opened.market.symbols
        for series in [opened.market.candles_of(symbol)]
        for first, last in zip(series.open_time, series.complete_time, strict=True)
    ]
    spans = [span for span in spans if span[0] < span[1]]
    metrics = opened.results().metrics
    expected = (min(a for a, _ in spans), max(b for _, b in spans)) if spans else (None, None)
    assert (metrics.covered_from, metrics.covered_to) == expected


def test_what_happens_after_the_last_candle_counts_as_of_its_completion() -> None:
    candles = minutes("A", *[100.0] * 10)
    settings: dict[str, Any] = {"starting_balance": 1000, "fee_rate": "0.01"}
    late = session(candles, 0, 60 * MINUTE, "1m", **settings)
    metrics = trade(late, [(30 * MINUTE, "buy", "1"), (40 * MINUTE, "sell", "1")])
    assert metrics.candles_in_market == 0
    assert metrics.total_return == pytest.approx(float(late.results().final_equity) / 1000 - 1)
    assert metrics.max_drawdown_amount == 1000 - late.results().final_equity
    assert metrics.covered_to == 10 * MINUTE


def test_without_any_candle_in_the_session_ratios_are_undefined() -> None:
    candles = minutes("A", *[100.0] * 10)
    metrics = trade(session(candles, HOUR, 3 * HOUR, starting_balance=1000), [(HOUR, "buy", "1")])
    assert (metrics.covered_from, metrics.covered_to) == (None, None)
    assert metrics.sharpe_ratio is metrics.volatility is metrics.cagr is None
    assert metrics.candles_in_market == metrics.returns_count == metrics.trades_per_day == 0
    assert metrics.total_return < 0


def test_a_series_within_a_time_ends_with_the_last_equity() -> None:
    series = EquitySeries(np.array([0, 10, 20, 30]), np.array([1.0, 2, 3, 4]))
    assert series_within(series, 0, 30) is series
    for start, end, times, equity in (
        (0, 20, [0, 10, 20], [1, 2, 4]),
        (5, 25, [5, 10, 20, 25], [1, 2, 3, 4]),
        (10, 30, [10, 20, 30], [2, 3, 4]),
        (12, 13, [12, 13], [2, 4]),
        (30, 30, [30], [4]),
        (0, 0, [0], [4]),
    ):
        within = series_within(series, start, end)
        assert (within.time.tolist(), within.equity.tolist()) == (times, equity)


def test_fills_at_the_largest_slippage_are_counted() -> None:
    def capped(**settings: Any) -> int | None:
        opened = session(minutes("A", *[1.0] * 10), 0, 10 * MINUTE, "1m", **settings)
        for quantity in ("0.01", "10", "0.11", "50"):
            opened.step()
            opened.place_order(symbol="A", side="buy", type="market", quantity=quantity)
        return opened.results().metrics.capped_fills

    assert capped() == 3, "of a volume of 0.1 a candle, 0.1 and more move the price by 10 %"
    assert capped(slippage={"model": "fixed_bps", "bps": 1000}) == 0, "has no cap"
