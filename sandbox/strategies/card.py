"""The card: a strategy written as JSON. The structs are its schema; ``parse_card`` checks it.

>>> parse_card({
...     "timeframe": "1h",
...     "indicators": {"fast": {"kind": "sma", "period": 10},
...                    "slow": {"kind": "sma", "period": 50}},
...     "entries": [{"when": {"left": "fast", "op": "crosses_above", "right": "slow"},
...                  "size": {"equity_share": 0.95}, "stop_loss": {"percent": 2}}],
...     "exits": [{"when": {"left": "fast", "op": "crosses_below", "right": "slow"}}],
... })
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, cast, get_args

import msgspec

from candlestep.sandbox.clock import interval_name, parse_interval
from candlestep.sandbox.errors import InvalidParameter, abbreviate
from candlestep.sandbox.indicators.indicators import Indicator, parse_indicators, value_names
from candlestep.sandbox.market.symbols import name_of_candles
from candlestep.sandbox.money import AMOUNT_PLACES, PRICE_PLACES, format_decimal, parse_positive
from candlestep.sandbox.strategies.json_input import convert, field_error

SPOT_HAS_NO_SHORTS = (
    "sells short, which spot pairs do not allow; trade a perpetual such as BTCUSDT-PERP"
)
MOST_RULES = 20
"""Largest number of entries, and of exits, in a card."""
MOST_CONDITIONS = 200
"""Largest number of conditions in a card, those inside others included."""
LONGEST_AGO = 10_000
MOST_EVERY = 1_000_000
MOST_LEVELS = 200
MOST_SYMBOLS = 100

Direction = Literal["long", "short"]
"""The side of a position."""
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Operator = Literal[">", ">=", "<", "<=", "==", "!=", "crosses_above", "crosses_below"]
Number = int | float | str
"""A JSON number, or a decimal as a string."""


class Earlier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of ``of`` at the candle ``ago`` candles before this one."""

    of: str
    ago: int

    def __post_init__(self) -> None:
        _require_within("ago", self.ago, 1, LONGEST_AGO)


