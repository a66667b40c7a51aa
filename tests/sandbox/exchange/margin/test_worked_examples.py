"""The worked examples of the chapter on perpetuals, through a session, to the last digit."""

from decimal import Decimal

import pytest

from candlestep.sandbox import FundingRates, MarginPosition, Session
from candlestep.sandbox.clock import MINUTE
from tests.support.perpetual_markets import BTC, ETH, bars, perp_session


def position(session: Session) -> MarginPosition:
    (only,) = session.positions()
    assert isinstance(only, MarginPosition)
    return only


def eight(value: Decimal | None) -> str:
    assert value is not None
    return f"{value:.8f}"


def test_a_isolated_long_funding_and_partial_close() -> None:
    rates = FundingRates(BTC, [3 * MINUTE], [0.0001], mark=[60500.0])
    prices = bars(BTC, 60000, 60000, 60500, 61000, 61000)
    session = perp_session(prices, funding=[rates], margin_mode="isolated")
    session.place_order(symbol=BTC, side="buy", quantity="0.5")
    opened = position(session)
    assert (opened.isolated_wallet, session.margin().cross_wallet) == (3000, 6985)
    assert eight(opened.liquidation_price) == "54216.86746988"
    assert opened.bankruptcy_price == 54000
    (payment,) = session.step(2).funding
    assert payment.amount == Decimal("-3.025")
    assert position(session).isolated_wallet == Decimal("2996.975")
    assert eight(position(session).liquidation_price) == "54222.94176707"
    session.step()
    sold = session.place_order(symbol=BTC, side="sell", quantity="0.2")
    assert sold.fill is not None
    assert (sold.closed_pnl, sold.fill.fee) == (200, Decimal("6.10"))
    left = position(session)
    assert left.isolated_wallet == Decimal("1798.185")
    assert eight(left.liquidation_price) == "54222.94176707"
    assert left.unrealized_pnl == 300
    assert session.margin().wallet_balance == Decimal("10175.875")
    assert session.margin().cross_wallet == Decimal("8377.69")


@pytest.mark.parametrize(
    ("candle", "pnl", "fee", "insurance"),
    [
        ((3000, 3200, 3000, 3100), "-274.90039841", "25.09960159", 0),
        ((3200, 3300, 3200, 3300), "-400", "0", 100),
    ],
)
def test_b_isolated_short_dies_at_its_price_or_in_a_gap(
    candle: tuple[float, ...], pnl: str, fee: str, insurance: int
) -> None:
    prices = bars(ETH, 3000, 3000, candle, 3200)
    session = perp_session(prices, margin_mode="isolated", leverage=20, fee_rate=0)
    session.place_order(symbol=ETH, side="sell", quantity=2)
    assert position(session).isolated_wallet == 300
    assert eight(position(session).liquidation_price) == "3137.45019920"
    assert position(session).bankruptcy_price == 3150
    (liquidation,) = session.step(2).liquidations
    assert liquidation.closed_pnl == Decimal(pnl)
    assert liquidation.fee == Decimal(fee)
    assert (liquidation.insurance, liquidation.loss) == (insurance, 300)
    assert session.portfolio().total_equity == 9700
    assert session.positions() == ()


def test_d_the_price_at_a_boundary_of_tiers() -> None:
    session = perp_session(
        bars(BTC, 50000, 50000), margin_mode="isolated", leverage=20, starting_balance=100_000
    )
    session.place_order(symbol=BTC, side="buy", quantity=6)
    assert eight(position(session).liquidation_price) == "47690.76305221"
    short = perp_session(
        bars(BTC, 49000, 49000), margin_mode="isolated", leverage=20, starting_balance=100_000
    )
    short.place_order(symbol=BTC, side="sell", quantity=6)
    assert eight(position(short).liquidation_price) == "51243.78109453"


def test_e_flip_from_long_to_short() -> None:
    session = perp_session(bars(BTC, 60000, 60000, 61200, 61200))
    session.place_order(symbol=BTC, side="buy", quantity=1)
    session.step(2)
    flipped = session.place_order(symbol=BTC, side="sell", quantity="1.5")
    assert flipped.fill is not None
    assert (flipped.closed_pnl, flipped.fill.closed_quantity) == (1200, 1)
    assert flipped.fill.fee == Decimal("45.90")
    assert flipped.fill.realized_pnl == Decimal("1154.10")
    held = position(session)
    assert (held.quantity, held.entry_price, held.initial_margin) == (Decimal("-0.5"), 61200, 3060)
    assert session.margin().wallet_balance == Decimal("11124.10")
    assert eight(held.liquidation_price) == "83115.73705179"


@pytest.mark.parametrize(
    ("fee_rate", "fee", "left"),
    [("0.0125", "44.20080321", "0"), ("0.002", "22.10040161", "22.1004016")],
)
def test_f_cross_liquidation_with_its_fee(fee_rate: str, fee: str, left: str) -> None:
    session = perp_session(
        bars(BTC, 60000, 60000, (60000, 60000, 50000, 51000), 51000),
        starting_balance=1000,
        leverage=20,
        liquidation={"fee_rate": fee_rate},
    )
    session.place_order(symbol=BTC, side="buy", quantity="0.2")
    assert eight(position(session).liquidation_price) == "55251.00401606"
    step = session.step(2)
    (liquidation,) = step.liquidations
    assert liquidation.closed_pnl == Decimal("-949.79919679")
    assert liquidation.fee == Decimal(fee)
    assert step.portfolio.total_equity == Decimal(left)
    (order,) = step.orders_filled
    assert (order.is_liquidation, order.reason, order.reduce_only) == (True, "liquidation", True)
