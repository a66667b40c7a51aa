"""What a strategy is shown of a market in a session: which candles, of which symbols."""

from collections.abc import Callable
from copy import copy
from typing import NamedTuple

from candlestep.sandbox.clock import Clock, parse_interval
from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.indicators.bars import Bars, SessionRows, aggregate_bars, session_rows
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.strategies.strategy import Strategy


class StrategyScope(NamedTuple):
    """A strategy's timeframe, and the session in whose steps it decides."""

    timeframe: int
    """In milliseconds."""
    config: SessionConfig
    """In steps of the timeframe, or finer ones."""

    @classmethod
    def of(cls, strategy: Strategy, config: SessionConfig) -> "StrategyScope":
        """The scope of ``strategy`` in a session of ``config``."""
        if strategy.timeframe is None:
            return cls(config.clock.interval, config)
        timeframe = parse_interval(strategy.timeframe)
        changed = copy(config)
        interval = min(timeframe, config.clock.interval)
        changed.clock = Clock.between(config.start_time, config.end_time, interval)
        return cls(timeframe, changed)

    def shown(
        self, strategy: Strategy, market: Market, before_each: Callable[[], object]
    ) -> tuple[list[Bars], list[SessionRows]]:
        """Of each symbol, sorted, its candles, and which of them the session shows. Linear.

        Raises ``InvalidParameter`` or ``SymbolNotFound`` for what the market does not have.
        """
        frames = []
        for symbol in strategy.symbols or market.symbols:
            before_each()
            frames.append(aggregate_bars(market.candles_of(symbol), self.timeframe))
        return frames, [session_rows(each, self.config.clock) for each in frames]
