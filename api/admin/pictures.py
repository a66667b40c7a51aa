"""Operations that look: the sessions of a home, one of them in brief, and its page as a file."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from candlestep.api.admin.operation import OpenHome, Operation, Report, progress_of
from candlestep.api.replay.bounds import require_bounds
from candlestep.api.replay.local_target import LocalTarget, load_market
from candlestep.api.replay.replay import at_once
from candlestep.api.sessions.blind import candle_request
from candlestep.api.sessions.idempotency import ReplyCache
from candlestep.api.sessions.recovery import (
    Diverged,
    look_back_of,
    rebuild_session,
    recorded_market,
)
from candlestep.api.settings import Settings
from candlestep.api.views.html import render_file
from candlestep.api.views.run_view import run_chart, run_view
from candlestep.api.views.session_view import session_view, stored_view, unstarted_view
from candlestep.api.views.stored_runs import market_of, stored_run
from candlestep.api.views.view import Figure, View
from candlestep.data.errors import MarketPruned, SessionNotFound
from candlestep.data.journal.candle_fingerprints import CandlesDiffer
from candlestep.data.journal.journal import JournalDamaged, Journals
from candlestep.data.journal.recording import read_recording, read_start
from candlestep.data.journal.records import CommandRecord
from candlestep.data.market import parts
from candlestep.data.market.candle_cache import CandleRequest
from candlestep.data.records.backtests import BacktestRecord, find_backtest
from candlestep.data.records.jobs import JobRecord, find_job
from candlestep.data.records.sessions import SessionRecord, find_session, latest_sessions
from candlestep.sandbox import InvalidState, Market, Session
from candlestep.sandbox.errors import abbreviate

SPARK_POINTS = 72


class ListSessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sessions to list: the latest ones, of a status if that is given."""

    status: str | None = None
    limit: int = 20


class ListedSession(msgspec.Struct, frozen=True):
    """A session in brief. Times and the interval are in milliseconds, figures are texts."""

    session_id: str
    strategy_label: str
    status: str
    pairs: list[str]
    start_time: int
    end_time: int
    interval: int
    current_step: int
    total_steps: int
    roi_pct: str | None
    sharpe_ratio: float | None
    max_drawdown_pct: float | None
    total_trades: int | None
    created_at: int


