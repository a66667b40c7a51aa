"""The comparison of sessions, backtests, jobs and runs, side by side."""

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from candlestep.api.http.route import File, JsonBytes, JsonDocument, Request, Route
from candlestep.api.routes.pages.page import html, page, page_route
from candlestep.api.routes.pages.runs import find_backtest, find_job, find_run
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef
from candlestep.api.views.run_view import run_view
from candlestep.api.views.session_view import session_view, stored_view, unstarted_view
from candlestep.api.views.view import NOTHING, View, brief_text, figure_label
from candlestep.data.errors import BacktestNotFound, JobNotFound, SessionNotFound
from candlestep.sandbox import InvalidParameter, InvalidState
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.performance.chart_columns import Range, thinned
from candlestep.sandbox.performance.charts import comparison_chart
from candlestep.sandbox.performance.figures import FIGURES

MOST_COMPARED = 10

_NAMES = (
    "final_equity", "total_pnl", "roi_pct", "total_fees", "total_trades", "cagr", "sharpe_ratio",
    "sortino_ratio", "calmar_ratio", "volatility", "max_drawdown_pct",
    "max_drawdown_duration_days", "win_rate", "profit_factor", "expectancy", "best_trade",
    "worst_trade", "turnover", "total_funding", "liquidations", "max_leverage_used",
)  # fmt: skip


class CompareQuery(RequestBody):
    ids: Annotated[str, Meta(max_length=2000)] = ""


class Compared(NamedTuple):
    """The views that there are, and why others are not."""

    views: list[View]
    problems: list[str]


async def compare(services: Services, request: Request) -> File:
    """Return the page on which sessions and runs are compared."""
    compared = await _compared(services, request)
    ids = ",".join(view.id for view in compared.views)
    return html(
        await services.read(
            page,
            services,
            request,
            "compare.html",
            section="sessions",
            views=compared.views,
            problems=compared.problems,
            rows=_rows(compared.views),
            figure_path=f"/compare/figure.json?ids={ids}",
        )
    )


async def figure(services: Services, request: Request) -> JsonBytes:
    """Return the chart of a comparison."""
    compared = await _compared(services, request)
    return JsonBytes(await services.read(_chart, compared.views), 200)


async def _compared(services: Services, request: Request) -> Compared:
    query: CompareQuery = request.query
    ids = list(dict.fromkeys(part.strip() for part in query.ids.split(",") if part.strip()))
    if len(ids) > MOST_COMPARED:
        raise InvalidParameter("ids", f"compare up to {MOST_COMPARED} at a time")
    compared = Compared([], [])
    for own_id in ids:
        try:
            compared.views.append(await _view(services, request.account_id, own_id))
        except (SessionNotFound, JobNotFound, BacktestNotFound):
            compared.problems.append(f"There is nothing with the id {abbreviate(own_id)}.")
        except InvalidState as error:
            compared.problems.append(f"{abbreviate(own_id)}: {error.message}.")
    return compared


async def _view(services: Services, account_id: str, own_id: str) -> View:
    """Return the view of whatever has an id: a session, a job, a run or a backtest."""
    ref = SessionRef(account_id, own_id)
    try:
        record = await services.watchers.record(ref)
    except SessionNotFound:
        try:
            run = await find_backtest(services, account_id, own_id)
        except BacktestNotFound:
            run = await find_job(services, account_id, own_id)
            job = await services.jobs.get(account_id, own_id)
            if job.origin == "runs":
                run = await find_run(services, account_id, own_id)
        return run_view(run, {})
    if record.status in ("created", "failed"):
        return unstarted_view(record)
    try:
        watched = await services.watchers.watch(ref, recent=True)
    except InvalidState as error:
        return stored_view(record, error.message)
    return await services.read(
        watched.keep,
        "compared",
        lambda: session_view(watched.session, watched.trading, watched.record, {}),
    )


def _rows(views: list[View]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Return the metrics, each with its texts and which of them are the best."""
    rows = []
    for name in _NAMES:
        values = [view.figures.get(name) for view in views]
        if all(value is None for value in values):
            continue
        best = _best(name, values)
        cells = [
            (
                NOTHING if value is None else brief_text(name, value),
                value is not None and value == best,
            )
            for value in values
        ]
        rows.append((figure_label(name), cells))
    return rows


def _best(name: str, values: list[Any]) -> Any:
    """Return the best value of a figure; None if neither direction is better, or all are equal."""
    higher_is_better = FIGURES[name].higher_is_better
    defined = [value for value in values if value is not None]
    if higher_is_better is None or len(set(defined)) < 2:
        return None
    return max(defined) if higher_is_better else min(defined)


def _chart(views: list[View]) -> bytes:
    curves = {}
    for view in views:
        if view.curve is not None:
            curve = view.curve()
            name = f"{view.title} …{view.id[-6:]}"
            curves[name] = thinned(curve, Range(int(curve.time[0]), int(curve.time[-1])))
    return msgspec.json.encode(comparison_chart(curves))


ROUTES = [
    page_route("/compare", compare, "Comparison", query=CompareQuery),
    Route(
        "GET", "/compare/figure.json", figure, "The chart of a comparison", JsonDocument,
        query=CompareQuery, is_documented=False, is_browser=True,
    ),
]  # fmt: skip