Operand = int | float | str | Earlier
"""A constant, a column such as ``close``, an indicator, or one value of one (``bands.upper``)."""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``all``, ``any`` or ``not`` of other conditions, or ``left``, ``op`` and ``right``.

    ``crosses_above`` is true if ``left`` is above ``right`` at this candle and was not at the one
    before. While a value in a comparison is not known yet (its indicator has too little history),
    neither the comparison nor its negation is true.
    """

    all: "tuple[Condition, ...] | None" = None
    any: "tuple[Condition, ...] | None" = None
    not_: "Condition | None" = msgspec.field(name="not", default=None)
    left: Operand | None = None
    op: Operator | None = None
    right: Operand | None = None

    def __post_init__(self) -> None:
        compared = [part is not None for part in (self.left, self.op, self.right)]
        forms = [self.all is not None, self.any is not None, self.not_ is not None, any(compared)]
        if sum(forms) != 1 or any(compared) != all(compared):
            raise ValueError("must have either all, any or not, or left, op and right")
        if self.all == () or self.any == ():
            raise ValueError("all and any need at least one condition")


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The amount to trade: one of the three. The first two include fee and slippage.

    On perpetuals these two are initial margin: at a leverage of 5 they open five times as much.
    """

    equity_share: Number | None = None
    """A fraction of total equity, up to 1, divided evenly among the strategy's symbols; no
    more than the cash available, or the balance available on perpetuals."""
    quote: Number | None = None
    """An amount of quote currency."""
    quantity: Number | None = None
    """A quantity in base currency."""

    def __post_init__(self) -> None:
        if [self.equity_share, self.quote, self.quantity].count(None) != 2:
            raise ValueError("must have exactly one of equity_share, quote and quantity")
        for name in self.__struct_fields__:
            _spell(self, name, AMOUNT_PLACES)
        if self.equity_share is not None and Decimal(self.equity_share) > 1:
            raise field_error("equity_share", "must be at most 1, which is all of the equity")


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A price, given as its distance in percent from the fill price of the entry."""

    percent: Number

    def __post_init__(self) -> None:
        _spell(self, "percent", AMOUNT_PLACES)
        if Decimal(self.percent) > 10_000:
            raise field_error("percent", "must be at most 10000")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule that buys at the market, or sells short."""

    size: Size
    when: Condition | None = None
    """Enter at candles where this is true."""
    every: int | None = None
    """Or enter at the session's first candle, and every ``every`` candles after it."""
    add: bool = False
    """Enter also while a position of the same side is held."""
    stop_loss: Guard | None = None
    """Close what the entry opened when the price moves this far against it, by a separate order: for
    a long, when it falls so far below the fill."""
    take_profit: Guard | None = None
    """Close it when the price moves this far in its favour; the first of the two to fill cancels
    the other."""
    side: Direction = "long"
    """``short`` sells what is not held, which only perpetuals allow."""
    trailing_stop: Guard | None = None
    """Close it when the price moves this far back from its best since the fill."""

    def __post_init__(self) -> None:
        if (self.when is None) == (self.every is None):
            raise ValueError("must have exactly one of when and every")
        if self.every is not None:
            _require_within("every", self.every, 1, MOST_EVERY)
        below = "stop_loss" if self.side == "long" else "take_profit"
        guard = self.stop_loss if self.side == "long" else self.take_profit
        if guard is not None and Decimal(guard.percent) >= 100:
            raise field_error(f"{below}.percent", "must be less than 100")
        if self.trailing_stop is not None and Decimal(self.trailing_stop.percent) >= 100:
            raise field_error("trailing_stop.percent", "must be less than 100")


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule that closes all of the position at the market."""

    when: Condition
    side: Direction | None = None
    """The side of the positions that it closes; both if left out."""


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limit orders at ``levels`` prices, evenly spaced from ``lower`` to ``upper``.

    A buy rests at every level except the highest. When it has filled, a sell of the same quantity
    is placed one level above; when that has filled, the buy is placed again. Buys at or above the
    current price fill at once, at that price. With the side ``short`` it is the other way round: a
    sell rests at every level except the lowest, and what it sold is bought back one level below.
    """

    lower: Number
    upper: Number
    levels: int
    size: Size
    """Amount for all levels together; each gets the same part of it."""
    side: Direction = "long"
    """``short`` needs perpetuals."""

    def __post_init__(self) -> None:
        _spell(self, "lower", PRICE_PLACES)
        _spell(self, "upper", PRICE_PLACES)
        if Decimal(self.lower) >= Decimal(self.upper):
            raise field_error("lower", f"must be less than upper, which is {self.upper}")
        _require_within("levels", self.levels, 2, MOST_LEVELS)


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A strategy as indicators and rules, or as a grid.

    An exit and an entry of the other side that are true at one candle reverse the position.
    """

    timeframe: str | int | None = None
    """Interval of the candles it sees; the session's if left out."""
    symbols: tuple[str, ...] | None = None
    """Symbols it trades, each by itself; every symbol of the market if left out."""
    indicators: dict[str, Any] = {}
    """Indicators by name, such as ``{"kind": "sma", "period": 20, "source": "close"}``."""
    entries: tuple[Entry, ...] = ()
    """While no position is held, the first entry that is true opens one."""
    exits: tuple[Exit, ...] = ()
    """While a position is held, any exit that is true and of its side closes it."""
    grid: Grid | None = None
    """Instead of entries and exits."""


class ParsedCard(msgspec.Struct, frozen=True):
    """A checked card with normalised numbers."""

    card: Card
    timeframe: str | None
    symbols: tuple[str, ...] | None
    """Sorted."""
    indicators: dict[str, Indicator]
    """Indicators by name, each after its source."""

    def content(self) -> dict[str, Any]:
        """Return the card as JSON."""
        return cast(dict[str, Any], msgspec.to_builtins(self.card))

    @property
    def short_side(self) -> str | None:
        """The first field that makes the card sell short; None if it is only ever long."""
        if self.card.grid is not None and self.card.grid.side == "short":
            return "grid.side"
        places = (place for place, rule in enumerate(self.card.entries) if rule.side == "short")
        place = next(places, None)
        return None if place is None else f"entries[{place}].side"


