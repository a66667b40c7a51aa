"""Symbols and exchanges: their normal spelling, and the currencies of a symbol."""

import re
from typing import NamedTuple

from candlestep.data.errors import InvalidSymbol
from candlestep.sandbox import InvalidParameter

DEFAULT_EXCHANGE = "binance"
"""The exchange of imports, sessions and jobs that are created without one."""

QUOTES = (
    "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD",
    "EUR", "GBP", "JPY", "AUD", "BRL", "TRY", "UAH", "RUB", "NGN", "ZAR", "PLN", "CHF", "CAD",
    "BTC", "ETH", "BNB", "TRX", "XRP", "SOL", "DOGE",
)  # fmt: skip
"""The quote currencies that are recognised at the end of a symbol without a separator."""

_LONGEST_FIRST = sorted(QUOTES, key=len, reverse=True)
_SEPARATED = re.compile(r"([A-Z0-9]{1,20})[/_-]([A-Z0-9]{1,20})", re.ASCII)
_ONE_WORD = re.compile(r"[A-Z0-9]{2,40}", re.ASCII)
_PERPETUAL = re.compile(
    r"(?<=[A-Z0-9])[-_ ./]PERP(?:ETUAL)?(?![A-Z])|^PERP(?:ETUAL)?[-_ ](?=[A-Z0-9]+USD)"
    r"|[-_ /]SWAP(?![A-Z])|-FUTURES?(?![A-Z])|\.P(?![A-Z0-9])|:[A-Z]{3,5}(?![A-Z])"
    r"|(?<=[A-Z0-9])[/_-](USDT|USDC|USD|BTC)[:_-]\1(?![A-Z])",
    re.ASCII,
)
_DATED = re.compile(
    r"(?:USDT|USDC|BUSD|FDUSD|USD|BTC|ETH|EUR)[_-](\d\d(?:0\d|1[0-2])[0-3]\d)(?!\d)", re.ASCII
)
_EXCHANGE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)


class Instrument(NamedTuple):
    """A symbol in its normal spelling (``BTCUSDT``) and its two currencies."""

    symbol: str
    base: str
    quote: str


def normalise_symbol(text: str, field: str = "symbol") -> str:
    """Return the normal spelling of a symbol: ``BTCUSDT`` for ``BTC/USDT`` or ``btc-usdt``.

    Raises ``InvalidSymbol``, whose details name ``field``, for a text that cannot be a symbol, and
    for one that names a contract: ``BTC/USDT:USDT`` is not the pair ``BTCUSDT``.
    """
    contract = contract_in(text)
    if contract is not None:
        raise InvalidSymbol(
            f"{text[:60]!r} names {contract}, and only spot pairs can be traded", field=field
        )
    upper = text.strip().upper()
    separated = _SEPARATED.fullmatch(upper)
    symbol = separated[1] + separated[2] if separated else upper
    if not _ONE_WORD.fullmatch(symbol):
        raise InvalidSymbol(
            f"{text[:60]!r} is not a symbol; write it like BTCUSDT or BTC/USDT", field=field
        )
    return symbol


def contract_in(text: str) -> str | None:
    """Return the kind of contract that a symbol or a file's name speaks of; None for a pair."""
    upper = text.strip().upper()
    if _PERPETUAL.search(upper):
        return "a perpetual future"
    dated = _DATED.search(upper)
    return None if dated is None else f"a contract that expires ({dated[1]})"


def normalise_exchange(text: str, field: str = "exchange") -> str:
    """Return the normal spelling of an exchange, in lower case.

    A name must not look like the id of a session. Raises ``InvalidParameter`` for ``field``.
    """
    exchange = text.strip().lower()
    if not _EXCHANGE.fullmatch(exchange) or exchange.startswith("bt_"):
        raise InvalidParameter(
            field,
            f"{text[:40]!r} is not a valid exchange name: use letters, digits, '_', '.' or '-', and"
            " do not start with 'bt_'",
        )
    return exchange


def parse_symbol(text: str) -> Instrument:
    """Return a symbol and its currencies, found by its separator or a known quote currency.

    Raises ``InvalidSymbol`` if the quote currency cannot be determined.
    """
    symbol = normalise_symbol(text)
    separated = _SEPARATED.fullmatch(text.strip().upper())
    if separated:
        return Instrument(symbol, separated[1], separated[2])
    for quote in _LONGEST_FIRST:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return Instrument(symbol, symbol[: -len(quote)], quote)
    raise InvalidSymbol(
        f"the quote currency of {symbol} is not known; write the symbol as BASE/QUOTE",
        symbol=symbol,
    )
