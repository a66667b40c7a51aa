"""The results of sessions: metrics, equity curves, trades, and comparisons."""

from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, convert
from msgspec.structs import asdict, replace

from candlestep.api.errors import Forbidden
from candlestep.api.http.route import Request, Route
from candlestep.api.routes.stepping.account import FundingQuery, funding_answer
from candlestep.api.routes.stepping.orders import TradesQuery
from candlestep.api.routes.stepping.session_commands import seen_by, session_ref
from candlestep.api.schemas import results as schemas
from candlestep.api.schemas.account import (
    FundingPaymentsResponse,
    LiquidationResponse,
    LiquidationsResponse,
)
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import money
from candlestep.api.schemas.figures import fields_named, project
from candlestep.api.schemas.orders import TradeResponse, TradesResponse
from candlestep.api.schemas.warnings import coverage_fields
from candlestep.api.services import Services
from candlestep.api.sessions.blind import hidden_of
from candlestep.api.sessions.real_reading import RealReading
from candlestep.data.errors import SessionNotFound
from candlestep.data.records import results as records
from candlestep.data.records.margin_results import load_funding, load_liquidations, load_margin
from candlestep.data.records.sessions import SessionRecord, SessionStatus, get_session
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidState, Metrics, format_time
from candlestep.sandbox.market.coverage import Coverage
from candlestep.sandbox.performance.figures import Unit
from candlestep.sandbox.performance.results import unused_marks

_BASE = "/api/v1/backtest"
_RESULTS = f"{_BASE}/{{session_id}}/results"
_MOST_COMPARED = 100
_ENDED: tuple[SessionStatus, ...] = ("completed", "cancelled")
_FIGURES = fields_named(schemas.MetricsResponse.__struct_fields__)


class EquityQuery(schemas.ReadingQuery):
    interval: Annotated[int, Meta(ge=1, le=10**9, description="Return every n-th snapshot.")] = 1


class ResultTradesQuery(TradesQuery):
    reading: schemas.Reading = "blind"


class ResultFundingQuery(FundingQuery):
    reading: schemas.Reading = "blind"


class CompareQuery(RequestBody):
    sessions: Annotated[str, Meta(description="Ids, separated by commas; at least two.")]


class BestQuery(RequestBody):
    metric: Annotated[str, Meta(extra_json_schema={"enum": list(records.RANKED)})] = "sharpe_ratio"


async def results(services: Services, request: Request) -> schemas.ResultsResponse:
    """Return the results of a session that has ended."""
    record = await _ended(services, request)
    coverage = await services.sessions.coverage(record)
    real = _real(record) if request.session_id is None else UNSET
    return await services.read(_results, services.store, record, coverage, real)


async def equity_curve(services: Services, request: Request) -> schemas.EquityCurveResponse:
    """Return snapshots of equity: at the start, every 60 steps, at fills and at the end."""
    record = await _ended(services, request)
    reading = await _reading(services, request, record)
    return await services.read(
        _equity_curve, services.store, record, request.query.interval, reading
    )


async def trades(services: Services, request: Request) -> TradesResponse:
    """List the trades of a session that has ended, oldest first."""
    record = await _ended(services, request)
    reading = await _reading(services, request, record)
    return await services.read(_trades, services.store, record, request.query, reading)


async def funding(services: Services, request: Request) -> FundingPaymentsResponse:
    """List the funding that a session that has ended paid and received, oldest first."""
    record = await _ended(services, request)
    reading = await _reading(services, request, record)
    return await services.read(_funding, services.store, record, request.query, reading)


async def liquidations(services: Services, request: Request) -> LiquidationsResponse:
    """List the positions that were liquidated in a session that has ended, oldest first."""
    record = await _ended(services, request)
    reading = await _reading(services, request, record)
    return await services.read(_liquidations, services.store, record, reading)


async def compare(services: Services, request: Request) -> schemas.CompareResponse:
    """Compare sessions that have ended, and name the best of them."""
    query: CompareQuery = request.query
    ids = [part.strip() for part in query.sessions.split(",") if part.strip()]
    if not 2 <= len(set(ids)) <= _MOST_COMPARED:
        raise InvalidParameter(
            "sessions", f"name 2 to {_MOST_COMPARED} different sessions, separated by commas"
        )
    return await services.read_for_account(_compare, request, list(dict.fromkeys(ids)))


