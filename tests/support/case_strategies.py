"""Hypothesis strategies of cases: small markets, session configurations and command sequences.

Prices and quantities of a case lie on one small grid, so that candles touch triggers exactly,
several orders trigger in one candle, and sales are exactly what is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from hypothesis import strategies as st

from tests.support.session_cases import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    WEEK,
    Bar,
    Cancel,
    Case,
    Command,
    Config,
    End,
    FeePeriod,
    Fees,
    Oco,
    Place,
    Replace,
    Series,
    Side,
    Slippage,
    Step,
    Trigger,
    Type,
)

MIDNIGHT = 1_709_164_800_000  # 2024-02-29T00:00:00Z
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
UNKNOWN_SYMBOL = "NONEUSDT"

SIDES: tuple[Side, ...] = ("buy", "sell")
TYPES: tuple[Type, ...] = ("market", "limit", "stop_loss", "take_profit")
WAITING: tuple[Type, ...] = ("limit", "stop_loss", "take_profit")
TRIGGERS: tuple[Trigger, ...] = ("path", "path", "path", "path", "close")


@dataclass(frozen=True)
class Grid:
    """The prices and quantities of a case: ``price(k)`` is k ticks, ``quantity(n)`` n units.
    Eight units at the middle price are worth the whole balance."""

    tick: float
    middle: int
    balance: Decimal

    def price(self, ticks: int) -> float:
        return ticks * self.tick

    def quantity(self, units: Decimal) -> str:
        price = Decimal(repr(self.price(self.middle)))
        return format((self.balance / price / 8 * units).quantize(Decimal("1e-9")), "f")


OPENS = (0, 1, -1, 0, 2, -2, 0, 4, -4)
BODIES = (0, 1, -1, 2, -2)
WICKS = ((0, 0), (1, 1), (2, 2), (1, 2), (2, 1), (0, 2), (3, 0), (3, 3))
VOLUMES = (0.0, 1.0, 0.1 + 0.2, 7.5, 40.0, 123.45678, 1e-9)
GAP = 8
CODES = len(OPENS) * len(BODIES) * len(WICKS) * (GAP + 1)


PHASES = (0, 0, 0, 0, 0, 0, 0, 0, 1, 7, 30, 60, 16 * 60)


def phases(interval: int) -> st.SearchStrategy[int]:
    """Draw a time after the bound of a bucket at which candles open, mostly none."""
    return st.sampled_from([minutes * MINUTE % interval for minutes in PHASES])


@st.composite
def bars(draw: st.DrawFn, grid: Grid, interval: int, first: int, count: int) -> tuple[Bar, ...]:
    """Draw candles of a few ticks around the middle price.

    Every candle is decoded from one number, and zero is a flat one at the middle. Sometimes the
    same candles are repeated, and sometimes they change their phase half way.
    """
    codes = draw(st.lists(st.integers(0, CODES - 1), min_size=count, max_size=count))
    codes *= draw(st.sampled_from([1, 1, 1, 1, 1, 1, 4]))
    drawn: list[Bar] = []
    for index, code in enumerate(codes):
        code, opened = divmod(code, len(OPENS))
        code, body = divmod(code, len(BODIES))
        code, wicks = divmod(code, len(WICKS))
        if code == GAP and index:
            continue
        start = grid.middle + OPENS[opened]
        end = start + BODIES[body]
        down, up = WICKS[wicks]
        volume = VOLUMES[code % len(VOLUMES)] * float(grid.balance)
        drawn.append(
            Bar(
                open_time=first + index * interval,
                open=grid.price(start),
                high=grid.price(max(start, end) + up),
                low=grid.price(min(start, end) - down),
                close=grid.price(end),
                volume=volume / grid.price(grid.middle) / 8,
            )
        )
    half = len(drawn) // 2
    if half < 2:
        return tuple(drawn)
    change = draw(phases(interval))
    later = [replace(bar, open_time=bar.open_time + change) for bar in drawn[half:]]
    return (*drawn[:half], *later)


def _aligned(time: int, interval: int) -> int:
    first = 4 * DAY if interval == WEEK else 0
    return (time - first) // interval * interval + first


GRANULARITIES = (
    (MINUTE,),
    (MINUTE,),
    (MINUTE,),
    (HOUR,),
    (5 * MINUTE,),
    (5 * MINUTE, MINUTE),
    (HOUR, 5 * MINUTE),
    (HOUR, MINUTE),
    (HOUR, 5 * MINUTE, MINUTE),
    (3 * MINUTE,),
    (5 * MINUTE, 3 * MINUTE),
    (30 * MINUTE, 3 * MINUTE, MINUTE),
    (2 * HOUR, 30 * MINUTE),
    (6 * HOUR, 4 * HOUR),
    (12 * HOUR, 8 * HOUR, HOUR),
)


DAILY = ((DAY,), (DAY,), (WEEK, DAY))
"""Months of candles, for what counts by the day."""


@st.composite
def symbol_series(
    draw: st.DrawFn,
    symbol: str,
    grid: Grid,
    first: int,
    is_late: bool,
    granularities: tuple[tuple[int, ...], ...],
) -> tuple[Series, ...]:
    """Draw candles of one interval, or finer ones inside the span of coarser ones."""
    has_volume = draw(st.sampled_from([True, True, True, False]))
    coarse, *finer = draw(st.sampled_from(granularities))
    shortest = 31 if coarse == DAY else 10
    count = draw(st.integers(4, 10) if finer else st.integers(shortest, shortest + 30))
    start = _aligned(first, coarse) + draw(phases(coarse))
    start += draw(st.integers(1, 9)) * coarse if is_late else 0
    drawn = [Series(symbol, coarse, draw(bars(grid, coarse, start, count)), has_volume)]
    for fine in finer:
        offset = draw(st.integers(-1, count)) * coarse + draw(st.integers(0, 5)) * fine
        opens = start + offset + draw(phases(fine))
        inside = draw(bars(grid, fine, opens, draw(st.integers(1, 20))))
        drawn.append(Series(symbol, fine, inside, has_volume))
    return tuple(drawn)


def _plain(value: float | Decimal) -> str:
    return format(Decimal(repr(value)) if isinstance(value, float) else value, "f")


FEE_RATES = ["0", "0.001", "0.0004", "0.00075", "0.1"]


@st.composite
def fees(draw: st.DrawFn, start: int, interval: int, steps: int, symbols: list[str]) -> Fees:
    models = ["rate"] * 4 + ["tiers"] * 2 + ["dated"] * 2 + ["none", "bps"]
    model = draw(st.sampled_from(models if interval < DAY else ["tiers"] * 7 + ["dated"]))
    if model == "rate":
        return Fees(fee_rate=draw(st.sampled_from([None, "0", "0", "0.001", "0.00075", "0.1"])))
    if model == "none":
        return Fees(fee_model="none")
    if model == "bps":
        return Fees(fee_model="fixed_bps", fee_bps=draw(st.sampled_from([None, "0", "7.5", "900"])))
    if model == "tiers":
        return Fees(fee_model="tiered_maker_taker")
    changes = st.integers(0, min(steps, 40)).map(lambda step: start + step * interval)
    around = st.tuples(changes, st.sampled_from([0, 0, -1, 1, interval // 2])).map(sum)
    schedule = draw(fee_periods([start - DAY, *sorted(draw(st.sets(around, max_size=3)))], None))
    if draw(st.booleans()):
        named = tuple(draw(st.lists(st.sampled_from(symbols), min_size=1, unique=True)))
        times = sorted(draw(st.sets(around, min_size=1, max_size=4)))
        schedule += draw(fee_periods(times, named))
    return Fees(fee_model="match_exchange", fee_schedule=tuple(draw(st.permutations(schedule))))


@st.composite
def fee_periods(
    draw: st.DrawFn, times: list[int], symbols: tuple[str, ...] | None
) -> tuple[FeePeriod, ...]:
    """Draw fee periods that begin at these times, the last one open or not.

    Periods for all symbols follow one another; those that name some may have gaps between them.
    """
    rate = st.sampled_from(FEE_RATES)
    periods = []
    for begins, follows in zip(times, [*times[1:], None], strict=True):
        stop = draw(st.sampled_from([None, follows]))
        if symbols is not None:
            stop = draw(
                st.sampled_from(
                    [stop, begins + 1 if follows is None else (begins + follows + 1) // 2]
                )
            )
        periods.append(FeePeriod(begins, stop, draw(rate), draw(rate), symbols))
    return tuple(periods)


@st.composite
def configs(
    draw: st.DrawFn, grid: Grid, market: tuple[Series, ...], first: int, richer: bool
) -> Config:
    """Draw starts on and off the candle grid, and steps finer and coarser than the data."""
    ends = max(series.bars[-1].open_time + series.interval for series in market)
    finest = min(series.interval for series in market)
    others = (MINUTE, 3 * MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR) if finest <= HOUR else (6 * HOUR,)
    choices = [finest] * 7 + [WEEK] if finest == DAY else [finest, finest, finest, *others]
    interval = draw(st.sampled_from(choices))
    half = (ends - first) // finest // 2
    into = draw(st.sampled_from([1, 1, 2, 3, 4, 0, half])) * finest
    off_grid = draw(st.sampled_from([0, 0, 0, 0, 30 * SECOND, 7, -1, -finest // 2]))
    start = first + into + off_grid
    steps = -(-(ends - start) // interval) + draw(st.sampled_from([0, 1, -1, 5, 5]))
    pct = st.sampled_from([None, None, None, "100", "50", "25", "12.5", "0", "60.5", "99.9"])
    loss = st.sampled_from([None, "0", "0.1", "0.125", "0.25", "0.5", "1.25", "2.5", "12.5"])
    is_risky = draw(st.sampled_from([False, False, True]))
    symbols = sorted({series.symbol for series in market})
    slippage: Slippage = draw(st.sampled_from(("none", "volume", "volume", "fixed_bps")))
    return Config(
        start=start,
        end=start + max(5, steps) * interval + draw(st.sampled_from([0, 0, interval - 1])),
        interval=interval,
        balance=_plain(grid.balance),
        fees=draw(fees(start, interval, max(5, steps), symbols)),
        slippage=slippage,
        bps=draw(st.sampled_from(["0", "5", "0.3", "1000"])) if slippage == "fixed_bps" else "0",
        trigger=draw(st.sampled_from(TRIGGERS)),
        liquidate_at_end=draw(st.sampled_from([False, False, True])),
        locking_stops=richer and draw(st.sampled_from([False, False, False, True])),
        max_order_size_pct=draw(pct) if is_risky else None,
        max_position_size_pct=draw(pct) if is_risky else None,
        daily_loss_limit_pct=draw(loss) if is_risky else None,
    )


@dataclass(frozen=True)
class Room:
    """The values from which the orders of one case are drawn."""

    grid: Grid
    symbols: tuple[str, ...]
    config: Config
    now: int
    richer: bool = False
    """True to draw all conditions of orders, not only those that every door takes."""
    asked_for: int = 0
    """Number of orders that the commands before have asked for."""

    def symbol(self) -> st.SearchStrategy[str]:
        return st.sampled_from(self.symbols)

    def quantity(self) -> st.SearchStrategy[str]:
        units = ["1", "2", "3", "1", "2", "4", "1", "2", "6", "7", "8", "7.9", "0.333", "1e-5"]
        return st.sampled_from([self.grid.quantity(Decimal(unit)) for unit in units])

    def small_quantity(self) -> st.SearchStrategy[str]:
        units = ["1", "0.5", "2", "1", "0.333"]
        return st.sampled_from([self.grid.quantity(Decimal(unit)) for unit in units])

    def any_quantity(self) -> st.SearchStrategy[str]:
        odd = ["0.00000001", "0.000000005", "0.000000004", "0", "-1", "1e16", "10000000000000001"]
        too_large = self.grid.quantity(Decimal(20))
        return rarely(st.sampled_from([too_large, *odd]), self.quantity())

    def level(self, low: int = -5, high: int = 6) -> st.SearchStrategy[str]:
        """Draw a price on the grid, exactly as in a candle, or just next to one."""
        middle, tick = self.grid.middle, self.grid.tick
        on_grid = [_plain(self.grid.price(middle + k)) for k in range(low, high + 1)]
        beside = [_plain((middle + 0.5) * tick), _plain(Decimal(repr(tick)) * (middle + 3))]
        return st.sampled_from(on_grid + beside)

    def oco_group(self) -> st.SearchStrategy[str | None]:
        return st.sampled_from([None, None, None, None, "g", "h"])

    def client_order_id(self) -> st.SearchStrategy[str | None]:
        return st.sampled_from([None, None, None, None, None, None, "one", "two"])

    def expires_at(self) -> st.SearchStrategy[int | None]:
        interval = self.config.interval
        on_grid = [self.now + k * interval for k in (1, 1, 2, 3, 5)]
        off_grid = [self.now + k * interval + shift for k in (1, 2) for shift in (-1, 1, 30_000)]
        others = [self.now, self.config.end, MIDNIGHT + DAY]
        return rarely(st.sampled_from([*on_grid, *on_grid, *off_grid, *others]), st.none())


T = TypeVar("T")


@st.composite
def rarely(draw: st.DrawFn, rare: st.SearchStrategy[T], usual: st.SearchStrategy[T]) -> T:
    return draw(rare if draw(st.integers(0, 4)) == 4 else usual)


@st.composite
def orders(
    draw: st.DrawFn, room: Room, sides: tuple[Side, ...] = SIDES, types: tuple[Type, ...] = TYPES
) -> Place:
    type = draw(st.sampled_from(types))
    level = draw(room.level()) if type != "market" else None
    is_price = type == "limit" or (level is not None and draw(st.integers(0, 5)) == 5)
    order = Place(
        symbol=draw(room.symbol()),
        side=draw(st.sampled_from(sides)),
        type=type,
        quantity=draw(room.any_quantity()),
        price=level if is_price else None,
        trigger_price=None if is_price else level,
        client_order_id=draw(room.client_order_id()),
        oco_group=draw(room.oco_group()),
        expires_at=draw(room.expires_at()) if type != "market" else None,
    )
    return draw(conditions(room, order)) if room.richer else order


@st.composite
def conditions(draw: st.DrawFn, room: Room, order: Place) -> Place:
    """Draw conditions of an order, mostly none, and mostly ones that it can have."""
    if order.type == "market":
        worth = (
            room.grid.balance / 8 * Decimal(draw(st.sampled_from(["1", "2", "0.3", "9", "1e-6"])))
        )
        by_amount = replace(order, quantity=None, quote_amount=_plain(worth))
        return draw(st.sampled_from([order, order, by_amount]))
    if order.type == "limit":
        now = replace(order, expires_at=None)
        fok = replace(now, time_in_force="fok")
        ioc = replace(draw(rarely(st.just(order), st.just(now))), time_in_force="ioc")
        return draw(st.sampled_from([order] * 4 + [replace(order, post_only=True), fok, ioc]))
    wrong = [replace(order, time_in_force="ioc"), replace(order, post_only=True)]
    kind = draw(st.sampled_from(["as it is", "as it is", "with a limit", "trailing"]))
    if kind == "with a limit":
        type: Type = "stop_limit" if order.type == "stop_loss" else "take_profit_limit"
        level = order.price or order.trigger_price
        limit = draw(st.sampled_from([draw(room.level()), level]))
        wait = draw(rarely(st.sampled_from(["ioc", "fok"]), st.none()))
        return replace(order, type=type, price=limit, trigger_price=level, time_in_force=wait)
    if kind == "trailing":
        order = replace(order, type="trailing_stop", price=None, trigger_price=None)
        by_amount = replace(order, trail_amount=_plain(room.grid.price(draw(st.integers(1, 6)))))
        share = draw(st.integers(1, 6)) * 100 / room.grid.middle
        by_share = replace(order, trail_percent=str(share))
        order = draw(st.sampled_from([by_amount, by_share]))
        return replace(order, activation_price=draw(st.none() | room.level()))
    return draw(rarely(st.sampled_from([order, *wrong]), st.just(order)))


@st.composite
def bracketed(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw an entry with a bracket, mostly one that the same candles reach."""
    entry = replace(draw(orders(room, ("buy",))), quote_amount=None)
    if entry.quantity is None:
        entry = replace(entry, quantity=draw(room.quantity()))
    below, above = draw(room.level(low=-5, high=1)), draw(room.level(low=-1, high=6))
    entry = replace(entry, client_order_id=None, stop_loss=below, take_profit=above)
    only = [replace(entry, stop_loss=None), replace(entry, take_profit=None)]
    return [draw(st.sampled_from([entry, entry, entry, *only]))]


