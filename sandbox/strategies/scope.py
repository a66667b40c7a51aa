"""The candles of a market that a strategy sees in a session."""

from collections.abc import Callable
from copy import copy
from math import gcd
from typing import NamedTuple

from candlestep.sandbox.clock import Clock, parse_interval
from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.indicators.bars import Bars, SessionRows, aggregate_bars, session_rows
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.strategies.strategy import Strategy


class StrategyScope(NamedTuple):
    """The timeframe of a strategy, and the session in whose steps it decides."""

    timeframe: int
    """Interval of the bars, in milliseconds."""
    config: SessionConfig
    """The session, in steps of the timeframe, or in finer ones of which it is a multiple."""

    @classmethod
    def of(cls, strategy: Strategy, config: SessionConfig) -> "StrategyScope":
        """Return the scope of ``strategy`` in a session of ``config``.

        Raises ``InvalidParameter`` for a strategy that sells short in a spot session.
        """
        strategy.require_market_type(config.market_type)
        if strategy.timeframe is None:
            return cls(config.clock.interval, config)
        timeframe = parse_interval(strategy.timeframe)
        in_steps = copy(config)
        interval = gcd(timeframe, config.clock.interval)
        in_steps.clock = Clock.between(config.start_time, config.end_time, interval)
        return cls(timeframe, in_steps)

    def bars_and_rows(
        self, strategy: Strategy, market: Market, before_each: Callable[[], object]
    ) -> tuple[list[Bars], list[SessionRows]]:
        """Return the bars of each symbol, sorted, and the rows of them that the session shows.

        Linear; ``before_each`` is called before each symbol. Raises ``InvalidParameter`` or
        ``SymbolNotFound`` for what the market does not have.
        """
        all_bars = []
        market = market.part(self.config.market_type)
        for symbol in strategy.symbols or market.symbols:
            before_each()
            all_bars.append(aggregate_bars(market.candles_of(symbol), self.timeframe))
        return all_bars, [session_rows(bars, self.config.clock) for bars in all_bars]
