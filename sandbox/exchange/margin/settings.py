"""The settings of a session on perpetuals, parsed and checked once."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from candlestep.sandbox.errors import InvalidParameter, SandboxError, abbreviate
from candlestep.sandbox.exchange.clearing import MARGIN_MODES, MarginMode
from candlestep.sandbox.exchange.instruments import Instrument
from candlestep.sandbox.exchange.margin.account import MarginTerms
from candlestep.sandbox.exchange.margin.clearing import LiquidationAt, LiquidationRules
from candlestep.sandbox.exchange.margin.tiers import HIGHEST_LEVERAGE, ONE_TIER, MarginTiers
from candlestep.sandbox.exchange.orders import parse_boolean, parse_choice
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import (
    PRICE_PLACES,
    format_decimal,
    parse_number,
    parse_share,
    rounded,
)

MarkPrice = Literal["auto", "last"]
TiersSource = Literal["given", "instrument", "default"]

_MARKS: tuple[MarkPrice, ...] = get_args(MarkPrice)
_PRICES: tuple[LiquidationAt, ...] = get_args(LiquidationAt)
_ALL = ""

DEFAULTS: Mapping[str, Any] = {
    "leverage": 1,
    "margin_mode": "cross",
    "funding": True,
    "funding_rate_default": None,
    "mark": "auto",
    "liquidation": None,
    "margin_tiers": None,
    "settle_at_data_end": False,
}
"""The arguments of ``SessionConfig`` that concern perpetuals alone, and their defaults."""


class ChosenTiers(NamedTuple):
    """The margin tiers of a symbol, and where they are from."""

    source: TiersSource
    """``given`` in the settings, those of the ``instrument``, or ``ONE_TIER`` by ``default``."""
    tiers: MarginTiers


class MarginSettings(msgspec.Struct, frozen=True):
    """The settings of margin, funding, marks and liquidation."""

    leverage: dict[str, Decimal]
    """By symbol as it was given; the key ``""`` is that of all other symbols."""
    margin_mode: MarginMode
    funding: bool
    funding_rate_default: Decimal | None
    """Rate of settlements that the market lacks; None refuses a session that lacks any."""
    mark: MarkPrice
    liquidation: LiquidationRules
    tiers: dict[str, MarginTiers]
    """By symbol as it was given; the key ``""`` is that of all other symbols."""
    settle_at_data_end: bool
    """Close a position when the last candle of its symbol is over."""

    @classmethod
    def parse(
        cls,
        *,
        leverage: object,
        margin_mode: object,
        funding: object,
        funding_rate_default: object,
        mark: object,
        liquidation: object,
        margin_tiers: object,
        settle_at_data_end: object,
    ) -> "MarginSettings":
        """Parse the arguments of ``SessionConfig``; raises ``InvalidParameter`` naming one."""
        return cls(
            _parse_leverages(leverage),
            parse_choice("margin_mode", margin_mode, MARGIN_MODES),
            parse_boolean("funding", funding),
            None if funding_rate_default is None else _parse_rate(funding_rate_default),
            parse_choice("mark", mark, _MARKS),
            _parse_liquidation(liquidation),
            _parse_tiers(margin_tiers),
            parse_boolean("settle_at_data_end", settle_at_data_end),
        )

    def settings(self) -> dict[str, Any]:
        """Return the arguments of ``SessionConfig`` that differ from their defaults, as plain data."""
        leverage: Any = {symbol: int(value) for symbol, value in self.leverage.items()}
        if list(leverage) == [_ALL]:
            leverage = leverage[_ALL]
        tiers: Any = {symbol: tiers.settings() for symbol, tiers in self.tiers.items()}
        if list(tiers) == [_ALL]:
            tiers = tiers[_ALL]
        liquidation = {
            "fee_rate": format_decimal(self.liquidation.fee_rate),
            "at": self.liquidation.at,
        }
        rate = self.funding_rate_default
        settings: dict[str, Any] = {
            "leverage": leverage,
            "margin_mode": self.margin_mode,
            "funding": self.funding,
            "funding_rate_default": None if rate is None else format_decimal(rate),
            "mark": self.mark,
            "liquidation": None if self.liquidation == LiquidationRules() else liquidation,
            "margin_tiers": tiers or None,
            "settle_at_data_end": self.settle_at_data_end,
        }
        return {name: value for name, value in settings.items() if value != DEFAULTS[name]}

    def terms(
        self, market: Market, instruments: Mapping[str, Instrument]
    ) -> dict[str, MarginTerms]:
        """Return the terms on which each symbol of ``market`` is traded.

        Raises ``InvalidParameter`` for a leverage above that of the tiers, and for a symbol that
        the market does not have.
        """
        leverages = _by_symbol("leverage", self.leverage, market)
        terms = {}
        for symbol, (_, tiers) in self.chosen_tiers(market, instruments).items():
            leverage = leverages.get(symbol) or leverages.get(_ALL) or Decimal(1)
            require_leverage(symbol, leverage, tiers)
            terms[symbol] = MarginTerms(leverage, self.margin_mode == "isolated", tiers)
        return terms

    def chosen_tiers(
        self, market: Market, instruments: Mapping[str, Instrument]
    ) -> dict[str, ChosenTiers]:
        """Return the tiers of each symbol: those given, else the instrument's, else ``ONE_TIER``.

        Raises ``InvalidParameter`` for a symbol that the market does not have.
        """
        given = _by_symbol("margin_tiers", self.tiers, market)
        return {symbol: _chosen_tiers(symbol, given, instruments) for symbol in market.symbols}

    def require_leverages(
        self, symbols: Iterable[str], instruments: Mapping[str, Instrument]
    ) -> None:
        """Raise ``InvalidParameter`` if the leverage of any of ``symbols`` is above its tiers'.

        Settings by symbol must have their spelling.
        """
        for symbol in symbols:
            leverage = self.leverage.get(symbol) or self.leverage.get(_ALL) or Decimal(1)
            tiers = _chosen_tiers(symbol, self.tiers, instruments).tiers
            require_leverage(symbol, leverage, tiers)


def _chosen_tiers(
    symbol: str, given: Mapping[str, MarginTiers], instruments: Mapping[str, Instrument]
) -> ChosenTiers:
    tiers = given.get(symbol) or given.get(_ALL)
    if tiers is not None:
        return ChosenTiers("given", tiers)
    known = instruments.get(symbol)
    if known is not None and known.tiers is not None:
        return ChosenTiers("instrument", known.tiers)
    return ChosenTiers("default", ONE_TIER)


def parse_leverage(value: object, field: str = "leverage") -> Decimal:
    """Parse a whole number from 1 on; raises ``InvalidParameter``."""
    number = parse_number(field, value)
    if number < 1 or number > HIGHEST_LEVERAGE or number != int(number):
        raise InvalidParameter(
            field, f"must be a whole number from 1 to that of the tiers, got {abbreviate(value)}"
        )
    return Decimal(int(number))


def require_leverage(symbol: str, leverage: Decimal, tiers: MarginTiers) -> None:
    """Raise ``InvalidParameter`` if no tier of ``symbol`` allows a leverage."""
    if leverage > tiers.max_leverage:
        raise InvalidParameter(
            "leverage",
            f"{format_decimal(leverage)} is above {format_decimal(tiers.max_leverage)}, the highest"
            f" of {symbol}; lower it, or give margin_tiers that allow it",
            symbol=symbol,
            allowed=tiers.max_leverage,
        )


def _parse_leverages(value: object) -> dict[str, Decimal]:
    if not isinstance(value, Mapping):
        return {_ALL: parse_leverage(value)}
    return {
        symbol: parse_leverage(number, f"leverage.{symbol}") for symbol, number in value.items()
    }


def _parse_tiers(value: object) -> dict[str, MarginTiers]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {
            symbol: MarginTiers.parse(rows, f"margin_tiers.{symbol}")
            for symbol, rows in value.items()
        }
    return {_ALL: MarginTiers.parse(value)}


def _parse_rate(value: object) -> Decimal:
    field = "funding_rate_default"
    number = parse_number(field, value)
    if not -1 < number < 1:
        raise InvalidParameter(field, f"must be a fraction above -1 and below 1, got {number}")
    return rounded(number, PRICE_PLACES)


def _parse_liquidation(value: object) -> LiquidationRules:
    if value is None:
        return LiquidationRules()
    if isinstance(value, LiquidationRules):
        return value
    if not isinstance(value, Mapping) or set(value) - {"fee_rate", "at"}:
        raise InvalidParameter("liquidation", "must be an object with fee_rate, at, or both")
    at = value.get("at", "path")
    if at not in _PRICES:
        raise InvalidParameter("liquidation.at", f"must be one of {', '.join(_PRICES)}")
    fee_rate = value.get("fee_rate", LiquidationRules().fee_rate)
    return LiquidationRules(parse_share("liquidation.fee_rate", fee_rate, PRICE_PLACES, 1), at)


def _by_symbol(field: str, values: Mapping[str, Any], market: Market) -> dict[str, Any]:
    """Return ``values`` by the spelling of the market; raise if it does not have a symbol."""
    named = {}
    for symbol, value in values.items():
        if symbol != _ALL:
            try:
                symbol = market.candles_of(symbol).symbol
            except SandboxError as error:
                raise InvalidParameter(field, error.message, symbol=symbol) from None
        named[symbol] = value
    return named


def refuse_settings(given: Iterable[tuple[str, object]]) -> None:
    """Raise ``InvalidParameter`` for a setting that a spot session cannot have."""
    for name, value in given:
        default = DEFAULTS[name]
        # True is no number, although it equals 1.
        is_default = value == default and isinstance(value, bool) == isinstance(default, bool)
        if not is_default and not (name == "funding" and value is False):
            raise InvalidParameter(name, "applies to perpetuals; set market_type to 'perp'")
