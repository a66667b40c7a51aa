"""Symbols and exchanges: their normal spelling, and the currencies of a symbol."""

import re

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.market.symbols import (
    PERPETUAL,
    QUOTES,
    Pair,
    contract_in,
    is_perpetual,
    normalise_symbol,
    parse_symbol,
)

__all__ = [
    "DEFAULT_EXCHANGE",
    "DEFAULT_QUOTE",
    "PERPETUAL",
    "QUOTES",
    "Pair",
    "contract_in",
    "is_perpetual",
    "name_of_line",
    "normalise_exchange",
    "normalise_symbol",
    "parse_symbol",
    "symbol_of_line",
    "traded_symbol",
]

DEFAULT_EXCHANGE = "binance"
"""The exchange of imports, sessions and jobs that are created without one."""

DEFAULT_QUOTE = "USDT"
"""The quote currency of a perpetual that is named by its coin alone."""

_EXCHANGE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)


def traded_symbol(text: str, market_type: str, field: str = "symbol") -> str:
    """Return the normal spelling of a symbol that a session trades, of ``spot`` or ``perp``.

    On perpetuals ``SOLUSDT`` names ``SOLUSDT-PERP``. Raises as ``normalise_symbol`` does.
    """
    symbol = normalise_symbol(text, field)
    return symbol + PERPETUAL if market_type == "perp" and not is_perpetual(symbol) else symbol


def name_of_line(symbol: str, kind: str) -> str:
    """Return the name of a line of an instrument; ``kind`` is a kind of import.

    The candles, mark prices, funding rates and margin tiers of an instrument are lines. Those of a
    perpetual other than its candles are named after it, such as ``SOLUSDT-PERP.MARK``, and no
    symbol is spelled so.
    """
    return symbol if kind == "candles" else f"{symbol}.{kind.upper()}"


def symbol_of_line(name: str) -> str:
    """Return the symbol of the instrument that a line belongs to."""
    return name.partition(".")[0]


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
