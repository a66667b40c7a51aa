"""The page of a session, running or ended, and the files that it offers."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from candlestep.api.errors import NotFound
from candlestep.api.http.route import File, JsonBytes, JsonDocument, Request, Route
from candlestep.api.routes.pages.page import TablePages, html, page, page_route
from candlestep.api.schemas.orders import TradeResponse
from candlestep.api.schemas.results import Reading, ReadingQuery, SnapshotResponse
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef
from candlestep.api.sessions.real_reading import RealReading
from candlestep.api.sessions.watching import WatchedSession
from candlestep.api.views.html import render_file, with_library
from candlestep.api.views.real_view import real_view
from candlestep.api.views.session_view import session_view, stored_view, unstarted_view
from candlestep.api.views.view import Download, Figure, View, period_text
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.run_files.columns import csv_bytes, parquet_bytes
from candlestep.sandbox import InvalidState, Session

_NOT_STARTED = ("created", "failed")
_ENDED = ("completed", "cancelled")
_ATTACHMENT = "text/html; charset=utf-8"

TableName = Literal["trades", "equity"]
_RESPONSES: dict[TableName, type[msgspec.Struct]] = {
    "trades": TradeResponse,
    "equity": SnapshotResponse,
}
_WHOLE = ("id", "order_id")
_TEXTS = ("symbol", "side", "type")


class SessionPages(TablePages):
    """The pages of the tables, and the reading of a blind session that has ended."""

    reading: Reading = "blind"


async def session(services: Services, request: Request) -> File:
    """Return the page of a session."""
    pages: SessionPages = request.query
    ref = SessionRef(request.account_id, request.path["session_id"])
    record = await services.watchers.record(ref)
    if record.status in _NOT_STARTED:
        return html(await services.read(_render, services, request, unstarted_view(record)))
    try:
        watched = await services.watchers.watch(ref, recent=pages.reading == "blind")
    except InvalidState as error:
        view = stored_view(record, error.message)
        return html(await services.read(_render, services, request, view))
    key = ("page", pages.trades, pages.orders, pages.reading, request.api_key_id)
    reading = await services.sessions.reading(record, request.query.reading)

    def make() -> str:
        return _render(services, request, _read(watched, pages, record, reading), watched, reading)

    return html(await services.read(watched.keep, key, make))


async def state(services: Services, request: Request) -> JsonBytes:
    """Return how far a session is: a page that follows it asks for this every second."""
    record = await services.watchers.record(_ref(request))
    state = {"step": record.current_step, "status": record.status}
    return JsonBytes(msgspec.json.encode(state), 200)


def _read(
    watched: WatchedSession, pages: SessionPages, record: SessionRecord, reading: RealReading | None
) -> View:
    """Return the view of a session in a reading; that of a blind one that has ended offers both."""
    view = _view(watched, pages)
    if record.blind is None or record.status not in _ENDED:
        return view
    blind = Download("as it was shown", "" if reading is None else "?reading=blind")
    real = Download("as it was", "?reading=real" if reading is None else "")
    if reading is not None:
        hidden = reading.hidden
        start, length = hidden.start, record.end_time - record.start_time
        pairs = ", ".join(hidden.pairs)
        facts = [
            Figure("Real exchange", hidden.exchange),
            Figure("Real pairs", pairs),
            Figure("Seed", str(hidden.seed)),
            Figure("Variant", hidden.variant),
        ]
        period = period_text(start, start + length, record.interval)
        view = real_view(
            view, watched.trading, reading, facts, f"{pairs} · {period}",
            is_mirror=hidden.variant == "mirror",
        )  # fmt: skip
    view.readings = [blind, real]
    return view


async def file(services: Services, request: Request) -> File:
    """Download the page of a session as one file, which needs no server."""
    watched = await services.watchers.watch(_ref(request))
    record = watched.record
    reading = await services.sessions.reading(record, request.query.reading)
    content = await services.read(
        lambda: with_library(render_file(_read(watched, SessionPages(), record, reading))).encode()
    )
    return File(_ATTACHMENT, content, f"{record.session_id}{_suffix(reading)}.html")


async def table(services: Services, request: Request) -> File:
    """Download the trades or the equity of a session, as CSV or as Parquet."""
    name, _, kind = request.path["file"].rpartition(".")
    if name not in ("trades", "equity") or kind not in ("csv", "parquet"):
        raise NotFound("there is no such file; trades and equity are there as .csv and .parquet")
    watched = await services.watchers.watch(_ref(request))
    table: TableName = "trades" if name == "trades" else "equity"
    reading = await services.sessions.reading(watched.record, request.query.reading)
    content = await services.read(_table, table, kind, watched.session, reading)
    content_type = "text/csv; charset=utf-8" if kind == "csv" else "application/vnd.apache.parquet"
    file_name = f"{watched.record.session_id}_{name}{_suffix(reading)}.{kind}"
    return File(content_type, content, file_name)


def _suffix(reading: RealReading | None) -> str:
    """Return what the name of a file says of its reading."""
    return "" if reading is None else "_real"


def _ref(request: Request) -> SessionRef:
    return SessionRef(request.account_id, request.path["session_id"])


def _view(watched: WatchedSession, pages: TablePages) -> View:
    numbers = {"trades": pages.trades, "orders": pages.orders}
    return session_view(watched.session, watched.trading, watched.record, numbers)


def _render(
    services: Services,
    request: Request,
    view: View,
    watched: WatchedSession | None = None,
    reading: RealReading | None = None,
) -> str:
    symbol = "" if watched is None else watched.trading.main_symbol
    return page(
        services,
        request,
        "view.html",
        section="sessions",
        view=view,
        pages={},
        main_symbol=symbol if reading is None else reading.symbol(symbol),
    )


def _table(name: TableName, kind: str, session: Session, reading: RealReading | None) -> bytes:
    """Return the trades or the snapshots of equity in a reading, with the texts of the API."""
    if name == "trades":
        fills = session.fills if reading is None else map(reading.fill, session.fills)
        answers: Sequence[Any] = [TradeResponse.of(fill) for fill in fills]
    else:
        snapshots = session.snapshots()
        shown = snapshots if reading is None else map(reading.snapshot, snapshots)
        answers = [SnapshotResponse.of(snapshot) for snapshot in shown]
    is_perpetual = session.config.market_type == "perp"
    fields = msgspec.structs.fields(_RESPONSES[name])
    names = [field.name for field in fields if is_perpetual or field.default is not UNSET]
    if kind == "csv":
        return csv_bytes(names, [[getattr(answer, field) for field in names] for answer in answers])
    columns = {field: [_optional(getattr(answer, field)) for answer in answers] for field in names}
    return parquet_bytes({field: _sql_type(field, columns[field]) for field in names}, columns)


def _optional(value: object) -> str | None:
    return None if value is None else str(value)


def _sql_type(name: str, texts: Sequence[str | None]) -> str:
    if name in _WHOLE:
        return "BIGINT"
    if name in _TEXTS:
        return "VARCHAR"
    if name == "liquidation":
        return "BOOLEAN"
    if name == "simulated_at":
        return "TIMESTAMP"
    exponents = [Decimal(text).as_tuple().exponent for text in texts if text is not None]
    places = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=2)
    return f"DECIMAL(38, {min(places, 16)})"


_ONE = "/sessions/{session_id}"
_UNKNOWN = ("SESSION_NOT_FOUND",)
ROUTES = [
    page_route(_ONE, session, "A session", query=SessionPages, errors=_UNKNOWN),
    Route(
        "GET", f"{_ONE}/state", state, "How far a session is", JsonDocument, errors=_UNKNOWN,
        is_documented=False, is_browser=True,
    ),
    page_route(
        f"{_ONE}/file", file, "A session as a file", query=ReadingQuery, errors=_UNKNOWN
    ),
    Route(
        "GET", f"{_ONE}/{{file}}", table, "A table of a session", errors=_UNKNOWN,
        query=ReadingQuery, is_documented=False, is_browser=True,
        media_type="application/octet-stream",
    ),
]  # fmt: skip
