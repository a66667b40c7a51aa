"""Coverage: what a session may rest on, what it says of missing candles, and the share that is not."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from candlestep.sandbox import (
    Candles,
    InvalidParameter,
    Market,
    NoPrice,
    Session,
    SessionConfig,
    SessionWarning,
)
from candlestep.sandbox.clock import HOUR, MINUTE
from candlestep.sandbox.market.coverage import MOST_WARNINGS
from candlestep.sandbox.strategies import compile_strategy, signal_plan
from tests.support.candles import flat, minutes
from tests.support.case_strategies import cases
from tests.support.session_cases import Case, market_of, session_config


def session(market: list[Candles], start: int, end: int, **settings: Any) -> Session:
    config = SessionConfig(start_time=start, end_time=end, starting_balance=1000, **settings)
    return Session(config, Market(market))


def spans(warnings: tuple[SessionWarning, ...]) -> list[tuple[str, str | None, int, int]]:
    """Return the code, the symbol and the minutes of each warning."""
    return [
        (warning.code, warning.symbol, warning.start // MINUTE, warning.end // MINUTE)
        for warning in warnings
    ]


def at(symbol: str, *opens: int, interval: str = "1m") -> Candles:
    """Return flat candles that open at these minutes."""
    return flat(symbol, interval, **{f"t{minute}": 5.0 for minute in opens})


# The range that a session may use


@given(cases())
def test_a_session_is_refused_if_a_step_at_its_ends_lies_outside_all_candles(case: Case) -> None:
    config, market = session_config(case.config), market_of(case.market)
    config.allow_gaps = False
    time_lines = [market.candles_of(symbol) for symbol in market.symbols]
    first = min(candles.open_time.min() for candles in time_lines)
    last = max(candles.complete_time.max() for candles in time_lines)
    if first <= config.clock.time(0) and config.clock.time(config.clock.total_steps) <= last:
        Session(config, market)
        return
    with pytest.raises(NoPrice) as refused:
        Session(config, market)
    assert refused.value.code == "NO_DATA"


def test_a_session_may_use_all_of_its_candles_and_no_step_more() -> None:
    market = [minutes("A", *[5.0] * 10)]
    assert session(market, 0, 10 * MINUTE).warnings == ()
    almost_one_more = 11 * MINUTE - 1
    assert session(market, 0, almost_one_more).total_steps == 10, "its last step is within"
    with pytest.raises(NoPrice) as late:
        session(market, 0, 11 * MINUTE)
    assert late.value.details == {
        "field": "end_time",
        "from": "1970-01-01T00:00:00Z",
        "to": "1970-01-01T00:10:00Z",
    }
    assert late.value.message == (
        "end_time: the last step, at 1970-01-01T00:11:00Z, is after the last candle: there are"
        " candles of A from 1970-01-01T00:00:00Z to 1970-01-01T00:10:00Z; stay within that range,"
        " or set allow_gaps to true"
    )
    with pytest.raises(NoPrice) as early:
        session(market, -1, 5 * MINUTE)
    assert early.value.details["field"] == "start_time"
    assert session(market, -MINUTE, 11 * MINUTE, allow_gaps=True).total_steps == 12


def test_the_range_is_that_of_all_pairs_together() -> None:
    early, late = minutes("A", *[5.0] * 5), minutes("B", *[5.0] * 5, start=8 * MINUTE)
    assert session([early, late], 0, 13 * MINUTE).total_steps == 13
    with pytest.raises(NoPrice, match="candles of A, B from"):
        session([early, late], 0, 14 * MINUTE)


def test_engines_that_plan_their_signals_are_refused_alike() -> None:
    card = compile_strategy({"template": "tpl_buy_and_hold", "symbols": ["A"], "timeframe": "1m"})
    config = SessionConfig(start_time=0, end_time=20 * MINUTE, starting_balance=1000)
    with pytest.raises(NoPrice, match="end_time"):
        signal_plan(card, config, Market([minutes("A", *[5.0] * 10)]))


@pytest.mark.parametrize("value", [1, "true", None])
def test_allow_gaps_is_true_or_false(value: Any) -> None:
    with pytest.raises(InvalidParameter, match="allow_gaps: must be true or false"):
        SessionConfig(start_time=0, end_time=HOUR, starting_balance=1, allow_gaps=value)


# What it says


@given(cases())
def test_shares_and_warnings_are_those_of_a_loop_over_the_candles(case: Case) -> None:
    config, market = session_config(case.config), market_of(case.market)
    clock = config.clock
    opened = Session(config, market)
    steps = [clock.time(step) for step in range(1, clock.total_steps + 1)]
    expected: list[tuple[str, int, int]] = []
    for symbol in market.symbols:
        series = market.candles_of(symbol)
        candles = list(zip(series.open_time.tolist(), series.complete_time.tolist(), strict=True))
        covered = [step for step in steps if any(a < step <= b for a, b in candles)]
        assert opened.coverage[symbol] == len(covered) / len(steps)
        # Between the instants at which anything begins or ends, all is covered or nothing is.
        instants = sorted({clock.start, clock.end, *(t for pair in candles for t in pair)})
        instants = [time for time in instants if clock.start <= time <= clock.end]
        for a, b in pairwise(instants):
            if not any(first <= a and b <= last for first, last in candles):
                if expected and expected[-1][0] == symbol and expected[-1][2] == a:
                    a = expected.pop()[1]
                expected.append((symbol, a, b))
    if len(expected) <= MOST_WARNINGS:
        assert [(w.symbol, w.start, w.end) for w in opened.warnings] == expected


def test_each_stretch_without_candles_is_named() -> None:
    whole, holed = minutes("A", *[5.0] * 10), at("B", 2, 3, 5, 6)
    opened = session([whole, holed, at("C", 20)], 0, 10 * MINUTE)
    assert opened.coverage == {"A": 1.0, "B": 0.4, "C": 0.0}
    assert spans(opened.warnings) == [
        ("GAP", "B", 0, 2),
        ("GAP", "B", 4, 5),
        ("GAP", "B", 7, 10),
        ("NO_CANDLES", "C", 0, 10),
    ]
    assert opened.warnings[1].message == (
        "B has no candles from 1970-01-01T00:04:00Z to 1970-01-01T00:05:00Z: its price stays as it"
        " is, or is missing, and no pending order triggers"
    )
    assert opened.fork().warnings == opened.warnings


def test_a_step_is_covered_after_the_open_of_a_candle_up_to_its_completion() -> None:
    hours = at("A", 0, 120, interval="1h")
    opened = session([hours], 0, 180 * MINUTE, candle_interval="15m")
    assert opened.coverage == {"A": 8 / 12}, "15 … 60 and 135 … 180, both ends included"
    in_days = session([hours], 0, 180 * MINUTE, candle_interval="1h")
    assert in_days.coverage == {"A": 2 / 3}


def test_of_coarse_and_fine_candles_only_what_neither_covers_is_missing() -> None:
    merged = [at("A", 0, 1, 2, 12, 13), at("A", 5, interval="5m")]
    opened = session(merged, 0, 14 * MINUTE)
    assert spans(opened.warnings) == [("GAP", "A", 3, 5), ("GAP", "A", 10, 12)]
    assert opened.coverage == {"A": 10 / 14}


def test_the_longest_of_many_gaps_are_named_and_the_rest_counted() -> None:
    odd = at("A", *range(0, 100, 2), 105)
    opened = session([odd, at("B", 0, 50, 106)], 0, 107 * MINUTE)
    named, more = opened.warnings[:-1], opened.warnings[-1]
    assert len(opened.warnings) == MOST_WARNINGS
    assert {("GAP", "A", 99, 105), ("GAP", "B", 1, 50), ("GAP", "B", 51, 106)} <= set(spans(named))
    assert spans(named) == sorted(spans(named)), "by symbol and time"
    assert (more.code, more.symbol) == ("MORE_GAPS", None)
    assert more.message.startswith("34 shorter stretches without candles, of 1 symbol, are not")
    assert (more.start, more.end) == (33 * MINUTE, 107 * MINUTE)
