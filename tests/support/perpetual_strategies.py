"""Hypothesis strategies of perpetual cases in which liquidations, flips and funding are frequent.

Prices lie on a grid of ticks and wander; quantities are a few units of a symbol, so that positions
are closed, flipped and reduced exactly, and accounts use most of what their leverage allows.
Everything is decoded from a few byte strings, which hypothesis draws and shrinks much faster than
as many single values; zeros are the simplest case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Literal, TypeVar

from hypothesis import strategies as st

from tests.support.perpetual_cases import (
    ONE_TIER,
    Case,
    Command,
    Config,
    Mode,
    Oco,
    Place,
    Rates,
    Replace,
    SetLeverage,
    SetMarginMode,
    Settlement,
    TierRow,
    Transfer,
)
from tests.support.session_cases import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Bar,
    Cancel,
    End,
    Series,
    Side,
    Slippage,
    Step,
    Trigger,
    Type,
)

MIDNIGHT = 1_709_164_800_000  # 2024-02-29T00:00:00Z
SYMBOLS = tuple(f"{letter * 3}USDT-PERP" for letter in "ABCDE")

T = TypeVar("T")


class Choices:
    """Choices, one byte each; after its end always the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0

    def number(self, below: int) -> int:
        """Return a number from 0 up to ``below``, which is at most 256."""
        self._next += 1
        return self._data[self._next - 1] % below if self._next <= len(self._data) else 0

    def pick(self, values: Sequence[T]) -> T:
        """Return one of the values; those listed more often come more often."""
        return values[self.number(len(values))]

    def one_in(self, count: int) -> bool:
        return self.number(count) == count - 1


# Candles

JUMPS = (0, 0, 0, 0, 0, 0, 1, -1, 4, -4, 9, -9)
BODIES = (0, 1, -1, 2, -2, 5, -5, 8, -8)
WICKS = ((0, 0), (1, 1), (2, 0), (0, 2), (1, 3), (3, 1), (6, 0), (0, 6), (12, 1), (1, 12))
LOWEST, MIDDLE, HIGHEST = 40, 100, 250


@dataclass(frozen=True)
class Grid:
    """The ticks of a symbol's prices."""

    tick: float

    def price(self, ticks: int) -> float:
        return ticks * self.tick

    def bar(self, candle: Ticks, volume: float) -> Bar:
        return Bar(
            candle.time,
            self.price(candle.open),
            self.price(candle.high),
            self.price(candle.low),
            self.price(candle.close),
            volume,
        )


@dataclass(frozen=True)
class Ticks:
    """A candle in ticks."""

    time: int
    open: int
    high: int
    low: int
    close: int


def _within(ticks: int) -> int:
    return min(max(ticks, LOWEST), HIGHEST)


def wandering(choices: Choices, interval: int, first: int, count: int) -> list[Ticks]:
    """Return candles that wander from the middle, some of them absent."""
    candles: list[Ticks] = []
    price = MIDDLE
    for index in range(count):
        start = _within(price + choices.pick(JUMPS))
        price = _within(start + choices.pick(BODIES))
        down, up = choices.pick(WICKS)
        if choices.one_in(12) and index:
            continue
        high, low = max(start, price) + up, min(start, price) - down
        candles.append(Ticks(first + index * interval, start, high, low, price))
    return candles


COARSER = {1: 3, 3: 5, 5: 3, 15: 2}
"""By how much coarser marks are, by the minutes of a candle."""


