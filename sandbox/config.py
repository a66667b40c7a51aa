"""The configuration of a session, parsed and checked once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Literal, get_args

import numpy as np

from candlestep.sandbox.clock import (
    Clock,
    format_time,
    interval_name,
    parse_interval,
    parse_time,
)
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.clearing import Clearing, MarginMode
from candlestep.sandbox.exchange.costs.costs import Costs
from candlestep.sandbox.exchange.costs.fees import FeeModel, parse_fees
from candlestep.sandbox.exchange.exchange import Exchange
from candlestep.sandbox.exchange.instruments import Instrument, parse_instruments
from candlestep.sandbox.exchange.margin.clearing import MarginClearing
from candlestep.sandbox.exchange.margin.funding import session_rates
from candlestep.sandbox.exchange.margin.settings import (
    MarginSettings,
    MarkPrice,
    refuse_settings,
)
from candlestep.sandbox.exchange.orders import parse_boolean
from candlestep.sandbox.exchange.risk import LeveragedRiskProfile, RiskProfile
from candlestep.sandbox.exchange.spot import SpotClearing
from candlestep.sandbox.market.coverage import require_within
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import AMOUNT_PLACES, Number, Whole, format_decimal, parse_positive

Trigger = Literal["path", "close"]
MarketType = Literal["spot", "perp"]
Time = str | date | np.datetime64 | Whole
"""Anything that stands for a time: ISO 8601, ``datetime`` or ``date``, or milliseconds (UTC)."""
DEFAULT_BALANCE = 10_000
"""The starting balance of a session that is created without one, in its currency."""

_TRIGGERS: tuple[str, ...] = get_args(Trigger)
_MARKET_TYPES: tuple[str, ...] = get_args(MarketType)
_VOLUME_MODEL: Mapping[str, Any] = {"model": "volume"}
_LONGEST_CURRENCY = 16


class SessionConfig:
    """The settings of a session; immutable by convention."""

    def __init__(
        self,
        *,
        start_time: Time,
        end_time: Time,
        starting_balance: Number = DEFAULT_BALANCE,
        candle_interval: str | Whole = "1m",
        currency: str = "USDT",
        fee_rate: Number | None = None,
        fee_model: FeeModel | None = None,
        fee_bps: Number | None = None,
        fee_schedule: Sequence[Mapping[str, Any]] | None = None,
        slippage: Mapping[str, Any] = _VOLUME_MODEL,
        trigger: Trigger = "path",
        liquidate_at_end: bool = False,
        allow_gaps: bool = False,
        locking_stops: bool = False,
        risk: RiskProfile | None = None,
        instruments: Iterable[Instrument | Mapping[str, Any]] = (),
        market_type: MarketType = "spot",
        leverage: Number | Mapping[str, Number] = 1,
        margin_mode: MarginMode = "cross",
        funding: bool = True,
        funding_rate_default: Number | None = None,
        mark: MarkPrice = "auto",
        liquidation: Mapping[str, Any] | None = None,
        margin_tiers: Iterable[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        settle_at_data_end: bool = False,
    ) -> None:
        """Parse and check the settings; raises ``InvalidParameter`` naming the field.

        Times are ISO 8601, ``datetime`` or milliseconds; ``candle_interval`` is a name or in
        seconds. Fees are ``fee_rate``, a fraction of the notional (0.001 by default), or
        those of a ``fee_model``: ``"none"``; ``"fixed_bps"`` with ``fee_bps``, hundredths of a
        percent (5); ``"tiered_maker_taker"`` (see ``exchange.costs.fees.TIERS``); or
        ``"match_exchange"`` with ``fee_schedule``, a venue's dated rates (see
        ``FeeSchedule.parse``). ``slippage`` is
        ``{"model": "volume"}``, ``{"model": "fixed_bps", "bps": 5}`` or ``{"model": "none"}``.
        With ``trigger="close"`` pending orders are checked against closes only. With
        ``liquidate_at_end`` open positions are sold at the session's end. With ``allow_gaps`` the
        session may start before the first candle of its market, or end after the last one.
        With ``locking_stops`` sells that wait lock their quantity whatever their type, on spot only.
        ``instruments`` gives the filters of symbols and whether their volume is usable; a symbol
        without one has no filters and a usable volume.

        With ``market_type="perp"`` the session trades perpetual futures. ``leverage``, a whole
        number or one by symbol (1), and ``margin_mode``, ``"cross"`` or ``"isolated"``, can be
        changed later. ``funding`` pays the market's funding rates; where one is missing, at
        ``funding_rate_default``, without which the session is refused. ``mark="last"`` values and
        liquidates at last prices even if the market has marks. ``liquidation`` is ``{"fee_rate":
        "0.0125", "at": "path"}``, the fraction of the notional that a liquidation costs, at most
        what is left, and its price, where the mark meets it or at ``"bankruptcy"``.
        ``margin_tiers``, for all symbols or by symbol, are as in ``MarginTiers.parse``; by default
        those of ``instruments``, or a maintenance of 0.4 % and 125x. With ``settle_at_data_end`` a
        position is closed at the market when the last candle of its symbol is over, as a venue
        settles a contract that it delists; else it stands at the last price.
        """
        self.start_time = parse_time(start_time, "start_time")
        self.end_time = parse_time(end_time, "end_time")
        self.clock = Clock.between(
            self.start_time, self.end_time, parse_interval(candle_interval, "candle_interval")
        )
        self.starting_balance = parse_positive("starting_balance", starting_balance, AMOUNT_PLACES)
        if not isinstance(currency, str) or not 1 <= len(currency) <= _LONGEST_CURRENCY:
            raise InvalidParameter("currency", "must be a short name such as 'USDT'")
        self.currency = currency
        fees = parse_fees(
            fee_rate=fee_rate,
            fee_model=fee_model,
            fee_bps=fee_bps,
            fee_schedule=fee_schedule,
            start=self.clock.start,
            end=self.clock.end,
        )
        self.instruments = parse_instruments(instruments)
        """Those that were given, by symbol."""
        if market_type not in _MARKET_TYPES:
            raise InvalidParameter("market_type", f"must be one of {', '.join(_MARKET_TYPES)}")
        self.market_type: MarketType = market_type
        self._require_kind(self.instruments.values())
        margin = {
            "leverage": leverage,
            "margin_mode": margin_mode,
            "funding": funding,
            "funding_rate_default": funding_rate_default,
            "mark": mark,
            "liquidation": liquidation,
            "margin_tiers": margin_tiers,
            "settle_at_data_end": settle_at_data_end,
        }
        self.margin: MarginSettings | None = None
        """The settings of margin and funding; None in a spot session."""
        if market_type == "spot":
            refuse_settings(margin.items())
        else:
            self.margin = MarginSettings.parse(**margin)
        self.costs = Costs.parse(
            fees,
            slippage,
            without_volume=[
                symbol for symbol, known in self.instruments.items() if not known.volume_usable
            ],
        )
        if trigger not in _TRIGGERS:
            raise InvalidParameter("trigger", f"must be one of {', '.join(_TRIGGERS)}")
        self.trigger: Trigger = trigger
        self.liquidate_at_end = parse_boolean("liquidate_at_end", liquidate_at_end)
        self.allow_gaps = parse_boolean("allow_gaps", allow_gaps)
        self.locking_stops = parse_boolean("locking_stops", locking_stops)
        if self.locking_stops and self.margin is not None:
            raise InvalidParameter("locking_stops", "applies to spot; perpetuals lock no quantity")
        self.risk = RiskProfile() if risk is None else risk
        if market_type == "spot" and isinstance(self.risk, LeveragedRiskProfile):
            raise InvalidParameter(
                "risk", "LeveragedRiskProfile applies to perpetuals; give a RiskProfile"
            )

    def require_candles(self, market: Market) -> None:
        """Raise ``NoPrice`` if the session's first or last step lies outside the market's candles.

        These reach from the first open of any symbol to the last completion of any. Nothing is
        required with ``allow_gaps``.
        """
        if not self.allow_gaps:
            require_within(self.clock, market.span, market.symbols)

    def open_exchange(self, market: Market) -> Exchange:
        """Return an exchange on ``market`` with a new account; raises as ``open_clearing``."""
        return Exchange(
            market,
            self.clock.start,
            clearing=self.open_clearing(market),
            costs=self.costs,
            risk=self.risk,
            close_only=self.trigger == "close",
            instruments=self.instruments,
        )

    def open_clearing(self, market: Market) -> Clearing:
        """Return the clearing of a new account on ``market``: of spot, or of margin.

        Raises ``NoPrice`` for a funding rate that is missing, and ``InvalidParameter`` for a
        leverage above that of the tiers.
        """
        clock, margin = self.clock, self.margin
        if margin is None:
            return SpotClearing(
                market,
                clock.start,
                self.starting_balance,
                self.costs,
                locking_stops=self.locking_stops,
            )
        default = margin.funding_rate_default
        rates = {}
        if margin.funding:
            rates = session_rates(
                market, clock.start, clock.end, None if default is None else float(default)
            )
        return MarginClearing(
            market,
            clock.start,
            starting_balance=self.starting_balance,
            costs=self.costs,
            terms=margin.terms(market, self.instruments),
            rates=rates,
            end=clock.end,
            liquidation=margin.liquidation,
            uses_marks=margin.mark == "auto",
            close_only=self.trigger == "close",
            settles_at_data_end=margin.settle_at_data_end,
        )

    def _require_kind(self, instruments: Iterable[Instrument]) -> None:
        """Raise ``InvalidParameter`` for an instrument of another kind than the session's."""
        for instrument in instruments:
            if instrument.kind == self.market_type:
                continue
            kind = "a perpetual" if instrument.kind == "perp" else "a spot pair"
            raise InvalidParameter(
                "instruments",
                f"has {instrument.symbol}, {kind}; a session trades either spot pairs or"
                f" perpetuals: set market_type to {instrument.kind!r}, or leave it out",
            )

    def __repr__(self) -> str:
        """Return the call that makes an equal configuration."""
        settings = {
            "start_time": format_time(self.start_time),
            "end_time": format_time(self.end_time),
            "starting_balance": format_decimal(self.starting_balance),
            "candle_interval": interval_name(self.clock.interval),
            "currency": self.currency,
            **self.costs.fees.settings(),
            "slippage": self.costs.slippage_settings(),
            "trigger": self.trigger,
            "liquidate_at_end": self.liquidate_at_end,
            "allow_gaps": self.allow_gaps,
            "risk": self.risk,
        }
        if self.locking_stops:
            settings["locking_stops"] = True
        if self.instruments:
            settings["instruments"] = list(self.instruments.values())
        if self.margin is not None:
            settings |= {"market_type": self.market_type, **self.margin.settings()}
        return (
            f"SessionConfig({', '.join(f'{name}={value!r}' for name, value in settings.items())})"
        )