def parse_card(raw: object) -> ParsedCard:
    """Check a card as plain data; raises ``InvalidParameter`` such as ``entries[0].when.left: …``."""
    card = convert(raw, Card, "")
    indicators = parse_indicators(card.indicators)
    timeframe, symbols = parse_scope(card.timeframe, card.symbols)
    card = msgspec.structs.replace(
        card,
        timeframe=timeframe,
        symbols=symbols,
        indicators={name: indicator.content() for name, indicator in sorted(indicators.items())},
    )
    if card.grid is not None and (card.entries or card.exits or indicators):
        raise InvalidParameter(
            "grid", "cannot be combined with indicators, entries or exits; leave them out"
        )
    if card.grid is None and not card.entries:
        raise InvalidParameter(
            "entries", "must have at least one entry, unless the card has a grid"
        )
    rules: dict[str, tuple[Entry | Exit, ...]] = {
        "entries": card.entries,
        "exits": card.exits,
    }
    for name, listed in rules.items():
        if len(listed) > MOST_RULES:
            raise InvalidParameter(
                name, f"has {len(listed)} members; at most {MOST_RULES} are allowed"
            )
    conditions = [
        (f"{name}[{place}].when", rule.when)
        for name, listed in rules.items()
        for place, rule in enumerate(listed)
        if rule.when is not None
    ]
    _check_conditions(conditions, value_names(indicators))
    return ParsedCard(card, timeframe, symbols, indicators)


def parse_scope(
    timeframe: object, symbols: Iterable[str] | None
) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the name of ``timeframe``, and ``symbols`` in their one spelling, sorted.

    Each is None where it is left out.
    """
    name = None
    if timeframe is not None:
        name = interval_name(parse_interval(timeframe, "timeframe"))
    if symbols is None:
        return name, None
    distinct = tuple(sorted({name_of_candles(symbol) for symbol in symbols}))
    if not 1 <= len(distinct) <= MOST_SYMBOLS:
        raise InvalidParameter("symbols", f"must name 1 to {MOST_SYMBOLS} symbols")
    return name, distinct


def _check_conditions(pending: list[tuple[str, Condition]], names: list[str]) -> None:
    """Raise ``InvalidParameter`` for too many conditions or an unknown name."""
    count = 0
    while pending:
        field, condition = pending.pop()
        count += 1
        if count > MOST_CONDITIONS:
            raise InvalidParameter(field, f"the card has more than {MOST_CONDITIONS} conditions")
        for form in ("all", "any"):
            parts = getattr(condition, form) or ()
            pending += [(f"{field}.{form}[{place}]", part) for place, part in enumerate(parts)]
        if condition.not_ is not None:
            pending.append((f"{field}.not", condition.not_))
        for side in ("left", "right"):
            operand = getattr(condition, side)
            name = operand.of if isinstance(operand, Earlier) else operand
            if isinstance(name, str) and name not in names:
                raise InvalidParameter(
                    f"{field}.{side}" + (".of" if isinstance(operand, Earlier) else ""),
                    f"{abbreviate(name)!r} is not one of {', '.join(names)}",
                )


def _spell(struct: msgspec.Struct, name: str, places: int) -> None:
    """Check the positive number of a field, if present, and normalise it."""
    value = getattr(struct, name)
    if value is None:
        return
    try:
        number = parse_positive(name, value, places)
    except InvalidParameter as error:
        raise field_error(name, error.message.removeprefix(f"{name}: ")) from None
    msgspec.structs.force_setattr(struct, name, format_decimal(number))


def _require_within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise field_error(name, f"must be from {least} to {most}, got {value}")
