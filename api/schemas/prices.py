"""The prices of a market as JSON, written once for all sessions that are at the same time."""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Meta, UnsetType

from candlestep.api.schemas.fields import Money, money
from candlestep.sandbox import Market, Session
from candlestep.sandbox.market.price_table import PriceTable
from candlestep.sandbox.money import decimal_of

_KEPT_TIMES = 64

_FEW_SYMBOLS = 8
_KEPT_FRAMES = 16

PricesJson = Annotated[Any, Meta(extra_json_schema=msgspec.json.schema(dict[str, Money]))]
"""An object with the price of each symbol: texts, or the JSON of it all (``msgspec.Raw``)."""

MarkPricesJson = Annotated[
    PricesJson | UnsetType,
    Meta(description="Of perpetuals: the mark price of each pair, or its price if it has none."),
]

PriceWriter = Callable[[int], PricesJson]
"""Returns the prices at a time, in milliseconds."""

_encode = msgspec.json.Encoder().encode

_writers: WeakKeyDictionary[Market, PriceWriter] = WeakKeyDictionary()
_mark_writers: WeakKeyDictionary[Market, PriceWriter] = WeakKeyDictionary()


def price_writer(market: Market) -> PriceWriter:
    """Return the function that writes the prices of a market, for all sessions on it.

    It keeps what it wrote for the latest times, unless the symbols are few. It refers to candles,
    but not to the market, so that they are freed with the market.
    """
    writer = _writers.get(market)
    if writer is None:
        writer = _writers[market] = _writer_of(market.price_table)
    return writer


def mark_price_writer(session: Session) -> PriceWriter | None:
    """Return the function that writes the mark prices of a session; None on spot.

    Sessions on one market share it. Without marks, or with ``mark="last"``, they are the prices.
    """
    market, margin = session.market, session.config.margin
    if margin is None:
        return None
    with_marks = [symbol for symbol in market.symbols if market.marks_of(symbol) is not None]
    if margin.mark == "last" or not with_marks:
        return price_writer(market)
    writer = _mark_writers.get(market)
    if writer is None:
        lines = {symbol: market.mark_line(symbol) for symbol in market.symbols}
        writer = _mark_writers[market] = _writer_of(PriceTable(lines))
    return writer


def _writer_of(table: PriceTable) -> PriceWriter:
    if len(table.candles) <= _FEW_SYMBOLS:
        return partial(_few_prices, table)
    return lru_cache(_KEPT_TIMES)(partial(_many_prices, table))


def _few_prices(table: PriceTable, time: int) -> dict[str, str]:
    texts = {}
    for symbol, price in table.floats(time).items():
        text = repr(price)
        # As money, without its call and a decimal, which would be felt in every step.
        texts[symbol] = text if text[-3:-2] == "." else money(decimal_of(price))
    return texts


def _many_prices(table: PriceTable, time: int) -> msgspec.Raw:
    prices = table.floats(time)
    pieces = _frame(tuple(prices)).copy()
    pieces[1::2] = price_texts(prices.values())
    return msgspec.Raw("".join(pieces).encode())


@lru_cache(_KEPT_FRAMES)
def _frame(symbols: tuple[str, ...]) -> list[str]:
    """Return the text before, between and after the prices of an object, with a place for each."""
    if not symbols:
        return ["{}"]
    pieces = [""] * (2 * len(symbols) + 1)
    pieces[::2] = [f'",{_encode(symbol).decode()}:"' for symbol in symbols] + ['"}']
    pieces[0] = "{" + pieces[0].removeprefix('",')
    return pieces


def price_texts(prices: Iterable[float]) -> list[str]:
    """Return each price as ``money`` writes it, in an eighth of the time.

    >>> price_texts([67500.3, 1e-7])
    ['67500.30', '0.0000001']
    """
    prices = list(prices)
    if not prices:
        return []
    # The encoder writes the shortest representation, as repr does, but small exponents as zeros.
    written = _encode(prices).decode()
    texts = [text if text[-2] != "." else f"{text}0" for text in written[1:-1].split(",")]
    if "e" not in written:
        return texts
    return [
        money(decimal_of(price)) if "e" in text else text
        for text, price in zip(texts, prices, strict=True)
    ]
