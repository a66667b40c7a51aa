"""The configuration of a session, parsed and checked once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

from candlestep.sandbox.clock import Clock, parse_interval, parse_time
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.exchange.costs.costs import Costs
from candlestep.sandbox.exchange.costs.fees import FeeModel, parse_fees
from candlestep.sandbox.exchange.risk import RiskProfile
from candlestep.sandbox.money import AMOUNT_PLACES, parse_positive

Trigger = Literal["path", "close"]
Number = str | int | float | Decimal
Time = str | int | datetime

_TRIGGERS: tuple[str, ...] = get_args(Trigger)
_VOLUME_MODEL: Mapping[str, Any] = {"model": "volume"}
_LONGEST_CURRENCY = 16


class SessionConfig:
    """The settings of a session; immutable by convention."""

    def __init__(
        self,
        *,
        start_time: Time,
        end_time: Time,
        starting_balance: Number,
        candle_interval: str | int = "1m",
        currency: str = "USDT",
        fee_rate: Number | None = None,
        fee_model: FeeModel | None = None,
        fee_bps: Number | None = None,
        fee_schedule: Sequence[Mapping[str, Any]] | None = None,
        slippage: Mapping[str, Any] = _VOLUME_MODEL,
        trigger: Trigger = "path",
        liquidate_at_end: bool = False,
        risk: RiskProfile | None = None,
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
        ``liquidate_at_end`` open positions are sold at the session's end.
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
        self.costs = Costs.parse(fees, slippage)
        if trigger not in _TRIGGERS:
            raise InvalidParameter("trigger", f"must be one of {', '.join(_TRIGGERS)}")
        self.trigger: Trigger = trigger
        if not isinstance(liquidate_at_end, bool):
            raise InvalidParameter("liquidate_at_end", "must be true or false")
        self.liquidate_at_end = liquidate_at_end
        self.risk = RiskProfile() if risk is None else risk