async def best(services: Services, request: Request) -> schemas.BestResponse:
    """Return the completed session with the best value of a metric.

    Of drawdowns and losses, the lowest value is the best.
    """
    query: BestQuery = request.query
    best = await services.read_for_account(records.best_session, request, query.metric)
    if best is None:
        raise SessionNotFound(f"no session has completed with a {query.metric}")
    value = money(best.value) if isinstance(best.value, Decimal) else best.value
    return schemas.BestResponse(best.session_id, best.strategy_label, query.metric, value)


async def _reading(
    services: Services, request: Request, record: SessionRecord
) -> RealReading | None:
    """Return the reading of a session that a request asks for; the real one is for its owner."""
    if request.query.reading == "real" and request.session_id is not None:
        raise Forbidden("what was real of a session is for its owner")
    return await services.sessions.reading(record, request.query.reading)


async def _ended(services: Services, request: Request) -> SessionRecord:
    record = await services.sessions.record(session_ref(request))
    if record.status not in _ENDED:
        raise InvalidState(
            f"the session is {record.status}; it has results when it is completed or cancelled",
            status=record.status,
        )
    return seen_by(request, record)


def _results(
    store: Store,
    record: SessionRecord,
    coverage: Coverage,
    real: schemas.RealResponse | UnsetType,
) -> schemas.ResultsResponse:
    names = (record.account_id, record.session_id)
    metrics = _metrics(store, record)
    pairs = records.load_by_pair(store, *names)
    config, summary = schemas.ResultsConfig.of(record), schemas.ResultsSummary.of(record)
    margin = load_margin(store, *names)
    warnings = [*coverage.warnings]
    if margin is not None:
        warnings += unused_marks((record.start_time, record.end_time), margin.figures)
        tiers = convert(margin.tiers, dict[str, schemas.TiersResponse])
        config = replace(config, margin_tiers=tiers)
        of_spot = {name: value for name, value in asdict(summary).items() if value is not UNSET}
        summary = schemas.ResultsSummary.of(margin.figures, **of_spot)
    return schemas.ResultsResponse(
        record.session_id,
        record.status,
        config,
        summary,
        metrics_answer(metrics),
        [schemas.PairResponse.of(pair) for pair in pairs],
        **coverage_fields(warnings, coverage.shares),
        real=real,
    )


def _real(record: SessionRecord) -> schemas.RealResponse | UnsetType:
    """Return what was real of a blind session."""
    hidden = hidden_of(record.blind)
    if hidden is None:
        return UNSET
    return schemas.RealResponse(
        **asdict(hidden.settings),
        exchange=hidden.exchange,
        pairs=dict(zip(record.pairs, hidden.pairs, strict=True)),
        start_time=hidden.start_time,
        end_time=format_time(hidden.start + record.end_time - record.start_time),
    )


def _equity_curve(
    store: Store, record: SessionRecord, every: int, reading: RealReading | None
) -> schemas.EquityCurveResponse:
    snapshots = records.load_equity(store, record.account_id, record.session_id, every)
    if reading is not None:
        snapshots = [reading.snapshot(one) for one in snapshots]
    return schemas.EquityCurveResponse(
        record.session_id, every, [schemas.SnapshotResponse.of(one) for one in snapshots]
    )


def _trades(
    store: Store, record: SessionRecord, query: ResultTradesQuery, reading: RealReading | None
) -> TradesResponse:
    fills, total = records.load_trades(
        store, record.account_id, record.session_id, query.limit, query.offset
    )
    if reading is not None:
        fills = [reading.fill(one) for one in fills]
    return TradesResponse([TradeResponse.of(one) for one in fills], len(fills), total)


def _funding(
    store: Store, record: SessionRecord, query: ResultFundingQuery, reading: RealReading | None
) -> FundingPaymentsResponse:
    payments, total, total_amount = load_funding(
        store, record.account_id, record.session_id, query.limit, query.offset
    )
    if reading is not None:
        payments = [reading.payment(one) for one in payments]
    return funding_answer(payments, total, total_amount)


