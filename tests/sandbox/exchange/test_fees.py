"""The fee of a fill under each fee model, worked out by hand, and the lock of a pending buy."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    Candles,
    Fill,
    InvalidParameter,
    Market,
    Order,
    Session,
    SessionConfig,
)
from candlestep.sandbox.clock import DAY, INTERVALS, MINUTE, format_time
from candlestep.sandbox.exchange.costs.fees import TIERS, TradedVolume, parse_fees
from tests.support.case_strategies import fees
from tests.support.session_cases import Fees

MINUTES = 60


def session(
    *,
    interval: int = MINUTE,
    balance: str = "100000",
    lows: dict[int, float] | None = None,
    **config: Any,
) -> Session:
    """Open a session on candles of price 100, except for some lows, after the first candle."""
    low = [(lows or {}).get(index, 100.0) for index in range(MINUTES + 1)]
    flat = [100.0] * len(low)
    names = {length: name for name, length in INTERVALS.items()}
    market = Market(
        Candles(
            symbol=symbol,
            interval=names[interval],
            open_time=[interval * index for index in range(len(low))],
            open=flat,
            high=flat,
            low=low,
            close=flat,
        )
        for symbol in ("AUSDT", "BUSDT")
    )
    settings: dict[str, Any] = {"slippage": {"model": "none"}} | config
    return Session(
        SessionConfig(
            start_time=interval,
            end_time=interval * (MINUTES + 1),
            starting_balance=balance,
            candle_interval=names[interval],
            **settings,
        ),
        market,
    )


def trade(
    session: Session, side: str, quantity: object, type: str = "market", **order: Any
) -> Order:
    order = {"symbol": "AUSDT"} | order
    return session.place_order(side=side, type=type, quantity=str(quantity), **order)


def fee_of(order: Order) -> Decimal:
    assert order.fill is not None
    return order.fill.fee


# The models.


def test_a_session_pays_a_tenth_of_a_percent_unless_it_says_otherwise() -> None:
    assert fee_of(trade(session(), "buy", 1)) == Decimal("0.1")
    assert fee_of(trade(session(fee_rate="0.002"), "buy", 1)) == Decimal("0.2")


def test_none_is_free() -> None:
    free = session(fee_model="none")
    assert trade(free, "buy", 2, "limit", price="50").locked_cash == 100
    assert fee_of(trade(free, "buy", 1)) == 0
    assert fee_of(trade(free, "sell", 1)) == 0
    assert free.portfolio().total_equity == 100_000


@pytest.mark.parametrize(
    ("options", "fee"), [({}, "0.05"), ({"fee_bps": "12.5"}, "0.125"), ({"fee_bps": 0}, "0")]
)
def test_basis_points_are_hundredths_of_a_percent_and_five_of_them_the_default(
    options: dict[str, Any], fee: str
) -> None:
    assert fee_of(trade(session(fee_model="fixed_bps", **options), "buy", 1)) == Decimal(fee)


def test_a_tier_is_reached_by_what_was_traded_before() -> None:
    tiered = session(fee_model="tiered_maker_taker")
    # 6,000 each, of a volume of 0 and of 6,000: the first tier, 0.10 %.
    assert [fee_of(trade(tiered, side, 60)) for side in ("buy", "sell")] == [6, 6]
    # Of a volume of 12,000, that of both symbols: the second, 0.09 %.
    assert fee_of(trade(tiered, "buy", 1, symbol="BUSDT")) == Decimal("0.09")


def test_a_tier_begins_with_its_volume_exactly() -> None:
    below, at = (session(fee_model="tiered_maker_taker") for _ in range(2))
    trade(below, "buy", "99.9999")
    trade(at, "buy", 100)
    assert fee_of(trade(below, "sell", 1)) == Decimal("0.1")
    assert fee_of(trade(at, "sell", 1)) == Decimal("0.09")


@pytest.mark.parametrize(("days", "fee"), [(29, "0.09"), (30, "0.1")])
def test_a_fill_counts_for_less_than_thirty_days(days: int, fee: str) -> None:
    tiered = session(interval=DAY, fee_model="tiered_maker_taker")
    trade(tiered, "buy", 100)
    tiered.step(days)
    assert fee_of(trade(tiered, "sell", 1)) == Decimal(fee)


def test_only_a_limit_that_rested_is_a_maker() -> None:
    """A low of 90 triggers every pending order; tier 1 is 0.08 % and 0.10 %."""
    tiered = session(fee_model="tiered_maker_taker", lows={1: 90.0}, liquidate_at_end=True)
    assert fee_of(trade(tiered, "buy", 1, "limit", price="100")) == Decimal("0.1")
    resting = trade(tiered, "buy", 1, "limit", price="95")
    target = trade(tiered, "buy", 1, "take_profit", trigger_price="92")
    stop = trade(tiered, "sell", 1, "stop_loss", trigger_price="91")
    tiered.step()
    assert fee_of(tiered.order(resting.id)) == Decimal("0.076")
    assert fee_of(tiered.order(target.id)) == Decimal("0.092")
    assert fee_of(tiered.order(stop.id)) == Decimal("0.091")
    tiered.step(MINUTES)
    assert tiered.orders[-1].reason == "liquidate_at_end"
    assert fee_of(tiered.orders[-1]) == Decimal("0.2")  # Of two, at 100.


def entry(begins: int, maker: str, taker: str, **more: Any) -> dict[str, Any]:
    """Return an entry of a schedule that begins at this step of a session of minutes."""
    return {"from": format_time(MINUTE * (begins + 1)), "maker": maker, "taker": taker} | more


def test_the_rate_is_that_of_the_date() -> None:
    schedule = [entry(-1, "0.001", "0.002"), entry(2, "0.003", "0.004")]
    dated = session(fee_model="match_exchange", fee_schedule=schedule, lows={2: 90.0, 3: 90.0})
    assert fee_of(trade(dated, "buy", 1)) == Decimal("0.2")
    dated.step()
    assert fee_of(trade(dated, "buy", 1)) == Decimal("0.2")
    resting = trade(dated, "buy", 1, "limit", price="95")
    dated.step()  # It fills at step 2, when the candle is complete, at the rates of that time.
    assert fee_of(dated.order(resting.id)) == Decimal("0.285")
    assert fee_of(trade(dated, "buy", 1)) == Decimal("0.4")


def test_a_period_that_names_symbols_is_for_them_alone_and_ends() -> None:
    promotion = entry(0, "0", "0", until=format_time(MINUTE * 3), symbols=["AUSDT"])
    schedule = [entry(-9, "0.001", "0.001", source="of no account"), promotion]
    dated = session(fee_model="match_exchange", fee_schedule=schedule)
    for at_step, fee in ((0, "0"), (1, "0"), (2, "0.1")):
        assert dated.step_number == at_step
        assert fee_of(trade(dated, "buy", 1)) == Decimal(fee)
        assert fee_of(trade(dated, "buy", 1, symbol="BUSDT")) == Decimal("0.1")
        dated.step()


# What is locked.


def test_a_buy_locks_the_highest_fee_of_the_session_and_gives_it_back_to_the_last_digit() -> None:
    """1 at 95 is 95: locked with 0.4 %, bought with a maker's 0.1 %."""
    schedule = [
        entry(-99, "0.05", "0.05"),  # Over before the session begins.
        entry(-1, "0.001", "0.002"),
        entry(MINUTES - 1, "0.003", "0.004"),
        entry(MINUTES + 1, "0.06", "0.06"),  # Begins after it has ended.
        entry(0, "0.07", "0.07", symbols=["BUSDT"]),
    ]
    dated = session(fee_model="match_exchange", fee_schedule=schedule, lows={1: 95.0})
    filled = trade(dated, "buy", 1, "limit", price="95")
    cancelled = trade(dated, "buy", 1, "limit", price="50")
    assert filled.locked_cash == Decimal("95.38")
    assert cancelled.locked_cash == Decimal("50.2")
    dated.step()
    assert dated.portfolio().locked_cash == Decimal("50.2")
    assert dated.portfolio().available_cash == 100_000 - Decimal("95.095") - Decimal("50.2")
    dated.cancel_order(cancelled.id)
    assert dated.portfolio().locked_cash == 0
    assert dated.portfolio().available_cash == 100_000 - Decimal("95.095")


