"""The routes of watchers: a session's chart, its news, drawdowns and monthly returns.

None of it counts as a use of the session, and all of it works while the session runs.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import JsonBytes, JsonDocument, Request, Route
from candlestep.api.routes.stepping.session_commands import (
    FIND_ERRORS,
    session_ref,
    session_symbol,
)
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Money, Status, Symbol, Time, TimeInput, optional_time
from candlestep.api.schemas.market import CandleResponse
from candlestep.api.schemas.orders import OrderResponse, TradeResponse
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.results import SnapshotResponse
from candlestep.api.services import Services
from candlestep.api.sessions.watching import WatchedSession
from candlestep.api.views.real_view import NO_CHART, real_chart
from candlestep.sandbox import (
    InvalidParameter,
    InvalidState,
    format_time,
    interval_name,
    parse_time,
)
from candlestep.sandbox.performance.drawdowns import DrawdownPeriod

MOST_NEW = 1000
"""The most items of each list of what is new."""

_BASE = "/api/v1/backtest/{session_id}"


class FigureQuery(RequestBody):
    symbol: (
        Annotated[Symbol, Meta(description="By default the one with the most fills.")] | None
    ) = None
    start_time: TimeInput | None = None
    end_time: TimeInput | None = None
    reading: Annotated[
        Literal["blind", "real"],
        Meta(
            description="Of a blind session that has ended: as it showed the market, or the market as"
            " it was. Symbol and times are those of the reading."
        ),
    ] = "blind"


class SinceQuery(RequestBody):
    step: Annotated[int, Meta(ge=0, le=10**15, description="The last step that is known.")] = 0
    symbol: (
        Annotated[Symbol, Meta(description="Whose candles to return; none without it.")] | None
    ) = None


class SinceResponse(msgspec.Struct, frozen=True):
    """The events after a step. Each list has its oldest items, up to 1,000."""

    session_id: str
    status: Status
    step: int
    total_steps: int
    virtual_time: Time
    total_equity: Money
    trades: list[TradeResponse]
    orders_closed: Annotated[
        list[OrderResponse], Meta(description="Filled, cancelled, rejected or expired.")
    ]
    candles: list[CandleResponse]
    candle_interval: str | None
    equity: Annotated[
        list[SnapshotResponse], Meta(description="At up to 1,000 steps, the latest among them.")
    ]
    is_truncated: Annotated[
        bool, Meta(description="True if a list leaves out later items: read the whole instead.")
    ]


class DrawdownResponse(Response, frozen=True):
    peak_time: Annotated[Time, Meta(description="The last time at which equity was at the peak.")]
    trough_time: Time
    recovery_time: Annotated[Time | None, Meta(description="Null if equity is still below.")]
    depth_pct: Annotated[float, Meta(description="In percent of the peak.")]
    amount: Annotated[float, Meta(description="In quote currency.")]
    duration_seconds: Annotated[
        int, Meta(description="From the first instant below the peak to the recovery, or to now.")
    ]

    @classmethod
    def of(cls, source: DrawdownPeriod, /, **fields: object) -> "DrawdownResponse":
        """Return the answer that shows a drawdown."""
        return super().of(
            source,
            recovery_time=optional_time(source.recovery_time),
            duration_seconds=source.duration // 1000,
        )


class DrawdownsResponse(msgspec.Struct, frozen=True):
    session_id: str
    drawdowns: list[DrawdownResponse]


class DrawdownsQuery(RequestBody):
    limit: Annotated[int, Meta(ge=1, le=100)] = 5


class MonthResponse(msgspec.Struct, frozen=True):
    month: Annotated[str, Meta(pattern=r"^\d{4}-\d\d$", examples=["2025-01"])]
    return_pct: Annotated[
        float | None, Meta(description="In percent; null if there was no equity before it.")
    ]


class MonthlyResponse(msgspec.Struct, frozen=True):
    session_id: str
    months: list[MonthResponse]


async def figure(services: Services, request: Request) -> JsonBytes:
    """Return the chart of a session as JSON for Plotly: ``data`` and ``layout``.

    Candles with fills and orders, equity, drawdown and exposure, all up to the virtual time. It has
    at most 2,000 candles, of the finest interval that fits the range, and up to 1,000 fills have a
    marker each; beyond, those of a candle and side share one, with their count and sum. May be a
    second old.
    """
    query: FigureQuery = request.query
    start = None if query.start_time is None else parse_time(query.start_time, "start_time")
    end = None if query.end_time is None else parse_time(query.end_time, "end_time")
    if start is not None and end is not None and start >= end:
        raise InvalidParameter("end_time", "must be after start_time")
    # A state before the end would refuse what was real, though the session has ended.
    is_blind = query.reading == "blind"
    watched = await services.watchers.watch(session_ref(request), recent=is_blind)
    symbol = None
    if query.symbol is not None:
        symbol = session_symbol(watched.session, query.symbol)
    if query.reading == "real":
        return await _real_figure(services, watched, symbol, start, end)
    body = await services.read(
        watched.keep, ("figure", symbol, start, end), lambda: _figure(watched, symbol, start, end)
    )
    return JsonBytes(body, 200)


async def _real_figure(
    services: Services,
    watched: WatchedSession,
    symbol: str | None,
    start: int | None,
    end: int | None,
) -> JsonBytes:
    reading = await services.sessions.real_reading(watched.record)
    if reading.shift is None:
        raise InvalidState(NO_CHART, status=watched.record.status)
    body = await services.read(
        watched.keep,
        ("real figure", symbol, start, end),
        lambda: msgspec.json.encode(real_chart(watched.trading, reading, symbol, start, end)),
    )
    return JsonBytes(body, 200)


async def since(services: Services, request: Request) -> SinceResponse:
    """Return what has happened since a step: trades, closed orders, candles and equity."""
    watched = await services.watchers.watch(session_ref(request))
    return await services.read(_since, watched, request.query)


async def drawdowns(services: Services, request: Request) -> DrawdownsResponse:
    """Return the deepest drawdowns up to now, the deepest first."""
    watched = await services.watchers.watch(session_ref(request))
    limit: int = request.query.limit
    periods = await services.read(lambda: watched.trading.worst_drawdowns(limit))
    found = [DrawdownResponse.of(period) for period in periods]
    return DrawdownsResponse(watched.record.session_id, found)


async def monthly(services: Services, request: Request) -> MonthlyResponse:
    """Return the return of each calendar month (UTC) up to now.

    The first and the last may be parts of a month. All multiply to the total return.
    """
    watched = await services.watchers.watch(session_ref(request))
    months = await services.read(lambda: watched.trading.monthly_returns())
    found = [MonthResponse(entry.month, entry.return_pct) for entry in months]
    return MonthlyResponse(watched.record.session_id, found)


def _figure(
    watched: WatchedSession, symbol: str | None, start: int | None, end: int | None
) -> bytes:
    return msgspec.json.encode(watched.trading.chart(symbol, start, end))


def _since(watched: WatchedSession, query: SinceQuery) -> SinceResponse:
    session, clock = watched.session, watched.session.config.clock
    after = clock.start + query.step * clock.interval
    # A market order fills at the time of the step that is known already.
    fills = [
        fill for fill in session.fills if fill.time >= after and query.step < session.step_number
    ]
    closed = [
        order
        for order in session.orders
        if order.closed_at is not None
        and order.closed_at >= after
        and query.step < session.step_number
    ]
    candles, interval = [], None
    if query.symbol is not None:
        symbol = session_symbol(session, query.symbol)
        interval = session.default_interval(symbol)
        count = max(1, -(-(session.time - after) // interval))
        candles = [
            candle
            for candle in session.candles(symbol, interval // 1000, count)
            if candle.complete_time > after
        ]
    steps = session.step_number - query.step
    every = max(1, -(-steps // MOST_NEW)) * clock.interval
    times = list(range(session.time, after, -every))[::-1] if steps > 0 else []
    equity = list(watched.trading.equity_at(times)) if times else []
    return SinceResponse(
        watched.record.session_id,
        session.status,
        session.step_number,
        session.total_steps,
        format_time(session.time),
        f"{session.portfolio().total_equity:f}",
        [TradeResponse.of(fill) for fill in fills[:MOST_NEW]],
        [OrderResponse.of(order) for order in closed[:MOST_NEW]],
        [CandleResponse.of(candle) for candle in candles[:MOST_NEW]],
        None if interval is None else interval_name(interval),
        [SnapshotResponse.of(snapshot) for snapshot in equity],
        max(len(fills), len(closed), len(candles)) > MOST_NEW,
    )


_WITH_SYMBOL = (*FIND_ERRORS, "SYMBOL_NOT_FOUND")

ROUTES = [
    Route(
        "GET", f"{_BASE}/figure.json", figure, "The chart of a session", JsonDocument,
        query=FigureQuery, errors=_WITH_SYMBOL, is_browser=True,
    ),
    Route(
        "GET", f"{_BASE}/since", since, "What is new in a session",
        query=SinceQuery, errors=_WITH_SYMBOL, is_browser=True, for_session_key=True,
    ),
]  # fmt: skip
RESULT_ROUTES = [
    Route(
        "GET", f"{_BASE}/results/drawdowns", drawdowns, "The worst drawdowns of a session",
        query=DrawdownsQuery, errors=FIND_ERRORS, is_browser=True, for_session_key=True,
    ),
    Route(
        "GET", f"{_BASE}/results/monthly", monthly, "Monthly returns of a session",
        errors=FIND_ERRORS, is_browser=True, for_session_key=True,
    ),
]  # fmt: skip