def marks_near(
    choices: Choices, symbol: str, grid: Grid, interval: int, candles: list[Ticks]
) -> tuple[Series, ...]:
    """Return marks near the candles: none, of the same interval, finer or coarser, with holes."""
    kind = choices.pick(("none", "none", "same", "same", "same", "finer", "coarser", "other"))
    if kind == "none":
        return ()
    if kind == "finer" and interval > MINUTE:
        parts = 5 if interval == 5 * MINUTE else 3
        interval //= parts
        marks = [part for one in candles for part in parts_of(choices, one, interval, parts)]
    elif kind == "coarser":
        interval *= COARSER[interval // MINUTE]
        marks = [shifted(choices, one) for one in candles if one.time % interval == 0]
    else:
        marks = [shifted(choices, one) for one in candles]
    if kind == "other":
        marks = [replace(one, time=one.time + interval // 5 // MINUTE * MINUTE) for one in marks]
    bars = tuple(grid.bar(one, 0.0) for one in marks if not choices.one_in(10))
    return (Series(symbol, interval, bars),) if bars else ()


SHIFTS = ((0, 0, 0, 0), (0, 0, 0, 0), (1, 1, -1, 1), (-1, 0, 2, 0), (0, -3, 3, 0), (2, 2, 2, 2))


def shifted(choices: Choices, candle: Ticks) -> Ticks:
    """Return a mark candle whose prices are those of a trading candle, or a little away."""
    opened, up, down, closed = choices.pick(SHIFTS)
    start, end = candle.open + opened, candle.close + closed
    high, low = max(candle.high + up, start, end), min(candle.low + down, start, end)
    return Ticks(candle.time, start, high, low, end)


def parts_of(choices: Choices, candle: Ticks, interval: int, parts: int) -> list[Ticks]:
    """Return finer mark candles one after another, within a tick of the candle."""
    inside = range(candle.low - 1, candle.high + 2)
    turns = [choices.pick(inside) for _ in range(parts + 1)]
    return [
        Ticks(
            candle.time + index * interval,
            turns[index],
            max(turns[index : index + 2]),
            min(turns[index : index + 2]),
            turns[index + 1],
        )
        for index in range(parts)
    ]


# Funding

RATES = (0.0, 0.0001, -0.0001, 0.001, -0.0025, 0.01, -0.01, 0.05, 0.00012345)


def settlements(choices: Choices, first: int, last: int, grid: Grid) -> tuple[Settlement, ...]:
    """Return rows whose intervals change, on and off the grid of candles, some of them absent."""
    time = first + choices.pick((0, 0, 0, 1, 2, -7, 10)) * MINUTE
    interval = choices.pick((5, 5, 10, 15, 7, 30)) * MINUTE
    has_holes = choices.one_in(4)
    rows: list[Settlement] = []
    while time <= last:
        rate, mark = choices.pick(RATES), choices.pick((None, None, None, 0, 1, -3))
        price = None if mark is None else grid.price(MIDDLE + mark)
        if not (has_holes and rows and choices.one_in(4)):
            rows.append(Settlement(time, rate, interval, price))
        time += interval
        if choices.one_in(6):
            interval = choices.pick((5, 10, 15, 3)) * MINUTE
    return tuple(rows)


# Configurations


@dataclass(frozen=True)
class Room:
    """The material of one case's commands."""

    grids: dict[str, Grid]
    config: Config
    choices: Choices
    now: int

    def symbol(self) -> str:
        return self.choices.pick(sorted(self.grids))

    def side(self) -> Side:
        return self.choices.pick(("buy", "sell"))

    def quantity(self, symbol: str, units: Decimal) -> str:
        """Return a quantity; six units are all that the leverage of the start allows."""
        price = Decimal(repr(self.grids[symbol].price(MIDDLE)))
        whole = Decimal(self.config.balance) * self.config.leverage / price / 6
        return format((whole * units).quantize(Decimal("1e-6")), "f")

    def level(self, symbol: str, low: int = -9, high: int = 9) -> str:
        """Return a price on the grid, as in a candle, or just next to one."""
        tick = Decimal(repr(self.grids[symbol].tick))
        ticks = [Decimal(MIDDLE + k) for k in range(low, high + 1) if k]
        level = self.choices.pick([*ticks, MIDDLE + Decimal("2.5"), MIDDLE - Decimal("3.3333")])
        return format(level * tick, "f")

    def expires_at(self) -> int | None:
        interval = self.config.interval
        times = (self.now + interval, self.now + 3 * interval, self.now + 90_000)
        return self.choices.pick((*[None] * 7, *times))

    def oco_group(self) -> str | None:
        return self.choices.pick((None, None, None, "g"))


def tier_table(choices: Choices, balance: int) -> tuple[TierRow, ...]:
    """Return a table; most begin to ask for more where an account of ``balance`` can get to."""
    kind = choices.pick(("one", "steep", "steep", "venue", "odd"))
    if kind == "one":
        return ONE_TIER
    if kind == "steep":
        return (
            ("0", "0.004", 125),
            (str(4 * balance), "0.01", 50),
            (str(9 * balance), "0.025", 20),
            (str(15 * balance), "0.05", 10),
        )
    if kind == "venue":
        middle, high = str(5 * balance), str(9 * balance)
        return (("0", "0.004", 125), (middle, "0.005", 100), (high, "0.0065", 75))
    return (("0", "0.0123", 50), (f"{3 * balance}.5", "0.0333", 25))


MODES: tuple[Mode, ...] = ("cross", "cross", "cross", "isolated")


def config_of(
    choices: Choices, symbols: tuple[str, ...], first: int, last: int, finest: int, longest: int
) -> Config:
    balance = choices.pick((1000, 1000, 100, 25_000))
    tiers = tuple((symbol, tier_table(choices, balance)) for symbol in symbols)
    allowed = min(table[0][2] for _, table in tiers)
    leverage = min(choices.pick((10, 10, 20, 20, 20, 50, 5, 3, 1, 100)), allowed)
    interval = choices.pick((finest, finest, finest, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR))
    into = choices.pick((*[longest] * 7, 2 * finest, finest, 0))
    start = first + into + choices.pick((0, 0, 0, 30 * SECOND, MINUTE))
    steps = max(2, -(-(last - start) // interval) + choices.pick((0, 0, -1, 2)))
    slippages: tuple[Slippage, ...] = ("none", "none", "fixed_bps", "volume")
    triggers: tuple[Trigger, ...] = ("path", "path", "path", "path", "close")
    marks: tuple[Literal["auto", "last"], ...] = ("auto", "auto", "auto", "auto", "last")
    prices: tuple[Literal["path", "bankruptcy"], ...] = ("path", "path", "path", "bankruptcy")
    slippage = choices.pick(slippages)
    bps = choices.pick(("0", "5", "0.3", "200"))
    return Config(
        start=start,
        end=start + steps * interval,
        interval=interval,
        balance=choices.pick((str(balance), f"{balance}.12345678")),
        fee_rate=choices.pick(("0", "0.0005", "0.0005", "0.00037", "0.01")),
        slippage=slippage,
        bps=bps if slippage == "fixed_bps" else "0",
        trigger=choices.pick(triggers),
        liquidate_at_end=choices.pick((False, False, True)),
        leverage=leverage,
        margin_mode=choices.pick(MODES),
        funding=not choices.one_in(8),
        default_rate=choices.pick((*["0.0003"] * 12, "-0.002", None)),
        mark=choices.pick(marks),
        liquidation_fee=choices.pick(("0.0125", "0.0125", "0", "0.002")),
        liquidation_at=choices.pick(prices),
        tiers=tiers,
    )


# Commands

UNITS = tuple(map(Decimal, ("1", "1", "2", "2", "3", "4", "0.5", "0.123457")))
WAITING: tuple[Type, ...] = ("limit", "limit", "stop_loss", "stop_loss", "take_profit")


def other(side: Side) -> Side:
    return "sell" if side == "buy" else "buy"


def market_order(room: Room, symbol: str) -> Place:
    return Place(symbol, room.side(), "market", room.quantity(symbol, room.choices.pick(UNITS)))


def bracketed(room: Room, symbol: str) -> list[Command]:
    """Return a position that is guarded from its first moment, or one for an amount."""
    order = market_order(room, symbol)
    low, high = room.level(symbol, -6, -1), room.level(symbol, 1, 6)
    stop, target = (low, high) if order.side == "buy" else (high, low)
    guard = replace(order, stop_loss=stop, take_profit=target)
    worth = format(Decimal(room.config.balance) * room.choices.pick((1, 2)), "f")
    by_amount = replace(order, quantity=None, quote_amount=worth)
    return [room.choices.pick((guard, guard, by_amount)), Step(1)]


def entry(room: Room, symbol: str) -> Place:
    """Return an order that waits, mostly to open a position."""
    kind = room.choices.pick(WAITING)
    level = room.level(symbol)
    order = Place(
        symbol,
        room.side(),
        kind,
        room.quantity(symbol, room.choices.pick(UNITS)),
        price=level if kind == "limit" else None,
        trigger_price=None if kind == "limit" else level,
        reduce_only=room.choices.pick((False, False, False, None, True)),
        oco_group=room.oco_group(),
        expires_at=room.expires_at(),
    )
    return richer(room, symbol, order)


def richer(room: Room, symbol: str, order: Place) -> Place:
    """Return an order with a limit, a trail, a bracket or another condition, or as it is."""
    choices, level = room.choices, order.price or order.trigger_price
    match choices.pick(("plain", "plain", "limit", "trail", "trail", "bracket", "bracket", "wait")):
        case "limit" if order.type != "limit":
            type: Type = "stop_limit" if order.type == "stop_loss" else "take_profit_limit"
            limit = choices.pick((level, room.level(symbol)))
            return replace(order, type=type, price=limit, trigger_price=level)
        case "trail":
            activation = choices.pick((None, None, level))
            order = replace(order, type="trailing_stop", price=None, trigger_price=None)
            percent = choices.pick(("0.5", "1", "2", "5"))
            return replace(order, trail_percent=percent, activation_price=activation)
        case "bracket":
            low, high = room.level(symbol, -6, -1), room.level(symbol, 1, 6)
            stop, target = (low, high) if order.side == "buy" else (high, low)
            return replace(order, reduce_only=False, stop_loss=stop, take_profit=target)
        case "wait" if order.type == "limit":
            return replace(order, time_in_force="ioc", expires_at=None)
    return order


def guarded(room: Room, symbol: str) -> list[Command]:
    """Return a position with a stop, a target, or both."""
    opening = market_order(room, symbol)
    far = room.choices.pick((12, 5, 2))
    low, high = room.level(symbol, -far, -1), room.level(symbol, 1, far)
    is_long = opening.side == "buy"
    stop = Place(
        symbol,
        other(opening.side),
        "stop_loss",
        opening.quantity,
        trigger_price=low if is_long else high,
        oco_group=room.oco_group(),
        expires_at=room.expires_at(),
    )
    target = replace(stop, type="take_profit", trigger_price=high if is_long else low)
    limit = replace(target, type="limit", price=target.trigger_price, trigger_price=None)
    guards: tuple[list[Place], ...] = ([stop], [stop, target], [limit, stop], [target])
    return [opening, *room.choices.pick(guards)]


def listed(room: Room, symbol: str) -> list[Command]:
    """Return a list of two orders: it guards a position, or is an entry above and below."""
    choices, opening = room.choices, market_order(room, symbol)
    far = choices.pick((2, 5, 9))
    low, high = room.level(symbol, -far, -1), room.level(symbol, 1, far)
    guards, lasts = choices.pick((True, True, True, False)), room.expires_at()
    side = other(opening.side) if guards else opening.side
    falls, rises = ("limit", "stop_loss") if side == "buy" else ("stop_loss", "limit")
    legs = [
        Place(
            symbol,
            side,
            "stop_loss" if type == "stop_loss" else choices.pick(("limit", "take_profit")),
            opening.quantity,
            trigger_price=level,
            reduce_only=guards or False,
            expires_at=lasts,
        )
        for type, level in ((falls, low), (rises, high))
    ]
    legs = [
        replace(leg, price=leg.trigger_price, trigger_price=None) if leg.type == "limit" else leg
        for leg in legs
    ]
    odd = choices.number(16)
    if odd < 3:
        times = Decimal(choices.pick(("0.5", "3", "8")))
        legs[1] = replace(legs[1], quantity=format(Decimal(opening.quantity or 0) * times, "f"))
    elif odd == 3:
        legs[1] = richer(room, symbol, legs[1])
    pair = Oco(*legs) if choices.one_in(2) else Oco(*reversed(legs))
    return [opening, pair] if guards else [pair]


def changed(room: Room, symbol: str) -> Replace:
    """Return a replacement of one of the youngest orders that wait."""
    choices = room.choices
    place = choices.pick((0, 0, 0, 1, 2))
    level = room.level(symbol)
    match choices.pick(("price", "price", "trigger", "quantity", "quantity", "all")):
        case "price":
            return Replace(place, price=level)
        case "trigger":
            return Replace(place, trigger_price=level)
        case "quantity":
            units = choices.pick((*UNITS, Decimal(8)))
            return Replace(place, quantity=room.quantity(symbol, units))
        case _:
            return Replace(place, price=level, quantity=room.quantity(symbol, UNITS[0]))


def replacement(room: Room, symbol: str) -> list[Command]:
    """Return an order that waits and is replaced, at once or later, or a list of which one is."""
    commands = listed(room, symbol) if room.choices.one_in(3) else [entry(room, symbol)]
    waits: list[list[Command]] = [[], [], [Step(1)]]
    return [*commands, *room.choices.pick(waits), changed(room, symbol)]


def turn(room: Room, symbol: str) -> list[Command]:
    """Return a position, and an order that flips it, at once or waiting."""
    opening = market_order(room, symbol)
    times = room.choices.pick((Decimal(2), Decimal("1.5"), Decimal(3)))
    quantity = format(Decimal(opening.quantity or 0) * times, "f")
    flip = Place(symbol, other(opening.side), "market", quantity)
    waiting = replace(entry(room, symbol), side=flip.side, quantity=quantity, reduce_only=False)
    return [opening, Step(room.choices.pick((1, 1, 2))), room.choices.pick((flip, flip, waiting))]


def hedge(room: Room) -> list[Command]:
    """Return a position in every symbol, the sides in turn or all the same."""
    side, alternates = room.side(), room.choices.one_in(2)
    units = Decimal(6) / len(room.grids)
    orders: list[Command] = []
    for symbol in sorted(room.grids):
        part = units * room.choices.pick(tuple(map(Decimal, ("0.9", "0.9", "0.5", "0.2"))))
        orders.append(Place(symbol, side, "market", room.quantity(symbol, part)))
        side = other(side) if alternates else side
    return orders


def ride(room: Room, symbol: str) -> list[Command]:
    """Return a position that takes most of the account, and some time."""
    units = room.choices.pick(tuple(map(Decimal, ("5", "5.5", "4"))))
    order = Place(symbol, room.side(), "market", room.quantity(symbol, units))
    return [order, Step(room.choices.pick((1, 2, 4, 8)))]


def margin_moves(room: Room, symbol: str) -> list[Command]:
    """Return a position with a wallet of its own, and transfers to and from that."""
    order = market_order(room, symbol)
    balance = Decimal(room.config.balance)
    shares = [room.choices.pick((1, 10, 30, -1, -5, -10, 100)) for _ in range(2)]
    transfers = [Transfer(symbol, format(balance * share / 100, "f")) for share in shares]
    wait = Step(room.choices.pick((1, 2, 3)))
    return [SetMarginMode(symbol, "isolated"), order, transfers[0], wait, transfers[1]]


def moves(room: Room) -> list[Command]:
    choices, symbol = room.choices, room.symbol()
    match choices.pick(MOVES):
        case "step":
            return [Step(choices.pick((1, 1, 1, 2, 2, 3, 5, 20)))]
        case "market":
            return [market_order(room, symbol)]
        case "entry":
            return [entry(room, symbol)]
        case "guarded":
            return guarded(room, symbol)
        case "turn":
            return turn(room, symbol)
        case "hedge":
            return hedge(room)
        case "ladder":
            return [entry(room, symbol) for _ in range(choices.pick((2, 3, 4)))]
        case "leverage":
            return [SetLeverage(symbol, choices.pick((1, 2, 5, 10, 20, 25, 50, 75, 125, 126, 0)))]
        case "bracketed":
            return bracketed(room, symbol)
        case "ride":
            return ride(room, symbol)
        case "listed":
            return listed(room, symbol)
        case "replacement":
            return replacement(room, symbol)
        case "changed":
            return [changed(room, symbol)]
        case "margin":
            return margin_moves(room, symbol)
        case _:
            return [Cancel(1 + choices.number(12))]


MOVES = (
    *["step"] * 9,
    *["market"] * 3,
    *["entry"] * 2,
    *["guarded"] * 2,
    *["bracketed"] * 2,
    *["turn"] * 3,
    *["hedge"] * 4,
    *["ladder"] * 2,
    *["ride"] * 4,
    *["margin"] * 2,
    *["listed"] * 3,
    *["replacement"] * 4,
    *["changed"] * 3,
    *["leverage", "cancel"],
)


def settings_of(room: Room) -> list[Command]:
    """Return changes of margin mode and leverage before the first order."""
    changes: list[Command] = []
    for symbol in sorted(room.grids):
        if room.choices.one_in(4):
            changes.append(SetMarginMode(symbol, room.choices.pick(("isolated", "cross"))))
        if room.choices.one_in(5):
            changes.append(SetLeverage(symbol, room.choices.pick((5, 10, 20, 50))))
    return changes


def commands_of(room: Room, moved: list[bytes]) -> tuple[Command, ...]:
    config = room.config
    commands = settings_of(room)
    is_ended_early = room.choices.one_in(8)
    for one in moved:
        step = sum(command.steps for command in commands if isinstance(command, Step))
        if step >= config.total_steps:
            break
        now = config.start + step * config.interval
        commands += moves(replace(room, choices=Choices(one), now=now))
    last: Command = End() if is_ended_early else Step(100_000)
    return (*commands, last)


def some_choices(size: int) -> st.SearchStrategy[Choices]:
    return st.binary(min_size=size, max_size=size).map(Choices)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case: the market, the configuration and each move from bytes of its own."""
    choices = draw(some_choices(64))
    symbols = SYMBOLS[: choices.pick((1, 1, 2, 2, 3, 5))]
    first = MIDNIGHT + DAY - choices.pick((15, 30, 75)) * MINUTE
    finest = choices.pick((5, 5, 1)) * MINUTE
    span = (8 + choices.number(13)) * finest
    grids: dict[str, Grid] = {}
    market: tuple[Series, ...] = ()
    marks: tuple[Series, ...] = ()
    funding: list[Rates] = []
    longest = finest
    for symbol in symbols:
        grid = grids[symbol] = Grid(choices.pick((1.0, 1.0, 0.1, 0.01, 250.0)))
        interval = choices.pick((finest, finest, finest, 3 * finest))
        longest = max(longest, interval)
        late = choices.pick((*[0] * 7, 2)) * interval
        count = max(3, span // interval)
        candles = wandering(draw(some_choices(4 * count)), interval, first + late, count)
        volume = choices.pick((0.0, 50.0, 2000.0))
        market += (Series(symbol, interval, tuple(grid.bar(one, volume) for one in candles)),)
        marks += marks_near(draw(some_choices(8 * count)), symbol, grid, interval, candles)
        rows = settlements(draw(some_choices(5 * count)), first, first + span, grid)
        if rows:
            funding.append(Rates(symbol, rows))
    config = config_of(choices, symbols, first, first + span, finest, longest)
    moves = draw(st.lists(st.binary(min_size=24, max_size=24), min_size=6, max_size=18))
    commands = commands_of(Room(grids, config, choices, config.start), moves)
    return Case(market, config, commands, marks, tuple(funding))


@st.composite
def other_futures(draw: st.DrawFn, case: Case, now: int) -> Case:
    """Return the same case with every number of its market after ``now`` changed.

    Of an incomplete candle only the open stays, and that only if it has opened.
    """
    chosen = draw(some_choices(200))

    def changed(bar: Bar, interval: int) -> Bar:
        if bar.open_time + interval <= now:
            return bar
        unit = bar.open / 100
        ticks = [(1 + chosen.number(200)) * unit for _ in range(3)]
        opened = bar.open if bar.open_time <= now else ticks[0]
        high, low = max(opened, *ticks), min(opened, *ticks)
        return Bar(bar.open_time, opened, high, low, ticks[2], float(chosen.number(200)))

    def series_of(market: tuple[Series, ...]) -> tuple[Series, ...]:
        return tuple(
            replace(series, bars=tuple(changed(bar, series.interval) for bar in series.bars))
            for series in market
        )

    def row_of(row: Settlement) -> Settlement:
        if row.time <= now:
            return row
        mark = None if row.mark is None else row.mark * (1 + chosen.number(50))
        return replace(row, rate=chosen.pick(RATES) + 0.0001, mark=mark)

    funding = tuple(
        replace(rates, rows=tuple(row_of(row) for row in rates.rows)) for rates in case.funding
    )
    return replace(
        case, market=series_of(case.market), marks=series_of(case.marks), funding=funding
    )


@st.composite
def splits(draw: st.DrawFn, case: Case) -> Case:
    """Return the same case with each of its steps split into parts."""
    commands: list[Command] = []
    left = case.config.total_steps
    for command in case.commands:
        if isinstance(command, Step) and min(command.steps, left) > 0:
            steps = min(command.steps, left)
            cuts = draw(st.lists(st.integers(0, steps), max_size=5))
            edges = sorted({0, steps, *cuts})
            commands += [Step(b - a) for a, b in pairwise(edges)]
            left -= steps
        else:
            commands.append(command)
            left = 0 if isinstance(command, End) else left
    return replace(case, commands=tuple(commands))
