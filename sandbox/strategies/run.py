"""Running a strategy: it drives a session through its public methods, from start to end."""

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
from candlestep.sandbox.strategies.starlark_runner import ProgramRun
from candlestep.sandbox.strategies.strategy import Strategy


class Run(msgspec.Struct, frozen=True):
    """The session of a strategy, run to its end."""

    session: Session
    signals: tuple[Signal, ...]
    """Decisions of the strategy, in order; the session has their outcome."""
    candles: int
    """Number of candles of the timeframe that could be acted on, of all symbols."""


class SymbolRules(Protocol):
    """The decisions of a card on one symbol."""

    def next_step(self, now: int) -> int | None:
        """Return the step of the next decision, from step ``now`` on; None if none is due."""

    def decide(self, now: int) -> None:
        """Decide at that step."""


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
    market on. ``on_progress`` is called with fractions from 0 to 1, about a hundred times at most;
    ``cancelled`` is called every few milliseconds.

    Raises ``SymbolNotFound`` and ``InvalidParameter`` for what the market does not have,
    ``Cancelled``, and ``ProgramFailed`` with the line and the candle's time.
    """
    scope = StrategyScope.of(strategy, config)
    progress = RunProgress(scope.config.clock.total_steps, on_progress, cancelled)
    all_bars, all_rows = scope.bars_and_rows(strategy, market, progress.poll_now)
    session = Session(scope.config, market)
    body = strategy.body
    broker = Broker(session, len(all_bars), is_lenient=isinstance(body, ParsedCard))
    if isinstance(body, ParsedCard):
        by_symbol = []
        for bars, rows in zip(all_bars, all_rows, strict=True):
            progress.poll_now()
            by_symbol.append(_symbol_rules(body, bars, rows, broker))
        _run_card(broker, by_symbol, progress)
    else:
        ProgramRun(body, all_bars, all_rows, broker, progress).run()
    progress.at(session.step_number)
    candles = sum(rows.stop - rows.first for rows in all_rows)
    return Run(session, tuple(broker.signals), candles)


def _symbol_rules(parsed: ParsedCard, bars: Bars, rows: SessionRows, broker: Broker) -> SymbolRules:
    if parsed.card.grid is not None:
        return GridRules(parsed.card.grid, bars, rows, broker)
    return EntryExitRules(parsed, bars, rows, broker)


def _run_card(broker: Broker, by_symbol: list[SymbolRules], progress: RunProgress) -> None:
    """Step from decision to decision, the earliest of all symbols first, and to the end.

    A fill between them, by which a pending order or a liquidation changes what is held, changes
    what is decided next.
    """
    session = broker.session
    while session.status == "running":
        now = session.step_number
        progress.at(now)
        due = [
            (step, place)
            for place, rules in enumerate(by_symbol)
            if (step := rules.next_step(now)) is not None
        ]
        step, place = min(due, default=(session.total_steps, -1))
        if step > now:
            may_change = session.pending_count or (broker.is_margined and broker.has_positions)
            advance = session.step_to_change if may_change else session.step
            report = advance(step - now)
            if place < 0 or report.orders_filled or report.orders_closed:
                continue
        by_symbol[place].decide(step)
