"""Instruments: what is traded, with the filters that its venue puts on orders."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, get_args

import msgspec

from candlestep.sandbox.errors import FilterViolated, InvalidParameter, InvalidSymbol, abbreviate
from candlestep.sandbox.exchange.margin.tiers import MarginTiers
from candlestep.sandbox.exchange.orders import OrderTicket
from candlestep.sandbox.market.symbols import (
    PERPETUAL,
    is_perpetual,
    name_of_candles,
    parse_symbol,
)
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    AMOUNT_UNIT,
    ONE,
    PRICE_PLACES,
    ZERO,
    format_decimal,
    multiple_from,
    multiple_up_to,
    multiply,
    nearest_multiple,
    parse_number,
    parse_positive,
    units_in,
)

Kind = Literal["spot", "perp"]
"""The kinds of instruments: a pair, and a perpetual future that settles in its quote currency."""

_KINDS: tuple[str, ...] = get_args(Kind)
_PLACES = {
    "tick_size": PRICE_PLACES,
    "step_size": AMOUNT_PLACES,
    "min_quantity": AMOUNT_PLACES,
    "min_notional": AMOUNT_PLACES,
}

_PRICES = ("price", "trigger_price", "activation_price", "stop_loss", "take_profit")
"""The fields of an order that are prices at which it may fill, or be placed."""


class Filters(msgspec.Struct, frozen=True):
    """Rules of a venue that orders have to meet, as exact decimals; None sets no rule.

    Each may be given as text or a number; raises ``InvalidParameter`` naming it.
    """

    tick_size: Decimal | None = None
    """Limit, trigger and activation prices are multiples of this."""
    step_size: Decimal | None = None
    """Quantities are multiples of this."""
    min_quantity: Decimal | None = None
    """Smallest quantity, in base currency."""
    min_notional: Decimal | None = None
    """Smallest quantity times price, in quote currency."""

    def __post_init__(self) -> None:
        for name, places in _PLACES.items():
            value = getattr(self, name)
            if value is not None:
                msgspec.structs.force_setattr(self, name, _parse_exact(name, value, places))


NO_FILTERS = Filters()


class Instrument(msgspec.Struct, frozen=True):
    """A symbol that is traded, and what a session has to know of it.

    Base and quote that are left out are told from the symbol; None for a symbol that does not tell.
    A symbol that ends in ``-PERP`` is of kind ``perp``. Raises ``InvalidParameter`` naming the
    field.
    """

    symbol: str
    kind: Kind = "spot"
    base: str | None = None
    quote: str | None = None
    filters: Filters = NO_FILTERS
    volume_usable: bool = True
    """False if the volume of its candles has another unit than the base currency.

    Slippage by volume is then the least.
    """
    tiers: MarginTiers | None = None
    """Margin tiers of a perpetual, as ``MarginTiers.parse`` takes them; None if none are known."""

    def __post_init__(self) -> None:
        if not isinstance(self.symbol, str) or not self.symbol:
            raise InvalidParameter("symbol", "must be a non-empty string such as 'BTCUSDT'")
        if self.kind not in _KINDS:
            raise InvalidParameter("kind", f"must be one of {', '.join(_KINDS)}")
        if not isinstance(self.filters, Filters):
            raise InvalidParameter("filters", "must be Filters")
        if not isinstance(self.volume_usable, bool):
            raise InvalidParameter("volume_usable", "must be true or false")
        symbol = name_of_candles(self.symbol)
        base, quote = _currencies(self.symbol)
        kind = "perp" if is_perpetual(symbol) else self.kind
        if kind == "perp" and base is not None and not is_perpetual(symbol):
            raise InvalidParameter(
                "symbol", f"{symbol} is a spot pair; write the perpetual as {symbol}{PERPETUAL}"
            )
        if self.tiers is not None:
            if kind != "perp":
                raise InvalidParameter("tiers", f"{symbol} is a pair, and only perpetuals have any")
            msgspec.structs.force_setattr(self, "tiers", MarginTiers.parse(self.tiers, "tiers"))
        parsed = {
            "symbol": symbol,
            "kind": kind,
            "base": self.base or base,
            "quote": self.quote or quote,
        }
        for name, value in parsed.items():
            msgspec.structs.force_setattr(self, name, value)

    @classmethod
    def parse(cls, value: object) -> "Instrument":
        """Return an instrument from an object such as ``settings`` returns, or as it is."""
        if isinstance(value, Instrument):
            return value
        if not isinstance(value, Mapping):
            raise InvalidParameter("instruments", "must be a list of instruments")
        fields = dict(value)
        filters = fields.get("filters", {})
        try:
            if isinstance(filters, Mapping):
                fields["filters"] = Filters(**filters)
            return cls(**fields)
        except TypeError as error:
            raise InvalidParameter("instruments", f"{abbreviate(error)}") from None

    @property
    def is_plain(self) -> bool:
        """True if nothing of it matters to a session: no filters or tiers, and a usable volume."""
        return self.volume_usable and self.filters == NO_FILTERS and self.tiers is None

    def settings(self) -> dict[str, Any]:
        """Return the instrument as plain values, of which ``parse`` makes it again."""
        values = msgspec.structs.asdict(self.filters)
        filters = {name: format_decimal(value) for name, value in values.items() if value}
        settings = msgspec.structs.asdict(self) | {"filters": filters}
        del settings["tiers"]
        return settings if self.tiers is None else settings | {"tiers": self.tiers.settings()}

    def __repr__(self) -> str:
        names = [name for name in self.__struct_fields__ if name != "tiers" or self.tiers]
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"Instrument({fields})"

    def nearest_price(self, price: Decimal) -> Decimal:
        """Return the price nearest to ``price`` that the filters admit."""
        tick = self.filters.tick_size
        return price if tick is None else max(nearest_multiple(price, tick), tick)

    def nearest_quantity(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Return the quantity nearest to ``quantity`` that the filters admit at ``price``."""
        return max(nearest_multiple(quantity, self._step), self._least_quantity(price))

    def whole_steps(self, quantity: Decimal) -> Decimal:
        """Return ``quantity`` rounded down to a multiple of the step size, if there is one."""
        step = self.filters.step_size
        return quantity if step is None else multiple_up_to(quantity, step)

    def quantity_up_to(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Return the largest quantity up to ``quantity`` that the filters admit; 0 if none."""
        admitted = multiple_up_to(quantity, self._step)
        return admitted if admitted >= self._least_quantity(price) else ZERO

    def require_order(
        self, ticket: OrderTicket, price: Decimal, *, only_reduces: bool = False
    ) -> None:
        """Raise ``FilterViolated`` if an order breaks a filter.

        ``price`` is the current one, which a market order is valued at. The quantity of an order
        that ``only_reduces`` a position may be any, so that a small rest can be closed.
        """
        tick = self.filters.tick_size
        for field in _PRICES:
            given = getattr(ticket, field)
            if tick is not None and given is not None and nearest_multiple(given, tick) != given:
                raise self._violation(field, "tick_size", given, self.nearest_price(given))
        price = ticket.price or ticket.trigger_price or price
        name = None if only_reduces else self._broken_by(ticket.quantity, price)
        if name is not None:
            nearest = self.nearest_quantity(ticket.quantity, price)
            raise self._violation("quantity", name, ticket.quantity, nearest, price)

    @property
    def _step(self) -> Decimal:
        return self.filters.step_size or AMOUNT_UNIT

    def _least_quantity(self, price: Decimal) -> Decimal:
        """Return the smallest quantity that the filters admit at ``price``."""
        least = max(self.filters.min_quantity or ZERO, self._step)
        notional = self.filters.min_notional
        if notional is not None:
            steps = units_in(notional, multiply(self._step, price))
            least = max(least, multiply(steps, self._step))
        return multiple_from(least, self._step)

    def _broken_by(self, quantity: Decimal, price: Decimal) -> str | None:
        """Return the name of the filter that a quantity breaks at ``price``."""
        filters = self.filters
        if nearest_multiple(quantity, self._step) != quantity:
            return "step_size"
        if filters.min_quantity is not None and quantity < filters.min_quantity:
            return "min_quantity"
        if filters.min_notional is not None and multiply(quantity, price) < filters.min_notional:
            return "min_notional"
        return None

    def _violation(
        self, field: str, name: str, value: Decimal, nearest: Decimal, price: Decimal = ONE
    ) -> FilterViolated:
        problem = f"{format_decimal(value)} is"
        if name == "min_notional":
            problem = f"{format_decimal(value)} x {format_decimal(price)} is"
        problem += " not a multiple of" if name in ("tick_size", "step_size") else " less than"
        return FilterViolated(
            field,
            f"{problem} {format_decimal(getattr(self.filters, name))}, the {name} of {self.symbol};"
            f" the nearest that would do is {format_decimal(nearest)}",
            filter=name,
            value=Decimal(format_decimal(value)),
            nearest=Decimal(format_decimal(nearest)),
        )


def parse_instruments(values: Iterable[object]) -> dict[str, Instrument]:
    """Return instruments by symbol; raise ``InvalidParameter`` if two have the same."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise InvalidParameter("instruments", "must be a list of instruments")
    instruments: dict[str, Instrument] = {}
    for value in values:
        instrument = Instrument.parse(value)
        if instrument.symbol in instruments:
            raise InvalidParameter("instruments", f"has {instrument.symbol} twice")
        instruments[instrument.symbol] = instrument
    return instruments


def _parse_exact(name: str, value: object, places: int) -> Decimal:
    number = parse_positive(name, value, places)
    if number != parse_number(name, value):
        raise InvalidParameter(name, f"may have at most {places} decimal places")
    return Decimal(format_decimal(number))


def _currencies(symbol: str) -> tuple[str | None, str | None]:
    try:
        pair = parse_symbol(symbol)
    except InvalidSymbol:
        return None, None
    return pair.base, pair.quote