@st.composite
def lists(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw two orders of which one cancels the other, mostly ones that go together."""
    side: Side = draw(st.sampled_from(("buy", "sell")))
    legs = [draw(orders(room, (side,), WAITING)) for _ in range(2)]
    if draw(st.integers(0, 9)):
        legs = [
            replace(leg, symbol=legs[0].symbol, oco_group=None, client_order_id=None)
            for leg in legs
        ]
    if draw(st.booleans()):
        legs = [replace(leg, quantity=legs[0].quantity) for leg in legs]
    pair = Oco(*legs)
    if side == "buy":
        return [pair]
    bought = draw(st.sampled_from([legs[0].quantity, draw(room.quantity())]))
    return [Place(legs[0].symbol, "buy", "market", bought), pair]


@st.composite
def replacements(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw an order that waits, and other numbers for some of the orders so far."""
    side: Side = draw(st.sampled_from(("buy", "buy", "sell")))
    last = room.asked_for + 1
    numbers = range(max(1, last - 4), last + 4)  # The orders asked for may have had other ids.
    far = draw(st.sampled_from([4, 5, 2]))
    level = room.grid.middle + (far if side == "sell" else -far)
    rests = Place(
        draw(room.symbol()),
        side,
        "limit",
        draw(room.small_quantity()),
        price=_plain(room.grid.price(level)),
        oco_group=draw(room.oco_group()),
    )
    waiting: list[Command] = [draw(st.sampled_from([rests, draw(orders(room, (side,), WAITING))]))]
    for number in numbers:
        price, quantity = draw(room.level()), draw(st.none() | room.any_quantity())
        change = Replace(number, price, None, quantity)
        trigger = replace(change, price=None, trigger_price=draw(room.level()))
        waiting.append(draw(st.sampled_from([change, change, trigger])))
    return waiting


@st.composite
def trails(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw a trailing stop so near that the next candles mostly trigger it, or open beyond it."""
    symbol, quantity = draw(room.symbol()), draw(room.small_quantity())
    side: Side = draw(st.sampled_from(("sell", "sell", "buy")))
    order = Place(symbol, side, "trailing_stop", quantity, oco_group=draw(room.oco_group()))
    distance = draw(st.integers(1, 3))
    by_amount = replace(order, trail_amount=_plain(room.grid.price(distance)))
    by_share = replace(order, trail_percent=str(distance * 100 / room.grid.middle))
    trail = replace(
        draw(st.sampled_from([by_amount, by_share])),
        activation_price=draw(st.none() | room.level(low=-1, high=1)),
    )
    bought: list[Command] = [Place(symbol, "buy", "market", quantity)] * (side == "sell")
    return [*bought, trail, Step(draw(st.integers(1, 3)))]


@st.composite
def stop_limits(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw a stop near the price whose limit is about its trigger, so that some wait there."""
    symbol, quantity = draw(room.symbol()), draw(room.small_quantity())
    side: Side = draw(st.sampled_from(("sell", "buy")))
    type: Type = draw(st.sampled_from(("stop_limit", "take_profit_limit")))
    rises = (side == "buy") == (type == "stop_limit")
    middle, step = room.grid.middle, 1 if rises else -1
    level = middle + step * draw(st.integers(1, 2))
    limit = level + draw(st.sampled_from([0, -1, 1, -2, 2]))
    order = Place(
        symbol,
        side,
        type,
        quantity,
        price=_plain(room.grid.price(limit)),
        trigger_price=_plain(room.grid.price(level)),
        time_in_force=draw(rarely(st.just("ioc"), st.none())),
    )
    bought: list[Command] = [Place(symbol, "buy", "market", quantity)] * (side == "sell")
    return [*bought, order, Step(draw(st.integers(1, 3)))]


@st.composite
def at_once(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw a limit order that fills at once or expires, mostly the latter."""
    wait = draw(st.sampled_from(["ioc", "fok"]))
    price, quantity = draw(room.level(low=-5, high=1)), draw(room.small_quantity())
    return [Place(draw(room.symbol()), "buy", "limit", quantity, price=price, time_in_force=wait)]


@st.composite
def near_brackets(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw an entry near the price whose bracket the candle that fills it often reaches too."""
    symbol, quantity = draw(room.symbol()), draw(room.small_quantity())
    middle = room.grid.middle
    level = middle + draw(st.integers(-2, 2))
    entry = Place(
        symbol,
        "buy",
        "market",
        quantity,
        stop_loss=_plain(room.grid.price(level - draw(st.integers(1, 2)))),
        take_profit=_plain(room.grid.price(level + draw(st.integers(1, 2)))),
    )
    at = _plain(room.grid.price(level))
    limit = replace(entry, type="limit", price=at)
    stop = replace(entry, type="stop_loss", trigger_price=at)
    return [draw(st.sampled_from([entry, limit, limit, stop])), Step(draw(st.integers(1, 2)))]


@st.composite
def near_lists(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw two orders a tick or two on either side of the price, and time to fill one."""
    symbol, quantity = draw(room.symbol()), draw(room.small_quantity())
    side: Side = draw(st.sampled_from(("sell", "buy")))
    middle = room.grid.middle
    low = _plain(room.grid.price(middle - draw(st.integers(1, 4))))
    high = _plain(room.grid.price(middle + draw(st.integers(1, 4))))
    stop = Place(symbol, side, "stop_loss", quantity, trigger_price=low)
    limit = Place(symbol, side, "limit", quantity, price=high)
    if side == "buy":
        stop, limit = replace(stop, trigger_price=high), replace(limit, price=low)
    pair = draw(st.sampled_from([Oco(limit, stop), Oco(stop, limit)]))
    bought: list[Command] = [Place(symbol, "buy", "market", quantity)] * (side == "sell")
    return [*bought, pair, Step(draw(st.integers(1, 2)))]


@st.composite
def odd_orders(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw an order that is wrong in one way, or nearly so."""
    order = draw(orders(room))
    level = draw(room.level())
    return [
        draw(
            st.sampled_from(
                [
                    replace(order, symbol=UNKNOWN_SYMBOL),
                    replace(order, price=level, trigger_price=level),
                    replace(order, price=None, trigger_price=None),
                    replace(order, price=None, trigger_price=level),
                    replace(order, price="0", trigger_price=None),
                    replace(order, price="0.00000000000000004", trigger_price=None),
                    replace(order, expires_at=room.config.start + room.config.interval),
                    replace(order, quantity="0.00000001"),
                ]
            )
        )
    ]


@st.composite
def brackets(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw a buy, and the sells that guard the position."""
    symbol = draw(room.symbol())
    quantity = draw(room.quantity())
    guarded = draw(st.sampled_from([quantity, quantity, draw(room.quantity())]))
    group = draw(room.oco_group())
    guard = Place(
        symbol, "sell", "stop_loss", guarded, oco_group=group, expires_at=draw(room.expires_at())
    )
    reach = draw(st.sampled_from([5, 2, 1]))
    below, above = draw(room.level(low=-reach, high=0)), draw(room.level(low=1, high=reach))
    stop = replace(guard, trigger_price=below)
    target = replace(guard, type="take_profit", trigger_price=above)
    limit = replace(guard, type="limit", price=above)
    guards = [[stop, target], [limit, stop], [limit, target, stop], [stop], [limit]]
    return [Place(symbol, "buy", "market", quantity), *draw(st.sampled_from(guards))]


@st.composite
def ladders(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw several orders of one symbol that one candle may trigger."""
    symbol = draw(room.symbol())
    side: Side = draw(st.sampled_from(("buy", "sell")))
    rungs = draw(st.lists(orders(room, (side,), WAITING), min_size=2, max_size=4))
    ladder = [replace(order, symbol=symbol, client_order_id=None) for order in rungs]
    if draw(st.booleans()):
        group = draw(st.sampled_from(["g", None]))
        ladder = [replace(order, oco_group=group) for order in ladder]
    if side == "sell":
        ladder.insert(0, Place(symbol, "buy", "market", draw(room.quantity())))
    return list(ladder)


@st.composite
def everywhere(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw the same order in every symbol."""
    order = replace(draw(orders(room)), client_order_id=None)
    return [replace(order, symbol=symbol) for symbol in room.symbols]


@st.composite
def round_trips(draw: st.DrawFn, room: Room) -> list[Command]:
    """Draw buys and sells of the same quantity, with a day or a month between them."""
    symbol = draw(room.symbol())
    trades: list[Command] = []
    for days in draw(st.lists(st.sampled_from([0, 1, 1, 2, 9, 28, 29]), min_size=1, max_size=5)):
        quantity = draw(room.quantity())
        for side in SIDES:
            trades.append(Place(symbol, side, "market", quantity))
        trades += [Step(days)] * bool(days)
    return trades


@st.composite
def moves(draw: st.DrawFn, room: Room, choice: str | None = None) -> list[Command]:
    """Draw a move, or one of the kind that is the ``choice``."""
    is_daily = room.config.interval == DAY
    usual = MOVES + RICHER if room.richer else MOVES
    if choice is None:
        choice = draw(st.sampled_from(["round trip"] * 12 + usual if is_daily else usual))
    if choice == "bracketed":
        return draw(bracketed(room))
    if choice == "trail":
        return draw(trails(room))
    if choice == "at once":
        return draw(at_once(room))
    if choice == "stop limit":
        return draw(stop_limits(room))
    if choice == "near bracket":
        return draw(near_brackets(room))
    if choice == "near list":
        return draw(near_lists(room))
    if choice == "list":
        return draw(lists(room))
    if choice == "replace":
        return draw(replacements(room))
    if choice == "round trip":
        return draw(round_trips(room))
    if choice == "step":
        return [Step(draw(st.sampled_from([1, 1, 1, 1, 2, 2, 3, 3, 5, 7, 20, 61, 0])))]
    if choice == "cancel":
        return [Cancel(draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 0, 999])))]
    if choice == "bracket":
        return draw(brackets(room))
    if choice == "ladder":
        return draw(ladders(room))
    if choice == "everywhere":
        return draw(everywhere(room))
    if choice == "odd":
        return draw(odd_orders(room))
    if choice == "buy":
        return [draw(orders(room, ("buy",), ("market",)))]
    return [draw(orders(room))]


MOVES = (
    ["step"] * 9
    + ["order"] * 3
    + ["buy"] * 3
    + ["bracket"] * 4
    + ["ladder"] * 4
    + ["everywhere"] * 2
    + ["cancel"] * 2
    + ["odd"]
)


NEAR = ["trail", "at once", "stop limit", "near bracket", "near list", "replace"]
"""The moves whose orders the next candles mostly trigger, and replacements."""
RICHER = NEAR * 2 + ["bracketed"] * 2 + ["list"] * 2


def orders_in(commands: list[Command]) -> int:
    """Return how many orders the commands ask for."""
    placed = sum(isinstance(command, Place) for command in commands)
    return placed + 2 * sum(isinstance(command, Oco) for command in commands)


@st.composite
def commands(draw: st.DrawFn, room: Room) -> tuple[Command, ...]:
    """Draw commands until the session ends, and a few that come too late."""
    config = room.config
    commands_so_far: list[Command] = []
    step = 0
    course: list[str] = []
    if room.richer and draw(st.integers(0, 3)):
        course = draw(st.permutations(NEAR))
    for _ in range(draw(st.integers(8, 25))):
        if step >= config.total_steps:
            return (*commands_so_far, Step(1), End())
        now = config.start + step * config.interval
        choice = course.pop() if course else None
        move = draw(moves(replace(room, now=now, asked_for=orders_in(commands_so_far)), choice))
        commands_so_far += move
        step += sum(command.steps for command in move if isinstance(command, Step))
    is_cancelled = draw(st.sampled_from([False] * 7 + [True]))
    return (*commands_so_far, End() if is_cancelled else Step(100_000), *draw(moves(room)), Step(1))


@st.composite
def grids(draw: st.DrawFn, is_daily: bool) -> Grid:
    """Draw a grid; a daily account trades in a month about as much as the fee tiers start at."""
    tick = draw(st.sampled_from([1.0] if is_daily else [1.0, 0.1, 0.5, 1e-10, 1e9]))
    middle = draw(st.sampled_from([100, 10]))
    ordinary = ["8", "1000", "0.0001", "7.123457"]
    units = draw(st.sampled_from(["800", "1000"] if is_daily else ordinary))
    worth = Decimal(repr(tick)) * middle * Decimal(units)
    return Grid(tick, middle, max(Decimal("0.001"), worth.quantize(Decimal("1e-8"))))


@st.composite
def cases(draw: st.DrawFn, *, richer: bool = False) -> Case:
    is_daily = draw(st.integers(0, 7)) == 7
    grid = draw(grids(is_daily))
    symbols = SYMBOLS[: draw(st.sampled_from([1, 1, 2, 2, 3]))]
    before_midnight = draw(st.sampled_from([3, 7, 15, 60, 200])) * MINUTE
    first = MIDNIGHT + DAY - before_midnight
    granularities = DAILY if is_daily else GRANULARITIES
    market: tuple[Series, ...] = ()
    for symbol in symbols:
        is_late = draw(st.integers(0, 7)) == 7
        market += draw(symbol_series(symbol, grid, first, is_late, granularities))
    config = draw(configs(grid, market, first, richer))
    return Case(market, config, draw(commands(Room(grid, symbols, config, config.start, richer))))


@st.composite
def other_futures(draw: st.DrawFn, case: Case, now: int) -> tuple[Series, ...]:
    """Return the same market with every number after ``now`` changed.

    Of an incomplete candle only the open stays, and that only if it has opened.
    """
    numbers = st.integers(1, 200)

    def changed(bar: Bar, interval: int) -> Bar:
        if bar.open_time + interval <= now:
            return bar
        unit = bar.open / 100
        ticks = [draw(numbers) * unit for _ in range(3)]
        opened = bar.open if bar.open_time <= now else ticks[0]
        return Bar(
            open_time=bar.open_time,
            open=opened,
            high=max(opened, *ticks),
            low=min(opened, *ticks),
            close=ticks[2],
            volume=float(draw(numbers) - 1),
        )

    return tuple(
        replace(series, bars=tuple(changed(bar, series.interval) for bar in series.bars))
        for series in case.market
    )
