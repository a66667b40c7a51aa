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
    Bar,
    Cancel,
    Case,
    Command,
    Config,
    End,
    FeePeriod,
    Fees,
    Place,
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


@st.composite
def bars(draw: st.DrawFn, grid: Grid, interval: int, first: int, count: int) -> tuple[Bar, ...]:
    """Draw candles of a few ticks around the middle price.

    Every candle is decoded from one number, and zero is a flat one at the middle. Sometimes the
    same candles are repeated.
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
    return tuple(drawn)


def _aligned(time: int, interval: int) -> int:
    return time // interval * interval


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
)


DAILY = ((DAY,),)
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
    start = _aligned(first, coarse) + (draw(st.integers(1, 9)) * coarse if is_late else 0)
    drawn = [Series(symbol, coarse, draw(bars(grid, coarse, start, count)), has_volume)]
    for fine in finer:
        offset = draw(st.integers(-1, count)) * coarse + draw(st.integers(0, 5)) * fine
        inside = draw(bars(grid, fine, start + offset, draw(st.integers(1, 20))))
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
def configs(draw: st.DrawFn, grid: Grid, market: tuple[Series, ...], first: int) -> Config:
    """Draw starts on and off the candle grid, and steps finer and coarser than the data."""
    ends = max(series.bars[-1].open_time + series.interval for series in market)
    finest = min(series.interval for series in market)
    interval = draw(
        st.sampled_from(
            [finest]
            if finest == DAY
            else [finest, finest, finest, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR]
        )
    )
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

    def symbol(self) -> st.SearchStrategy[str]:
        return st.sampled_from(self.symbols)

    def quantity(self) -> st.SearchStrategy[str]:
        units = ["1", "2", "3", "1", "2", "4", "1", "2", "6", "7", "8", "7.9", "0.333", "1e-5"]
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
    return Place(
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
def moves(draw: st.DrawFn, room: Room) -> list[Command]:
    is_daily = room.config.interval == DAY
    choice = draw(st.sampled_from(["round trip"] * 12 + MOVES if is_daily else MOVES))
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


@st.composite
def commands(draw: st.DrawFn, room: Room) -> tuple[Command, ...]:
    """Draw commands until the session ends, and a few that come too late."""
    config = room.config
    commands_so_far: list[Command] = []
    step = 0
    for _ in range(draw(st.integers(8, 25))):
        if step >= config.total_steps:
            return (*commands_so_far, Step(1), End())
        move = draw(moves(replace(room, now=config.start + step * config.interval)))
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
def cases(draw: st.DrawFn) -> Case:
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
    config = draw(configs(grid, market, first))
    return Case(market, config, draw(commands(Room(grid, symbols, config, config.start))))


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
