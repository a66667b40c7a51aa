"""Conditions that end a step early: an order that fills or closes, or a price that is touched."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.market.candles import Candle
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    PRICE_PLACES,
    largest_float_up_to,
    parse_positive,
    smallest_float_from,
)

_FIELDS = "symbol, above and below"


class PriceLevel(msgspec.Struct, frozen=True):
    """A price of a symbol that it has to rise to (``above``) or to fall to; one of them is None."""

    symbol: str
    above: Decimal | None = None
    below: Decimal | None = None

    def first_touch(self, market: Market, now: int, end: int, *, close_only: bool) -> int:
        """Return when the first candle that reaches the level is complete, or ``end`` if none is by then.

        A candle that is running ``now`` counts by its close, as do all with ``close_only``.
        """
        candles = market.candles_of(self.symbol)
        index, stop = candles.last_complete(now) + 1, candles.last_complete(end) + 1
        below = float("-inf") if self.below is None else largest_float_up_to(self.below)
        above = float("inf") if self.above is None else smallest_float_from(self.above)
        while index < stop:
            index = candles.first_touch(below, above, index, stop, close_only=close_only)
            if index < stop:
                candle = candles.candle(index)
                if self._is_reached_by(candle, by_close=close_only or candle.open_time < now):
                    return candle.complete_time
            index += 1
        return end

    def _is_reached_by(self, candle: Candle, *, by_close: bool) -> bool:
        if self.above is not None:
            return (candle.close if by_close else candle.high) >= self.above
        assert self.below is not None
        return (candle.close if by_close else candle.low) <= self.below


Until = Literal["steps", "order_change"] | PriceLevel
"""``"steps"``: all steps are made. ``"order_change"``: until an order fills or closes."""


def parse_until(value: object, market: Market) -> Until:
    """Parse a condition: a word, or a price level as ``parse_level`` takes it."""
    if value == "steps":
        return "steps"
    if value == "order_change":
        return "order_change"
    return parse_level(value, market)


def parse_level(value: object, market: Market) -> PriceLevel:
    """Parse a price level: a ``PriceLevel``, or a mapping of its fields.

    Raises ``InvalidParameter`` naming the field, and ``SymbolNotFound``.
    """
    if isinstance(value, PriceLevel):
        value = msgspec.structs.asdict(value)
    if not isinstance(value, Mapping):
        raise InvalidParameter(
            "until",
            "must be 'steps', 'order_change', or a price such as"
            " {'symbol': 'BTCUSDT', 'above': '70000'}",
        )
    unknown = [name for name in value if name not in PriceLevel.__struct_fields__]
    if unknown:
        raise InvalidParameter(
            "until", f"has an unknown field {abbreviate(unknown[0])}; it may have {_FIELDS}"
        )
    symbol, above, below = (value.get(name) for name in PriceLevel.__struct_fields__)
    if not isinstance(symbol, str):
        raise InvalidParameter("until.symbol", "must be a string such as 'BTCUSDT'")
    if (above is None) == (below is None):
        raise InvalidParameter("until", "needs above or below, the price to wait for, not both")
    return PriceLevel(
        market.candles_of(symbol).symbol,
        None if above is None else parse_positive("until.above", above, PRICE_PLACES),
        None if below is None else parse_positive("until.below", below, PRICE_PLACES),
    )
