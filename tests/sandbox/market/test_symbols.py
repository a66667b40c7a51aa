"""Symbols: a pair has one spelling however it is written, and no contract is taken for a pair."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlestep.sandbox import (
    InvalidParameter,
    InvalidSymbol,
    Market,
    Session,
    SessionConfig,
    SymbolNotFound,
)
from candlestep.sandbox.clock import MINUTE
from candlestep.sandbox.market.symbols import (
    QUOTES,
    name_of_candles,
    normalise_symbol,
    parse_symbol,
)
from candlestep.sandbox.strategies import compile_strategy
from tests.support.candles import minutes

SPELLINGS = ["BTCUSDT", "BTC/USDT", "BTC-USDT", "BTC_USDT", "btcusdt", "btc/usdt", " btc-usdt "]
CONTRACTS = [
    "BTC/USD:BTC", "BTCUSDT:USDT", "SOL/USD:SOL", "BTCUSD_PERP", "btcusdt_perp", "BTC-PERPETUAL",
    "BTC-USDT-SWAP", "BTCUSDT.P", "BTCUSDT_250328", "BTC-USD-250328", "BTC/USDT:USDT-250328",
]  # fmt: skip
NAMES = ["A", "X1", "x1", "walk_1", "asset-2", "sine wave", "NASDAQ:AAPL", "BRK.B", "^GSPC", "Ö"]


def a_session(symbol: str = "BTCUSDT", **config: Any) -> Session:
    times: dict[str, Any] = {"start_time": MINUTE, "end_time": 9 * MINUTE}
    settings = SessionConfig(**times, starting_balance=1000, **config)
    return Session(settings, Market([minutes(symbol, *[100.0] * 10)]))


@given(base=st.from_regex("[A-Z][A-Z0-9]{1,9}", fullmatch=True), quote=st.sampled_from(QUOTES))
def test_every_spelling_of_a_pair_is_one_symbol(base: str, quote: str) -> None:
    symbol = base + quote
    written = [symbol, *(f"{base}{mark}{quote}" for mark in "/-_")]
    for text in [*written, *map(str.lower, written)]:
        assert normalise_symbol(text) == symbol
        assert name_of_candles(text) == symbol
    assert parse_symbol(f"{base}/{quote}") == (symbol, base, quote)
    assert normalise_symbol(normalise_symbol(symbol)) == symbol


@pytest.mark.parametrize("kept", SPELLINGS)
def test_candles_and_every_question_name_a_pair_in_any_spelling(kept: str) -> None:
    session = a_session(kept)
    assert session.market.symbols == ("BTCUSDT",)
    for asked in SPELLINGS:
        assert session.price(asked) == 100
        assert session.ticker(asked).symbol == "BTCUSDT"
        assert len(session.candles(asked)) == 1
        assert session.default_interval(asked) == MINUTE
        assert session.affordable(symbol=asked, cash=100) == session.affordable(
            symbol="BTCUSDT", cash=100
        )


def test_orders_fills_and_positions_have_the_one_spelling() -> None:
    session = a_session()
    bought = session.place_order(symbol="btc/usdt", side="buy", type="market", quantity=1)
    session.place_order(symbol="BTC-USDT", side="sell", type="limit", quantity=1, price=200)
    assert [order.symbol for order in session.orders] == ["BTCUSDT", "BTCUSDT"]
    assert bought.fill is not None
    assert bought.fill.symbol == "BTCUSDT"
    assert [position.symbol for position in session.positions()] == ["BTCUSDT"]
    assert session.account.locked_quantity("BTCUSDT") == Decimal(1)


def test_two_series_of_one_pair_are_merged_whatever_their_spelling() -> None:
    later = minutes("BTC/USDT", 1.0, start=0)
    with pytest.raises(InvalidParameter, match="no two the same"):
        Market([minutes("BTCUSDT", 1.0), later])


@pytest.mark.parametrize("text", CONTRACTS)
def test_a_contract_is_never_taken_for_a_pair(text: str) -> None:
    session = a_session()
    order: dict[str, Any] = {"side": "buy", "type": "market", "quantity": 1}
    refused: list[Any] = [
        lambda: normalise_symbol(text),
        lambda: parse_symbol(text),
        lambda: minutes(text, 1.0),
        lambda: session.price(text),
        lambda: session.candles(text),
        lambda: session.ticker(text),
        lambda: session.place_order(symbol=text, **order),
        lambda: compile_strategy({"template": "tpl_sma_cross", "symbols": [text]}),
    ]
    for ask in refused:
        with pytest.raises(InvalidSymbol, match=r"perpetual|expires"):
            ask()
    assert not session.orders


@pytest.mark.parametrize(
    "text", ["SOLUSDT-PERP", "SOL/USDT:USDT", " sol/usdt:usdt", "solusdt-perp"]
)
def test_a_perpetual_has_one_spelling_and_is_not_the_pair(text: str) -> None:
    assert normalise_symbol(text) == name_of_candles(text) == "SOLUSDT-PERP"
    assert parse_symbol(text) == ("SOLUSDT-PERP", "SOL", "USDT")
    spot, perpetual = minutes("SOLUSDT", 1.0), minutes(text, 2.0)
    assert Market([spot, perpetual]).symbols == ("SOLUSDT", "SOLUSDT-PERP")
    assert Market([spot, perpetual]).candles_of("SOL/USDT") is spot
    assert Market([perpetual]).candles_of("SOL/USDT") is perpetual
    with pytest.raises(SymbolNotFound):
        Market([spot]).candles_of(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_its_own_stays_as_it_is(name: str) -> None:
    session = a_session(name)
    assert session.market.symbols == (name,)
    assert session.prices() == {name: 100}
    order = session.place_order(symbol=name, side="buy", type="market", quantity=1)
    assert order.symbol == name
    with pytest.raises(SymbolNotFound, match="it has"):
        session.price("OTHER")


def test_fees_and_strategies_name_pairs_in_any_spelling() -> None:
    entries = [
        {"from": "1970-01-01", "maker": 0, "taker": 0},
        {"from": "1970-01-01", "maker": 0, "taker": "0.5", "symbols": ["BTC/USDT"]},
    ]
    session = a_session(fee_model="match_exchange", fee_schedule=entries)
    order = session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity=1)
    assert order.fill is not None
    assert order.fill.fee > 50
    card = {"template": "tpl_sma_cross", "symbols": ["btc-usdt", "BTC/USDT", "ETHUSDT"]}
    assert compile_strategy(card).symbols == ("BTCUSDT", "ETHUSDT")


def test_a_symbol_that_is_found_is_not_spelled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()

    def refuse(text: str) -> str:
        raise AssertionError(text)

    monkeypatch.setattr("candlestep.sandbox.market.market.respell_symbol", refuse)
    session.place_order(symbol="BTCUSDT", side="buy", type="market", quantity=1)
    assert session.price("BTCUSDT") == 100
