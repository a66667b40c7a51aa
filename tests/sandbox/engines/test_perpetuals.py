"""Perpetuals through every engine: shorts without leverage and funding, the rest refused by name."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from candlestep.sandbox import Candles, InvalidParameter, Market, SessionConfig
from candlestep.sandbox.engines import run_engine
from candlestep.sandbox.engines.run import check_engine
from candlestep.sandbox.strategies import compile_strategy
from tests.sandbox.engines.test_engines import (
    HOUR,
    LEAST,
    OTHERS,
    assert_alike,
    config,
    hours,
    installed,
    through,
)
from tests.support.cards import two_sided_cards
from tests.support.case_strategies import cases
from tests.support.session_cases import Case, market_of, session_config

PERP = "AAAUSDT-PERP"
ON_PERPETUALS: dict[str, Any] = {"market_type": "perp", "funding": False}
BOTH_WAYS = {
    "entries": [
        {"when": {"left": "close", "op": "<", "right": 100}, "size": {"equity_share": 0.5}},
        {
            "when": {"left": "close", "op": ">=", "right": 100},
            "side": "short",
            "size": {"equity_share": 1},
        },
    ],
    "exits": [
        {"when": {"left": "close", "op": ">=", "right": 100}, "side": "long"},
        {"when": {"left": "close", "op": "<", "right": 100}, "side": "short"},
    ],
}


@settings(
    max_examples=max(1, settings().max_examples // 3), suppress_health_check=list(HealthCheck)
)
@given(case=cases(), content=two_sided_cards(), name=st.sampled_from(OTHERS), data=st.data())
def test_any_card_of_rules_comes_to_the_same(
    case: Case, content: dict[str, Any], name: str, data: st.DataObject
) -> None:
    """Reversals included; where the sandbox liquidates, the other engine is refused by name."""
    installed(name)
    for entry in content["entries"]:
        entry.pop("stop_loss", None)
        entry.pop("take_profit", None)
    case_config = session_config(case.config)
    session = SessionConfig(
        start_time=case_config.start_time,
        end_time=case_config.end_time,
        starting_balance=case_config.starting_balance,
        candle_interval=case_config.clock.interval // 1000,
        fee_rate=data.draw(st.sampled_from(["0", "0.001", "0.25"]), label="fee"),
        slippage={"model": "fixed_bps", "bps": data.draw(st.sampled_from([0, 5, 300]))},
        liquidate_at_end=case_config.liquidate_at_end,
        allow_gaps=True,
        **ON_PERPETUALS,
    )
    market = market_of(
        tuple(replace(series, symbol=f"{series.symbol}-PERP") for series in case.market)
    )
    try:
        ours = through("sandbox", content, session, market)
    except InvalidParameter as refusal:
        assume(refusal.details["field"] != "timeframe")
        raise
    assume(all(fill.quote_amount > LEAST for fill in ours.fills))
    if ours.results.liquidations:
        with pytest.raises(InvalidParameter, match="lacks margin") as refused:
            through(name, content, session, market)
        assert refused.value.details["feature"] == "liquidation"
        return
    lacks = None
    try:
        theirs = through(name, content, session, market)
    except InvalidParameter as refusal:
        lacks = refusal.details["feature"]
    if lacks is not None or ours.results.insurance:
        assert lacks == "insurance"
        # Elsewhere only a gain in another symbol, which is no cash yet, pays for the short.
        assert ours.results.insurance or len(market.symbols) > 1
        return
    assume(all(fill.quote_amount > LEAST for fill in theirs.fills))
    assert_alike(theirs, ours)


@pytest.mark.parametrize("name", ["sandbox", *OTHERS])
def test_a_position_that_is_reversed_by_hand(name: str) -> None:
    market = Market([hours([100, 100, 80, 90, 120, 120], PERP)])
    options = {"start_time": HOUR, "end_time": 6 * HOUR, "starting_balance": "1000"}
    free = config(**options, fee_rate=0, slippage={"model": "none"}, **ON_PERPETUALS)
    outcome = through(installed(name), BOTH_WAYS, free, market)
    # 10 are shorted at 100 and bought back at 80; half of 1,200 buys 7.5 at 80, which are sold at
    # 120 for 300 more; all of 1,500 shorts 12.5.
    assert [(fill.side, fill.quantity, fill.price) for fill in outcome.fills] == [
        ("sell", 10, 100),
        ("buy", 10, 80),
        ("buy", Decimal("7.5"), 80),
        ("sell", Decimal("7.5"), 120),
        ("sell", Decimal("12.5"), 120),
    ]
    assert [(trade.side, trade.pnl) for trade in outcome.trades] == [("sell", 200), ("buy", 300)]
    assert outcome.results.final_equity == 1500
    assert outcome.results.mark_source == "last"
    (position,) = outcome.positions
    assert position.quantity == Decimal("-12.5")


def test_marks_do_not_matter_to_other_engines() -> None:
    """They value positions at last prices, while the sandbox values them at marks."""
    candles, marks = hours([100, 100, 100], PERP), hours([100, 100, 110], PERP)
    market = Market([candles], marks=[marks])
    card = {"entries": [{"every": 1, "side": "short", "size": {"quantity": 1}}]}
    options = {"start_time": HOUR, "end_time": 3 * HOUR, "starting_balance": "1000"}
    free = config(**options, fee_rate=0, slippage={"model": "none"}, **ON_PERPETUALS)
    for name, equity in (("sandbox", 990), (installed("vectorbt"), 1000)):
        assert through(name, card, free, market).results.final_equity == equity


def test_a_loss_beyond_the_account_is_refused_by_name() -> None:
    market = Market([hours([100, 210, 210], PERP)])
    card = {
        "entries": [{"every": 1, "side": "short", "size": {"quantity": 7}}],
        "exits": [{"when": {"left": "close", "op": ">", "right": 200}, "side": "short"}],
    }
    options = {"start_time": HOUR, "end_time": 3 * HOUR, "starting_balance": "1000"}
    settings_ = config(**options, fee_rate="0.25", slippage={"model": "none"}, **ON_PERPETUALS)
    # A fee of 175, a loss of 770 and a fee of 367.5 come to 1312.5.
    assert through("sandbox", card, settings_, market).results.insurance == Decimal("312.5")
    for name in OTHERS:
        with pytest.raises(
            InvalidParameter, match=r"costs 1,837\.50, and the cash is 1,525\.00"
        ) as refusal:
            through(installed(name), card, settings_, market)
        assert refusal.value.details["feature"] == "insurance"


def test_a_short_that_doubles_its_price_is_refused_by_name() -> None:
    candles = Candles(
        symbol=PERP,
        interval="1h",
        open_time=[k * HOUR for k in range(4)],
        open=[100.0, 100.0, 100.0, 100.0],
        high=[100.0, 100.0, 250.0, 100.0],
        low=[100.0, 100.0, 100.0, 100.0],
        close=[100.0, 100.0, 100.0, 100.0],
    )
    card = {"entries": [{"every": 1, "side": "short", "size": {"equity_share": 1}}]}
    options = {"start_time": HOUR, "end_time": 4 * HOUR, "starting_balance": "1000"}
    settings_ = config(**options, fee_rate=0, slippage={"model": "none"}, **ON_PERPETUALS)
    with pytest.raises(InvalidParameter, match="lacks margin at 1970-01-01T03:00:00Z") as refusal:
        through(installed("vectorbt"), card, settings_, Market([candles]))
    assert refusal.value.details["feature"] == "liquidation"


@pytest.mark.parametrize(
    ("feature", "options"),
    [
        ("leverage", {"leverage": 2}),
        ("leverage", {"leverage": {PERP: 3}}),
        ("funding", {"funding": True}),
        ("margin_mode", {"margin_mode": "isolated"}),
        ("settle_at_data_end", {"settle_at_data_end": True}),
    ],
)
@pytest.mark.parametrize("name", OTHERS)
def test_what_an_engine_cannot_do_is_refused_by_name(
    name: str, feature: str, options: dict[str, Any]
) -> None:
    strategy = compile_strategy({"template": "tpl_rsi", "parameters": {"direction": "both"}})
    settings_ = config(**ON_PERPETUALS | options)
    with pytest.raises(InvalidParameter, match=f"engine: {name} .*sandbox") as refusal:
        run_engine(installed(name), strategy, settings_, Market([hours([1, 2], PERP)]))
    assert refusal.value.details == {"field": "engine", "feature": feature}
    check_engine("sandbox", strategy, settings_)


@pytest.mark.parametrize("name", ["sandbox", *OTHERS])
def test_a_short_on_spot_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(InvalidParameter, match="trade a perpetual") as refusal:
        check_engine(installed(name), compile_strategy(BOTH_WAYS), config())
    assert refusal.value.details["field"] == "entries[1].side"
