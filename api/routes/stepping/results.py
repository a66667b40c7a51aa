"""The results of sessions: metrics, equity curves, trades, and comparisons."""

from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.routes.stepping.orders import TradesQuery
from candlestep.api.routes.stepping.session_commands import session_ref
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import money
from candlestep.api.schemas.figures import fields_named, project
from candlestep.api.schemas.orders import TradeResponse, TradesResponse
from candlestep.api.schemas.results import (
    BestResponse,
    CompareResponse,
    Comparison,
    EquityCurveResponse,
    FeePeriodResponse,
    MetricsResponse,
    PairResponse,
    ResultsConfig,
    ResultsResponse,
    ResultsSummary,
    RiskResponse,
    SlippageResponse,
    SnapshotResponse,
)
from candlestep.api.services import Services
from candlestep.data.errors import SessionNotFound
from candlestep.data.records.results import (
    RANKED,
    best_session,
    load_by_pair,
    load_equity,
    load_metrics,
    load_trades,
)
from candlestep.data.records.sessions import SessionRecord, get_session
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidState, Metrics, format_time, interval_name
from candlestep.sandbox.performance.figures import Unit

_BASE = "/api/v1/backtest"
_RESULTS = f"{_BASE}/{{session_id}}/results"
_MOST_COMPARED = 100
_FIGURES = fields_named(MetricsResponse.__struct_fields__)


class EquityQuery(RequestBody):
    interval: Annotated[int, Meta(ge=1, le=10**9, description="Return every n-th snapshot.")] = 1


class CompareQuery(RequestBody):
    sessions: Annotated[str, Meta(description="Ids, separated by commas; at least two.")]


class BestQuery(RequestBody):
    metric: Annotated[str, Meta(extra_json_schema={"enum": list(RANKED)})] = "sharpe_ratio"


async def results(services: Services, request: Request) -> ResultsResponse:
    """Return the results of a session that has ended."""
    return await services.in_thread(_results, services.store, await _ended(services, request))


async def equity_curve(services: Services, request: Request) -> EquityCurveResponse:
    """Return snapshots of equity: at the start, every 60 steps, at fills and at the end."""
    record = await _ended(services, request)
    return await services.in_thread(_equity_curve, services.store, record, request.query.interval)


async def trades(services: Services, request: Request) -> TradesResponse:
    """List the trades of a session that has ended, oldest first."""
    record = await _ended(services, request)
    return await services.in_thread(_trades, services.store, record, request.query)


async def compare(services: Services, request: Request) -> CompareResponse:
    """Compare sessions that have ended, and name the best of them."""
    query: CompareQuery = request.query
    ids = [part.strip() for part in query.sessions.split(",") if part.strip()]
    if not 2 <= len(set(ids)) <= _MOST_COMPARED:
        raise InvalidParameter(
            "sessions", f"name 2 to {_MOST_COMPARED} different sessions, separated by commas"
        )
    return await services.in_thread(
        _compare, services.store, request.account_id, list(dict.fromkeys(ids))
    )


async def best(services: Services, request: Request) -> BestResponse:
    """Return the completed session with the best value of a metric.

    Of drawdowns and losses, the lowest value is the best.
    """
    query: BestQuery = request.query
    best = await services.in_thread(best_session, services.store, request.account_id, query.metric)
    if best is None:
        raise SessionNotFound(f"no session has completed with a {query.metric}")
    value = money(best.value) if isinstance(best.value, Decimal) else best.value
    return BestResponse(best.session_id, best.strategy_label, query.metric, value)


async def _ended(services: Services, request: Request) -> SessionRecord:
    record = await services.sessions.record(session_ref(request))
    if record.status not in ("completed", "cancelled"):
        raise InvalidState(
            f"the session is {record.status}; it has results when it is completed or cancelled",
            status=record.status,
        )
    return record


def _results(store: Store, record: SessionRecord) -> ResultsResponse:
    metrics = _metrics(store, record)
    pairs = load_by_pair(store, record.account_id, record.session_id)
    config = record.config
    return ResultsResponse(
        record.session_id,
        record.status,
        ResultsConfig(
            start_time=format_time(record.start_time),
            end_time=format_time(record.end_time),
            starting_balance=money(record.starting_balance),
            strategy_label=record.strategy_label,
            candle_interval=interval_name(record.interval),
            agent_id=record.agent_id,
            pairs=record.pairs,
            exchange=record.exchange,
            import_number=record.import_number,
            fee_rate=config.get("fee_rate"),
            fee_model=config.get("fee_model"),
            fee_bps=config.get("fee_bps"),
            fee_schedule=_fee_schedule(config),
            slippage=SlippageResponse(**config["slippage"]),
            trigger=config["trigger"],
            liquidate_at_end=config["liquidate_at_end"],
            risk_profile=RiskResponse.of(record.risk_profile),
        ),
        _summary(record),
        metrics_answer(metrics),
        [
            PairResponse(pair.symbol, pair.trades, pair.win_rate, money(pair.net_pnl))
            for pair in pairs
        ],
    )


