"""The results of backtests: equity, closed trades, and comparisons."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.http.route import File, JsonBytes, Request, Route
from candlestep.api.routes.backtests.answers import BASE, metrics_of
from candlestep.api.routes.backtests.figures import HIGHER_IS_BETTER, Flat
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Time
from candlestep.api.schemas.response import Response
from candlestep.api.services import Services
from candlestep.data.records.backtests import (
    BacktestRecord,
    BacktestStatus,
    get_backtest,
    get_backtests,
)
from candlestep.data.run_files.exports import Export, read_json, read_parquet
from candlestep.data.run_files.run_files import run_directory
from candlestep.sandbox import InvalidParameter, InvalidState
from candlestep.sandbox.exchange.orders import Side

_PARQUET = "application/vnd.apache.parquet"


class CompareRequest(RequestBody):
    backtest_ids: Annotated[
        list[Annotated[str, Meta(max_length=100)]], Meta(min_length=2, max_length=10)
    ]


class EquityResponse(msgspec.Struct, frozen=True):
    """Equity at the time at which a candle of the timeframe was complete."""

    date: Time
    equity: float


class ClosedTradeResponse(msgspec.Struct, frozen=True):
    """A closed trade: a fill that reduces a position, and what it closes."""

    entry_date: Time
    exit_date: Time
    side: Side
    entry_price: float
    exit_price: float
    size: float
    pnl: Annotated[float, Meta(description="After all fees.")]
    return_pct: Annotated[
        float | None, Meta(description="PnL as a fraction of the cost: 0.25 is 25 %.")
    ]


class ComparedRun(Response, frozen=True):
    id: str
    engine: str
    status: BacktestStatus
    metrics: Flat


class MetricDiff(msgspec.Struct, frozen=True):
    """One metric of all runs that are compared."""

    values: Annotated[dict[str, float | int | None], Meta(description="By backtest id.")]
    best_id: Annotated[
        str | None,
        Meta(description="Among equals, the one created first; null if neither is better."),
    ]
    higher_is_better: Annotated[
        bool, Meta(description="False, with a `best_id` of null, if neither direction is better.")
    ]


class BacktestCompareResponse(msgspec.Struct, frozen=True):
    runs: list[ComparedRun]
    metric_diff: Annotated[dict[str, MetricDiff], Meta(description="By flat key.")]


async def equity_curve(services: Services, request: Request) -> JsonBytes:
    """Return equity at the end of each candle of the timeframe."""
    return JsonBytes(await _result(services, request, "equity", read_json), 200)


async def trades(services: Services, request: Request) -> JsonBytes:
    """Return the closed trades, oldest first."""
    return JsonBytes(await _result(services, request, "trades", read_json), 200)


async def equity_curve_parquet(services: Services, request: Request) -> File:
    """Download the equity curve as a Parquet file, which pandas reads with the date as index."""
    return await _parquet(services, request, "equity")


async def trades_parquet(services: Services, request: Request) -> File:
    """Download the closed trades as a Parquet file."""
    return await _parquet(services, request, "trades")


async def compare(services: Services, request: Request) -> BacktestCompareResponse:
    """Compare backtests: every metric that any of them has, and the best by each."""
    ids = request.body.backtest_ids
    if len(set(ids)) < len(ids):
        raise InvalidParameter("backtest_ids", "must be 2 to 10 different ids")
    return _compare(await services.read_for_account(get_backtests, request, ids))


async def _parquet(services: Services, request: Request, export: Export) -> File:
    content = await _result(services, request, export, read_parquet)
    file_name = f"{export}_{request.path['backtest_id']}.parquet"
    return File(_PARQUET, content, file_name, quotes_name=False)


async def _result(services: Services, request: Request, export: Export, read: Any) -> bytes:
    """Return a file of a backtest's run; raises ``InvalidState`` without one."""
    record: BacktestRecord = await services.read_record(get_backtest, request, "backtest_id")
    if record.status != "completed":
        raise InvalidState(
            f"the backtest is {record.status}; it has results when it is completed",
            status=record.status,
        )
    hidden = record.hides_equity if export == "equity" else record.hides_trades
    content: bytes | None = None
    run = record.run
    if run is not None and run.has_files and not hidden:
        directory = run_directory(services.settings.home, run.job_id, run.run_number)
        content = await services.read(read, directory, export)
    if content is None:
        raise InvalidState(
            f"the backtest no longer has its {export}; execute it again", status="completed"
        )
    return content


def _compare(records: Sequence[BacktestRecord]) -> BacktestCompareResponse:
    metrics = {record.backtest_id: metrics_of(record) for record in records}
    oldest_first = sorted(records, key=lambda record: record.number)
    by_age = [record.backtest_id for record in oldest_first]
    keys = dict.fromkeys(key for flat in metrics.values() for key in flat if key != "error")
    return BacktestCompareResponse(
        [
            ComparedRun.of(record, id=record.backtest_id, metrics=metrics[record.backtest_id])
            for record in records
        ],
        {
            key: _diff(key, {id: flat.get(key) for id, flat in metrics.items()}, by_age)
            for key in keys
        },
    )


def _diff(key: str, values: dict[str, Any], by_age: Sequence[str]) -> MetricDiff:
    higher_is_better = HIGHER_IS_BETTER.get(key)
    defined = [backtest_id for backtest_id in by_age if values[backtest_id] is not None]
    best = None
    if higher_is_better is not None and defined:
        choose = max if higher_is_better else min
        best = choose(defined, key=lambda backtest_id: values[backtest_id])
    return MetricDiff(values, best, bool(higher_is_better))


_ENDED = ("BACKTEST_NOT_FOUND", "INVALID_STATE")
_ONE = f"{BASE}/{{backtest_id}}"

ROUTES = [
    Route(
        "POST", f"{BASE}/compare", compare, "Compare backtests", body=CompareRequest,
        errors=("BACKTEST_NOT_FOUND",),
    ),
    Route(
        "GET", f"{_ONE}/equity-curve", equity_curve, "Equity curve of a backtest",
        list[EquityResponse], errors=_ENDED,
    ),
    Route(
        "GET", f"{_ONE}/equity-curve/parquet", equity_curve_parquet, "Equity curve as Parquet",
        errors=_ENDED, media_type=_PARQUET,
    ),
    Route(
        "GET", f"{_ONE}/trades", trades, "Closed trades of a backtest", list[ClosedTradeResponse],
        errors=_ENDED,
    ),
    Route(
        "GET", f"{_ONE}/trades/parquet", trades_parquet, "Closed trades as Parquet",
        errors=_ENDED, media_type=_PARQUET,
    ),
]  # fmt: skip
