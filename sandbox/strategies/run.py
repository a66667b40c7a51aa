"""Running a strategy: a session driven through its public face, from its first step to its last."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from candlestep.sandbox.config import SessionConfig
from candlestep.sandbox.indicators.bars import Bars, SessionRows
from candlestep.sandbox.market.market import Market
from candlestep.sandbox.session import Session
from candlestep.sandbox.strategies.broker import Broker, Signal
from candlestep.sandbox.strategies.card import ParsedCard
from candlestep.sandbox.strategies.grid import GridRules
from candlestep.sandbox.strategies.progress import RunProgress
from candlestep.sandbox.strategies.rules import EntryExitRules
from candlestep.sandbox.strategies.scope import StrategyScope
from candlestep.sandbox.strategies.starlark_runner import run_program
from candlestep.sandbox.strategies.strategy import Strategy


class Run(msgspec.Struct, frozen=True):
    """A strategy's session, run to its end."""

    session: Session
    signals: tuple[Signal, ...]
    """What the strategy decided, in order; the session has what came of it."""
    candles: int
    """How many candles of the timeframe could be acted on, of all symbols."""


class SymbolRules(Protocol):
    """The decisions of a card on one symbol."""

    def next_step(self, now: int) -> int | None:
        """The step of the next decision, from step ``now`` on; None if none is due."""

    def decide(self, now: int) -> None:
        """Decide, at that step."""


def run(
    strategy: Strategy,
    config: SessionConfig,
    market: Market,
    on_progress: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Run:
    """Run ``strategy`` over the whole of a session of ``config`` on ``market``.

    The session's steps are those of the strategy's timeframe, or finer where ``config`` has a
    finer interval. A candle of the timeframe that completes at T, from the session's start on
    and before its last step, is acted on at the first step that is not before T, at the price
    of that time; symbols in sorted order. Indicators are computed from the first candle of the
    market on. ``on_progress`` gets fractions from 0 to 1, at most some hundred of them;
    ``cancelled`` is asked every few milliseconds.

    Raises ``SymbolNotFound`` and ``InvalidParameter`` for what the market does not have,
    ``Cancelled``, and ``ProgramFailed`` with the line and the candle's time.
    """
    scope = StrategyScope.of(strategy, config)
    watch = RunProgress(scope.config.clock.total_steps, on_progress, cancelled)
    frames, windows = scope.shown(strategy, market, watch.poll_now)
    session = Session(scope.config, market)
    body = strategy.body
    broker = Broker(session, len(frames), is_lenient=isinstance(body, ParsedCard))
    if isinstance(body, ParsedCard):
        lanes = []
        for rows, seen in zip(frames, windows, strict=True):
            watch.poll_now()
            lanes.append(_lane(body, rows, seen, broker))
        _run_card(session, lanes, watch)
    else:
        run_program(body, frames, windows, broker, watch)
    watch.at(session.step_number)
    candles = sum(seen.stop - seen.first for seen in windows)
    return Run(session, tuple(broker.signals), candles)


def _lane(parsed: ParsedCard, rows: Bars, seen: SessionRows, broker: Broker) -> SymbolRules:
    if parsed.card.grid is not None:
        return GridRules(parsed.card.grid, rows, seen, broker)
    return EntryExitRules(parsed, rows, seen, broker)


def _run_card(session: Session, lanes: list[SymbolRules], watch: RunProgress) -> None:
    """Go from decision to decision, the earliest of all symbols first, and to the end."""
    while session.status == "running":
        now = session.step_number
        watch.at(now)
        due = [
            (step, place)
            for place, lane in enumerate(lanes)
            if (step := lane.next_step(now)) is not None
        ]
        step, place = min(due, default=(session.total_steps, -1))
        if step > now:
            advance = session.step_to_change if session.pending_count else session.step
            moved = advance(step - now)
            if place < 0 or moved.orders_filled or moved.orders_closed:
                continue
        lanes[place].decide(step)
