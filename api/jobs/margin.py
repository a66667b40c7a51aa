"""Runs on perpetuals: leverage and funding as a request states them, and what the store must have."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from candlestep.api.jobs.run import session_config
from candlestep.data.market.candle_cache import LOOK_BACK
from candlestep.data.market.candle_loading import Period
from candlestep.data.market.catalogue import Catalogue
from candlestep.data.market.parts import load_funding
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.records.jobs import RunSpec
from candlestep.data.store.database import Store
from candlestep.sandbox import FundingRates, InvalidParameter, format_time
from candlestep.sandbox.errors import NoPrice, abbreviate
from candlestep.sandbox.exchange.margin.settings import require_leverage
from candlestep.sandbox.exchange.margin.tiers import ONE_TIER
from candlestep.sandbox.market.spans import Span
from candlestep.sandbox.money import parse_number


class MarginTerms(NamedTuple):
    """The leverage and the funding of a run, unchecked."""

    leverage: Any = 1
    funding: bool = True
    """False: none is paid. On spot it does not matter."""

    def on_spot(self, field: str) -> dict[str, Any]:
        """Return no arguments of ``SessionConfig``; raises ``InvalidParameter`` for a leverage."""
        if parse_number(field, self.leverage) != 1:
            raise InvalidParameter(
                field,
                f"must be 1 for spot pairs, got {abbreviate(self.leverage)}; trade a perpetual such"
                " as BTCUSDT-PERP with more",
            )
        return {}

    def on_perpetuals(self) -> dict[str, Any]:
        """Return the arguments of ``SessionConfig``."""
        return {"market_type": "perp", "leverage": self.leverage, "funding": self.funding}


def require_margin_data(
    store: Store, catalogue: Catalogue, spec: RunSpec, leverage_field: str, remedy: str
) -> None:
    """Require the tiers and the funding rates that a run on perpetuals needs; nothing on spot.

    Raises ``InvalidParameter`` for a leverage above that of the tiers, and ``NoPrice`` for a
    funding rate that is missing, whose message ends with ``remedy``. Blocks.
    """
    require_tiers(store, spec, leverage_field)
    margin = session_config(spec).margin
    if margin is None or not margin.funding:
        return
    number = catalogue.latest_import() if spec.import_number is None else spec.import_number
    period = Period(number, spec.start_time - LOOK_BACK, spec.end_time)
    rates = {one.symbol: one for one in load_funding(store, spec.exchange, spec.pairs, period)}
    covered = catalogue.covered(spec.exchange, spec.pairs, number)
    for symbol in spec.pairs:
        _require_rates(spec, symbol, rates, covered[symbol], remedy)


def require_tiers(store: Store, spec: RunSpec, leverage_field: str) -> None:
    """Raise ``InvalidParameter`` for a leverage above that of the tiers in force. Blocks."""
    instruments = instruments_to_copy(store, spec.exchange, spec.pairs, spec.start_time)
    config = spec.config | ({"instruments": instruments} if instruments else {})
    session = session_config(msgspec.structs.replace(spec, config=config))
    if session.margin is None:
        return
    for symbol in spec.pairs:
        known = session.instruments.get(symbol)
        tiers = ONE_TIER if known is None or known.tiers is None else known.tiers
        for leverage in session.margin.leverage.values():
            try:
                require_leverage(symbol, leverage, tiers)
            except InvalidParameter as refusal:
                message = refusal.message.partition("; ")[0].removeprefix("leverage: ")
                raise InvalidParameter(leverage_field, f"{message}; lower it") from None


def _require_rates(
    spec: RunSpec,
    symbol: str,
    rates: Mapping[str, FundingRates],
    covered: Sequence[Span],
    remedy: str,
) -> None:
    known = rates.get(symbol) or FundingRates.empty(symbol)
    missing = known.holes(spec.start_time, spec.end_time, covered[-1][1])
    if not len(missing):
        return
    time = format_time(int(missing[0]))
    raise NoPrice(
        f"{symbol} has no funding rate at {time} ({len(missing)} are missing in the run); {remedy}",
        symbol=symbol,
        time=time,
        missing=len(missing),
    )
