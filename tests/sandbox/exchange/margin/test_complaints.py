"""What users of other simulators complained of, each as a test; the numbers are their reports'."""

from decimal import Decimal
from typing import Any

import pytest

from candlestep.sandbox import FundingRates, NoPrice
from candlestep.sandbox.clock import HOUR, MINUTE
from tests.support.perpetual_markets import BTC, ETH, bars, perp_session

FREE: dict[str, Any] = {"fee_rate": 0, "liquidation": {"fee_rate": 0}}
HOURLY: dict[str, Any] = {"candle_interval": "1h", "start_time": 0, **FREE}


def amounts(session: Any) -> list[Decimal]:
    return [payment.amount for payment in session.funding_payments]


def test_a_positive_rate_costs_a_long() -> None:
    """Reports 6231 and 7291 of freqtrade."""
    for side, expected in (("buy", Decimal(-1)), ("sell", Decimal(1))):
        rates = FundingRates(BTC, [2 * MINUTE], [0.01])
        session = perp_session(bars(BTC, 100, 100, 100), funding=[rates], **FREE)
        session.place_order(symbol=BTC, side=side, quantity=1)
        session.step(2)
        assert amounts(session) == [expected]


def test_a_position_that_grows_pays_on_what_it_holds_at_each_settlement() -> None:
    """Reports 9626 and 13263 of freqtrade: "overcounted when increasing"."""
    rates = FundingRates(BTC, [HOUR, 2 * HOUR, 3 * HOUR], [0.001] * 3)
    session = perp_session(bars(BTC, *[100] * 4, interval="1h"), funding=[rates], **HOURLY)
    for quantity in (1, 2, 4):
        session.place_order(symbol=BTC, side="buy", quantity=quantity)
        session.step()
    assert amounts(session) == [Decimal(amount) for amount in ("-0.1", "-0.3", "-0.7")]


