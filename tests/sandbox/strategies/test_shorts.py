"""Strategies that sell perpetuals short: the commands of an agent, and numbers worked by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from candlestep.sandbox import (
    FundingRates,
    InvalidParameter,
    Market,
    NoPrice,
    SessionConfig,
    interval_name,
)
from candlestep.sandbox.strategies import ProgramFailed, Run, compile_strategy, run
from tests.sandbox.strategies.test_run import in_steps_of
from tests.support import perpetual_strategies
from tests.support.card_agent import follow
from tests.support.cards import two_sided_cards
from tests.support.perpetual_cases import Case
from tests.support.perpetual_sessions import market_of as perpetual_market
from tests.support.perpetual_sessions import session_config
from tests.support.runs import FEWER, config, minutes, ordered, outcome, run_or_skip
from tests.support.session_cases import market_of

PERP = "AAAUSDT-PERP"
FALL = {"left": "close", "op": "<", "right": "open"}
RISE = {"left": "close", "op": ">", "right": "open"}


def on_perpetual(content: dict[str, Any], closes: list[float], **options: Any) -> Run:
    options = {"market_type": "perp", "funding": False, **options}
    market = market_of(minutes(closes, PERP))
    return run(compile_strategy(content), config(len(closes) - 1, **options), market)


@FEWER
@given(perpetual_strategies.cases(), two_sided_cards())
def test_a_card_does_what_an_agent_does_by_hand(case: Case, content: dict[str, Any]) -> None:
    """Entries of both sides, reversals, guards, funding and liquidations included."""
    market, settings = perpetual_market(case), session_config(case.config, case.symbols)
    content["timeframe"] = interval_name(max(series.interval for series in case.market))
    in_steps = in_steps_of(settings, content["timeframe"])
    try:
        finished = run_or_skip(content, settings, market)
    except NoPrice:
        with pytest.raises(NoPrice, match="funding rate"):
            follow(content, in_steps, market)
        return
    by_hand = follow(content, in_steps, market)
    assert outcome(finished.session) == outcome(by_hand)


def test_a_short_of_all_equity_is_margined_in_full_and_gains_by_the_fall() -> None:
    card = {
        "entries": [{"when": FALL, "side": "short", "size": {"equity_share": 1}}],
        "exits": [{"when": RISE}],
    }
    finished = on_perpetual(card, [20, 16, 10, 12, 12])
    # 1000 sells 62.5 at 16, buys them back at 12: 62.5 * 4 = 250.
    assert ordered(finished) == [(2, "sell", "62.5", "16"), (4, "buy", "62.5", "12")]
    assert finished.session.results().total_pnl == 250
    assert [signal.action for signal in finished.signals] == ["sell", "buy"]


def test_a_share_of_equity_is_margin_so_that_leverage_multiplies_the_position() -> None:
    card = {"entries": [{"when": FALL, "side": "short", "size": {"equity_share": 0.5}}]}
    options = {"leverage": 5, "fee_rate": "0.001", "slippage": {"model": "fixed_bps", "bps": 100}}
    finished = on_perpetual(card, [20, 16, 16, 16], **options)
    (fill,) = finished.session.fills
    # Sold at 15.84. A unit takes 16 / 5 of margin, 0.16 of loss at the mark and 0.01584 of fee.
    assert fill.price == Decimal("15.84")
    assert fill.quantity == Decimal("148.11128489")
    available = finished.session.margin().available_balance
    assert 500 <= available <= 500 + Decimal("0.00000010")


def test_the_bound_of_a_leverage_bounds_the_size() -> None:
    card = {"entries": [{"when": FALL, "side": "short", "size": {"equity_share": 1}}]}
    tiers = [
        {"floor": 0, "mmr": "0.01", "max_leverage": 50},
        {"floor": 4000, "mmr": "0.05", "max_leverage": 10},
    ]
    finished = on_perpetual(card, [20, 16, 16], leverage=20, margin_tiers=tiers)
    assert ordered(finished) == [(2, "sell", "250", "16")], "4000 / 16"


def test_guards_of_a_short_lie_on_the_other_side_and_one_cancels_the_other() -> None:
    card = {
        "entries": [
            {
                "when": FALL,
                "side": "short",
                "size": {"quantity": 10},
                "stop_loss": {"percent": 25},
                "take_profit": {"percent": 50},
            }
        ]
    }
    finished = on_perpetual(card, [20, 16, 18, 7, 7])
    assert ordered(finished)[:2] == [(2, "sell", "10", "16"), (4, "buy", "10", "8")]
    stop = finished.session.order(2)
    assert (stop.side, stop.type, stop.trigger_price) == ("buy", "stop_loss", 20)
    assert (stop.status, stop.reason, stop.reduce_only) == ("cancelled", "oco", True)
    stopped = on_perpetual(card, [20, 16, 22, 22])
    assert ordered(stopped)[1] == (3, "buy", "10", "20")


def test_an_exit_and_an_entry_of_the_other_side_reverse_a_position() -> None:
    card = {
        "entries": [
            {"when": RISE, "size": {"quantity": 2}},
            {"when": FALL, "side": "short", "size": {"quantity": 3}},
        ],
        "exits": [{"when": FALL, "side": "long"}, {"when": RISE, "side": "short"}],
    }
    finished = on_perpetual(card, [10, 12, 9, 8, 11, 11])
    assert ordered(finished) == [
        (2, "buy", "2", "12"),
        (3, "sell", "2", "9"),
        (3, "sell", "3", "9"),
        (5, "buy", "3", "11"),
        (5, "buy", "2", "11"),
    ]


def test_a_liquidation_between_two_signals_is_seen() -> None:
    """The next entry is not skipped although nothing was pending."""
    card = {"entries": [{"when": FALL, "side": "short", "size": {"equity_share": 0.5}}]}
    options = {"leverage": 10, "margin_mode": "isolated"}
    finished = on_perpetual(card, [20, 16, 18, 16, 16], **options)
    (liquidated,) = finished.session.liquidations
    assert [fill.side for fill in finished.session.fills] == ["sell", "buy", "sell"]
    assert liquidated.order_id == 2
    # The isolated wallet of 500 is lost; half of the other 500 is the margin of the next short.
    assert finished.session.fills[2].quantity == Decimal("156.25"), "250 * 10 / 16"


def test_a_short_grid_mirrors_a_long_one() -> None:
    grid = {"lower": 10, "upper": 14, "levels": 3, "size": {"quantity": 8}, "side": "short"}
    finished = on_perpetual({"grid": grid}, [11, 11, 12, 15, 9, 12])
    # Sells at 12 and 14, each bought back 2 below, and sold again.
    assert ordered(finished) == [
        (3, "sell", "4", "12"),
        (4, "sell", "4", "14"),
        (5, "buy", "4", "12"),
        (5, "buy", "4", "10"),
        (6, "sell", "4", "12"),
    ]


PARAMETERS: dict[str, dict[str, Any]] = {
    "tpl_sma_cross": {"fast": 2, "slow": 4},
    "tpl_ema_cross": {"fast": 2, "slow": 4},
    "tpl_rsi": {"period": 3, "oversold": 40, "overbought": 60},
    "tpl_bollinger": {"period": 4, "deviations": 1},
    "tpl_breakout": {"lookback": 3, "exit_lookback": 2},
    "tpl_macd": {"fast": 2, "slow": 4, "signal": 2},
}
WAVES: list[float] = [100 + 10 * ((k * k) % 7) - k % 5 for k in range(60)]


@pytest.mark.parametrize("template", PARAMETERS)
def test_a_template_both_ways_is_what_its_two_sides_are(template: str) -> None:
    """Entries of each side in the mirrored market are those of the other; both has all of them."""

    def entered(direction: str, closes: list[float]) -> dict[int, str]:
        parameters = {**PARAMETERS[template], "direction": direction, "equity_share": 0.1}
        content = {"template": template, "parameters": parameters}
        finished = on_perpetual(content, closes)
        opened = [fill for fill in finished.session.fills if not fill.closed_quantity]
        return {fill.time: fill.side for fill in opened}

    longs, shorts = entered("long", WAVES), entered("short", WAVES)
    assert set(longs.values()) == {"buy"}
    assert set(shorts.values()) == {"sell"}
    mirrored = entered("short", [200 - close for close in WAVES])
    assert list(mirrored) == list(longs)
    both = entered("both", WAVES)
    assert set(both.values()) == {"buy", "sell"}
    assert set(both.items()) <= {*longs.items(), *shorts.items()}


@pytest.mark.parametrize(
    ("content", "ordered_first"),
    [
        ({"template": "tpl_buy_and_hold", "parameters": {"direction": "short"}}, "79.166667"),
        (
            {"template": "tpl_dca", "parameters": {"direction": "short", "quote_amount": 12}},
            "1",
        ),
    ],
)
def test_templates_that_hold_can_hold_shorts(content: dict[str, Any], ordered_first: str) -> None:
    finished = on_perpetual(content, [12, 12, 12, 12])
    assert finished.session.fills[0].side == "sell"
    assert round(finished.session.fills[0].quantity, 6) == Decimal(ordered_first)


def test_a_template_that_is_long_is_written_as_before() -> None:
    plain = compile_strategy({"template": "tpl_rsi"})
    told = compile_strategy({"template": "tpl_rsi", "parameters": {"direction": "long"}})
    assert plain == told
    assert "direction" not in plain.content["parameters"]
    short = compile_strategy({"template": "tpl_rsi", "parameters": {"direction": "short"}})
    assert short.content["parameters"]["direction"] == "short"
    assert short.id != plain.id


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"entries": [{"every": 1, "size": {"quantity": 1}, "side": "short"}]}, "entries[0].side"),
        (
            {
                "grid": {
                    "lower": 1,
                    "upper": 2,
                    "levels": 2,
                    "size": {"quantity": 1},
                    "side": "short",
                }
            },
            "grid.side",
        ),
        ({"template": "tpl_macd", "parameters": {"direction": "both"}}, "parameters.direction"),
    ],
)
def test_a_short_on_spot_is_refused_in_words(content: dict[str, Any], field: str) -> None:
    market = market_of(minutes([10, 11, 12]))
    with pytest.raises(InvalidParameter, match="trade a perpetual such as BTCUSDT-PERP") as refusal:
        run(compile_strategy(content), config(2), market)
    assert refusal.value.details["field"] == field


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"entries": [{"every": 1, "size": {"quantity": 1}, "side": "up"}]}, "entries[0].side"),
        (
            {
                "entries": [
                    {
                        "every": 1,
                        "size": {"quantity": 1},
                        "side": "short",
                        "take_profit": {"percent": 100},
                    }
                ]
            },
            "entries[0].take_profit.percent",
        ),
        (
            {"template": "tpl_rsi", "parameters": {"direction": "both", "take_profit_pct": 100}},
            "parameters.take_profit_pct",
        ),
        (
            {"template": "tpl_buy_and_hold", "parameters": {"direction": "both"}},
            "parameters.direction",
        ),
    ],
)
def test_what_cannot_be_short_is_refused_by_its_place(content: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        compile_strategy(content)
    assert refusal.value.details["field"] == field


# Programs


def program(body: str) -> dict[str, Any]:
    return {
        "source": "def on_candle(ctx):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    }


def test_a_program_sees_its_short_with_its_sign_and_buys_it_back() -> None:
    source = program(
        "held, entry = ctx.position, ctx.entry_price\n"
        "if held == 0 and ctx.close == 16:\n"
        '    ctx.short(equity_share=0.5, stop_loss={"percent": 50})\n'
        "elif held < 0:\n"
        "    if held != -31.25 or entry != 16 or ctx.cash != 500:\n"
        '        fail("%s %s %s" % (held, entry, ctx.cash))\n'
        "    ctx.buy()"
    )
    finished = on_perpetual(source, [20, 16, 12, 13, 13])
    assert ordered(finished) == [(2, "sell", "31.25", "16"), (3, "buy", "31.25", "12")]
    assert finished.session.order(2).trigger_price == 24
    assert finished.session.order(2).reason == "position_closed"


def test_guards_are_for_the_part_that_an_entry_opened() -> None:
    """Not for what it closed, and there are none if it only closed."""
    source = program(
        "if ctx.close == 16:\n"
        "    ctx.short(quantity=10)\n"
        "elif ctx.close == 15:\n"
        '    ctx.buy(quantity=4, stop_loss={"percent": 50})\n'
        "elif ctx.close == 14:\n"
        '    ctx.buy(quantity=8, stop_loss={"percent": 50})'
    )
    finished = on_perpetual(source, [20, 16, 15, 14, 13])
    assert [fill.side for fill in finished.session.fills] == ["sell", "buy", "buy"]
    (guard,) = finished.session.orders[3:]
    assert (guard.side, guard.type, guard.quantity, guard.trigger_price) == (
        "sell", "stop_loss", 2, 7,
    )  # fmt: skip


def test_a_program_sees_funding_and_liquidation_as_they_happen() -> None:
    """Its cash falls with a payment, and its position is gone after a liquidation."""
    source = program(
        'if ctx.position == 0 and not ctx.state.get("done"):\n'
        '    ctx.state["done"] = True\n'
        "    ctx.short(quantity=100)\n"
        'ctx.state.setdefault("seen", []).append((ctx.position, ctx.cash))\n'
        "if ctx.close == 21:\n"
        '    fail(str(ctx.state["seen"]))'
    )
    (series,) = minutes([10, 10, 10, 10, 20, 21, 21], PERP)
    spot = market_of((series,))
    rates = FundingRates(PERP, [4 * 60_000], [-0.01], [60_000 * 60])
    market = Market([spot.candles_of(PERP)], funding=[rates])
    settings = config(6, market_type="perp", funding_rate_default=0, leverage=2)
    with pytest.raises(ProgramFailed) as failure:
        run(compile_strategy(source), settings, market)
    # 100 at 10 are shorted for 500 of margin; the payment is 100 * 10 * 0.01.
    assert (
        "[(0.0, 1000.0), (-100.0, 500.0), (-100.0, 490.0), (0.0, 0.0), (0.0, 0.0)]"
        in failure.value.message
    )


def test_a_program_that_sells_short_on_spot_fails_in_words() -> None:
    market = market_of(minutes([10, 11, 12]))
    with pytest.raises(ProgramFailed, match=r"line 2: .*trade a perpetual") as failure:
        run(compile_strategy(program("ctx.short(quantity=1)")), config(2), market)
    assert failure.value.details["line"] == 2


def test_an_indicator_may_be_called_short_on_spot_alone() -> None:
    source = {
        "source": 'indicators = {"short": {"kind": "sma", "period": 1}}\n'
        "def on_candle(ctx):\n    ctx.buy(quantity=ctx.short)\n"
    }
    market = market_of(minutes([10, 11, 12, 12]))
    finished = run(compile_strategy(source), config(3), market)
    assert ordered(finished) == [(2, "buy", "11", "11"), (3, "buy", "12", "12")]
    with pytest.raises(ProgramFailed, match=r"indicators\.short: ctx already has"):
        on_perpetual(source, [10, 11, 12, 12])


def test_a_mixed_market_is_traded_by_its_kind() -> None:
    """A card without symbols trades the perpetuals of a market that has spot pairs too."""
    market = market_of((*minutes([10, 9, 8, 8]), *minutes([10, 9, 8, 8], "BBBUSDT-PERP")))
    card = {"entries": [{"when": FALL, "side": "short", "size": {"equity_share": 1}}]}
    settings = config(3, market_type="perp", funding=False)
    assert isinstance(settings, SessionConfig)
    finished = run(compile_strategy(card), settings, market)
    assert {fill.symbol for fill in finished.session.fills} == {"BBBUSDT-PERP"}
    assert finished.session.fills[0].quantity == Decimal("111.11111111"), "all of the equity"
