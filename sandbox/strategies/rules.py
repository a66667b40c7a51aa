"""The entries and exits of a card on one symbol, turned into orders of a session."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.strategies.broker import Broker
from candlestep.sandbox.strategies.card import ParsedCard
from candlestep.sandbox.strategies.conditions import Booleans
from candlestep.sandbox.strategies.signals import card_signals


class EntryExitRules:
    """The decisions of a card on one symbol, each at a bar.

    While nothing is held, the rows that matter are those at which an entry is true; while
    something is held, those at which an exit is true, or an entry that may add to a position.
    Between them there is nothing to decide, however the price moves.
    """

    def __init__(self, parsed: ParsedCard, bars: Bars, rows: SessionRows, broker: Broker) -> None:
        """Compute the indicators and conditions over all bars. Linear."""
        self.symbol = bars.symbol
        self._broker = broker
        self._entries = parsed.card.entries
        self._signals = card_signals(parsed, bars, rows)
        self._steps: Sequence[int] = rows.steps.data
        self._while_flat = _true_rows(self._signals.buys >= 0)
        self._while_held = _true_rows(self._signals.sells | (self._signals.adds >= 0))
        self._next = 0

    def next_step(self, now: int) -> int | None:
        """Return the step of the next decision, from step ``now`` on; None if none is left."""
        self._next = max(self._next, bisect_left(self._steps, now))
        rows = self._while_held if self._broker.held(self.symbol) else self._while_flat
        place = bisect_left(rows, self._next)
        return self._steps[rows[place]] if place < len(rows) else None

    def decide(self, now: int) -> None:
        """Act on the row that is complete at step ``now``."""
        row = bisect_left(self._steps, now)
        self._next = row + 1
        broker, signals = self._broker, self._signals
        held = broker.held(self.symbol)
        if held and signals.sells[row]:
            broker.place(self.symbol, "sell", held)
            return
        place = (signals.adds if held else signals.buys)[row]
        if place < 0:
            return
        entry = self._entries[place]
        bought = broker.buy(self.symbol, entry.size)
        if bought is not None:
            broker.guard(bought, entry.stop_loss, entry.take_profit)


def _true_rows(where: Booleans) -> Sequence[int]:
    return np.flatnonzero(where).data