def test_with_tiers_a_buy_locks_the_fee_of_a_taker_without_volume() -> None:
    tiered = session(fee_model="tiered_maker_taker")
    trade(tiered, "buy", 500)
    assert trade(tiered, "buy", 1, "limit", price="50").locked_cash == Decimal("50.05")


def test_tiers_never_rise_with_volume_and_makers_never_pay_more() -> None:
    assert TIERS[0].volume == 0
    for lower, higher in pairwise(TIERS):
        assert lower.volume < higher.volume
        assert (lower.maker, lower.taker) > (higher.maker, higher.taker)
    assert all(tier.maker < tier.taker for tier in TIERS)


# The volume of 30 days.


def fill_of(time: int, amount: Decimal) -> Fill:
    one = Decimal(1)
    return Fill(1, 1, "A", "buy", "market", one, amount, amount, Decimal(0), Decimal(0), None, time)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, DAY, 10 * DAY, 30 * DAY - 1, 30 * DAY, 90 * DAY]),
            st.none() | st.decimals(0, 10**24, places=8),
        ),
        max_size=40,
    )
)
def test_the_volume_is_the_sum_of_thirty_days(steps: list[tuple[int, Decimal | None]]) -> None:
    """The sum is read now and then, while time passes and fills come in."""
    volume, fills = TradedVolume(), list[Fill]()
    times = accumulate(passed for passed, _ in steps)
    for time, (_, amount) in zip(times, steps, strict=True):
        if amount is not None:
            fills.append(fill_of(time, amount))
        else:
            counted = [f for f in fills if time - 30 * DAY < f.time <= time]
            assert volume.at(time, fills) == sum(Fraction(f.quote_amount) for f in counted)


