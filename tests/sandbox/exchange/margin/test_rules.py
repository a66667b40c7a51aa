"""Rules of margin accounts that a plain reading would get wrong, with numbers worked by hand."""

from decimal import Decimal
from typing import Any

import pytest

from candlestep.sandbox import (
    FilterViolated,
    FundingRates,
    Holding,
    Instrument,
    InsufficientMargin,
    InvalidParameter,
    LeveragedRiskProfile,
    MarginTiers,
    RiskLimitExceeded,
    RiskProfile,
    Session,
    SessionConfig,
)
from candlestep.sandbox.clock import DAY, HOUR, MINUTE
from candlestep.sandbox.exchange.margin.corridor import CrossPosition, corridor_exit
from tests.support.perpetual_markets import BTC, ETH, bars, perp_session

FREE: dict[str, Any] = {"fee_rate": 0, "liquidation": {"fee_rate": 0}}


def rates(*rows: tuple[int, float], symbol: str = BTC) -> FundingRates:
    times, values = zip(*rows, strict=True)
    return FundingRates(symbol, list(times), list(values), interval=[DAY] * len(rows))


# What happens at one instant, and in which sequence


def test_funding_comes_before_the_margin_check_and_that_before_expiries() -> None:
    session = perp_session(
        bars(BTC, 100, 100, 100, 100),
        funding=[rates((2 * MINUTE, 0.4))],
        starting_balance=30,
        leverage=5,
        **FREE,
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    waiting = session.place_order(
        symbol=BTC, side="sell", type="limit", quantity=1, price=150,
        reduce_only=True, expires_at=2 * MINUTE,
    )  # fmt: skip
    step = session.step()
    assert [payment.amount for payment in step.funding] == [-40]
    # It is the liquidation that ends the order, although its time has come too.
    assert [(order.id, order.reason) for order in step.orders_closed] == [
        (waiting.id, "liquidation")
    ]
    assert (step.liquidations[0].closed_pnl, step.liquidations[0].insurance) == (0, 10)


def test_what_a_midnight_settles_belongs_to_the_new_day() -> None:
    session = perp_session(
        bars(BTC, *[100] * 48, start=0, interval="1h"),
        candle_interval="1h",
        start_time=DAY - 2 * HOUR,
        funding=[rates((DAY, 0.05))],
        starting_balance=100,
        risk=LeveragedRiskProfile(daily_loss_limit_pct=Decimal(4)),
        **FREE,
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.step(2)
    with pytest.raises(RiskLimitExceeded) as refusal:
        session.place_order(symbol=BTC, side="buy", quantity="0.01")
    # 5 of the 100 with which the day began, before its first settlement.
    assert (refusal.value.details["allowed"], refusal.value.details["attempted"]) == (4, 5)


# Floats are filters


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(("quantity", "price"), [("0.7", 0.1), ("3", 19.99), ("11.3", 61234.56)])
def test_the_candle_at_the_threshold_is_decided_in_decimals(
    side: str, quantity: str, price: float
) -> None:
    """The nearest price without liquidation and the next one with it differ by 1e-8."""
    balance = Decimal(quantity) * Decimal(str(price)) / 10
    probe = perp_session(bars(BTC, price, price, price), starting_balance=balance, **FREE)
    probe.place_order(symbol=BTC, side=side, quantity=quantity)
    (held,) = probe.positions()
    threshold: Decimal = held.liquidation_price  # type: ignore[attr-defined]
    worse = threshold.quantize(Decimal("1e-8"), "ROUND_FLOOR" if side == "buy" else "ROUND_CEILING")
    better = worse + (Decimal("1e-8") if side == "buy" else Decimal("-1e-8"))
    for extreme, count in ((better, 0), (worse, 1)):
        low, high = (extreme, price) if side == "buy" else (price, extreme)
        session = perp_session(
            bars(BTC, price, price, (price, float(high), float(low), price)),
            starting_balance=balance,
            **FREE,
        )
        session.place_order(symbol=BTC, side=side, quantity=quantity)
        session.step(2)
        assert len(session.liquidations) == count


def test_without_a_corridor_the_next_candles_are_looked_at() -> None:
    """What is left of the margin is less than 1e-9 of the notional: no fraction is safe."""
    line = bars(BTC, *[100.0] * 9)
    tiers = MarginTiers.parse([{"floor": 0, "mmr": "0.01", "max_leverage": 50}])
    held = [
        CrossPosition.of(Holding(symbol, Decimal(1), Decimal(100)), tiers, line)
        for symbol in (BTC, ETH)
    ]
    for wallet, expected in ((2 + 1e-8, 3 * MINUTE), (2.1, None)):
        assert corridor_exit(wallet, held, 2 * MINUTE, close_only=False) == expected


# Liquidations as fills


def test_a_liquidation_counts_in_fees_and_in_the_volume_of_thirty_days() -> None:
    session = perp_session(
        bars(BTC, 10_000, 10_000, (10_000, 10_000, 8_000, 8_000), 8_000, 8_000),
        bars(ETH, *[100] * 5),
        starting_balance=1_010,
        margin_mode="isolated",
        fee_rate=None,
        fee_model="tiered_maker_taker",
    )
    session.place_order(symbol=BTC, side="buy", quantity="0.5")
    session.step(2)
    (liquidation,) = session.liquidations
    assert liquidation.fee > 0
    assert session.fills[-1].slippage == 0
    assert session.results().total_fees == 5 + liquidation.fee
    # 5,000 and about 4,518 were traded; the fill that passes 10,000 still pays the first tier.
    paid = [
        session.place_order(symbol=ETH, side="buy", quantity=size).fill.fee  # type: ignore[union-attr]
        for size in (5, 5)
    ]
    assert paid == [Decimal("0.5"), Decimal("0.45")]


# Margin


def test_a_refusal_names_the_margin_that_is_needed_and_available() -> None:
    session = perp_session(bars(BTC, 100, 100), starting_balance=100, fee_rate="0.001")
    with pytest.raises(InsufficientMargin) as refusal:
        session.place_order(symbol=BTC, side="sell", quantity=10)
    # 100 of margin at 10x, and the fee of 1.
    assert refusal.value.details == {"required": 101, "available": 100}
    assert session.orders == []


def test_an_isolated_opening_takes_no_more_than_the_cross_wallet() -> None:
    """Although a profit of 50 at the mark makes 100 available."""
    session = perp_session(
        bars(BTC, 100, 100, (100, 150, 100, 150), 150), bars(ETH, *[100] * 4),
        starting_balance=60, leverage=5, **FREE,
    )  # fmt: skip
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.set_margin_mode(ETH, "isolated")
    session.step(2)
    assert session.margin().available_balance == 80
    with pytest.raises(InsufficientMargin):
        session.place_order(symbol=ETH, side="buy", quantity="3.00000001")
    session.place_order(symbol=ETH, side="buy", quantity=3)
    assert session.margin().cross_wallet == 0


def test_margins_are_rounded_up() -> None:
    session = perp_session(bars(BTC, 100, 100), leverage=3, **FREE)
    session.place_order(symbol=BTC, side="sell", quantity="0.01")
    assert session.margin().initial_margin == Decimal("0.33333334")
    assert session.portfolio().locked_cash == Decimal("0.33333334")


# Reduce-only orders and filters


def test_dust_can_leave_although_filters_forbid_its_quantity() -> None:
    filters = {"step_size": "0.1", "min_quantity": "0.5", "min_notional": "50", "tick_size": 1}
    session = perp_session(
        bars(BTC, 100, 100, (100, 110, 100, 110), 110),
        instruments=[Instrument.parse({"symbol": BTC, "filters": filters})],
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    for quantity, reduce_only in (("0.33", None), ("0.33", False), ("1.05", True)):
        with pytest.raises(FilterViolated):
            session.place_order(symbol=BTC, side="sell", quantity=quantity, reduce_only=reduce_only)
    with pytest.raises(FilterViolated, match="tick_size"):
        session.place_order(
            symbol=BTC, side="sell", type="take_profit", quantity="0.33", trigger_price="109.5"
        )
    session.place_order(symbol=BTC, side="sell", quantity="0.33", reduce_only=True)
    session.place_order(
        symbol=BTC, side="sell", type="take_profit", quantity="0.67", trigger_price=110
    )
    session.step(2)
    assert session.positions() == ()


def test_a_reduce_only_order_says_what_would_be_accepted() -> None:
    session = perp_session(bars(BTC, 100, 100))
    close: dict[str, Any] = {"symbol": BTC, "side": "sell", "reduce_only": True}
    with pytest.raises(InvalidParameter, match="no position in BTCUSDT-PERP that a sell reduces"):
        session.place_order(**close, quantity=1)
    session.place_order(symbol=BTC, side="buy", quantity=2)
    with pytest.raises(
        InvalidParameter, match="lower the quantity to at most 2, or set"
    ) as refusal:
        session.place_order(**close, quantity=3)
    assert refusal.value.details["reducible"] == 2


# Risk limits


def with_limits(**limits: Any) -> Session:
    return perp_session(
        bars(BTC, 100, 100, 100),
        starting_balance=100,
        leverage=20,
        risk=LeveragedRiskProfile(**limits),
        **FREE,
    )


def attempted(session: Session, **order: Any) -> tuple[str, Decimal, Decimal]:
    with pytest.raises(RiskLimitExceeded) as refusal:
        session.place_order(symbol=BTC, **order)
    details = refusal.value.details
    assert session.orders[-1].status == "rejected"
    return details["limit"], details["allowed"], details["attempted"]


@pytest.mark.parametrize(("side", "other"), [("buy", "sell"), ("sell", "buy")])
def test_the_size_of_an_order_is_its_notional_over_the_available_balance(
    side: str, other: str
) -> None:
    session = with_limits(max_order_size_pct=500)
    assert attempted(session, side=side, quantity="5.00000001") == (
        "max_order_size_pct", 500, Decimal("500.000001"),
    )  # fmt: skip
    session.place_order(symbol=BTC, side=side, quantity=5)
    # 25 of the 100 are margin now. What closes the position is no exposure, what lies beyond is.
    assert attempted(session, side=side, quantity="3.76")[1:] == (375, 376)
    assert attempted(session, side=other, quantity="8.76")[1:] == (375, 376)
    session.place_order(symbol=BTC, side=other, quantity=5)


@pytest.mark.parametrize(("side", "behind", "other"), [("buy", 90, "sell"), ("sell", 110, "buy")])
def test_a_position_counts_with_the_pending_entries_of_its_side_over_equity(
    side: str, behind: float, other: str
) -> None:
    session = with_limits(max_position_size_pct=1000)
    session.place_order(symbol=BTC, side=side, quantity=5)
    session.place_order(symbol=BTC, side=side, type="limit", quantity=2, price=behind)
    session.place_order(symbol=BTC, side=other, type="limit", quantity=1, price=200 - behind)
    left = 10 - 5 - 2 * behind / 100
    beyond = Decimal(str(left)) + Decimal("0.01")
    assert attempted(session, side=side, quantity=beyond) == ("max_position_size_pct", 1000, 1001)
    session.place_order(symbol=BTC, side=side, quantity=str(round(left, 8)))


def test_percentages_go_to_a_hundred_times_the_highest_leverage_on_perpetuals_alone() -> None:
    LeveragedRiskProfile(max_order_size_pct=Decimal(100_000))
    with pytest.raises(InvalidParameter, match="max_order_size_pct"):
        LeveragedRiskProfile(max_order_size_pct=Decimal("100000.00000001"))
    with pytest.raises(InvalidParameter, match="max_order_size_pct"):
        RiskProfile(max_order_size_pct=Decimal(101))
    with pytest.raises(InvalidParameter, match="risk: LeveragedRiskProfile") as refusal:
        SessionConfig(start_time=0, end_time=DAY, risk=LeveragedRiskProfile())
    assert refusal.value.details["field"] == "risk"


# Fees of a venue


def test_dated_fees_of_perpetuals() -> None:
    schedule = [{"from": "1970-01-01", "maker": "0.0002", "taker": "0.0005"}]
    session = perp_session(
        bars(BTC, 100, 100, (100, 100, 90, 95), 95),
        fee_rate=None,
        fee_model="match_exchange",
        fee_schedule=schedule,
    )
    session.place_order(symbol=BTC, side="sell", quantity=1)
    session.place_order(symbol=BTC, side="buy", type="limit", quantity=1, price=90)
    session.step(2)
    assert [fill.fee for fill in session.fills] == [Decimal("0.05"), Decimal("0.018")]


# Tiers


ROW = {"floor": 0, "mmr": "0.01", "max_leverage": 50}
SECOND = {"floor": 1000, "mmr": "0.02", "max_leverage": 20}


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("[0].floor", {"floor": 1}, {}),
        ("[1].floor", {}, {"floor": 0}),
        ("[0].mmr", {"mmr": 0}, {}),
        ("[1].mmr", {}, {"mmr": 1}),
        ("[1].mmr", {}, {"mmr": "0.01"}),
        ("[0].max_leverage", {"max_leverage": 100}, {}),
        ("[1].max_leverage", {}, {"max_leverage": 50}),
        ("[1].max_leverage", {}, {"max_leverage": 51}),
        ("[0].max_leverage", {"max_leverage": "0.5"}, {}),
        ("[0].cum", {"cum": 1}, {}),
        ("[1].cum", {}, {"cum": "10.00000001"}),
        ("[1].mmr", {}, {"mmr": None}),
        ("[1]", {}, {"maker": 1}),
    ],
)
def test_tiers_that_do_not_fit_together_are_refused_by_row(
    field: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        MarginTiers.parse([ROW | first, SECOND | second])
    assert refusal.value.details["field"] == f"margin_tiers{field}"


def test_tiers_may_say_the_amount_that_makes_maintenance_continuous() -> None:
    told, computed = (MarginTiers.parse([ROW, SECOND | extra]) for extra in ({"cum": "10.0"}, {}))
    assert told == computed
    assert told.maintenance(Decimal(1000)) == 10


# Missing funding, and data that ends


def test_funding_that_the_market_lacks_is_counted() -> None:
    session = perp_session(
        bars(BTC, *[100] * 6, interval="1h"),
        candle_interval="1h",
        start_time=HOUR,
        funding=[FundingRates(BTC, [2 * HOUR, 5 * HOUR], [0.001, 0.002], [HOUR, HOUR])],
        funding_rate_default="0.01",
        **FREE,
    )
    session.place_order(symbol=BTC, side="sell", quantity=1)
    session.step(5)
    assert [payment.amount for payment in session.funding_payments] == [
        Decimal(amount) for amount in ("0.1", "1", "1", "0.2", "1")
    ]
    results = session.results()
    assert (results.funding_expected, results.funding_applied) == (5, 2)


def ended_early(**settings: Any) -> Session:
    """Return a session that holds BTC, whose candles end two minutes before it."""
    session = perp_session(
        bars(ETH, *[100] * 6),
        bars(BTC, 1000, 1000, 1010, 1020),
        funding=[rates((4 * MINUTE, 0.001))],
        **FREE,
        **settings,
    )
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.place_order(symbol=BTC, side="buy", type="limit", quantity=1, price=900)
    session.step(5)
    return session


def test_a_position_stands_when_its_candles_end_and_results_warn_of_it() -> None:
    session = ended_early()
    assert [position.quantity for position in session.positions()] == [1]
    assert session.portfolio().unrealized_pnl == 20
    warning = session.results().warnings[-1]
    assert (warning.code, warning.symbol, warning.start) == ("DATA_ENDED", BTC, 4 * MINUTE)
    assert "settle_at_data_end" in warning.message


def test_a_position_is_closed_when_its_candles_end_if_that_is_asked_for() -> None:
    session = ended_early(settle_at_data_end=True)
    assert session.positions() == ()
    closing = session.orders[-1]
    assert (closing.reason, closing.reduce_only) == ("data_end", True)
    assert (closing.filled_at, closing.closed_pnl) == (4 * MINUTE, 20)
    # What is held at its last candle still pays.
    assert [payment.amount for payment in session.funding_payments] == [Decimal("-1.02")]
    assert "DATA_ENDED" not in [warning.code for warning in session.results().warnings]
    assert "settle_at_data_end=True" in repr(session.config)


@pytest.mark.parametrize("leverage", [2, True, 0])
def test_on_spot_there_is_no_leverage(leverage: int) -> None:
    SessionConfig(start_time=0, end_time=DAY, leverage=1)
    with pytest.raises(InvalidParameter, match="leverage"):
        SessionConfig(start_time=0, end_time=DAY, leverage=leverage)


def test_on_spot_nothing_is_settled_at_the_end_of_data() -> None:
    with pytest.raises(InvalidParameter, match="settle_at_data_end"):
        SessionConfig(start_time=0, end_time=DAY, settle_at_data_end=True)
