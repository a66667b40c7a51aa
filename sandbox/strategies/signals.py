"""The signals of a card: its decisions at every candle, computed before anything is executed."""

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
from candlestep.sandbox.strategies.card import DIRECTIONS, Direction, Entry, ParsedCard
from candlestep.sandbox.strategies.conditions import Booleans, evaluate
from candlestep.sandbox.strategies.scope import StrategyScope
from candlestep.sandbox.strategies.strategy import Strategy


class SideSignals(NamedTuple):
    """The signals for one side, as columns with an element for each candle of the session."""

    entries: Integers
    """Index of the first entry of this side, or -1."""
    exits: Booleans
    """True where a position of this side is closed, which precedes adding to it."""
    adds: Integers
    """Index of the entry that adds to a position of this side, or -1."""

    @property
    def while_held(self) -> Booleans:
        """True where there is something to decide while a position of this side is held."""
        return np.asarray(self.exits | (self.adds >= 0))


class CardSignals(NamedTuple):
    """The signals on one symbol, as columns with an element for each candle of the session."""

    symbol: str
    steps: Integers
    """Step at which the candle is acted on."""
    entries: Integers
    """Index of the entry that opens a position while nothing is held, or -1."""
    long: SideSignals
    short: SideSignals

    @property
    def any(self) -> Booleans:
        """True where there may be something to decide."""
        is_due = (self.entries >= 0) | self.long.while_held | self.short.while_held
        return np.asarray(is_due)


class SignalPlan(msgspec.Struct, frozen=True):
    """All signals of a card in a session; which of them apply depends on what is held then."""

    config: SessionConfig
    """The session, in steps of the timeframe or finer."""
    timeframe: int
    """Interval of the bars, in milliseconds."""
    entries: tuple[Entry, ...]
    by_symbol: tuple[CardSignals, ...]
    """Sorted; of the decisions at one step, the first symbol's is executed first."""

    @property
    def candles(self) -> int:
        """Number of candles of the timeframe in the session, of all symbols."""
        return sum(len(signals.steps) for signals in self.by_symbol)


def signal_plan(
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    before_each: Callable[[], object] = lambda: None,
) -> SignalPlan:
    """Compute the decisions of ``run`` from the entries and exits of a card.

    Linear in the candles; ``before_each`` is called before each symbol. Raises
    ``InvalidParameter`` for a program and for a grid, whose decisions depend on their fills, and
    for candles that the market does not have, and the error of ``SessionConfig.require_candles``.
    """
    body = strategy.body
    if not isinstance(body, ParsedCard) or body.card.grid is not None:
        raise InvalidParameter(
            "strategy",
            "must consist of entries and exits; programs and grids are not possible here",
        )
    scope = StrategyScope.of(strategy, config)
    scope.config.require_candles(market)
    all_bars, all_rows = scope.bars_and_rows(strategy, market, before_each)
    by_symbol = []
    for bars, rows in zip(all_bars, all_rows, strict=True):
        before_each()
        by_symbol.append(card_signals(body, bars, rows))
    return SignalPlan(scope.config, scope.timeframe, body.card.entries, tuple(by_symbol))


def card_signals(parsed: ParsedCard, bars: Bars, rows: SessionRows) -> CardSignals:
    """Compute the signals of a card on one symbol. Linear in the bars."""
    values = Values(bars, parsed.indicators)
    length = rows.stop - rows.first
    entries = np.full(length, -1)
    sides: dict[Direction, SideSignals] = {
        side: SideSignals(np.full(length, -1), np.zeros(length, dtype=bool), np.full(length, -1))
        for side in DIRECTIONS
    }
    for place, entry in reversed(list(enumerate(parsed.card.entries))):
        where, side = _where(entry, values, rows), sides[entry.side]
        entries[where] = side.entries[where] = place
        if entry.add:
            side.adds[where] = place
    for rule in parsed.card.exits:
        where = evaluate(rule.when, values).true[rows.first : rows.stop]
        for name in DIRECTIONS if rule.side is None else (rule.side,):
            sides[name].exits[where] = True
    return CardSignals(bars.symbol, rows.steps, entries, sides["long"], sides["short"])


def _where(entry: Entry, values: Values, rows: SessionRows) -> Booleans:
    """Return at which rows of the session ``entry`` is true."""
    if entry.when is not None:
        return evaluate(entry.when, values).true[rows.first : rows.stop]
    assert entry.every is not None
    places = np.arange(rows.stop - rows.first)
    return np.asarray(places % entry.every == 0)
