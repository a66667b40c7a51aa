"""The pages of jobs, backtests and runs, from what is stored of them."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from candlestep.api.http.route import File, JsonBytes, JsonDocument, Request, Route
from candlestep.api.routes.pages.page import PageNumber, html, page, page_route
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Symbol, TimeInput
from candlestep.api.services import Services
from candlestep.api.views.run_view import StoredRun, run_chart, run_view
from candlestep.api.views.stored_runs import market_of, stored_run
from candlestep.data.records.backtests import BacktestRecord, get_backtest
from candlestep.data.records.jobs import JobRecord
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidState, parse_time


class RunPageQuery(RequestBody):
    trades: PageNumber = 1


class ChartQuery(RequestBody):
    symbol: Symbol | None = None
    start_time: TimeInput | None = None
    end_time: TimeInput | None = None


Find = Callable[[Services, str, str], Awaitable[StoredRun]]


async def find_job(services: Services, account_id: str, job_id: str) -> StoredRun:
    """Return a job's only run; raises ``JobNotFound``."""
    return await _stored_job(services, account_id, job_id, "job", f"/api/v1/backtest/jobs/{job_id}")


async def find_run(services: Services, account_id: str, run_id: str) -> StoredRun:
    """Return a run of the runs API; raises ``JobNotFound``."""
    path = f"/api/v2/backtest/runs/{run_id}"
    return await _stored_job(services, account_id, run_id, "run", path)


async def find_backtest(services: Services, account_id: str, backtest_id: str) -> StoredRun:
    """Return the last run of a backtest; raises ``BacktestNotFound`` and ``InvalidState``."""
    record = await services.read(get_backtest, services.store, account_id, backtest_id)
    if record.run is None:
        raise InvalidState(
            "the backtest has not been executed;"
            f" POST /api/v1/backtests/{backtest_id}/execute runs it",
            status=record.status,
        )
    job = await services.jobs.get(account_id, record.run.job_id)
    return await services.read(_of_backtest, services, record, job)


async def _stored_job(
    services: Services, account_id: str, job_id: str, kind: str, path: str
) -> StoredRun:
    job = await services.jobs.get(account_id, job_id)
    return await services.read(_of_job, services, job, kind, path)


def _of_job(services: Services, job: JobRecord, kind: str, path: str) -> StoredRun:
    error = None if job.error is None else job.error.message
    home = services.settings.home
    return stored_run(home, job, 0, kind=kind, own_id=job.job_id, path=path, error=error)


def _of_backtest(services: Services, record: BacktestRecord, job: JobRecord) -> StoredRun:
    assert record.run is not None
    path = f"/api/v1/backtests/{record.backtest_id}"
    return stored_run(
        services.settings.home,
        job,
        record.run.run_number,
        kind="backtest",
        own_id=record.backtest_id,
        path=path,
        error=record.error,
    )


def _page(find: Find, parameter: str) -> Any:
    async def show(services: Services, request: Request) -> File:
        run = await find(services, request.account_id, request.path[parameter])
        view = run_view(run, {"trades": request.query.trades})
        return html(
            await services.read(
                page,
                services,
                request,
                "view.html",
                section="sessions",
                view=view,
                pages={},
                main_symbol=view.symbols[0] if view.symbols else "",
            )
        )

    return show


def _figure(find: Find, parameter: str) -> Any:
    async def figure(services: Services, request: Request) -> JsonBytes:
        run = await find(services, request.account_id, request.path[parameter])
        if run.equity is None or not len(run.equity.time):
            raise InvalidState("there is no equity to draw", status=run.status)
        query: ChartQuery = request.query
        start = None if query.start_time is None else parse_time(query.start_time, "start_time")
        end = None if query.end_time is None else parse_time(query.end_time, "end_time")
        symbol = None if query.symbol is None else normalise_symbol(query.symbol)

        def draw() -> bytes:
            market = market_of(services.cache.market, run.spec)
            return msgspec.json.encode(run_chart(run, market, symbol, start, end))

        return JsonBytes(await services.threads.load(draw), 200)

    return figure


_KINDS: tuple[tuple[str, str, Find, str], ...] = (
    ("jobs", "job_id", find_job, "NOT_FOUND"),
    ("backtests", "backtest_id", find_backtest, "BACKTEST_NOT_FOUND"),
    ("runs", "run_id", find_run, "NOT_FOUND"),
)
ROUTES = [
    route
    for kind, parameter, find, code in _KINDS
    for route in (
        page_route(
            f"/{kind}/{{{parameter}}}", _page(find, parameter), f"One of the {kind}",
            File, query=RunPageQuery, errors=(code,),
        ),
        Route(
            "GET", f"/{kind}/{{{parameter}}}/figure.json", _figure(find, parameter),
            f"The chart of one of the {kind}", JsonDocument, query=ChartQuery, errors=(code,),
            is_documented=False, is_browser=True,
        ),
    )
]  # fmt: skip
