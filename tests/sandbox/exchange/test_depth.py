"""The book that slippage stands for: what walking it costs is what a market order costs."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Candles, Instrument, Market, Session, SessionConfig
from candlestep.sandbox.exchange.costs.depth import Depth, Level, depth_at

TICK = Decimal("0.01")


def session_of(volume: float = 100.0, **settings: Any) -> Session:
    """Return a session at a price of 250 whose candles have this volume."""
    price = np.full(120, 250.0)
    minutes = np.datetime64("2025-01-05T00:00", "m") + np.arange(120)
    candles = Candles(
        symbol="BTCUSDT", interval="1m", open_time=minutes, open=price, high=price, low=price,
        close=price, volume=np.full(120, volume),
    )  # fmt: skip
    config = SessionConfig(
        start_time="2025-01-05T01:00", end_time="2025-01-05T02:00", starting_balance="1e9",
        fee_model="none", **settings,
    )  # fmt: skip
    return Session(config, Market([candles]))


def book(session: Session, levels: int = 1000) -> Depth:
    candles = session.market.candles_of("BTCUSDT")
    return depth_at(
        session.config.costs, candles, session.price("BTCUSDT"), session.time, tick=TICK,
        levels=levels,
    )  # fmt: skip


def walked(side: list[Level], quantity: Decimal) -> Decimal:
    """Return the money that changes hands if ``quantity`` takes the levels one after another."""
    money = Decimal()
    for level in side:
        taken = min(quantity, level.quantity)
        money += taken * level.price
        quantity -= taken
    assert not quantity, "the book is too thin"
    return money


@given(units=st.integers(1, 10_000_000), is_buy=st.booleans())
def test_walking_the_book_costs_what_a_market_order_costs(units: int, is_buy: bool) -> None:
    """To the tick of each level, and to a fraction of a level where an order ends inside one."""
    session, quantity = session_of(), Decimal(units).scaleb(-5)
    levels = book(session)
    session.place_order(symbol="BTCUSDT", side="buy", quantity=quantity)
    if not is_buy:
        session.place_order(symbol="BTCUSDT", side="sell", quantity=quantity)
    charged = session.fills[-1].quote_amount
    shown = walked(levels.asks if is_buy else levels.bids, quantity)
    worse = shown - charged if is_buy else charged - shown
    inside_one = Decimal("0.1") * Decimal("0.0003") * 250
    assert -Decimal("1e-7") <= worse <= quantity * TICK + inside_one


def test_levels_by_hand() -> None:
    """A candle trades 100: a level has 0.1, and slippage is 0.01 % x 250 = 0.025 at the first."""
    found = book(session_of(), levels=3)
    tenth = Decimal("0.1")
    # 0.1 costs 25.0025, 0.2 costs 50.01, 0.3 costs 75.0225: 250.025, 250.075 and 250.125 each.
    assert found.asks == [
        Level(Decimal("250.03"), tenth), Level(Decimal("250.08"), tenth),
        Level(Decimal("250.13"), tenth),
    ]  # fmt: skip
    assert found.bids == [
        Level(Decimal("249.97"), tenth), Level(Decimal("249.92"), tenth),
        Level(Decimal("249.87"), tenth),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("quantity", "slippage"),
    [
        ("0.00000001", "0.0001"), ("0.09899999", "0.0001"), ("0.099", "0.0001"),
        ("0.09999999", "0.0001"), ("0.1", "0.0001"), ("0.10000001", "0.00010000001"),
        ("0.25", "0.00025"),
    ],
)  # fmt: skip
def test_slippage_grows_from_a_thousandth_of_the_average_volume_on(
    quantity: str, slippage: str
) -> None:
    """A candle trades 100, so that a quantity makes the price worse by a thousandth of it."""
    order = session_of().place_order(symbol="BTCUSDT", side="buy", quantity=quantity)
    assert order.fill is not None
    assert order.fill.slippage == Decimal(slippage)


@pytest.mark.parametrize(
    ("settings", "bid", "ask"),
    [
        ({"slippage": {"model": "none"}}, "249.99", "250.00"),
        ({"slippage": {"model": "fixed_bps", "bps": 10}}, "249.75", "250.25"),
        ({"instruments": [Instrument("BTCUSDT", volume_usable=False)]}, "249.97", "250.03"),
        ({"volume": 0.0}, "249.97", "250.03"),
    ],
)
def test_slippage_that_no_quantity_changes_is_one_level(
    settings: dict[str, Any], bid: str, ask: str
) -> None:
    found = book(session_of(**settings))
    assert [level.price for level in found.bids] == [Decimal(bid)]
    assert [level.price for level in found.asks] == [Decimal(ask)]


def test_levels_that_round_to_one_price_are_one() -> None:
    session = session_of(volume=1e6)
    candles = session.market.candles_of("BTCUSDT")
    coarse = depth_at(
        session.config.costs, candles, Decimal(250), session.time, tick=Decimal(1), levels=100
    )
    prices = [level.price for level in coarse.asks]
    assert prices == sorted(set(prices))
    assert sum(level.quantity for level in coarse.asks) == 100_000
