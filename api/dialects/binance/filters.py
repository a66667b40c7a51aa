"""Filters of symbols: those of the session, and defaults for what it does not say."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from candlestep.sandbox import Candles, Filters, Instrument, InvalidParameter, Session
from candlestep.sandbox.errors import SymbolNotFound
from candlestep.sandbox.market.fixed_point import fixed_point
from candlestep.sandbox.money import AMOUNT_PLACES, MAXIMUM, decimal_of

_MIN_NOTIONAL = Decimal(5)
_FINEST_STEP = Decimal("0.00001")
_STEP_FROM = 1000
"""The price from which the finest step applies; each power of ten below makes it coarser."""
_MOST_PRICES = 20_000
_MAX_ORDERS = 200


class Rules:
    """The filters of a session's symbols, worked out when they are first asked for."""

    def __init__(self, session: Session, overrides: Mapping[str, Mapping[str, str]]) -> None:
        """Take the filters of the session; ``overrides`` replace them by symbol."""
        # Not the session itself: these rules are kept as long as it is there, by reference to it.
        self._config, self._market = session.config, session.market
        self._overrides = overrides
        self._instruments: dict[str, Instrument] = {}

    def of(self, symbol: str) -> Instrument:
        """Return a symbol with all its filters."""
        instrument = self._instruments.get(symbol)
        if instrument is None:
            instrument = self._instruments[symbol] = self._work_out(symbol)
        return instrument

    def _work_out(self, symbol: str) -> Instrument:
        known = self._config.instruments.get(symbol) or Instrument(symbol)
        candles = self._market.candles_of(symbol)
        values = default_filters(candles, self._config.clock.start)
        values |= {
            name: value
            for name, value in msgspec.structs.asdict(known.filters).items()
            if value is not None
        }
        values |= self._overrides.get(symbol, {})
        return msgspec.structs.replace(known, filters=Filters(**values))

    def shown(self, symbol: str) -> list[dict[str, Any]]:
        """Return the filters of a symbol as ``exchangeInfo`` lists them."""
        filters = self.of(symbol).filters
        tick, step = filters.tick_size or Decimal(), filters.step_size or Decimal()
        quantities = {"minQty": _text(filters.min_quantity or step), "maxQty": _text(MAXIMUM)}
        notional = {
            "minNotional": _text(filters.min_notional or Decimal()),
            "applyMinToMarket": True,
            "maxNotional": _text(MAXIMUM),
            "applyMaxToMarket": False,
            "avgPriceMins": 0,
        }
        return [
            {"filterType": "PRICE_FILTER", "minPrice": _text(tick), "maxPrice": _text(MAXIMUM),
             "tickSize": _text(tick)},
            {"filterType": "LOT_SIZE", **quantities, "stepSize": _text(step)},
            {"filterType": "MARKET_LOT_SIZE", **quantities, "stepSize": _text(Decimal())},
            {"filterType": "NOTIONAL", **notional},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": _MAX_ORDERS},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": _MAX_ORDERS},
        ]  # fmt: skip


def require_overrides(session: Session, symbols: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ``InvalidParameter`` naming a symbol or a filter that cannot be."""
    for symbol, values in symbols.items():
        field = f"symbols.{symbol}"
        try:
            session.market.candles_of(symbol)
            _ = Filters(**dict[str, Any](values))
        except (InvalidParameter, SymbolNotFound) as refusal:
            raise InvalidParameter(field, refusal.message) from None


def default_filters(candles: Candles, start: int) -> dict[str, Any]:
    """Return filters for a symbol that has none, by its prices before ``start`` (ms).

    The tick is the coarsest power of ten that all of them are multiples of, and the step is 0.00001
    from a price of 1,000 on, ten times coarser for each power of ten below, and 1 at most.
    """
    stop = candles.last_complete(start) + 1
    rows = slice(max(0, stop - _MOST_PRICES), max(stop, 1))
    columns = (candles.open, candles.high, candles.low, candles.close)
    prices = np.concatenate([column[rows] for column in columns])
    if not stop:
        prices = candles.open[:1]
    units, digits, _ = fixed_point(prices)
    while digits > 0 and not (units % 10).any():
        units, digits = units // 10, digits - 1
    while digits <= 0 and not (units % 10).any() and digits > -AMOUNT_PLACES:
        units, digits = units // 10, digits - 1
    tick = Decimal(1).scaleb(-min(digits, AMOUNT_PLACES))
    return {
        "tick_size": tick,
        "step_size": _default_step(decimal_of(float(prices[-1]))),
        "min_notional": _MIN_NOTIONAL,
    }


def _default_step(price: Decimal) -> Decimal:
    step, bound = _FINEST_STEP, Decimal(_STEP_FROM)
    while price < bound and step < 1:
        step, bound = step * 10, bound / 10
    return step


def _text(value: Decimal) -> str:
    return f"{value:.8f}"