class SessionList(msgspec.Struct, frozen=True):
    """The latest sessions, and the number of all."""

    sessions: list[ListedSession]
    total: int


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session, job, run or backtest, by its id, or a recording, by its path."""

    name: str
    is_file: bool = False


class NamedText(msgspec.Struct, frozen=True):
    """A figure as text."""

    name: str
    text: str


class TextTable(msgspec.Struct, frozen=True):
    """A table as texts."""

    title: str
    columns: list[str]
    numbers: list[str]
    """The columns whose cells are numbers."""
    rows: list[list[str]]


class Summary(msgspec.Struct, frozen=True):
    """A session or a run in brief."""

    kind: str
    id: str
    title: str
    status: str
    subtitle: str
    problem: str | None
    headline: list[NamedText]
    metrics: list[NamedText]
    tables: list[TextTable]
    equity: list[float]
    """Equity at up to 72 instants, evenly spread."""


class Page(msgspec.Struct, frozen=True):
    """The page of a session or a run as a file, without the library that draws its chart."""

    title: str
    html: str


_SHOWN_TABLES = ("positions", "pairs", "drawdowns")


def _list(home: OpenHome, request: ListSessions, report: Report) -> SessionList:
    records, total = home.sessions_as_of_now(
        partial(latest_sessions, home.store, status=request.status, limit=request.limit)
    )
    return SessionList([_listed(record) for record in records], total)


def _show(home: OpenHome, request: Subject, report: Report) -> Summary:
    view = _view(home, request, report)
    return Summary(
        view.kind,
        view.id,
        view.title,
        view.status,
        view.subtitle,
        view.problem,
        [NamedText(figure.name, figure.text) for figure in view.headline],
        _texts(view.metrics),
        [
            TextTable(
                table.title,
                [column.name for column in table.columns],
                [column.name for column in table.columns if column.is_number],
                [list(row) for row in table.rows],
            )
            for table in view.tables
            if table.key in _SHOWN_TABLES and table.rows
        ],
        _equity(view),
    )


def _plot(home: OpenHome, request: Subject, report: Report) -> Page:
    view = _view(home, request, report)
    return Page(view.title, render_file(view))


def _view(home: OpenHome, request: Subject, report: Report) -> View:
    """Return the view of a subject; raises ``SessionNotFound`` for an id that is unknown."""
    if request.is_file:
        session = _replayed(home, Path(request.name), report)
        return session_view(session, session.record(), None, {})
    record = find_session(home.store, request.name)
    if record is not None:
        return _session_view(home, record)
    backtest = find_backtest(home.store, request.name)
    if backtest is not None:
        return _backtest_view(home, backtest)
    job = find_job(home.store, request.name)
    if job is not None:
        return _job_view(home, job, 0, "job", job.job_id)
    raise SessionNotFound(
        f"there is no session, job, run or backtest {abbreviate(request.name)!r}, nor a file of this"
        " name; `candlestep sessions` lists the sessions"
    )


def _session_view(home: OpenHome, record: SessionRecord) -> View:
    if record.status in ("created", "failed"):
        return unstarted_view(record)
    try:
        recording = Journals.to_read(home.store.path.parent).read(record.session_id)
        number = 0 if record.import_number is None else record.import_number
        request = candle_request(record, number, look_back_of(recording.start))
        market = recorded_market(recording.start, _market(home, request), request)
        if market is None:
            return stored_view(record, "its candles are gone")
        player, _ = rebuild_session(recording, market, ReplyCache())
    except FileNotFoundError:
        return stored_view(record, "its journal is missing")
    except (JournalDamaged, CandlesDiffer, Diverged, MarketPruned) as error:
        return stored_view(record, error.message)
    return session_view(player.session, player.session.record(), record, {})


def _backtest_view(home: OpenHome, backtest: BacktestRecord) -> View:
    job = None if backtest.run is None else find_job(home.store, backtest.run.job_id)
    if job is None or backtest.run is None:
        raise InvalidState("the backtest has not been executed", status=backtest.status)
    return _job_view(home, job, backtest.run.run_number, "backtest", backtest.backtest_id)


def _job_view(home: OpenHome, job: JobRecord, number: int, kind: str, own_id: str) -> View:
    error = None if job.error is None else job.error.message
    directory = home.store.path.parent
    run = stored_run(directory, job, number, kind=kind, own_id=own_id, path="", error=error)
    view = run_view(run, {})
    view.calls = []
    if run.equity is not None and len(run.equity.time):
        market = market_of(partial(_market, home), run.spec)
        view.make_chart = lambda: run_chart(run, market)
    return view


def _market(home: OpenHome, request: CandleRequest) -> Market | None:
    """Return the market of a request; None without candles."""
    return parts.market_of(home.load_parts(request).values())


def _replayed(home: OpenHome, path: Path, report: Report) -> Session:
    """Return the session that a recording makes on the candles of the store."""
    recording = read_recording(path, progress_of(path.name, "bytes", report))
    target = LocalTarget(recording.start, load_market(home.store, home.load_parts, recording.start))
    progress = progress_of(path.name, "commands", report)
    for place, command in enumerate(recording.records):
        if isinstance(command, CommandRecord):
            target.play(at_once(command))
        progress(place + 1, len(recording.records))
    return target.session


def _equity(view: View) -> list[float]:
    if view.curve is None:
        return []
    curve = view.curve()
    if not len(curve.time):
        return []
    first, last = int(curve.time[0]), int(curve.time[-1])
    times = [first + (last - first) * place // (SPARK_POINTS - 1) for place in range(SPARK_POINTS)]
    places = curve.time.searchsorted(times, side="right") - 1
    found: list[float] = curve.equity[places].tolist()
    return found


def _texts(figures: list[Figure]) -> list[NamedText]:
    return [NamedText(figure.name, figure.exact or figure.text) for figure in figures]


def _listed(record: SessionRecord) -> ListedSession:
    return ListedSession(
        record.session_id,
        record.strategy_label,
        record.status,
        record.pairs,
        record.start_time,
        record.end_time,
        record.interval,
        record.current_step,
        record.total_steps,
        None if record.roi_pct is None else f"{record.roi_pct:.2f}",
        record.sharpe_ratio,
        record.max_drawdown_pct,
        record.total_trades,
        record.created_at,
    )


def _check(request: Subject, bounds: Settings, report: Report) -> None:
    if request.is_file:
        require_bounds(read_start(Path(request.name)), bounds)


LIST = Operation("/admin/sessions", "List the sessions", ListSessions, SessionList, _list)
SHOW = Operation("/admin/show", "Show a session in brief", Subject, Summary, _show, _check)
PLOT = Operation("/admin/plot", "Make the page of a session", Subject, Page, _plot, _check)

OPERATIONS: tuple[Operation[Any, Any], ...] = (LIST, SHOW, PLOT)
