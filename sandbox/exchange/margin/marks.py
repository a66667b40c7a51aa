"""Mark prices of all symbols, within an instant too, and their paths to the close."""

from collections.abc import Iterable, Sequence
from copy import copy
from decimal import Decimal

from candlestep.sandbox.errors import NoPrice
from candlestep.sandbox.exchange.account import Holding
from candlestep.sandbox.exchange.path import (
    AT_CLOSE,
    AT_OPEN,
    LAST_LEG,
    Execution,
    turning_points,
)
from candlestep.sandbox.market.candles import Candle, Candles
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.money import MARKET, PRICE_PLACES, rounded_ratio


class StandingMarks:
    """The mark price of each symbol, now.

    At an instant the symbols move one after another, each along its candle. Those that have moved
    stand at their close, those that have not at the close before.
    """

    def __init__(self, market: Market, *, uses_marks: bool) -> None:
        """Value at the mark lines of ``market``, or with ``uses_marks=False`` at last prices."""
        self._line_of = market.mark_line if uses_marks else market.candles_of
        self._lines: dict[str, Candles] = {}
        self._grids: dict[str, tuple[Candles, Sequence[float]]] = {}
        """For each symbol that was held, a line that completes as its own does, and its closes."""
        self._moved: dict[str, Decimal] = {}
        self._is_moving = False

    def copy(self) -> "StandingMarks":
        """Return an independent copy."""
        copied = copy(self)
        copied._moved = self._moved.copy()
        return copied

    def line(self, symbol: str) -> Candles:
        """Return the candles that value ``symbol``, later ones included."""
        line = self._lines.get(symbol)
        if line is None:
            line = self._lines[symbol] = self._line_of(symbol)
        return line

    def price(self, symbol: str, now: int) -> Decimal:
        """Return the mark price of ``symbol``; raises ``NoPrice``."""
        moved = self._moved.get(symbol)
        if moved is not None:
            return moved
        price = self.line(symbol).price(now - self._is_moving)
        if price is None:
            raise NoPrice(f"{symbol} has no mark price yet; step on", symbol=symbol)
        return price

    def closes(self, holdings: Iterable[Holding], now: int) -> dict[str, Decimal]:
        """Return the mark price of each of ``holdings``, between instants; they must have one."""
        prices: dict[str, Decimal] = {}
        known = self._grids.get
        grid, index = None, -1
        for holding in holdings:
            symbol = holding.symbol
            of_symbol, closes = known(symbol) or self._grid_of(symbol)
            if of_symbol is not grid:
                # Symbols of one grid share the look-up, which is felt in every step.
                grid, index = of_symbol, of_symbol.last_complete(now)
            # As decimal_of, without the call.
            price = Decimal(repr(closes[index])) if index >= 0 else self.price(symbol, now)
            prices[symbol] = price
        return prices

    def _grid_of(self, symbol: str) -> tuple[Candles, Sequence[float]]:
        """Find a line that completes as that of ``symbol`` does. Linear in its candles."""
        line = self.line(symbol)
        grid = line
        for other, _ in self._grids.values():
            if line.completes_with(other):
                grid = other
                break
        found = self._grids[symbol] = grid, line.closes
        return found

    def begin_moves(self) -> None:
        """Begin an instant: every symbol stands where it was before."""
        self._is_moving = True

    def move(self, symbol: str, price: Decimal) -> None:
        """Let the mark of ``symbol`` stand at ``price`` until the moves end."""
        self._moved[symbol] = price

    def end_moves(self) -> None:
        """Let every symbol stand at its latest close."""
        if self._is_moving:
            self._is_moving = False
            self._moved.clear()

    @property
    def is_moving(self) -> bool:
        """True while the candles of an instant are walked."""
        return self._is_moving


class MarkPath:
    """The way of one mark through one candle, in the places at which orders execute.

    ``open → nearer extreme → farther extreme → close``. The mark jumps to the open, travels the
    three legs, and at the close what counts by the close alone is checked too.
    """

    def __init__(
        self, symbol: str, mark: Candle, traded: Candle, *, close_only: bool, is_seen: bool
    ) -> None:
        """Begin before the open of ``mark``, while orders execute along ``traded``."""
        self.symbol = symbol
        self.is_seen = is_seen
        """False while only the close counts, because the position was changed inside the candle."""
        self._points = turning_points(mark)
        self._traded = None if traded is mark else turning_points(traded)
        self._done = LAST_LEG if close_only else -1
        self._reached: Execution | None = None

    def next_point(self, execution: Execution | None) -> tuple[Decimal, bool] | None:
        """Return the next point on the way to ``execution``, or to the end; None once there.

        With it whether the mark jumps there, without having been in between.
        """
        place = AT_CLOSE if execution is None else execution.place
        if place == AT_CLOSE:
            return self._go_on(AT_CLOSE)
        on_the_way = self._go_on(max(place - 1, AT_OPEN))
        if on_the_way is not None or place == AT_OPEN or self._reached is execution:
            return on_the_way
        assert execution is not None
        self._reached = execution
        return self._along(place, execution.base_price), False

    def _go_on(self, place: int) -> tuple[Decimal, bool] | None:
        """Return the next turning point up to that at the end of ``place``."""
        if self._done >= place:
            return None
        self._done += 1
        if self._done == AT_CLOSE:
            self.is_seen = True
            return self._points[LAST_LEG], True
        return self._points[self._done], self._done == AT_OPEN

    def _along(self, leg: int, base_price: Decimal) -> Decimal:
        """Return the mark at the fraction of a leg at which an order executes, at 16 places."""
        if self._traded is None:
            return base_price
        start, end = self._traded[leg - 1 : leg + 1]
        mark_start, mark_end = self._points[leg - 1 : leg + 1]
        part, whole = MARKET.subtract(base_price, start), MARKET.subtract(end, start)
        way = MARKET.multiply(part, MARKET.subtract(mark_end, mark_start))
        if not whole:
            return mark_start
        # One rounding of the exact point: start + way / whole over a common denominator.
        numerator = MARKET.add(MARKET.multiply(mark_start, whole), way)
        return rounded_ratio(numerator, whole, PRICE_PLACES)
