"""Exposure: how long a session was in the market."""

from candlestep.sandbox.clock import Clock
from candlestep.sandbox.exchange.history import AccountHistory, StepSeries
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.market.spans import Span, intersect_spans, union_spans


def candles_in_market(history: AccountHistory, market: Market, clock: Clock, until: int) -> int:
    """Count the steps, from 1 to the one at ``until``, at which a symbol is held that has a candle.

    A symbol has a candle at a step whose time is after the candle's open and not after its
    completion. Linear in the fills and the gaps of the candles.
    """
    in_market: list[Span] = []
    for symbol, series in history.holdings.items():
        covered = market.candles_of(symbol).covered(clock.start, until)
        in_market += intersect_spans(
            _steps_held(series.quantity, clock, until), _steps_covered(covered, clock)
        )
    return sum(stop - first for first, stop in union_spans(in_market))


def _steps_held(quantity: StepSeries, clock: Clock, until: int) -> list[Span]:
    """Return the steps, from 1 on, at which something is held: each first one and the one after."""
    times = [*quantity.times, until + 1]
    steps = [max(-((clock.start - time) // clock.interval), 1) for time in times]
    return [
        (steps[place], steps[place + 1])
        for place, amount in enumerate(quantity.amounts)
        if amount and steps[place] < steps[place + 1]
    ]


def _steps_covered(spans: list[Span], clock: Clock) -> list[Span]:
    """Return the steps after the start of a span, up to its end: each first one and the one after."""
    start, interval = clock.start, clock.interval
    return [((a - start) // interval + 1, (b - start) // interval + 1) for a, b in spans]