# What is refused.

BASE = entry(-1, "0.001", "0.001")
EARLIER = entry(-9, "0.001", "0.001")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"fee_model": "magic"}, "fee_model"),
        ({"fee_model": ["none"]}, "fee_model"),
        ({"fee_model": "none", "fee_rate": "0.001"}, "fee_rate"),
        ({"fee_model": "fixed_bps", "fee_rate": "0.001"}, "fee_rate"),
        ({"fee_bps": 5}, "fee_bps"),
        ({"fee_model": "none", "fee_bps": 5}, "fee_bps"),
        ({"fee_model": "tiered_maker_taker", "fee_bps": 5}, "fee_bps"),
        ({"fee_model": "match_exchange", "fee_bps": 5, "fee_schedule": [BASE]}, "fee_bps"),
        ({"fee_schedule": [BASE]}, "fee_schedule"),
        ({"fee_model": "none", "fee_schedule": [BASE]}, "fee_schedule"),
        ({"fee_model": "match_exchange"}, "fee_schedule"),
    ],
)
def test_fees_that_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        session(**options)
    assert refusal.value.details["field"] == field
    assert len(refusal.value.message) < 200


@pytest.mark.parametrize(
    "number",
    [-1, 5001, "NaN", "1e400", True, float("inf"), 10**6000, [], {}, "5,5", b"5"],
    ids=range(11),
)
def test_basis_points_are_a_number_from_0_to_5000(number: Any) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        session(fee_model="fixed_bps", fee_bps=number)
    assert refusal.value.details["field"] == "fee_bps"
    assert len(refusal.value.message) < 200


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ([], "fee_schedule"),
        ({}, "fee_schedule"),
        ("x", "fee_schedule"),
        ([BASE] * 1001, "fee_schedule"),
        ([None], "fee_schedule[0]"),
        ([[[[]]]], "fee_schedule[0]"),
        ([BASE | {"fees": 1}], "fee_schedule[0]"),
        ([BASE | {"from": None}], "fee_schedule[0].from"),
        ([BASE, {"from": "2020", "maker": 0, "taker": 0}], "fee_schedule[1].from"),
        ([BASE | {"maker": "NaN"}], "fee_schedule[0].maker"),
        ([BASE | {"maker": -1}], "fee_schedule[0].maker"),
        ([BASE | {"taker": "1.1"}], "fee_schedule[0].taker"),
        ([BASE | {"taker": None}], "fee_schedule[0].taker"),
        ([BASE | {"until": BASE["from"]}], "fee_schedule[0].until"),
        ([BASE | {"symbols": []}], "fee_schedule[0].symbols"),
        ([BASE | {"symbols": "AUSDT"}], "fee_schedule[0].symbols"),
        ([BASE | {"symbols": [1]}], "fee_schedule[0].symbols"),
        # Two at once.
        ([BASE, BASE], "fee_schedule"),
        ([EARLIER | {"until": format_time(5 * MINUTE)}, BASE], "fee_schedule"),
        ([BASE, *[entry(3, "0", "0", symbols=["AUSDT"])] * 2], "fee_schedule"),
        # Nothing is known of the session's start, its end, or a time within.
        ([entry(1, "0", "0")], "fee_model"),
        ([BASE | {"symbols": ["AUSDT"]}], "fee_model"),
        ([BASE | {"until": format_time((MINUTES + 1) * MINUTE)}], "fee_model"),
        ([BASE | {"until": format_time(5 * MINUTE)}, entry(9, "0", "0")], "fee_model"),
        ([EARLIER | {"until": format_time(MINUTE)}], "fee_model"),
    ],
)
def test_schedules_that_are_refused(schedule: Any, field: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        session(fee_model="match_exchange", fee_schedule=schedule)
    assert refusal.value.details["field"] == field
    assert len(refusal.value.message) < 250


def test_a_schedule_that_just_covers_the_session() -> None:
    just = entry(0, "0.5", "0.5", until=format_time((MINUTES + 1) * MINUTE + 1))
    exact = session(fee_model="match_exchange", fee_schedule=[just])
    exact.step(MINUTES - 1)
    assert fee_of(trade(exact, "buy", 1)) == 50


# What a configuration says of itself.


def parsed(settings: dict[str, Any]) -> Any:
    names = ("fee_rate", "fee_model", "fee_bps", "fee_schedule")
    options = {name: settings.pop(name, None) for name in names}
    assert not settings
    return parse_fees(**options, start=DAY, end=2 * DAY)


@given(fees(DAY, MINUTE, DAY // MINUTE, ["AUSDT", "BUSDT"]))
def test_the_settings_of_fees_make_the_same_fees(given_fees: Fees) -> None:
    first = parsed(given_fees.settings)
    again = parsed(first.settings())
    assert again == first
    assert again.settings() == first.settings()


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {"fee_rate": "0.001"}),
        ({"fee_rate": 1e-4}, {"fee_rate": "0.0001"}),
        ({"fee_model": "none"}, {"fee_model": "none"}),
        ({"fee_model": "fixed_bps"}, {"fee_model": "fixed_bps", "fee_bps": "5"}),
        (
            {"fee_model": "match_exchange", "fee_schedule": [EARLIER | {"source": "x"}]},
            {
                "fee_model": "match_exchange",
                "fee_schedule": [
                    {"from": "1969-12-31T23:52:00Z", "maker": "0.001", "taker": "0.001"}
                ],
            },
        ),
    ],
)
def test_settings_are_plain_data(options: dict[str, Any], settings: dict[str, Any]) -> None:
    assert session(**options).config.costs.fees.settings() == settings
