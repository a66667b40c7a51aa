"""A card's entries and exits on one symbol: what they decide, as orders of a session."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.strategies.broker import Broker
from candlestep.sandbox.strategies.card import ParsedCard
from candlestep.sandbox.strategies.conditions import Booleans
from candlestep.sandbox.strategies.signals import card_signals


class EntryExitRules:
    """The decisions of a card on one symbol, each at a row of its frame.

    While nothing is held, the rows that matter are those at which an entry is true; while
    something is, those at which an exit is, or an entry that may add to a position. Between
    them nothing is to be decided, whatever the price does.
    """

    def __init__(
        self, parsed: ParsedCard, frame: Bars, window: SessionRows, broker: Broker
    ) -> None:
        """Compute the indicators and conditions over the whole frame. Linear."""
        self.symbol = frame.symbol
        self._desk = broker
        self._entries = parsed.card.entries
        self._decisions = card_signals(parsed, frame, window)
        self._steps: Sequence[int] = window.steps.data
        self._while_flat = _rows(self._decisions.buys >= 0)
        self._while_held = _rows(self._decisions.sells | (self._decisions.adds >= 0))
        self._next = 0

    def next_step(self, now: int) -> int | None:
        """The step of the next decision, from step ``now`` on; None if none is left."""
        self._next = max(self._next, bisect_left(self._steps, now))
        rows = self._while_held if self._desk.held(self.symbol) else self._while_flat
        place = bisect_left(rows, self._next)
        return self._steps[rows[place]] if place < len(rows) else None

    def decide(self, now: int) -> None:
        """Do what the rules say at the row that is complete at step ``now``."""
        row = bisect_left(self._steps, now)
        self._next = row + 1
        broker, decided = self._desk, self._decisions
        held = broker.held(self.symbol)
        if held and decided.sells[row]:
            broker.place(self.symbol, "sell", held)
            return
        place = (decided.adds if held else decided.buys)[row]
        if place < 0:
            return
        entry = self._entries[place]
        bought = broker.buy(self.symbol, entry.size)
        if bought is not None:
            broker.guard(bought, entry.stop_loss, entry.take_profit)


def _rows(where: Booleans) -> Sequence[int]:
    return np.flatnonzero(where).data
