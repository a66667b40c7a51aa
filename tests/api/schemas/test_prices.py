"""The prices of a market as JSON: the bytes that the plain encoding of decimals gives."""

import gc
import weakref
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.api.schemas.fields import money
from candlestep.api.schemas.prices import price_texts, price_writer
from candlestep.sandbox import Market
from candlestep.sandbox.clock import MINUTE
from tests.support.candles import flat, minutes

PRICES = st.floats(min_value=0, exclude_min=True, max_value=1e16) | st.decimals(
    min_value=Decimal("0.0000001"), max_value=10**7, places=7
).map(float)


@given(st.lists(PRICES))
def test_prices_are_written_as_money_is(prices: list[float]) -> None:
    assert price_texts(prices) == [money(Decimal(repr(price))) for price in prices]


@pytest.mark.parametrize("others", [0, 20])
@given(st.lists(PRICES, min_size=2, max_size=6), st.data())
def test_an_object_of_prices_is_what_the_encoder_writes(
    others: int, closes: list[float], data: st.DataObject
) -> None:
    late = data.draw(st.integers(0, len(closes)))
    later = [flat(f"B{number}", "1m", **{f"t{late}": 1.5}) for number in range(others + 1)]
    market = Market([minutes("ABC", *closes), *later])
    write = price_writer(market)
    for minute in data.draw(st.permutations(range(len(closes) + 2))):
        plain = {symbol: money(price) for symbol, price in market.prices(minute * MINUTE).items()}
        assert msgspec.json.encode(write(minute * MINUTE)) == msgspec.json.encode(plain)


@pytest.mark.parametrize("symbols", [1, 20])
def test_a_market_without_prices_yet_has_an_empty_object(symbols: int) -> None:
    market = Market([flat(f"A{number}", "1m", t5=1.0) for number in range(symbols)])
    assert msgspec.json.encode(price_writer(market)(0)) == b"{}"


def test_sessions_share_what_is_written_and_do_not_keep_the_candles() -> None:
    market = Market([minutes(f"A{number}", 1.0) for number in range(20)])
    write = price_writer(market)
    assert price_writer(market) is write
    assert write(MINUTE) is write(MINUTE)
    candles = weakref.ref(market.candles_of("A7"))
    gc.disable()
    try:
        del market, write
        assert candles() is None
    finally:
        gc.enable()
