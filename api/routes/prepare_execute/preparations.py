"""Preparations: the candles of an instrument and a period, loaded for programs to run on.

The id is a digest of the request, of the import that last changed the candles (or the mark prices
or funding rates of a perpetual), and of the instrument if its volume is not usable, or it has filters
or margin tiers.
"""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Request, Route
from candlestep.api.jobs import planning
from candlestep.api.jobs.margin import MarginTerms, require_margin_data
from candlestep.api.routes.prepare_execute.exchanges import known_exchange
from candlestep.api.routes.prepare_execute.ids import derived_id
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    INTERVAL_SECONDS,
    INTERVAL_TEXTS,
    CoveredFrom,
    CoveredTo,
    Symbol,
    Time,
    match_choice,
)
from candlestep.api.schemas.warnings import CoverageByPair, Warnings, coverage_fields
from candlestep.api.services import Services
from candlestep.data.clock import now
from candlestep.data.imports.storing.changes import latest_import
from candlestep.data.market.catalogue import by_symbol, effective_imports
from candlestep.data.market.parts import names_of_lines
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.records.jobs import RunSpec, job_not_found
from candlestep.data.records.preparations import (
    Preparation,
    SourceType,
    get_preparation,
    save_preparation,
)
from candlestep.data.symbols import is_perpetual
from candlestep.sandbox import InvalidParameter, format_time, interval_name
from candlestep.sandbox.clock import HOUR, MINUTE, parse_interval
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.market.coverage import Coverage
from candlestep.sandbox.strategies import PROGRAM_HISTORY

BASE = "/api/v1/backtest/{exchangeId}/{type}"
STARTING_BALANCE = "10000"
"""The capital of every execution, in the instrument's quote currency."""

_OWN_CADENCE = "1s"
_NAMES = planning.FieldNames(
    symbols="instrument", symbol="instrument", timeframe="cadence", start="from", end="to"
)
_TYPES: tuple[SourceType, ...] = get_args(SourceType)

StateName = Literal["New", "Started", "Completed", "Aborted", "Failed"]
TimeOrDate = Annotated[
    str,
    Meta(
        description="ISO 8601, UTC without an offset; a date is its midnight.",
        examples=["2024-12-14T00:00:00Z", "2024-12-14", "20241214"],
        extra_json_schema={
            "pattern": r"^[0-9]{4}(-[0-9]{2}-[0-9]{2}|[0-9]{4})"
            r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
        },
    ),
]


class PrepareRequest(RequestBody, rename={"start": "from", "end": "to"}):
    instrument: Symbol
    start: TimeOrDate
    end: Annotated[
        TimeOrDate, Meta(description="The last candle is the one that opens at or before it.")
    ]
    cadence: Annotated[
        str | int | None,
        Meta(
            description="Interval of the candles that a program sees. If it is `1s` or left out, it"
            " is the interval of the data.",
            extra_json_schema={"enum": [_OWN_CADENCE, *INTERVAL_TEXTS, *INTERVAL_SECONDS, None]},
        ),
    ] = None


class PrepareResponse(msgspec.Struct, frozen=True):
    jobId: str
    cadence: Annotated[str, Meta(description="Of the candles as prepared.", examples=["1m"])]


class JobStateResponse(msgspec.Struct, frozen=True):
    contextId: str
    status: StateName
    statusDetail: str | None
    size: Annotated[int, Meta(description="Always 0, because it is not known in advance.")]
    completed: Annotated[
        int,
        Meta(description="Whole hours with candles; of an execution, candles that were seen."),
    ]
    startTime: Time | None
    endTime: Time | None
    coveredFrom: CoveredFrom
    coveredTo: CoveredTo
    warnings: Warnings
    coverage: CoverageByPair


async def prepare(services: Services, request: Request) -> PrepareResponse:
    """Prepare the candles of an instrument and a period, on which programs can then be executed.

    They are ready when this answers. Only the part of the period that has candles is prepared.
    """
    planned = await services.in_thread(_plan_preparation, services, request)
    await services.jobs.prepare(run_spec(planned))
    prepared = msgspec.structs.replace(planned, finished_at=now())
    await services.in_thread(save_preparation, services.store, prepared)
    return PrepareResponse(prepared.job_id, interval_name(prepared.interval))


async def preparation(services: Services, request: Request) -> JobStateResponse:
    """Return the state of a preparation."""
    prepared = await services.read(get_owned_preparation, services, request, request.path["jobId"])
    coverage = await services.read(coverage_of_preparation, services, prepared)
    return JobStateResponse(
        context_id(prepared, prepared.job_id),
        "Completed",
        None,
        0,
        await services.read(_hours, services, prepared),
        format_time(prepared.started_at),
        format_time(prepared.finished_at),
        format_time(prepared.start_time),
        format_time(prepared.end_time),
        **coverage_fields(coverage.warnings, coverage.shares),
    )