def _fee_schedule(config: dict[str, Any]) -> list[FeePeriodResponse] | None:
    entries = config.get("fee_schedule")
    return None if entries is None else [FeePeriodResponse.of(entry) for entry in entries]


def _equity_curve(store: Store, record: SessionRecord, every: int) -> EquityCurveResponse:
    snapshots = load_equity(store, record.account_id, record.session_id, every)
    return EquityCurveResponse(
        record.session_id, every, [SnapshotResponse.of(snapshot) for snapshot in snapshots]
    )


def _trades(store: Store, record: SessionRecord, query: TradesQuery) -> TradesResponse:
    fills, total = load_trades(
        store, record.account_id, record.session_id, query.limit, query.offset
    )
    return TradesResponse([TradeResponse.of(fill) for fill in fills], len(fills), total)


def _summary(record: SessionRecord) -> ResultsSummary:
    figures: list[Any] = [getattr(record, name) for name in ResultsSummary.__struct_fields__]
    assert None not in figures
    texts: list[Any] = [money(f) if isinstance(f, Decimal) else f for f in figures]
    return ResultsSummary(*texts)


def metrics_answer(metrics: Metrics) -> MetricsResponse:
    """Return the metrics in the form of this API: amounts of money as text."""
    return MetricsResponse(**project(_FIGURES, metrics, _form))


def _form(value: Any, unit: Unit) -> Any:
    return money(value) if unit == "amount" else value


def _metrics(store: Store, record: SessionRecord) -> Metrics:
    metrics = load_metrics(store, record.account_id, record.session_id)
    assert metrics is not None, "they are saved with the session's end"
    return metrics


def _compare(store: Store, account_id: str, ids: list[str]) -> CompareResponse:
    sessions = [_comparison(store, _ended_session(store, account_id, name)) for name in ids]
    by_roi = max(sessions, key=lambda session: session.roi_pct)
    by_drawdown = min(sessions, key=lambda session: session.max_drawdown_pct)
    with_sharpe = [session for session in sessions if session.sharpe_ratio is not None]
    by_sharpe = max(with_sharpe, key=lambda session: session.sharpe_ratio or 0.0, default=None)
    winners = {"ROI": by_roi, "Sharpe ratio": by_sharpe, "drawdown": by_drawdown}
    return CompareResponse(
        sessions,
        by_roi.session_id,
        None if by_sharpe is None else by_sharpe.session_id,
        by_drawdown.session_id,
        _recommendation({name: best for name, best in winners.items() if best is not None}),
    )


def _ended_session(store: Store, account_id: str, session_id: str) -> SessionRecord:
    record = get_session(store, account_id, session_id)
    if record.status not in ("completed", "cancelled"):
        raise InvalidState(
            f"session {session_id} is {record.status}; only sessions that have ended can be"
            " compared",
            session_id=session_id,
            status=record.status,
        )
    return record


def _comparison(store: Store, record: SessionRecord) -> Comparison:
    summary, metrics = _summary(record), _metrics(store, record)
    return Comparison(
        record.session_id,
        record.strategy_label,
        float(summary.roi_pct),
        metrics.sharpe_ratio,
        metrics.sortino_ratio,
        metrics.max_drawdown_pct,
        metrics.win_rate,
        metrics.profit_factor,
        summary.total_trades,
        summary.final_equity,
    )


def _recommendation(winners: dict[str, Comparison]) -> str:
    """Say in words which session did best, given the winner of each figure."""
    figures: dict[str, list[str]] = {}
    for figure, session in winners.items():
        label = f" ({session.strategy_label})" if session.strategy_label else ""
        figures.setdefault(session.session_id + label, []).append(figure)
    if len(figures) == 1:
        return f"{next(iter(figures))} outperforms on all key metrics"
    return "; ".join(f"{name} has the best {' and '.join(figures[name])}" for name in figures)


_ended_route = partial(Route, "GET", errors=("SESSION_NOT_FOUND", "INVALID_STATE"))

ROUTES = [
    _ended_route(_RESULTS, results, "Results", ResultsResponse),
    _ended_route(
        f"{_RESULTS}/equity-curve", equity_curve, "Equity curve", EquityCurveResponse, query=EquityQuery
    ),
    _ended_route(f"{_RESULTS}/trades", trades, "Trades", TradesResponse, query=TradesQuery),
    _ended_route(
        f"{_BASE}/compare", compare, "Compare sessions", CompareResponse, query=CompareQuery
    ),
    Route(
        "GET", f"{_BASE}/best", best, "The best session by a metric", BestResponse,
        query=BestQuery, errors=("SESSION_NOT_FOUND",),
    ),
]  # fmt: skip
