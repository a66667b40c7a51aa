"""The first page: what this server has, and what is under way."""

from collections.abc import Sequence
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from msgspec.structs import asdict

from candlestep.api.http.route import File, Request
from candlestep.api.routes.pages.page import PageNumber, html, page, page_route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Name
from candlestep.api.schemas.sessions import progress
from candlestep.api.services import Services
from candlestep.api.views.session_view import title_of
from candlestep.api.views.view import NOTHING, duration_text, minute_text, tone_of
from candlestep.data.clock import now
from candlestep.data.records.jobs import UNFINISHED, JobRecord
from candlestep.data.records.sessions import SessionRecord, SessionStatus, SortBy
from candlestep.sandbox import interval_name

_ROWS = 50
_JOBS = 20
_SORTS = (
    ("created_at", "age"), ("roi_pct", "ROI"), ("sharpe_ratio", "Sharpe"),
    ("max_drawdown_pct", "drawdown"), ("total_trades", "fills"), ("strategy_label", "label"),
    ("status", "status"), ("start_time", "start"), ("current_step", "progress"),
)  # fmt: skip
_MINUTE, _SECOND = 60_000, 1000


class HomeQuery(RequestBody):
    strategy_label: Name | None = None
    status: SessionStatus | Literal[""] | None = None
    sort_by: SortBy = "created_at"
    order: Literal["asc", "desc"] = "desc"
    page: PageNumber = 1


async def home(services: Services, request: Request) -> File:
    """Return the first page."""
    query: HomeQuery = request.query
    records, total = await services.sessions.list(
        request.account_id,
        strategy_label=query.strategy_label or None,
        status=query.status or None,
        sort_by=query.sort_by,
        order=query.order,
        limit=_ROWS,
        offset=(query.page - 1) * _ROWS,
    )
    jobs = await services.jobs.list(request.account_id, limit=_JOBS)
    return html(await services.read(_render, services, request, records, total, jobs))


def _render(
    services: Services,
    request: Request,
    records: Sequence[SessionRecord],
    total: int,
    jobs: Sequence[JobRecord],
) -> str:
    query: HomeQuery = request.query
    series = services.catalogue.series()
    time = now()

    def link(number: int) -> str:
        given = {name: value for name, value in asdict(query).items() if value}
        return f"/?{urlencode(given | {'page': number})}#sessions"

    return page(
        services,
        request,
        "home.html",
        section="sessions",
        data={
            "pairs": len({(entry.exchange, entry.symbol) for entry in series}),
            "start": minute_text(min((entry.start for entry in series), default=0)),
            "end": minute_text(max((entry.end for entry in series), default=0)),
            "synthetic": any(entry.synthetic for entry in series),
        },
        jobs=[_job(job, time) for job in jobs],
        sessions=[_session(record, time) for record in records],
        total=total,
        page=query.page,
        page_count=max(1, -(-total // _ROWS)),
        query=query,
        statuses=get_args(SessionStatus),
        sorts=_SORTS,
        link=link,
    )


def _session(record: SessionRecord, time: int) -> dict[str, Any]:
    start, end = minute_text(record.start_time)[:10], minute_text(record.end_time)[:10]
    return {
        "id": record.session_id,
        "title": title_of(record),
        "status": record.status,
        "pairs": _few(record.pairs),
        "span": f"{start} – {end} · {interval_name(record.interval)}",
        "progress_pct": progress(record.current_step, record.total_steps),
        "roi": NOTHING if record.roi_pct is None else f"{record.roi_pct:.2f}",
        "tone": tone_of(record.roi_pct),
        "sharpe": _number(record.sharpe_ratio),
        "drawdown": _number(record.max_drawdown_pct),
        "fills": NOTHING if record.total_trades is None else f"{record.total_trades:,}",
        "age": _age(time - record.created_at),
    }


def _job(job: JobRecord, time: int) -> dict[str, Any]:
    spec, summary = job.specs[0], job.summary
    template = spec.strategy.get("template") or spec.strategy.get("name") or "strategy"
    is_sweep = "sweep" in job.request
    metrics = None if summary is None or is_sweep else summary.metrics
    return {
        "path": job_path(job),
        "title": f"{'sweep of ' if is_sweep else ''}{template}"
        + (f" · {len(job.specs)} runs" if is_sweep else ""),
        "status": job.status,
        "is_unfinished": job.status in UNFINISHED,
        "progress_pct": f"{job.progress * 100:.2f}",
        "period": f"{_few(spec.pairs)} · {minute_text(spec.start_time)[:10]} –"
        f" {minute_text(spec.end_time)[:10]} · {interval_name(spec.interval)}",
        "roi": NOTHING if metrics is None or summary is None else f"{summary.roi_pct:.2f}",
        "tone": "" if metrics is None or summary is None else tone_of(summary.roi_pct),
        "sharpe": NOTHING if metrics is None else _number(metrics.sharpe_ratio),
        "drawdown": NOTHING if metrics is None else _number(metrics.max_drawdown_pct),
        "age": _age(time - job.submitted_at),
    }


def job_path(job: JobRecord) -> str:
    """Return the page of a job, by the API through which it came."""
    if "sweep" in job.request:
        return f"/sweeps/{job.job_id}"
    backtest = job.request.get("backtest")
    if isinstance(backtest, dict):
        return f"/backtests/{backtest['backtest_id']}"
    return f"/runs/{job.job_id}" if job.origin == "runs" else f"/jobs/{job.job_id}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _few(names: Sequence[str]) -> str:
    return (
        ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"
    )


def _age(milliseconds: int) -> str:
    length = _SECOND if milliseconds < _MINUTE else _MINUTE
    return duration_text(max(0, milliseconds) // length * length)


ROUTES = [page_route("/", home, "The first page", query=HomeQuery)]
