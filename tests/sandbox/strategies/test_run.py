"""Running a strategy equals stepping a session: the same orders, fills and results."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from math import gcd
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from candlestep.sandbox import INTERVALS, InvalidParameter, SessionConfig
from candlestep.sandbox.clock import Clock
from candlestep.sandbox.strategies import Cancelled, compile_strategy, run
from tests.support.card_agent import follow
from tests.support.cards import cards
from tests.support.case_strategies import cases, other_futures
from tests.support.runs import FEWER, MINUTE, config, minutes, ordered, outcome, run_or_skip, until
from tests.support.session_cases import Bar, Case, Series, market_of, session_config


def in_steps_of(config: SessionConfig, timeframe: str | None) -> SessionConfig:
    """Return the configuration whose steps the agent of the tests takes."""
    in_steps = copy(config)
    if timeframe is not None:
        interval = gcd(config.clock.interval, INTERVALS[timeframe])
        in_steps.clock = Clock.between(config.start_time, config.end_time, interval)
    return in_steps


@FEWER
@given(cases(), cards())
def test_a_card_does_what_an_agent_does_by_hand(case: Case, content: dict[str, Any]) -> None:
    market, config = market_of(case.market), session_config(case.config)
    finished = run_or_skip(content, config, market)
    by_hand = follow(content, in_steps_of(config, content.get("timeframe")), market)
    assert outcome(finished.session) == outcome(by_hand)


@FEWER
@given(cases(), cards(), st.data())
def test_no_order_depends_on_what_comes_later(
    case: Case, content: dict[str, Any], data: st.DataObject
) -> None:
    """Changing or removing every candle after some time changes nothing before it."""
    config = session_config(case.config)
    now = data.draw(st.integers(case.config.start, case.config.end), label="now")
    other = data.draw(other_futures(case, now), label="other")
    if data.draw(st.booleans(), label="cut"):
        other = cut(other, now)
    assume({series.symbol for series in other} == set(case.symbols))
    finished = run_or_skip(content, config, market_of(case.market))
    changed = run_or_skip(content, config, market_of(other))
    assert until(finished, now) == until(changed, now)


def cut(market: tuple[Series, ...], now: int) -> tuple[Series, ...]:
    """Return the candles that have opened by ``now``; the open of a running one is known."""
    series_so_far = (
        replace(series, bars=tuple(bar for bar in series.bars if bar.open_time <= now))
        for series in market
    )
    return tuple(series for series in series_so_far if series.bars)


RISE = {"left": "close", "op": ">", "right": "open"}
FALL = {"left": "close", "op": "<", "right": "open"}
ON_RISES = {
    "entries": [{"when": RISE, "size": {"equity_share": 1}}],
    "exits": [{"when": FALL}],
}


def test_a_signal_is_acted_on_when_its_candle_is_complete_at_its_close() -> None:
    market = market_of(minutes([10, 12, 16, 20, 19, 19, 20, 25]))
    finished = run(compile_strategy(ON_RISES), config(6), market)
    # 1000 buys 83.33333333 at 12; sold at 19: 1583.33333327 and 0.00000004 of change.
    assert ordered(finished) == [
        (2, "buy", "83.33333333", "12"),
        (5, "sell", "83.33333333", "19"),
    ]
    # The candle that completes at the session's last step is not acted on.
    assert finished.session.time == 7 * MINUTE
    assert finished.candles == 6
    assert [(s.time // MINUTE, s.action, s.order_id) for s in finished.signals] == [
        (2, "buy", 1),
        (5, "sell", 2),
    ]


def test_stop_and_target_are_orders_that_trigger_inside_candles_and_cancel_each_other() -> None:
    closes = [100.0, 101.0, 98.0, 102.0, 103.0, 101.5, 105.0, 105.0]
    card = {
        "timeframe": "5m",
        "entries": [
            {
                "every": 1,
                "size": {"quantity": 1},
                "stop_loss": {"percent": 2},
                "take_profit": {"percent": "1.5"},
            }
        ],
    }
    market = market_of(minutes([100.0] * 5 + closes))
    finished = run(compile_strategy(card), config(8, start=5 * MINUTE), market)
    # Bought at minute 5 for 100: stop at 98, target at 101.5. Minute 8 falls to 98.
    assert ordered(finished) == [
        (5, "buy", "1", "100"),
        (8, "sell", "1", "98"),
        (10, "buy", "1", "103"),
        (12, "sell", "1", "104.545"),
    ]
    kinds = [(o.type, o.status, o.reason) for o in finished.session.orders]
    assert kinds[:3] == [
        ("market", "filled", None),
        ("stop_loss", "filled", None),
        ("take_profit", "cancelled", "oco"),
    ]


def test_a_trailing_stop_of_a_card_follows_the_price_and_ends_the_other_guards() -> None:
    card = {
        "entries": [
            {
                "every": 100,
                "size": {"quantity": 1},
                "stop_loss": {"percent": 5},
                "trailing_stop": {"percent": 2},
            }
        ],
    }
    market = market_of(minutes([100.0, 100.0, 101.0, 104.0, 101.0, 101.0, 101.0]))
    finished = run(compile_strategy(card), config(5), market)
    # Bought at minute 1 for 100. From the best price of 104, 2 % less is 101.92.
    assert ordered(finished) == [(1, "buy", "1", "100"), (5, "sell", "1", "101.92")]
    kinds = [(o.type, o.status, o.reason) for o in finished.session.orders]
    assert kinds == [
        ("market", "filled", None),
        ("stop_loss", "cancelled", "oco"),
        ("trailing_stop", "filled", None),
    ]


def test_an_equity_share_is_divided_evenly_among_the_symbols() -> None:
    card = {"entries": [{"every": 1, "size": {"equity_share": 0.8}}]}
    market = market_of(minutes([10.0] * 5) + minutes([40.0] * 5, "BBBUSDT"))
    finished = run(compile_strategy(card), config(3), market)
    assert ordered(finished) == [(1, "buy", "40", "10"), (1, "buy", "10", "40")]
    alone = run(compile_strategy({**card, "symbols": ["BBBUSDT"]}), config(3), market)
    assert ordered(alone) == [(1, "buy", "20", "40")]


def test_what_the_exchange_refuses_is_a_signal_without_an_order() -> None:
    card = {"entries": [{"every": 1, "add": True, "size": {"quote": 600}}]}
    finished = run(compile_strategy(card), config(3), market_of(minutes([10.0] * 5)))
    assert [(s.time // MINUTE, s.order_id, s.refused) for s in finished.signals] == [
        (1, 1, None),
        (2, None, "INSUFFICIENT_BALANCE"),
        (3, None, "INSUFFICIENT_BALANCE"),
    ]


def test_the_steps_are_those_of_the_timeframe_unless_the_configuration_has_finer_ones() -> None:
    market = market_of(minutes([10.0] * 60))
    card = compile_strategy({**ON_RISES, "timeframe": "5m"})
    coarse = run(card, config(30, candle_interval="15m"), market)
    assert coarse.session.total_steps == 6
    fine = run(card, config(30, candle_interval="1m"), market)
    assert fine.session.total_steps == 30
    assert compile_strategy(ON_RISES).timeframe is None
    # Candles complete at minutes 15 and 30; the second is seen at the last step, too late.
    assert run(compile_strategy(ON_RISES), config(30, candle_interval="15m"), market).candles == 1


def test_a_market_without_the_symbol_or_the_timeframe_is_refused() -> None:
    market = market_of((Series("AAAUSDT", 60 * MINUTE, (Bar(0, 1, 1, 1, 1, 1),)),))
    with pytest.raises(InvalidParameter, match=r"timeframe: 1m is finer than the data of AAAUSDT"):
        run(compile_strategy({**ON_RISES, "timeframe": "1m"}), config(3), market)
    with pytest.raises(Exception, match="no symbol 'XXX'"):
        run(compile_strategy({**ON_RISES, "symbols": ["XXX"]}), config(3), market)


def test_progress_goes_from_0_to_1_and_is_told_sparingly() -> None:
    closes = [10.0 + k % 2 for k in range(2_000)]
    reported: list[float] = []
    market = market_of(minutes(closes))
    run(compile_strategy(ON_RISES), config(1_990), market, reported.append)
    assert reported == sorted(set(reported))
    assert (reported[0], reported[-1]) == (0, 1)
    assert 50 < len(reported) <= 101
    program = compile_strategy({"source": "def on_candle(ctx): pass"})
    reported.clear()
    run(program, config(1_990), market, reported.append)
    assert (reported[0], reported[-1]) == (0, 1)


@pytest.mark.parametrize(
    "content",
    [ON_RISES, {"source": "def on_candle(ctx):\n    for _ in range(1000): ctx.close + 1\n"}],
)
def test_a_run_ends_when_it_is_cancelled(content: dict[str, Any]) -> None:
    market = market_of(minutes([10.0 + k % 2 for k in range(2_000)]))
    polls = 0

    def cancelled() -> bool:
        nonlocal polls
        polls += 1
        return polls > 3

    with pytest.raises(Cancelled):
        run(compile_strategy(content), config(1_990), market, cancelled=cancelled)
    assert polls == 4
    with pytest.raises(Cancelled):
        run(compile_strategy(content), config(1_990), market, cancelled=lambda: True)