def coverage_of_preparation(services: Services, prepared: Preparation) -> Coverage:
    """Return the coverage of a preparation by the candles as of its import. Blocks."""
    number = prepared.import_number
    covered = services.catalogue.covered(prepared.exchange, [prepared.symbol], number)
    return planning.run_coverage(prepared.start_time, prepared.end_time, prepared.interval, covered)


def _hours(services: Services, prepared: Preparation) -> int:
    """Return the number of whole hours with candles in a preparation."""
    groups = by_symbol(services.catalogue.series(prepared.import_number))
    series = groups.get((prepared.exchange, prepared.symbol), [])
    span = prepared.start_time, prepared.end_time
    return planning.candles_within(series, prepared.interval, *span) // HOUR


def get_owned_preparation(services: Services, request: Request, job_id: str) -> Preparation:
    """Return the account's preparation, of the exchange and the type that the path names.

    Raises ``JobNotFound``.
    """
    prepared = get_preparation(services.store, request.account_id, job_id)
    require_path(request, prepared.exchange, prepared.source_type, job_id)
    return prepared


def require_path(request: Request, exchange: str, source_type: str, job_id: str) -> None:
    """Raise ``JobNotFound`` unless the path names this exchange and this type."""
    if (request.path["exchangeId"].lower(), request.path["type"]) != (exchange, source_type):
        raise job_not_found(job_id)


def run_spec(prepared: Preparation, source: str = "") -> RunSpec:
    """Return the run of a program on prepared candles; without a source it only loads them."""
    return RunSpec(
        strategy={"source": source},
        exchange=prepared.exchange,
        pairs=[prepared.symbol],
        start_time=prepared.start_time,
        end_time=prepared.end_time,
        interval=prepared.interval,
        starting_balance=STARTING_BALANCE,
        config={
            "currency": prepared.quote,
            **planning.DEFAULT_COSTS["execute"].arguments(),
            **(MarginTerms().on_perpetuals() if is_perpetual(prepared.symbol) else {}),
        },
        import_number=prepared.import_number,
        history=PROGRAM_HISTORY * prepared.interval,
    )


def context_id(prepared: Preparation, job_id: str) -> str:
    """Return the long id of a preparation or of a job on it, made of everything that defines it."""
    parts = (
        prepared.source_type,
        prepared.account_id,
        prepared.exchange,
        job_id,
        prepared.instrument.lower(),
        str(prepared.import_number),
    )
    return ":".join(("jctx", *parts))


def _plan_preparation(services: Services, request: Request) -> Preparation:
    """Return the preparation of a request, checked against the candles in the store."""
    body: PrepareRequest = request.body
    started_at = now()
    source_type = _type(request)
    exchange = known_exchange(services, request.path["exchangeId"])
    market = planning.MarketScope.resolve(services.catalogue, exchange, [body.instrument], _NAMES)
    start, end = planning.parse_times(body.start, body.end, _NAMES)
    interval = _interval(body.cadence, market.finest(start, end + 1) or MINUTE)
    period = planning.Period.parse(body.start, body.end, interval, _NAMES)
    market = market.with_candles(period, interval, f"GET /api/v1/exchange/{exchange}/instruments")
    period = market.clip(period, interval)
    ((symbol, series),) = market.series.items()
    numbers = effective_imports(
        services.store, exchange, names_of_lines([symbol]), latest_import(services.store)
    )
    number = max(numbers.values())
    instruments = instruments_to_copy(services.store, exchange, [symbol], period.first)
    job_id = derived_id(
        request.account_id,
        source_type,
        exchange,
        symbol,
        start,
        end,
        interval,
        number,
        *instruments,
    )
    planned = Preparation(
        job_id=job_id,
        account_id=request.account_id,
        source_type=source_type,
        exchange=exchange,
        symbol=symbol,
        base=series[0].base,
        quote=series[0].quote,
        start_time=period.first,
        end_time=period.last,
        interval=interval,
        import_number=number,
        started_at=started_at,
        finished_at=started_at,
    )
    require_margin_data(
        services.store,
        services.catalogue,
        run_spec(planned),
        "instrument",
        planning.IMPORT_FUNDING,
    )
    return planned


def _interval(cadence: str | int | None, finest: int) -> int:
    """Return the interval of the candles that a program sees, in ms."""
    return finest if cadence in (None, _OWN_CADENCE) else parse_interval(cadence, "cadence")


def _type(request: Request) -> SourceType:
    name = request.path["type"]
    source_type = match_choice(_TYPES, name)
    if source_type is None:
        raise InvalidParameter(
            "type", f"must be one of {', '.join(_TYPES)}, got {abbreviate(name)!r}"
        )
    return source_type


ROUTES = [
    Route(
        "POST", f"{BASE}/prepare", prepare, "Prepare candles", body=PrepareRequest, status=202,
        errors=("EXCHANGE_NOT_FOUND", "NO_DATA", "RATE_LIMITED"),
    ),
    Route(
        "GET", f"{BASE}/prepare/{{jobId}}", preparation, "A preparation", errors=("NOT_FOUND",)
    ),
]  # fmt: skip
