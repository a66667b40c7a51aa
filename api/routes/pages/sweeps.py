"""The page of a sweep: a heatmap over two parameters, and the leaderboard."""

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from candlestep.api.http.route import File, JsonBytes, JsonDocument, Request, Route
from candlestep.api.routes.pages.page import html, page, page_route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.services import Services
from candlestep.api.views.view import (
    NOTHING,
    Figure,
    brief_text,
    figure_label,
    period_text,
    value_of,
)
from candlestep.data.errors import JobNotFound
from candlestep.data.records.jobs import UNFINISHED, JobRecord, RunSummary
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.performance.charts import heatmap_chart
from candlestep.sandbox.performance.deflated_sharpe import deflated_sharpe_of
from candlestep.sandbox.performance.figures import FIGURES
from candlestep.sandbox.performance.plots import heatmap_cells

_METRICS = (
    "sharpe_ratio", "roi_pct", "total_pnl", "cagr", "sortino_ratio", "calmar_ratio",
    "max_drawdown_pct", "volatility", "win_rate", "profit_factor", "total_fees", "closed_trades",
)  # fmt: skip
_COLUMNS = ("roi_pct", "max_drawdown_pct", "closed_trades", "total_fees")
_ONLY = "(all)"
"""The second parameter of a sweep over a single one."""

ParameterName = Annotated[str, Meta(max_length=200)]


class SweepQuery(RequestBody):
    x: ParameterName = ""
    y: ParameterName = ""
    metric: Annotated[str, Meta(max_length=100)] = "sharpe_ratio"


class SweepRun(NamedTuple):
    """A run of a sweep: its backtest, its parameters, and its result."""

    id: str
    parameters: dict[str, Any]
    summary: RunSummary | None
    error: str | None

    def value(self, metric: str) -> float | None:
        """Return a figure of the run as a number."""
        if self.summary is None:
            return None
        value = value_of(metric, (self.summary, self.summary.metrics))
        return None if value is None else float(value)


class Sweep(NamedTuple):
    """The runs of a sweep, the parameters in which they differ, and the choice of a query."""

    job: JobRecord
    runs: list[SweepRun]
    parameters: list[str]
    x: str
    y: str
    metric: str

    @property
    def ranked(self) -> list[SweepRun]:
        """The runs, the best first; those without a value come last."""
        sign = -1.0 if FIGURES[self.metric].higher_is_better is not False else 1.0

        def place(run: SweepRun) -> tuple[int, float]:
            value = run.value(self.metric)
            return (1, 0.0) if value is None else (0, sign * value)

        return sorted(self.runs, key=place)


async def sweep(services: Services, request: Request) -> File:
    """Return the page of a sweep."""
    found = await _find(services, request)
    return html(await services.read(_render, services, request, found))


async def figure(services: Services, request: Request) -> JsonBytes:
    """Return the heatmap of a sweep."""
    found = await _find(services, request)
    better = FIGURES[found.metric].higher_is_better is not False
    cells = [
        (
            run.parameters.get(found.x, NOTHING),
            run.parameters.get(found.y, NOTHING) if found.y != _ONLY else found.metric,
            run.value(found.metric),
            run.id,
        )
        for run in found.runs
    ]
    xs, ys, values, names = heatmap_cells(cells, higher_is_better=better)
    chart = heatmap_chart(
        (found.x, xs),
        ("" if found.y == _ONLY else found.y, ys),
        values,
        names,
        metric=figure_label(found.metric),
        higher_is_better=better,
    )
    return JsonBytes(msgspec.json.encode(chart), 200)


