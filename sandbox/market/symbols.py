"""Symbols: one spelling for a pair or a perpetual, however it is written, and what is neither."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from candlestep.sandbox.errors import InvalidSymbol

QUOTES = (
    "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD",
    "EUR", "GBP", "JPY", "AUD", "BRL", "TRY", "UAH", "RUB", "NGN", "ZAR", "PLN", "CHF", "CAD",
    "BTC", "ETH", "BNB", "TRX", "XRP", "SOL", "DOGE",
)  # fmt: skip
"""The quote currencies that are recognised at the end of a symbol without a separator."""

_MOST_LISTED = 4
_LONGEST_FIRST = sorted(QUOTES, key=len, reverse=True)
_SEPARATED = re.compile(r"([A-Z0-9]{1,20})([/_-])([A-Z0-9]{1,20})", re.ASCII)
_ONE_WORD = re.compile(r"[A-Z0-9]{2,40}", re.ASCII)
PERPETUAL = "-PERP"
"""The end of the symbol of a perpetual: ``SOLUSDT-PERP``."""
# Linear ones only: others, such as BTC/USD:BTC, are settled in another currency than their quote.
_LINEAR_PERPETUAL = re.compile(
    rf"([A-Z0-9]{{1,40}}){PERPETUAL}|([A-Z0-9]{{1,20}})/([A-Z0-9]{{1,20}}):\3", re.ASCII
)
_PERPETUAL = re.compile(
    r"(?<=[A-Z0-9])[-_ ./]PERP(?:ETUAL)?(?![A-Z])|^PERP(?:ETUAL)?[-_ ](?=[A-Z0-9]+USD)"
    r"|[-_ /]SWAP(?![A-Z])|-FUTURES?(?![A-Z])|\.P(?![A-Z0-9])|USD[TC]?PERP(?![A-Z])"
    # After another colon stands the name of an instrument, as in NASDAQ:AAPL.
    r"|(?:[/_-][A-Z0-9]{1,20}|USD[A-Z]?):[A-Z]{3,5}(?![A-Z])"
    r"|(?<=[A-Z0-9])[/_-](USDT|USDC|USD|BTC)[:_-]\1(?![A-Z])",
    re.ASCII,
)
_DATED = re.compile(
    r"(?:USDT|USDC|BUSD|FDUSD|USD|BTC|ETH|EUR)[_-]?(?P<date>\d\d(?:0\d|1[0-2])[0-3]\d)(?!\d)"
    r"|(?<=[A-Z])-(?P<day>\d{1,2}(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)\d\d)(?!\d)",
    re.ASCII,
)


class Pair(NamedTuple):
    """A symbol in its normal spelling (``BTCUSDT``, ``BTCUSDT-PERP``) and its two currencies."""

    symbol: str
    base: str
    quote: str


def normalise_symbol(text: str, field: str = "symbol") -> str:
    """Return the normal spelling of a symbol: ``BTCUSDT`` for ``BTC/USDT`` or ``btc-usdt``.

    That of a perpetual is ``BTCUSDT-PERP``, for ``BTC/USDT:USDT`` too. Raises ``InvalidSymbol`` for
    ``field`` if a text cannot be a symbol, or names another contract.
    """
    symbol = _normal_spelling(text, field)
    if symbol is None:
        raise InvalidSymbol(
            field, f"{text[:60]!r} is not a symbol; write it like BTCUSDT or BTC/USDT"
        )
    return symbol


def respell_symbol(text: str) -> str:
    """Return the normal spelling of a symbol, and any other name unchanged.

    Raises ``InvalidSymbol`` for the name of a contract that cannot be traded.
    """
    return _normal_spelling(text, "symbol") or text


def name_of_candles(text: str) -> str:
    """Return the symbol of candles that are named ``text``.

    A pair, which its slash or its quote currency tells, has its normal spelling, and so has a
    perpetual. Any other name is a name of its own, such as that of a synthetic market: ``A``,
    ``walk_1``. Raises ``InvalidSymbol`` for the name of a contract that cannot be traded.
    """
    symbol = respell_symbol(text)
    if is_perpetual(symbol):
        return symbol
    separated = _SEPARATED.fullmatch(text.strip().upper())
    if separated:
        is_pair = separated[2] == "/" or separated[3] in QUOTES
    else:
        is_pair = _quote_of(symbol.upper()) is not None
    return symbol if is_pair else text


def parse_symbol(text: str) -> Pair:
    """Return a symbol and its currencies, found by its separator or a known quote currency.

    Raises ``InvalidSymbol`` if the quote currency cannot be determined.
    """
    symbol = normalise_symbol(text)
    upper = text.strip().upper()
    contract = _LINEAR_PERPETUAL.fullmatch(upper)
    if contract and contract[2]:
        return Pair(symbol, contract[2], contract[3])
    separated = None if contract else _SEPARATED.fullmatch(upper)
    if separated:
        return Pair(symbol, separated[1], separated[3])
    pair = symbol.removesuffix(PERPETUAL)
    quote = _quote_of(pair)
    if quote is None:
        raise InvalidSymbol(
            "symbol",
            f"the quote currency of {symbol} is not known; write the symbol as BASE/QUOTE"
            f"{':QUOTE' if is_perpetual(symbol) else ''}",
            symbol=symbol,
        )
    return Pair(symbol, pair.removesuffix(quote), quote)


def is_perpetual(symbol: str) -> bool:
    """Return whether a symbol in its normal spelling is that of a perpetual."""
    return symbol.endswith(PERPETUAL)


def is_spot(symbol: str) -> bool:
    """Return whether a symbol in its normal spelling is that of a pair of known currencies."""
    return not is_perpetual(symbol) and _quote_of(symbol) is not None


def contract_in(text: str) -> str | None:
    """Return the kind of contract that a symbol or a file's name speaks of; None for a pair."""
    upper = text.strip().upper()
    if _PERPETUAL.search(upper):
        return "a perpetual future"
    dated = _DATED.search(upper)
    return None if dated is None else f"a contract that expires ({dated['date'] or dated['day']})"


def _normal_spelling(text: str, field: str) -> str | None:
    """Return the normal spelling of a symbol, or None for a text that cannot be one."""
    upper = text.strip().upper()
    perpetual = _LINEAR_PERPETUAL.fullmatch(upper)
    if perpetual:
        return (perpetual[1] or perpetual[2] + perpetual[3]) + PERPETUAL
    contract = contract_in(text)
    if contract is not None:
        raise InvalidSymbol(
            field,
            f"{text[:60]!r} names {contract}; only spot pairs and perpetuals that settle in their"
            " quote currency can be traded: write a perpetual as BTCUSDT-PERP or BTC/USDT:USDT",
        )
    separated = _SEPARATED.fullmatch(upper)
    symbol = separated[1] + separated[3] if separated else upper
    return symbol if _ONE_WORD.fullmatch(symbol) else None


def _quote_of(symbol: str) -> str | None:
    """Return the quote currency at the end of a symbol; None if it has none that is known."""
    ends = (quote for quote in _LONGEST_FIRST if symbol.endswith(quote) and symbol != quote)
    return next(ends, None)


def listed_symbols(symbols: Sequence[str]) -> str:
    """Return symbols for one line of text: their names, or how many there are if not few."""
    return " ".join(symbols) if len(symbols) <= _MOST_LISTED else f"{len(symbols)} symbols"