def _liquidations(
    store: Store, record: SessionRecord, reading: RealReading | None
) -> LiquidationsResponse:
    found = load_liquidations(store, record.account_id, record.session_id)
    if reading is not None:
        found = [reading.liquidation(one) for one in found]
    return LiquidationsResponse([LiquidationResponse.of(one) for one in found], len(found))


def metrics_answer(metrics: Metrics) -> schemas.MetricsResponse:
    """Return the metrics in the form of this API: amounts of money as text."""
    return schemas.MetricsResponse(**project(_FIGURES, metrics, _form))


def _form(value: Any, unit: Unit) -> Any:
    if unit == "time":
        return format_time(value)
    return money(value) if unit == "amount" else value


def _metrics(store: Store, record: SessionRecord) -> Metrics:
    metrics = records.load_metrics(store, record.account_id, record.session_id)
    assert metrics is not None, "they are saved with the session's end"
    return metrics


def _compare(store: Store, account_id: str, ids: list[str]) -> schemas.CompareResponse:
    sessions = [_comparison(store, _ended_session(store, account_id, name)) for name in ids]
    by_roi = max(sessions, key=lambda session: session.roi_pct)
    by_drawdown = min(sessions, key=lambda session: session.max_drawdown_pct)
    with_sharpe = [session for session in sessions if session.sharpe_ratio is not None]
    by_sharpe = max(with_sharpe, key=lambda session: session.sharpe_ratio or 0.0, default=None)
    winners = {"ROI": by_roi, "Sharpe ratio": by_sharpe, "drawdown": by_drawdown}
    return schemas.CompareResponse(
        sessions,
        by_roi.session_id,
        None if by_sharpe is None else by_sharpe.session_id,
        by_drawdown.session_id,
        _recommendation({name: best for name, best in winners.items() if best is not None}),
    )


def _ended_session(store: Store, account_id: str, session_id: str) -> SessionRecord:
    record = get_session(store, account_id, session_id)
    if record.status not in _ENDED:
        raise InvalidState(
            f"session {session_id} is {record.status}; only sessions that have ended can be"
            " compared",
            session_id=session_id,
            status=record.status,
        )
    return record


def _comparison(store: Store, record: SessionRecord) -> schemas.Comparison:
    summary = schemas.ResultsSummary.of(record)
    return schemas.Comparison.of(
        _metrics(store, record),
        session_id=record.session_id,
        strategy_label=record.strategy_label,
        roi_pct=float(summary.roi_pct),
        total_trades=summary.total_trades,
        final_equity=summary.final_equity,
    )


def _recommendation(winners: dict[str, schemas.Comparison]) -> str:
    """Say in words which session did best, given the winner of each figure."""
    figures: dict[str, list[str]] = {}
    for figure, session in winners.items():
        label = f" ({session.strategy_label})" if session.strategy_label else ""
        figures.setdefault(session.session_id + label, []).append(figure)
    if len(figures) == 1:
        return f"{next(iter(figures))} outperforms on all key metrics"
    return "; ".join(f"{name} has the best {' and '.join(figures[name])}" for name in figures)


_ended_route = partial(
    Route, "GET", errors=("SESSION_NOT_FOUND", "INVALID_STATE"), for_session_key=True
)

ROUTES = [
    _ended_route(_RESULTS, results, "Results"),
    _ended_route(f"{_RESULTS}/equity-curve", equity_curve, "Equity curve", query=EquityQuery),
    _ended_route(f"{_RESULTS}/trades", trades, "Trades", query=ResultTradesQuery),
    _ended_route(f"{_RESULTS}/funding", funding, "Funding payments", query=ResultFundingQuery),
    _ended_route(f"{_RESULTS}/liquidations", liquidations, "Liquidations", query=schemas.ReadingQuery),
    _ended_route(f"{_BASE}/compare", compare, "Compare sessions", query=CompareQuery, for_session_key=False),
    Route(
        "GET", f"{_BASE}/best", best, "The best session by a metric",
        query=BestQuery, errors=("SESSION_NOT_FOUND",),
    ),
]  # fmt: skip
