"""The prices of all symbols at a time: those of each symbol alone, whatever its candles' times."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import Market
from candlestep.sandbox.clock import MINUTE
from candlestep.sandbox.market.price_table import Prices
from tests.support.candles import flat

TIMES = st.sets(st.integers(0, 12), min_size=1, max_size=6)


@given(st.lists(TIMES, min_size=1, max_size=5), st.integers(-2, 16))
def test_all_prices_are_those_of_each_symbol(times: list[set[int]], minute: int) -> None:
    market = Market(
        flat(f"S{number}", "1m", **{f"t{time}": number + time + 0.5 for time in sorted(opens)})
        for number, opens in enumerate(times)
    )
    each = {symbol: market.candles_of(symbol).price(minute * MINUTE) for symbol in market.symbols}
    expected = {symbol: price for symbol, price in each.items() if price is not None}
    prices = Prices(market.price_table, minute * MINUTE)
    assert {symbol: prices.get(symbol) for symbol in market.symbols} == each
    assert prices == expected
    assert expected == prices
    assert prices == Prices(market.price_table, minute * MINUTE)
    assert list(prices) == list(expected) == list(market.prices(minute * MINUTE))
    assert len(prices) == len(expected)
    assert repr(prices) == repr(expected)


def test_a_symbol_without_a_price_is_not_a_key() -> None:
    prices = Prices(Market([flat("A", "1m", t5=1.0)]).price_table, 0)
    assert "A" not in prices
    with pytest.raises(KeyError):
        prices["A"]
    with pytest.raises(KeyError):
        prices["B"]


def test_copies_are_plain_dictionaries() -> None:
    prices = Prices(Market([flat("A", "1m", t5=1.0)]).price_table, 6 * MINUTE)
    for copied in (copy.deepcopy(prices), pickle.loads(pickle.dumps(prices))):
        assert type(copied) is dict
        assert copied == prices
