"""What a card's rules say at each candle: known before anything is bought, whoever executes it."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.errors import InvalidParameter
from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.indicators.indicators import Values
from candlestep.sandbox.market.candles import Integers
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.strategies.card import Entry, ParsedCard
from candlestep.sandbox.strategies.conditions import Booleans, truth
from candlestep.sandbox.strategies.scope import StrategyScope
from candlestep.sandbox.strategies.strategy import Strategy


class CardSignals(NamedTuple):
    """Of one symbol; each column has one element for each candle that the session shows."""

    symbol: str
    steps: Integers
    """The step at which the candle is acted on."""
    buys: Integers
    """If nothing is held: the number of the entry that buys, or -1."""
    sells: Booleans
    """If a position is held: whether it is sold. That goes before what adds to it."""
    adds: Integers
    """If a position is held: the number of the entry that adds to it, or -1."""


class SignalPlan(msgspec.Struct, frozen=True):
    """All that a card decides in a session; what it holds when it does is for others to know."""

    config: SessionConfig
    """The session, in steps of the timeframe or finer."""
    timeframe: int
    """In milliseconds."""
    entries: tuple[Entry, ...]
    by_symbol: tuple[CardSignals, ...]
    """Sorted: of the decisions of one step, the first symbol's is executed first."""

    @property
    def candles(self) -> int:
        """How many candles of the timeframe are shown, of all symbols."""
        return sum(len(each.steps) for each in self.by_symbol)


def signal_plan(
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    before_each: Callable[[], object] = lambda: None,
) -> SignalPlan:
    """What ``run`` would decide by the entries and exits of ``strategy``, which is a card's.

    Computed at once, linear in the candles; ``before_each`` is called before each symbol. Raises
    ``InvalidParameter`` for a program and for a grid, whose decisions depend on their fills, and
    for what the market does not have.
    """
    body = strategy.body
    if not isinstance(body, ParsedCard) or body.card.grid is not None:
        raise InvalidParameter("strategy", "must be made of entries and exits: no program, no grid")
    scope = StrategyScope.of(strategy, config)
    frames, windows = scope.shown(strategy, market, before_each)
    by_symbol = []
    for rows, seen in zip(frames, windows, strict=True):
        before_each()
        by_symbol.append(card_signals(body, rows, seen))
    return SignalPlan(scope.config, scope.timeframe, body.card.entries, tuple(by_symbol))


def card_signals(parsed: ParsedCard, rows: Bars, seen: SessionRows) -> CardSignals:
    """The decisions of a card on one symbol. Linear in the rows."""
    values = Values(rows, parsed.indicators)
    length = seen.stop - seen.first
    buys, adds = np.full(length, -1), np.full(length, -1)
    for place, entry in reversed(list(enumerate(parsed.card.entries))):
        where = _where(entry, values, seen)
        buys[where] = place
        if entry.add:
            adds[where] = place
    sells = np.zeros(length, dtype=bool)
    for rule in parsed.card.exits:
        sells |= truth(rule.when, values).true[seen.first : seen.stop]
    return CardSignals(rows.symbol, seen.steps, buys, sells, adds)


def _where(entry: Entry, values: Values, seen: SessionRows) -> Booleans:
    """At which rows of the window ``entry`` is true."""
    if entry.when is not None:
        return truth(entry.when, values).true[seen.first : seen.stop]
    assert entry.every is not None
    places = np.arange(seen.stop - seen.first)
    return np.asarray(places % entry.every == 0)
