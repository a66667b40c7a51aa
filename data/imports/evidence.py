"""Evidence of the instrument of a file: its name, and a column of symbols in it.

What speaks of a perpetual, a dated contract, mark prices or funding is never taken for the candles
of a spot pair.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from candlestep.data.errors import InvalidSymbol, UnreadableFile
from candlestep.data.symbols import QUOTES, contract_in, normalise_symbol, parse_symbol

_OTHER_CONTENTS = {
    "funding rates": re.compile(r"funding[-_ ]?rates?", re.IGNORECASE),
    "mark prices": re.compile(r"mark[-_ ]?price|(?<![a-z])mark(?![a-z])", re.IGNORECASE),
    "index prices": re.compile(
        r"(?:index|premium[-_ ]?index)[-_ ]?(?:price|klines)", re.IGNORECASE
    ),
}
_SYMBOL_LIKE = re.compile(r"[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*", re.ASCII)
_TIMEFRAME_AT_END = re.compile(r"([A-Z]{6,12}?)(M1|M5|M15|M30|H1|H4|D1|W1|1440|240|60|30|15|5|1)")
_MONEY = frozenset(
    ["USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD", "EUR", "GBP", "JPY"]
)
"""Quotes by which a pair is told from two words that stand next to each other by chance."""
_NOT_SYMBOLS = frozenset(
    [
        "candles",
        "candlestick",
        "data",
        "klines",
        "ohlc",
        "ohlcv",
        "spot",
        "ascii",
        "dat",
        "bid",
        "ask",
        "trades",
        "binance",
        "bitstamp",
        "bybit",
        "coinbase",
        "gemini",
        "kraken",
        "okx",
        "bitfinex",
        "poloniex",
    ]
)


class Evidence(NamedTuple):
    """The instrument that a file speaks of."""

    symbol: str | None
    """None if the file does not name one."""
    kind: str
    """``spot``, or what the file has instead of the candles of a pair."""


def evidence_of_name(name: str) -> Evidence:
    """Return the instrument that a file's name speaks of, if it does."""
    for kind, pattern in _OTHER_CONTENTS.items():
        if pattern.search(name):
            return Evidence(None, kind)
    contract = contract_in(name)
    if contract is not None:
        return Evidence(None, contract)
    return Evidence(_symbol_in(name.split(".")[0]), "spot")


def evidence_of_text(text: str) -> Evidence:
    """Return the instrument that a symbol in a column or an option names."""
    contract = contract_in(text)
    return (
        Evidence(normalise_symbol(text), "spot") if contract is None else Evidence(None, contract)
    )


def require_spot(file: str, evidence: Evidence, source: str) -> None:
    """Raise ``UnreadableFile`` if a file has anything else than the candles of a pair."""
    if evidence.kind != "spot":
        raise UnreadableFile(
            file,
            f"{source} says that it has {evidence.kind}, and only candles of spot pairs can be"
            " imported",
        )


def symbol_of(file: str, given: str | None, in_rows: str | None) -> str:
    """Return the symbol of a series: as given, else as in its rows, else as in the file's name.

    Raises ``UnreadableFile`` where two of them contradict each other, and ``InvalidSymbol`` where
    none of them tells.
    """
    named = evidence_of_name(file)
    require_spot(file, named, "its name")
    if given is not None:
        require_spot(file, evidence_of_text(given), "--symbol")
        given = normalise_symbol(given)
    if in_rows is not None:
        for other, source in ((given, "--symbol"), (named.symbol, "its name")):
            if other is not None and other != in_rows:
                raise UnreadableFile(
                    file,
                    f"{source} says {other}, but its rows say {in_rows}; correct the one that is"
                    " wrong",
                )
    symbol = given or in_rows or named.symbol
    if symbol is None:
        raise InvalidSymbol(
            f"{file}: neither its name nor its rows tell the symbol; give it with --symbol",
            file=file,
        )
    return symbol


def _symbol_in(stem: str) -> str | None:
    """Return the symbol in a name; None where two are as likely, such as in ``my_BTC_ETH``."""
    words = [word for word in re.split(r"[-_., ]+", stem) if word]
    words = [word for word in words if word.lower() not in _NOT_SYMBOLS]
    symbols = {
        normalise_symbol(candidate): parse_symbol(candidate).quote in _MONEY
        for first, second in pairwise([*words, ""])
        for candidate in _candidates(first, second)
        if _is_symbol(candidate)
    }
    likely = [symbol for symbol, in_money in symbols.items() if in_money] or list(symbols)
    return likely[0] if len(likely) == 1 else None


def _candidates(first: str, second: str) -> Iterable[str]:
    yield f"{first}/{second}"
    yield first
    with_timeframe = _TIMEFRAME_AT_END.fullmatch(first)
    if with_timeframe is not None:
        yield with_timeframe[1]


def _is_symbol(candidate: str) -> bool:
    if not all(_SYMBOL_LIKE.fullmatch(part) for part in candidate.split("/")):
        return False
    try:
        instrument = parse_symbol(candidate)
    except InvalidSymbol:
        return False
    if instrument.base.lower() in _NOT_SYMBOLS:
        return False
    return instrument.quote in QUOTES if "/" in candidate else len(instrument.base) >= 2
