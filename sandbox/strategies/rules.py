"""The entries and exits of a card on one symbol, turned into orders of a session."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.strategies.broker import Broker
from candlestep.sandbox.strategies.card import ParsedCard
from candlestep.sandbox.strategies.conditions import Booleans
from candlestep.sandbox.strategies.signals import card_signals


class EntryExitRules:
    """The decisions of a card on one symbol, each at a bar.

    While nothing is held, the rows that matter are those at which an entry is true; while
    something is held, those at which an exit of its side is true, or an entry that may add to it.
    An exit is followed by an entry of the other side that is true at the same row. Between them there is nothing to decide, however the price moves.
    """

    def __init__(self, parsed: ParsedCard, bars: Bars, rows: SessionRows, broker: Broker) -> None:
        """Compute the indicators and conditions over all bars. Linear."""
        self.symbol = bars.symbol
        self._broker = broker
        self._entries = parsed.card.entries
        self._signals = card_signals(parsed, bars, rows)
        self._steps: Sequence[int] = rows.steps.data
        self._while_flat = _true_rows(self._signals.entries >= 0)
        self._while_long = _true_rows(self._signals.long.while_held)
        self._while_short = _true_rows(self._signals.short.while_held)
        self._next = 0

    def next_step(self, now: int) -> int | None:
        """Return the step of the next decision, from step ``now`` on; None if none is left."""
        self._next = max(self._next, bisect_left(self._steps, now))
        held = self._broker.held(self.symbol)
        rows = self._while_flat
        if held:
            rows = self._while_long if held > 0 else self._while_short
        place = bisect_left(rows, self._next)
        return self._steps[rows[place]] if place < len(rows) else None

    def decide(self, now: int) -> None:
        """Act on the row that is complete at step ``now``."""
        row = bisect_left(self._steps, now)
        self._next = row + 1
        signals = self._signals
        held = self._broker.held(self.symbol)
        if not held:
            self._enter(signals.entries[row])
            return
        own, other = signals.long, signals.short
        if held < 0:
            own, other = other, own
        if not own.exits[row]:
            self._enter(own.adds[row])
        elif self._broker.close(self.symbol) is not None:
            self._enter(other.entries[row])

    def _enter(self, place: int) -> None:
        """Open a position by the entry at ``place``, or add to it; none is at -1."""
        if place < 0:
            return
        entry = self._entries[place]
        side: Side = "buy" if entry.side == "long" else "sell"
        order = self._broker.enter(self.symbol, side, entry.size)
        if order is not None:
            self._broker.guard(order, entry.stop_loss, entry.take_profit, entry.trailing_stop)


def _true_rows(where: Booleans) -> Sequence[int]:
    return np.flatnonzero(where).data
