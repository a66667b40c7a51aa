"""The search for the first instant at which several cross positions may lack margin.

``F``, the cross wallet with what every position leaves of it, falls as any mark moves against its
position. In a *corridor*, in which every mark moves by the same fraction against the account and
``F`` stays above 0, nothing can be liquidated; only when a mark leaves it, candles are looked at.
All of this is in floats and errs to the safe side: what it finds is decided in decimals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlestep.sandbox.exchange.account import Holding
from candlestep.sandbox.exchange.margin.tiers import MarginTiers
from candlestep.sandbox.market.candles import Candles

BLOCK = 256
"""The number of instants that are looked at together."""

_SAFETY = 1e-9
_HALVINGS = 48
_MOST_DOUBLINGS = 40

Floats = NDArray[np.float64]


class CrossPosition(NamedTuple):
    """A cross position in floats, and the line that values it."""

    line: Candles
    quantity: float
    cost: float
    tiers: tuple[tuple[float, float], ...]
    """Maintenance rate and amount of each."""

    @classmethod
    def of(cls, holding: Holding, tiers: MarginTiers, line: Candles) -> "CrossPosition":
        """Return the position of ``holding``."""
        rows = tuple((float(row.mmr), float(row.cum)) for row in tiers.rows)
        return cls(line, float(holding.quantity), float(holding.cost_basis), rows)

    @property
    def is_long(self) -> bool:
        """True if a fall is a loss."""
        return self.quantity > 0

    def price(self, time: int) -> float:
        """Return the mark at ``time``."""
        index = self.line.last_complete(time)
        return float(self.line.closes[index]) if index >= 0 else self.line.first_open.price

    def excess_at(self, price: float) -> float:
        """Return the unrealized PnL less the maintenance margin at ``price``."""
        value = self.quantity * price
        notional = abs(value)
        needed = max(notional * rate - amount for rate, amount in self.tiers)
        return value - self.cost - needed

    def excess(self, prices: Floats) -> Floats:
        """Return the unrealized PnL less the maintenance margin at each of ``prices``."""
        notional = np.abs(self.quantity * prices)
        rate, amount = self.tiers[0]
        needed = notional * rate - amount
        for rate, amount in self.tiers[1:]:
            needed = np.maximum(needed, notional * rate - amount)
        result: Floats = self.quantity * prices - self.cost - needed
        return result


def corridor_exit(
    wallet: float, positions: Sequence[CrossPosition], now: int, *, close_only: bool
) -> int | None:
    """Return the time of the first candle after ``now`` that leaves the corridor; None if none does.

    If there is no corridor, that is the next candle of any position.
    """
    prices = [position.price(now) for position in positions]
    fraction = _corridor(wallet, positions, prices)
    exits = []
    for position, price in zip(positions, prices, strict=True):
        line = position.line
        start, stop = line.last_complete(now) + 1, len(line)
        below, above = -np.inf, np.inf
        if position.is_long:
            below = price * (1 - fraction)
        else:
            above = price * (1 + fraction)
        if fraction <= 0:
            index = start
        else:
            index = line.first_touch(below, above, start, stop, close_only=close_only)
        if index < stop:
            exits.append(line.complete_time_of(index))
    return min(exits, default=None)


def first_candidate(
    wallet: float,
    positions: Sequence[CrossPosition],
    since: int,
    until: int,
    *,
    close_only: bool,
) -> tuple[int | None, int]:
    """Return the first instant in ``[since, until]`` at which margin may not suffice, if any.

    At most ``BLOCK`` instants are looked at; the second value is the last of them. At each, one
    mark after another goes to its worst price, the others standing at the worse of their closes
    before and after.
    """
    instants = _instants(positions, since, until)
    if not len(instants):
        return None, until
    standing, worst, moves = [], [], []
    for position in positions:
        line = position.line
        rows = line.last_complete_at(instants)
        reached = np.maximum(rows, 0)
        first = int(reached[0])
        completions = line.completions(first, int(reached[-1]) + 1)[reached - first]
        is_move = (rows >= 0) & (completions == instants)
        before = position.excess(_closes(line, rows - is_move))
        after = position.excess(_closes(line, rows))
        extremes = line.close if close_only else line.low if position.is_long else line.high
        standing.append(np.minimum(before, after))
        worst.append(position.excess(extremes[reached]))
        moves.append(is_move)
    everything = np.add.reduce(standing)
    drops = [
        np.where(is_move, np.minimum(low - stand, 0.0), 0.0)
        for low, stand, is_move in zip(worst, standing, moves, strict=True)
    ]
    bound = wallet + everything + np.minimum.reduce(drops)
    candidates = np.flatnonzero(bound <= _SAFETY * _scale(wallet, positions, instants))
    found = int(instants[candidates[0]]) if len(candidates) else None
    return found, int(instants[-1])


def _corridor(wallet: float, positions: Sequence[CrossPosition], prices: Sequence[float]) -> float:
    """Return the largest fraction by which all marks may move against their positions."""
    least = abs(wallet)
    for position, price in zip(positions, prices, strict=True):
        least += abs(position.quantity * price)
    least *= _SAFETY

    def is_safe(fraction: float) -> bool:
        left = wallet
        for position, price in zip(positions, prices, strict=True):
            away = fraction if position.is_long else -fraction
            left += position.excess_at(max(price * (1 - away), 0.0))
        return left > least * (1 + fraction)

    if not is_safe(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_MOST_DOUBLINGS):
        if not is_safe(high):
            break
        low, high = high, high * 2
    else:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_safe(middle) else (low, middle)
        if high - low < 1e-7 * high:
            break
    return low - _SAFETY


def _instants(positions: Sequence[CrossPosition], since: int, until: int) -> NDArray[np.int64]:
    """Return the first ``BLOCK`` completions of any position's candles in ``[since, until]``."""
    parts = []
    for position in positions:
        line = position.line
        first = line.last_complete(since - 1) + 1
        stop = min(line.last_complete(until) + 1, first + BLOCK)
        parts.append(line.completions(first, stop))
    instants = np.unique(np.concatenate(parts))
    return instants[:BLOCK]


def _closes(line: Candles, rows: NDArray[np.int64]) -> Floats:
    closes = line.close[np.maximum(rows, 0)]
    return np.where(rows >= 0, closes, line.first_open.price)


def _scale(wallet: float, positions: Sequence[CrossPosition], instants: NDArray[np.int64]) -> float:
    notional = 0.0
    for position in positions:
        first = max(position.line.last_complete(int(instants[0])), 0)
        stop = position.line.last_complete(int(instants[-1])) + 1
        highest = position.line.high[first : max(stop, first + 1)].max()
        notional += abs(position.quantity) * float(highest) + abs(position.cost)
    return abs(wallet) + notional
