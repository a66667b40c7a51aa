"""Tools that look back: the results of a session, and sessions side by side."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeVar

from candlestep.api.mcp.answers import Compared, Outcome
from candlestep.api.mcp.arguments import Compare, SessionResults
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.calls.earlier import earlier_text
from candlestep.api.mcp.calls.finding import find_ref
from candlestep.api.mcp.text import cents, percent, session_line, short_time, table
from candlestep.api.services import Services
from candlestep.api.sessions.blind import hidden_of
from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.watching import WatchedSession
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import Results, Session, format_time

_UNIT = Decimal("1e-8")
_MOST_PAIR_BYTES = 2000
_MOST_NAMED = 10

Value = TypeVar("Value")


async def results(services: Services, arguments: SessionResults) -> Outcome:
    """Return the figures of a session, so far or at its end."""
    ref = await find_ref(services, arguments.session_id, to_read=True)
    return await outcome_of(services, ref, arguments.curve_points)


async def outcome_of(services: Services, ref: SessionRef, curve_points: int = 0) -> Outcome:
    """Return the results of a session as an answer; raises as ``Watchers.watch`` does."""
    watched = await services.watchers.watch(ref)
    outcome = await services.read(_results_of, watched)
    session = watched.session
    curve = await services.read(_curve, session, curve_points) if curve_points else ""
    is_over = outcome.status != "running"
    is_owner = CALLER.get().session_id is None
    pairs = [
        f"{pair.symbol} {pair.trades} {_optional(pair.win_rate, percent)} {cents(pair.net_pnl)}"
        for pair in outcome.by_pair
    ]
    return Outcome(
        line=session_line(session),
        session_id=ref.session_id,
        status=f"{outcome.status}, final" if is_over else "running, so far",
        metrics=_metrics(outcome),
        real=_real(watched.record) if is_over and is_owner else "",
        earlier=await earlier_text(services, watched.record) if is_owner else "",
        pairs=table("symbol trades win_rate net_pnl", pairs, _MOST_PAIR_BYTES),
        curve=curve,
        next="compare it with others, or create_session" if is_over else "step on, or end_session",
    )


async def compare(services: Services, arguments: Compare) -> Compared:
    """Return a row for each session, and the best of each figure."""
    account_id = CALLER.get().account_id
    ids = list(dict.fromkeys(arguments.session_ids))
    outcomes = []
    for session_id in ids:
        watched = await services.watchers.watch(SessionRef(account_id, session_id))
        outcomes.append(await services.read(_results_of, watched))
    rows = [_row(session_id, outcome) for session_id, outcome in zip(ids, outcomes, strict=True)]
    figures: list[tuple[str, Callable[[Results], float | None]]] = [
        ("return", lambda outcome: float(outcome.roi_pct)),
        ("drawdown", lambda outcome: -outcome.metrics.max_drawdown_pct),
        ("sharpe", lambda outcome: outcome.metrics.sharpe_ratio),
    ]
    best = [
        f"best {name}: {_best(ids, [read(outcome) for outcome in outcomes])}"
        for name, read in figures
    ]
    return Compared(
        sessions=table("session status return drawdown sharpe trades fees", rows),
        best="\n".join(best),
        next="go on with the best (name its session_id), end_session the others",
    )


def _results_of(watched: WatchedSession) -> Results:
    return watched.keep("results", watched.session.results)


def _real(record: SessionRecord) -> str:
    """Return the real symbols and times of a blind session; nothing of one that showed them."""
    hidden = hidden_of(record.blind)
    if hidden is None:
        return ""
    names = ", ".join(
        f"{shown} was {real}"
        for shown, real in list(zip(record.pairs, hidden.pairs, strict=True))[:_MOST_NAMED]
    )
    start = short_time(format_time(hidden.start))
    return f"blind, seed {hidden.seed}, {hidden.variant}: {names} from {start} on {hidden.exchange}"


def _metrics(outcome: Results) -> str:
    metrics = outcome.metrics
    figures = {
        "return": percent(outcome.roi_pct),
        "equity": cents(outcome.final_equity),
        "max drawdown": percent(metrics.max_drawdown_pct),
        "Sharpe": _optional(metrics.sharpe_ratio, _ratio),
        "Sortino": _optional(metrics.sortino_ratio, _ratio),
        "trades": str(outcome.total_trades),
        "fees": cents(outcome.total_fees),
        "win rate": _optional(metrics.win_rate, percent),
        "profit factor": _optional(metrics.profit_factor, _ratio),
        "best trade": _optional(metrics.best_trade, cents),
        "worst trade": _optional(metrics.worst_trade, cents),
    }
    return ", ".join(f"{name} {value}" for name, value in figures.items())


def _row(session_id: str, outcome: Results) -> str:
    metrics = outcome.metrics
    return (
        f"{session_id} {outcome.status} {percent(outcome.roi_pct)}"
        f" {percent(metrics.max_drawdown_pct)} {_optional(metrics.sharpe_ratio, _ratio)}"
        f" {outcome.total_trades} {cents(outcome.total_fees)}"
    )


def _best(ids: Sequence[str], values: Sequence[float | None]) -> str:
    known = [(value, name) for value, name in zip(values, ids, strict=True) if value is not None]
    if not known:
        return "-"
    best = max(value for value, _ in known)
    names = [name for value, name in known if value == best]
    return "all the same" if len(names) == len(ids) else ", ".join(names)


def _curve(session: Session, points: int) -> str:
    """Return equity at up to ``points`` times, evenly spread over the steps so far."""
    every = max(1, -(-session.step_number // max(1, points - 1)))
    times, units = session.total_equity(every)
    rows = [
        f"{short_time(format_time(int(time)))} {cents(int(amount) * _UNIT)}"
        for time, amount in zip(times, units, strict=True)
    ]
    return table("time equity", rows[-points:])


def _optional(value: Value | None, write: Callable[[Value], str]) -> str:
    return "-" if value is None else write(value)


def _ratio(value: float) -> str:
    return f"{value:.2f}"
