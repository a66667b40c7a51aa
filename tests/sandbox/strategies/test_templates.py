"""Each template against a plain loop that knows no more than its description."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import SandboxError, Session
from candlestep.sandbox.clock import Clock
from candlestep.sandbox.strategies import Run, compile_strategy, run
from candlestep.sandbox.strategies.card import Grid, Size
from candlestep.sandbox.strategies.grid import grid_levels
from tests.support.case_strategies import cases
from tests.support.runs import FEWER, MINUTE, config, minutes, ordered, outcome
from tests.support.session_cases import Bar, Case, Series, market_of, session_config

Closes = list[float]
Rule = Callable[[Closes, Closes, Closes], bool]
"""Decides whether to act, given the highs, lows and closes so far."""


def mean(values: Closes) -> float:
    return math.fsum(values) / len(values)


def ema(values: Closes, period: int) -> list[float]:
    """Compute the average from its first value on, the plain mean of the first ``period``."""
    averages = [mean(values[:period])]
    for value in values[period:]:
        averages.append(averages[-1] + (value - averages[-1]) * 2 / (period + 1))
    return averages


def rsi(values: Closes, period: int) -> list[float]:
    changes = [b - a for a, b in itertools.pairwise(values)]
    gains, losses = [max(c, 0.0) for c in changes], [max(-c, 0.0) for c in changes]
    gain, loss = mean(gains[:period]), mean(losses[:period])
    indices = [100 * gain / (gain + loss)]
    for up, down in zip(gains[period:], losses[period:], strict=True):
        gain, loss = (gain * (period - 1) + up) / period, (loss * (period - 1) + down) / period
        indices.append(100 * gain / (gain + loss))
    return indices


def crossed_above(one: list[float], other: list[float]) -> bool:
    return len(one) > 1 and len(other) > 1 and one[-2] <= other[-2] and one[-1] > other[-1]


def averages(kind: str, closes: Closes, period: int) -> list[float]:
    if len(closes) < period:
        return []
    if kind == "ema":
        return ema(closes, period)
    return [mean(closes[k - period : k]) for k in range(period, len(closes) + 1)]


def cross(kind: str) -> tuple[Rule, Rule]:
    def up(_: Closes, __: Closes, closes: Closes) -> bool:
        return crossed_above(averages(kind, closes, 3), averages(kind, closes, 8))

    def down(_: Closes, __: Closes, closes: Closes) -> bool:
        return crossed_above(averages(kind, closes, 8), averages(kind, closes, 3))

    return up, down


def rsi_rules() -> tuple[Rule, Rule]:
    def oversold(_: Closes, __: Closes, closes: Closes) -> bool:
        return len(closes) > 6 and crossed_above(rsi(closes, 5), [40.0, 40.0])

    def overbought(_: Closes, __: Closes, closes: Closes) -> bool:
        return len(closes) > 5 and rsi(closes, 5)[-1] > 60

    return oversold, overbought


def band_rules() -> tuple[Rule, Rule]:
    def lower(closes: Closes) -> float:
        last = closes[-6:]
        middle = mean(last)
        return middle - 1.5 * math.sqrt(mean([(c - middle) ** 2 for c in last]))

    def below(_: Closes, __: Closes, closes: Closes) -> bool:
        if len(closes) < 7:
            return False
        return closes[-2] >= lower(closes[:-1]) and closes[-1] < lower(closes)

    def back(_: Closes, __: Closes, closes: Closes) -> bool:
        return len(closes) >= 6 and closes[-1] >= mean(closes[-6:])

    return below, back


def breakout_rules() -> tuple[Rule, Rule]:
    def above(highs: Closes, _: Closes, closes: Closes) -> bool:
        return len(closes) > 5 and closes[-1] > max(highs[-6:-1])

    def below(_: Closes, lows: Closes, closes: Closes) -> bool:
        return len(closes) > 3 and closes[-1] < min(lows[-4:-1])

    return above, below


def macd_rules() -> tuple[Rule, Rule]:
    def lines(closes: Closes) -> tuple[list[float], list[float]]:
        if len(closes) < 9:
            return [], []
        slow = ema(closes, 7)
        # TA-Lib starts both averages where the slow one starts.
        fast = ema(closes[7 - 4 :], 4)
        line = [a - b for a, b in zip(fast, slow, strict=True)]
        signal = ema(line, 3)
        return line[-len(signal) :], signal

    def up(_: Closes, __: Closes, closes: Closes) -> bool:
        line, signal = lines(closes)
        return crossed_above(line, signal)

    def down(_: Closes, __: Closes, closes: Closes) -> bool:
        line, signal = lines(closes)
        return crossed_above(signal, line)

    return up, down


def random_walk(seed: int, count: int = 240) -> tuple[Series, ...]:
    random = np.random.default_rng(seed)
    closes = 100 + np.cumsum(random.normal(0, 1, count)).round(2)
    opens = np.concatenate([[100.0], closes[:-1]])
    bars = tuple(
        Bar(k * MINUTE, float(o), float(max(o, c) + up), float(min(o, c) - down), float(c), 1.0)
        for k, (o, c, up, down) in enumerate(
            zip(opens, closes, *random.exponential(0.5, (2, count)).round(2), strict=True)
        )
    )
    return (Series("AAAUSDT", MINUTE, bars),)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("template", "parameters", "rules"),
    [
        ("tpl_sma_cross", {"fast": 3, "slow": 8}, cross("sma")),
        ("tpl_ema_cross", {"fast": 3, "slow": 8}, cross("ema")),
        ("tpl_rsi", {"period": 5, "oversold": 40, "overbought": 60}, rsi_rules()),
        ("tpl_bollinger", {"period": 6, "deviations": 1.5}, band_rules()),
        ("tpl_breakout", {"lookback": 5, "exit_lookback": 3}, breakout_rules()),
        ("tpl_macd", {"fast": 4, "slow": 7, "signal": 3}, macd_rules()),
    ],
)
def test_signals_are_those_of_the_description(
    template: str, parameters: dict[str, Any], rules: tuple[Rule, Rule], seed: int
) -> None:
    series = random_walk(seed)
    finished = run(
        compile_strategy({"template": template, "parameters": parameters}),
        config(200, start=30 * MINUTE),
        market_of(series),
    )
    expected: list[tuple[int, str]] = []
    for step in range(200):
        history = series[0].bars[: 30 + step]
        so_far = tuple([getattr(b, name) for b in history] for name in ("high", "low", "close"))
        if rules[len(expected) % 2](*so_far):
            expected.append((30 + step, "sell" if len(expected) % 2 else "buy"))
    assert [(s.time // MINUTE, s.action) for s in finished.signals] == expected
    assert len(expected) > 4
    for signal in finished.signals:
        fill = finished.session.order(signal.order_id or 0).fill
        assert fill is not None
        assert fill.price == Decimal(repr(series[0].bars[signal.time // MINUTE - 1].close))


def run_template(template: str, closes: Sequence[float], steps: int, **parameters: Any) -> Run:
    strategy = compile_strategy({"template": template, "parameters": parameters})
    return run(strategy, config(steps), market_of(minutes(list(closes))))


def test_buy_and_hold_buys_once() -> None:
    finished = run_template("tpl_buy_and_hold", [10, 20, 30, 40, 50], 3, equity_share=1)
    assert ordered(finished) == [(1, "buy", "100", "10")]


def test_dca_buys_for_the_same_amount_every_so_many_candles() -> None:
    finished = run_template("tpl_dca", [10, 20, 25, 40, 50, 80], 5, quote_amount=100, every=2)
    assert ordered(finished) == [
        (1, "buy", "10", "10"),
        (3, "buy", "4", "25"),
        (5, "buy", "2", "50"),
    ]


def test_guards_of_a_template_are_orders() -> None:
    closes = [10, 9, 8, 7, 8, 10, 12, 12, 12, 12.0]
    options = {"fast": 1, "slow": 3, "take_profit_pct": 10, "stop_loss_pct": 5}
    finished = run_template("tpl_sma_cross", closes, 9, equity_share=0.5, **options)
    # 8 is above the mean of 8, 7 and 8 at minute 5; 10 % above it is reached on the way to 10.
    assert ordered(finished) == [(5, "buy", "62.5", "8"), (6, "sell", "62.5", "8.8")]
    assert [order.type for order in finished.session.orders] == [
        "market",
        "stop_loss",
        "take_profit",
    ]


def test_a_grid_buys_each_level_and_sells_it_one_level_up() -> None:
    """Levels 80, 90, 100 and 110; three buys for 300 each; the one at 100 fills at once."""
    closes = [100, 90, 80, 85, 95, 105, 100, 89, 90]
    finished = run_template(
        "tpl_grid", closes, 8, grid_levels=4, lower_price=80, upper_price=110, equity_share=0.9
    )
    assert ordered(finished) == [
        (1, "buy", "3", "100"),
        (2, "buy", "3.33333333", "90"),
        (3, "buy", "3.75", "80"),
        (5, "sell", "3.75", "90"),
        (6, "sell", "3.33333333", "100"),
        (8, "buy", "3.33333333", "90"),
    ]
    pending = [
        (order.side, f"{order.trigger.normalize():f}")
        for order in finished.session.orders
        if order.reason == "session_end"
    ]
    assert sorted(pending) == [("buy", "80"), ("sell", "100"), ("sell", "110")]


def test_the_prices_of_a_grid() -> None:
    grid = Grid(lower="1", upper="2", levels=4, size=Size(quote=1))
    third = Decimal("1.3333333333333333")
    assert grid_levels(grid) == [1, third, Decimal("1.6666666666666667"), 2]


@FEWER
@given(cases(), st.data())
def test_a_grid_does_what_an_agent_does_that_looks_at_every_candle(
    case: Case, data: st.DataObject
) -> None:
    one = tuple(series for series in case.market if series.symbol == case.symbols[0])
    one = one[:1]
    market, options = market_of(one), session_config(case.config)
    options.clock = Clock.between(options.start_time, options.end_time, one[0].interval)
    low = min(bar.low for bar in one[0].bars)
    span = max(bar.high for bar in one[0].bars) - low or low / 10
    lower = max(low + span * data.draw(st.sampled_from([0.1, 0.3, -0.1])), low / 2)
    levels = data.draw(st.integers(2, 6))
    content = {
        "grid": {
            "lower": lower,
            "upper": lower + span * 0.6,
            "levels": levels,
            "size": {"quote": float(options.starting_balance) * 0.9},
        }
    }
    finished = run(compile_strategy(content), options, market)
    by_hand = Session(options, market)
    grid_by_hand(by_hand, one[0], content["grid"])
    assert outcome(finished.session) == outcome(by_hand)


def grid_by_hand(session: Session, series: Series, grid: dict[str, Any]) -> None:
    prices = grid_levels(Grid(**{**grid, "size": Size(**grid["size"])}))
    completions = {bar.open_time + series.interval for bar in series.bars}
    slots: list[Any] = []
    is_placed = False
    last = session.time - 1
    cash = Decimal(repr(grid["size"]["quote"])).quantize(Decimal("1e-8"))
    while session.status == "running":
        if any(last < time <= session.time for time in completions):
            if not is_placed:
                is_placed = True
                for low in prices[:-1]:
                    part = (cash / (len(prices) - 1)).quantize(Decimal("1e-8"), "ROUND_HALF_UP")
                    slots.append(buy(session, series.symbol, low, part))
            for place, order in enumerate(slots):
                slots[place] = answered(session, order, prices[place], prices[place + 1])
        last = session.time
        session.step()


def buy(session: Session, symbol: str, price: Decimal, cash: Decimal) -> Any:
    cash = min(cash, session.account.available_cash)
    quantity = (
        session.affordable(symbol=symbol, cash=cash, type="limit", price=price) if cash else 0
    )
    return quantity and placed(session, symbol, "buy", quantity, price)


def answered(session: Session, order: Any, low: Decimal, high: Decimal) -> Any:
    while order and session.order(order.id).status == "filled":
        side, price = ("sell", high) if order.side == "buy" else ("buy", low)
        order = placed(session, order.symbol, side, order.quantity, price)
    return order


def placed(session: Session, symbol: str, side: str, quantity: Any, price: Decimal) -> Any:
    try:
        return session.place_order(
            symbol=symbol, side=side, type="limit", quantity=quantity, price=price
        )
    except SandboxError:
        return None