async def _find(services: Services, request: Request) -> Sweep:
    """Return the sweep of the path; raises ``JobNotFound`` and ``InvalidParameter``."""
    query: SweepQuery = request.query
    sweep_id = request.path["sweep_id"]
    job = await services.jobs.get(request.account_id, sweep_id, origin="backtests")
    stored = job.request.get("sweep")
    if not isinstance(stored, dict):
        raise JobNotFound(f"there is no sweep {abbreviate(sweep_id)!r}", job_id=sweep_id)
    if query.metric not in _METRICS:
        raise InvalidParameter("metric", f"must be one of {', '.join(_METRICS)}")
    names = list(dict.fromkeys(name for spec in job.specs for name in spec.overrides))
    varied = [name for name in names if len({str(s.overrides.get(name)) for s in job.specs}) > 1]
    parameters = varied or names
    for name in (query.x, query.y):
        if name not in ("", _ONLY, *parameters):
            raise InvalidParameter(
                "x" if name == query.x else "y", "is not a parameter of the sweep"
            )
    x = query.x or (parameters[0] if parameters else _ONLY)
    y = query.y or next((name for name in parameters if name != x), _ONLY)
    runs = [
        SweepRun(
            backtest_id,
            spec.overrides,
            None if outcome is None else outcome.summary,
            None if outcome is None or outcome.error is None else outcome.error.message,
        )
        for backtest_id, spec, outcome in zip(
            stored["backtest_ids"], job.specs, job.outcomes, strict=True
        )
    ]
    return Sweep(job, runs, parameters, x, y, query.metric)


def _render(services: Services, request: Request, found: Sweep) -> str:
    job, spec = found.job, found.job.specs[0]
    ranked = found.ranked
    return page(
        services,
        request,
        "sweep.html",
        section="sessions",
        status=job.status,
        is_live=job.status in UNFINISHED,
        progress_pct=f"{job.progress * 100:.2f}",
        strategy=spec.strategy.get("template") or spec.strategy.get("name") or "a strategy",
        subtitle=f"{', '.join(spec.pairs)} · "
        + period_text(spec.start_time, spec.end_time, spec.interval),
        headline=_headline(found, ranked),
        parameters=[*found.parameters, *([_ONLY] if len(found.parameters) < 2 else [])],
        x=found.x,
        y=found.y,
        metric=found.metric,
        metric_label=figure_label(found.metric),
        metrics=[(name, figure_label(name)) for name in _METRICS],
        columns=[figure_label(name) for name in _COLUMNS],
        board=[
            {
                "id": run.id,
                "parameters": [str(run.parameters.get(n, NOTHING)) for n in found.parameters],
                "score": _text(run, found.metric),
                "texts": [_text(run, name) for name in _COLUMNS],
                "error": run.error,
            }
            for run in ranked
        ],
        figure_path=f"/sweeps/{job.job_id}/figure.json?"
        + "&".join(
            f"{n}={v}" for n, v in (("x", found.x), ("y", found.y), ("metric", found.metric))
        )
        if any(run.summary for run in found.runs)
        else None,
    )


def _headline(found: Sweep, ranked: list[SweepRun]) -> list[Figure]:
    """Return the best run in brief, with the deflated Sharpe ratio beside it."""
    figures = [Figure("Runs", f"{len(found.runs)}")]
    best = ranked[0] if ranked else None
    if best is None or best.summary is None:
        return figures
    ratios = [run.summary.metrics.sharpe_ratio for run in found.runs if run.summary is not None]
    deflated = deflated_sharpe_of(best.summary.metrics, ratios)
    parameters = ", ".join(f"{name} {best.parameters.get(name)}" for name in found.parameters)
    return [
        *figures,
        Figure("Best by " + figure_label(found.metric), parameters or NOTHING),
        Figure(figure_label(found.metric), _text(best, found.metric)),
        *(
            [Figure("Sharpe ratio", _text(best, "sharpe_ratio"))]
            if found.metric != "sharpe_ratio"
            else []
        ),
        Figure("Deflated Sharpe ratio", NOTHING if deflated is None else f"{deflated:.4f}"),
    ]


def _text(run: SweepRun, metric: str) -> str:
    if run.summary is None:
        return NOTHING
    return brief_text(metric, value_of(metric, (run.summary, run.summary.metrics)))


_ONE = "/sweeps/{sweep_id}"
ROUTES = [
    page_route(_ONE, sweep, "A sweep", query=SweepQuery, errors=("NOT_FOUND",)),
    Route(
        "GET", f"{_ONE}/figure.json", figure, "The heatmap of a sweep", JsonDocument,
        query=SweepQuery, errors=("NOT_FOUND",), is_documented=False, is_browser=True,
    ),
]  # fmt: skip
