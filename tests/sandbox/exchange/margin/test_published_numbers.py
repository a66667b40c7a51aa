"""Numbers that a venue and another simulator publish, through a session; each difference is named."""

from decimal import Decimal
from typing import Any

import pytest

from candlestep.sandbox import FundingRates, MarginPosition, MarginTiers, Session, Tier
from candlestep.sandbox.clock import HOUR, MINUTE
from tests.support.perpetual_markets import BTC, ETH, bars, perp_session

XRP, ADA = "XRPUSDT-PERP", "ADAUSDT-PERP"


def bracket(mmr: str, cum: str) -> MarginTiers:
    """Return one bracket for every notional, with an amount of its own, as examples have it."""
    return MarginTiers((Tier(Decimal(0), Decimal(mmr), Decimal(cum), Decimal(125)),))


def liquidation_prices(session: Session) -> dict[str, Decimal]:
    prices = {}
    for position in session.positions():
        assert isinstance(position, MarginPosition)
        assert position.liquidation_price is not None
        prices[position.symbol] = position.liquidation_price
    return prices


def two_longs(mode: str, balance: str) -> Session:
    """Return the account of Binance's FAQ b3c689c1: 3,683.979 ETH and 109.488 BTC."""
    session = perp_session(
        bars(BTC, 32481.98, 32481.98, (32481.98, 32481.98, 31967.27, 31967.27), 31967.27),
        bars(ETH, 1456.84, 1456.84, (1456.84, 1456.84, 1335.18, 1335.18), 1335.18),
        starting_balance=balance,
        margin_mode=mode,
        margin_tiers={BTC: bracket("0.025", "16300"), ETH: bracket("0.1", "135365")},
        fee_rate=0,
    )
    session.place_order(symbol=BTC, side="buy", quantity="109.488")
    session.place_order(symbol=ETH, side="buy", quantity="3683.979")
    if mode == "isolated":
        for held in session.positions():
            assert isinstance(held, MarginPosition)
            session.transfer_margin(held.symbol, Decimal("1535443.01") - held.isolated_wallet)
    session.step(2)
    return session


def test_c_liquidation_prices_of_two_cross_longs() -> None:
    session = two_longs("cross", "1535443.01")
    prices = liquidation_prices(session)
    # The FAQ prints 26,316.89 and 1,153.26.
    assert round(prices[BTC], 8) == Decimal("26316.89326452")
    assert round(prices[ETH], 8) == Decimal("1153.25646424")
    needed = {held.symbol: held.maintenance_margin for held in session.positions()}  # type: ignore[attr-defined]
    assert needed == {BTC: Decimal("71200.811444"), ETH: Decimal("356512.508122")}
    lost = {held.symbol: held.unrealized_pnl for held in session.positions()}
    assert lost == {BTC: Decimal("-56354.56848"), ETH: Decimal("-448192.88514")}


def test_c_liquidation_prices_of_two_isolated_longs() -> None:
    """Each has all of the wallet to itself, which takes an account of twice as much."""
    session = two_longs("isolated", "3070886.02")
    prices = {symbol: round(price, 2) for symbol, price in liquidation_prices(session).items()}
    assert prices == {BTC: Decimal("18778.73"), ETH: Decimal("1114.78")}


def test_g_real_settlements() -> None:
    """Short 10,000 XRP through five of Binance's, at the last complete mark candle of an hour.

    The price (100 times as high here, to be told apart) or the open of the next mark candle, 1.09503
    and so on, would give another sum: 5.3426 or 5.34151.
    """
    closes = ["1.095", "1.1072", "1.05497", "1.0411", "1.04268"]
    times = [(1 + 8 * number) * HOUR for number in range(5)]
    marks = [float(closes[min((hour + 6) // 8, 4)]) for hour in range(36)]
    session = perp_session(
        bars(XRP, *[110.0] * 36, interval="1h"),
        marks=[bars(XRP, *marks, interval="1h")],
        funding=[FundingRates(XRP, times, [0.0001] * 5)],
        candle_interval="1h",
        start_time=0,
        starting_balance=10_000_000,
        fee_rate=0,
    )
    session.place_order(symbol=XRP, side="sell", quantity=10_000)
    session.step(session.total_steps)
    assert [payment.amount for payment in session.funding_payments[:5]] == [
        Decimal(close) for close in closes
    ]
    assert sum(payment.amount for payment in session.funding_payments[:5]) == Decimal("5.34095")
    assert {payment.mark_source for payment in session.funding_payments} == {"mark"}


@pytest.mark.parametrize(
    ("side", "leverage", "price", "quantity", "expected"),
    [
        ("sell", 5, 10, "1", 11.89108910891089),
        ("sell", 3, 10, "1", 13.211221122079207),
        ("sell", 5, 8, "1", 9.514851485148514),
        ("sell", 5, 10, "0.6", 11.897689768976898),
        ("buy", 5, 10, "1", 8.070707070707071),
        ("buy", 5, 8, "1", 6.454545454545454),
        ("buy", 3, 10, "1", 6.723905723905723),
        ("buy", 5, 10, "0.6", 8.063973063973064),
    ],
)
def test_liquidation_prices_of_freqtrade(
    side: str, leverage: int, price: float, quantity: str, expected: float
) -> None:
    """Those of its tests for Binance, isolated, with a rate and an amount of 0.01.

    It keeps the margin in floats; ours has 8 places, which shows with 10 / 3.
    """
    session = perp_session(
        bars(ETH, price, price, price),
        leverage=leverage,
        margin_mode="isolated",
        margin_tiers=bracket("0.01", "0.01"),
        fee_rate=0,
    )
    session.place_order(symbol=ETH, side=side, quantity=quantity)
    assert float(liquidation_prices(session)[ETH]) == pytest.approx(expected, abs=2e-8)


SETTLED = [0, 8 * HOUR]
"""Of 2021-09-01: -0.000008 and -0.000003, both at a mark of 2.77."""


@pytest.mark.parametrize(
    ("opened", "closed", "expected"),
    [
        (-2 * MINUTE, 8 * HOUR, "-0.0009141"),
        (-2 * MINUTE, 8 * HOUR - MINUTE, "-0.0006648"),
        (10 * MINUTE, 8 * HOUR, "-0.0002493"),
        (HOUR, 4 * HOUR, "0"),
        (HOUR, 8 * HOUR, "-0.0002493"),
        # It charges both ends, -0.0009141: who opens at a settlement, here after it, does not pay.
        (0, 8 * HOUR, "-0.0002493"),
        (0, 12 * HOUR, "-0.0002493"),
    ],
)
@pytest.mark.parametrize("side", ["sell", "buy"])
def test_funding_of_freqtrade(opened: int, closed: int, expected: str, side: str) -> None:
    """Those of its tests: 30 ADA short; a long gets the opposite."""
    shift = HOUR
    session = perp_session(
        bars(ADA, *[2.5] * (14 * 60)),
        funding=[
            FundingRates(
                ADA,
                [time + shift for time in SETTLED],
                [-0.000008, -0.000003],
                interval=[8 * HOUR] * 2,
                mark=[2.77, 2.77],
            )
        ],
        fee_rate=0,
    )
    session.step((opened + shift - session.time) // MINUTE)
    session.place_order(symbol=ADA, side=side, quantity=30)
    session.step((closed - opened) // MINUTE)
    other: Any = "buy" if side == "sell" else "sell"
    session.place_order(symbol=ADA, side=other, quantity=30)
    session.step(HOUR // MINUTE)
    total = Decimal(expected) if side == "sell" else -Decimal(expected)
    assert sum((payment.amount for payment in session.funding_payments), Decimal(0)) == total
