"""Parameters of a request, in its query, its body or both."""

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from candlestep.api.dialects.binance.errors import TOO_MANY, BinanceError, malformed, missing
from candlestep.api.http.route import SentText
from candlestep.data.errors import NOT_JSON
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.money import AMOUNT_PLACES, MAXIMUM, parse_number

ALWAYS_IGNORED = frozenset({"recvWindow", "timestamp", "signature"})
IGNORED = frozenset(
    {
        "selfTradePreventionMode", "strategyId", "strategyType", "trailingDelta", "icebergQty",
        "computeCommissionRates", "apiKey", "timeZone", "symbolStatus", "permissions",
        "showPermissionSets", "isIsolated", "sideEffectType", "orderRateLimitExceededMode",
        "limitStrategyId", "stopStrategyId", "limitStrategyType", "stopStrategyType",
        "limitIcebergQty", "stopIcebergQty", "aboveIcebergQty", "belowIcebergQty",
        "aboveStrategyId", "belowStrategyId", "aboveStrategyType", "belowStrategyType",
        "cancelRestrictions", "needBtcValuation",
    }
)  # fmt: skip
"""Parameters of Binance's that mean nothing in a session."""
_ALL_IGNORED = ALWAYS_IGNORED | IGNORED
_MEANT = frozenset({"trailingDelta", "icebergQty"})
"""Those that would change what an order does: they are refused unless they are zero."""
_MOST_PARAMETERS = 100
_MOST_KEPT_BYTES = 200
"""The length up to which a query is kept with what it means."""
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)

Choice = TypeVar("Choice")


class Parameters:
    """The parameters of one request, each once."""

    def __init__(self, sent: SentText, known: frozenset[str]) -> None:
        """Read them; raises ``BinanceError`` for one that is sent twice or that nobody knows."""
        self._values = values = _read(sent)
        unknown = values.keys() - known
        if unknown:
            ignored = unknown & _ALL_IGNORED
            if unknown != ignored:
                read = len(values) - len(unknown) + len(ignored)
                raise BinanceError(
                    -1104,
                    f"Not all sent parameters were read; read '{read}' parameter(s) but was sent"
                    f" '{len(values)}'. Unknown: {', '.join(sorted(unknown - ignored))[:200]}.",
                )
            for name in _MEANT & ignored:
                if values[name] not in ("", "0"):
                    raise BinanceError(-1106, f"Parameter '{name}' sent when not required.")

    def __contains__(self, name: str) -> bool:
        return bool(self._values.get(name))

    def text(self, name: str) -> str | None:
        """Return a parameter, or None; an empty one counts as absent."""
        return self._values.get(name) or None

    def required(self, name: str) -> str:
        """Return a parameter that must be there."""
        value = self.text(name)
        if value is None:
            raise missing(name)
        return value

    def whole(self, name: str) -> int | None:
        """Return a parameter that is a whole number."""
        value = self.text(name)
        if value is None:
            return None
        if not _WHOLE.fullmatch(value):
            raise malformed(name)
        return int(value)

    def count(self, name: str, default: int, most: int) -> int:
        """Return a number of items, at most ``most``; a larger one counts as ``most``."""
        value = self.whole(name)
        if value == 0:
            raise malformed(name)
        return min(default if value is None else value, most)

    def amount(self, name: str) -> Decimal | None:
        """Return a parameter that is a price or a quantity."""
        value = self.text(name)
        if value is None:
            return None
        try:
            number = parse_number(name, value)
        except InvalidParameter:
            raise malformed(name) from None
        if not 0 < number <= MAXIMUM:
            raise malformed(name)
        if number != round(number, AMOUNT_PLACES):
            raise BinanceError(-1111, f"Parameter '{name}' has too much precision.")
        return number

    def required_amount(self, name: str) -> Decimal:
        """Return a price or a quantity that must be there."""
        value = self.amount(name)
        if value is None:
            raise missing(name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a parameter that is true or false."""
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise malformed(name)
        return value.lower() == "true"

    def choice(self, name: str, choices: Mapping[str, Choice], refusal: BinanceError) -> Choice:
        """Return the meaning of a required parameter."""
        value = self.required(name)
        if value not in choices:
            raise refusal
        return choices[value]

    def symbols(self) -> list[str] | None:
        """Return ``symbol``, or ``symbols`` (a JSON array); None if neither is sent."""
        if "symbol" in self and "symbols" in self:
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        symbol = self.text("symbol")
        if symbol is not None:
            return [symbol]
        several = self.text("symbols")
        if several is None:
            return None
        try:
            return msgspec.json.decode(several, type=list[str])
        except NOT_JSON:
            raise malformed("symbols") from None


def parameters_of(sent: SentText, known: frozenset[str]) -> Parameters:
    """Return the parameters of a request; a bot that polls sends the same short query every time.

    What is signed is sent once: it has a time in it.
    """
    if sent.body or len(sent.query) > _MOST_KEPT_BYTES or b"signature=" in sent.query:
        return Parameters(sent, known)
    return _kept_parameters(sent.query, known)


@lru_cache(maxsize=1024)
def _kept_parameters(query: bytes, known: frozenset[str]) -> Parameters:
    return Parameters(SentText(query, b""), known)


def _read(sent: SentText) -> dict[str, str]:
    try:
        pairs = [pair for part in (sent.query, sent.body) if part for pair in _pairs(part.decode())]
    except ValueError:
        raise BinanceError(-1100, "Illegal characters found in a parameter.") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise BinanceError(-1101, TOO_MANY)
    return values


def _pairs(text: str) -> list[tuple[str, str]]:
    if text.isascii() and "%" not in text and "+" not in text:
        parts = text.split("&")
        if len(parts) > _MOST_PARAMETERS:
            raise ValueError("too many parameters")
        return [(name, value) for name, _, value in (p.partition("=") for p in parts if p)]
    return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