def test_intervals_differ_by_symbol_and_change() -> None:
    """Reports 12583 and 12599 of freqtrade: 8, 4 and 1 hours. There is no grid, but rows."""
    times = [8, 16, 20, 24, 25, 26]
    rates = [
        FundingRates(BTC, [hour * HOUR for hour in times], [0.001] * 6),
        FundingRates(ETH, [hour * HOUR for hour in range(1, 27)], [0.001] * 26),
    ]
    candles = [bars(symbol, *[100] * 26, interval="1h") for symbol in (BTC, ETH)]
    session = perp_session(*candles, funding=rates, **HOURLY)
    for symbol in (BTC, ETH):
        session.place_order(symbol=symbol, side="sell", quantity=1)
    session.step(26)
    paid = [p.time // HOUR for p in session.funding_payments if p.symbol == BTC]
    assert paid == times
    assert len(session.funding_payments) == 6 + 26


@pytest.mark.parametrize("interval", ["1m", "1h", "1d"])
def test_a_settlement_is_paid_once_whatever_the_candles(interval: str) -> None:
    """Neither missed by coarse candles nor charged at each bar: report 9801 of LEAN, "roughly 58x"."""
    rates = FundingRates(BTC, [hour * HOUR for hour in (8, 16, 24)], [0.001] * 3)
    count = {"1m": 1440, "1h": 24, "1d": 1}[interval]
    session = perp_session(
        bars(BTC, *[100] * count, interval=interval),
        funding=[rates],
        candle_interval=interval,
        start_time=0,
        **FREE,
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.step(count)
    assert amounts(session) == [Decimal("-0.1")] * 3


def test_rates_that_are_missing_are_never_0_in_silence() -> None:
    """Report 10888 of freqtrade; and after the last row none of an old rate (LEAN, 9801)."""
    candles = bars(BTC, *[100] * 48, interval="1h")
    rates = FundingRates(BTC, [8 * HOUR, 16 * HOUR], [0.001] * 2)
    settings: dict[str, Any] = HOURLY | {"funding_rate_default": None}
    with pytest.raises(NoPrice, match="no funding rate at 1970-01-02T00:00:00Z") as refusal:
        perp_session(candles, funding=[rates], **settings)
    assert refusal.value.details["missing"] == 4
    # A contract that ends has none after its last candle.
    session = perp_session(
        bars(ETH, *[100] * 48, interval="1h"),
        bars(BTC, *[100] * 20, interval="1h"),
        funding=[rates],
        **HOURLY | {"funding_rate_default": 0},
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.step(48)
    assert amounts(session) == [Decimal("-0.1")] * 2


def test_the_tier_is_that_of_the_notional() -> None:
    """Report 10422 of freqtrade took that of the collateral, a tenth of it."""
    tiers = [
        {"floor": 0, "mmr": "0.01", "max_leverage": 20},
        {"floor": 5_000, "mmr": "0.05", "max_leverage": 10},
    ]
    session = perp_session(bars(BTC, 100, 100), margin_tiers=tiers, **FREE)
    session.place_order(symbol=BTC, side="buy", quantity=100)
    # 10,000 x 5 % less 200; by the collateral of 1,000 it would be 100.
    assert session.margin().maintenance_margin == 300


@pytest.mark.parametrize(("side", "price"), [("buy", 110), ("sell", 90)])
def test_profits_of_others_hold_a_cross_position_up(side: str, price: float) -> None:
    """Reports 11318 and 13456 of freqtrade: their sign counts."""
    session = perp_session(
        bars(BTC, 100, 100, (100, 110, 90, price), price, price),
        bars(ETH, 100, 100, 100, (100, 100, 85, 90), 90),
        starting_balance=100,
        leverage=20,
        **FREE,
    )
    session.place_order(symbol=BTC, side=side, quantity=5)
    session.place_order(symbol=ETH, side="buy", quantity=8)
    session.step(3)
    # 100 + 50 - 120 at the low is more than maintenance; without the 50 it would be a debt.
    assert len(session.liquidations) == 0
    assert session.portfolio().total_equity == 70


def test_a_wick_liquidates_although_the_close_would_not() -> None:
    session = perp_session(
        bars(BTC, 100, 100, (100, 101, 50, 100), 100), starting_balance=100, **FREE
    )
    session.place_order(symbol=BTC, side="buy", quantity=5)
    session.step(2)
    assert len(session.liquidations) == 1


def test_a_short_dies_without_leverage() -> None:
    session = perp_session(
        bars(BTC, 100, 100, (100, 199, 100, 199), (199, 201, 190, 190)),
        starting_balance=100,
        leverage=1,
        **FREE,
    )
    session.place_order(symbol=BTC, side="sell", quantity=1)
    session.step(2)
    assert len(session.liquidations) == 0
    session.step()
    assert len(session.liquidations) == 1
    # 200 = 1.004 p
    assert round(session.liquidations[0].price, 8) == Decimal("199.20318725")


@pytest.mark.parametrize(("stop", "is_saved"), [("83", True), ("79", False)])
def test_a_stop_that_lies_nearer_comes_first(stop: str, is_saved: bool) -> None:
    """Report 9296 of freqtrade: liquidated before the stop, in the same candle."""
    session = perp_session(bars(BTC, 100, 100, (100, 100, 50, 60)), starting_balance=100, **FREE)
    session.place_order(symbol=BTC, side="buy", quantity=5)
    session.place_order(symbol=BTC, side="sell", type="stop_loss", quantity=5, trigger_price=stop)
    step = session.step(2)
    assert bool(step.liquidations) != is_saved
    # 100 + 5 p - 500 = 0.02 p puts the threshold at 80.32.
    assert step.portfolio.total_equity == (15 if is_saved else Decimal("1.6064257"))


def test_a_flip_leaves_nothing_of_the_old_side() -> None:
    """Its threshold, its guards and its funding are those of the new side."""
    session = perp_session(
        bars(BTC, 100, 100, (100, 100, 75, 100), (100, 126, 100, 100), 100),
        funding=[FundingRates(BTC, [2 * MINUTE], [0.01])],
        starting_balance=100,
        leverage=5,
        **FREE,
    )
    session.place_order(symbol=BTC, side="buy", quantity=4)
    guard = session.place_order(
        symbol=BTC, side="sell", type="stop_loss", quantity=4, trigger_price=85
    )
    session.place_order(symbol=BTC, side="sell", quantity=8)
    assert session.order(guard.id).reason == "position_closed"
    step = session.step(2)
    assert (len(step.liquidations), [payment.amount for payment in step.funding]) == (0, [4])
    step = session.step()
    assert [liquidation.side for liquidation in step.liquidations] == ["buy"]


def test_there_are_no_profits_after_ruin() -> None:
    """Reports 2909 of OctoBot and 2530 of nautilus: a position that was never liquidated recovers."""
    session = perp_session(
        bars(BTC, 100, 100, (100, 100, 85, 85), (85, 300, 85, 300), 300),
        starting_balance=100,
        margin_mode="isolated",
    )
    session.place_order(symbol=BTC, side="buy", quantity=9)
    step = session.step(4)
    assert (step.portfolio.total_equity < 11, len(step.liquidations)) == (True, 1)
