"""A card's entries and exits on one symbol: where they are true, known before the session runs."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from sandbox.strategies.card import Entry, ParsedCard
from sandbox.strategies.conditions import Booleans, truth
from sandbox.strategies.desk import Desk
from sandbox.strategies.frame import Frame, Window
from sandbox.strategies.indicators import Values


class RulesLane:
    """The decisions of a card on one symbol, each at a row of its frame.

    While nothing is held, the rows that matter are those at which an entry is true; while
    something is, those at which an exit is, or an entry that may add to a position. Between
    them nothing is to be decided, whatever the price does.
    """

    def __init__(self, parsed: ParsedCard, frame: Frame, window: Window, desk: Desk) -> None:
        """Compute the indicators and conditions over the whole frame. Linear."""
        self.symbol = frame.symbol
        self._desk = desk
        self._steps: Sequence[int] = window.steps.data
        self._card = parsed.card
        values = Values(frame, parsed.indicators)
        self._entries = [_where(entry, values, window) for entry in parsed.card.entries]
        length = window.stop - window.first
        leaves, adds = np.zeros(length, dtype=bool), np.zeros(length, dtype=bool)
        for rule in parsed.card.exits:
            leaves |= truth(rule.when, values).true[window.first : window.stop]
        for entry, where in zip(parsed.card.entries, self._entries, strict=True):
            if entry.add:
                adds |= where
        self._exits = leaves
        self._while_flat = _rows(np.logical_or.reduce(self._entries))
        self._while_held = _rows(leaves | adds)
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
        desk = self._desk
        held = desk.held(self.symbol)
        if held and self._exits[row]:
            desk.place(self.symbol, "sell", held)
            return
        for entry, where in zip(self._card.entries, self._entries, strict=True):
            if where[row] and (entry.add or not held):
                bought = desk.buy(self.symbol, entry.size)
                if bought is not None:
                    desk.guard(bought, entry.stop_loss, entry.take_profit)
                return


def _where(entry: Entry, values: Values, window: Window) -> Booleans:
    """At which rows of the window ``entry`` is true."""
    if entry.when is not None:
        return truth(entry.when, values).true[window.first : window.stop]
    assert entry.every is not None
    places = np.arange(window.stop - window.first)
    return np.asarray(places % entry.every == 0)


def _rows(where: Booleans) -> Sequence[int]:
    return np.flatnonzero(where).data
