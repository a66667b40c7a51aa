"""Prepare and execute: a program is compiled, candles are prepared, and the one runs on the other.

Whatever is asked for twice has the same id: ids are digests of the account, of what was asked for
and, where candles are concerned, of the import that last changed them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.bodies import Body
from api.exchanges import known_exchange
from api.fields import INTERVAL_SECONDS, INTERVAL_TEXTS, Symbol, Time, optional_time
from api.routing import Call, Route, Text
from api.server import Server
from data.catalogue import Series, effective_imports
from data.importer import latest_import
from data.jobs import JobRecord, JobStatus, RunSpec, RunSummary, job_not_found
from data.payloads import payload_file, run_directory
from data.preparations import Preparation, SourceType, get_preparation, put_preparation
from data.programs import StoredProgram, get_program, put_program
from data.store import now
from data.symbols import normalise_symbol
from sandbox import InvalidParameter, format_time, interval_name, parse_time
from sandbox.clock import HOUR, parse_interval
from sandbox.errors import NoPrice, shown
from sandbox.strategies import compile_strategy

STARTING_BALANCE = "10000"
"""Of every execution, in the instrument's quote currency."""

_HELD_SECONDS = 4.0
"""How long the answer about an execution waits for its end: clients give up after five."""
_OWN_CADENCE = "1s"
_TYPES: dict[str, SourceType] = {"ticker": "ticker", "kline": "kline"}
_ID_DIGITS = 22
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE = "/api/v1/backtest/{exchangeId}/{type}"

StateName = Literal["New", "Started", "Completed", "Aborted", "Failed"]
_STATES: dict[JobStatus, StateName] = {
    "queued": "New",
    "running": "Started",
    "done": "Completed",
    "cancelled": "Aborted",
    "failed": "Failed",
}

Id = Annotated[str, Meta(min_length=1, max_length=100)]
TimeOrDate = Annotated[
    str,
    Meta(
        description="ISO 8601, UTC unless it says otherwise; a date is its midnight.",
        examples=["2024-12-14T00:00:00Z", "2024-12-14", "20241214"],
        extra_json_schema={
            "pattern": r"^[0-9]{4}(-[0-9]{2}-[0-9]{2}|[0-9]{4})"
            r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
        },
    ),
]


class CompileHeaders(msgspec.Struct, rename={"compile_async": "X-Compile-Async"}):
    compile_async: Annotated[
        bool, Meta(description="Answer with a job, and tell of the outcome when asked for it.")
    ] = False


class PrepareBody(Body, rename={"start": "from", "end": "to"}):
    instrument: Symbol
    start: TimeOrDate
    end: Annotated[TimeOrDate, Meta(description="Not included.")]
    cadence: Annotated[
        str | int | None,
        Meta(
            description="Interval of the candles that a program sees; `1s` and left out: the data's"
            " own.",
            extra_json_schema={"enum": [_OWN_CADENCE, *INTERVAL_TEXTS, *INTERVAL_SECONDS, None]},
        ),
    ] = None


class ExecuteBody(Body, rename="camel"):
    prepare_job_id: Id
    strategy_id: Id
    store_signals: Annotated[
        bool, Meta(description="Keep what the program decides, as Parquet under the home.")
    ] = False


class CompileAnswer(msgspec.Struct, frozen=True):
    strategyId: str | UnsetType = UNSET
    jobId: Annotated[
        str | UnsetType, Meta(description="Instead, with `X-Compile-Async: true`.")
    ] = UNSET


class StrategyStateAnswer(msgspec.Struct, frozen=True):
    jobId: str
    status: Literal["Completed", "Failed"]
    strategyId: Annotated[str | None, Meta(description="Null if it does not compile.")]
    statusDetail: Annotated[str | None, Meta(description="Why it does not compile.")]
    validation: Literal["passed", "failed"]


class PrepareAnswer(msgspec.Struct, frozen=True):
    jobId: str
    cadence: Annotated[str, Meta(description="Of the candles as prepared.", examples=["1m"])]


class ExecuteAnswer(msgspec.Struct, frozen=True):
    jobId: str


class JobStateAnswer(msgspec.Struct, frozen=True):
    contextId: str
    status: StateName
    statusDetail: str | None
    size: Annotated[int, Meta(description="0: it is not counted beforehand.")]
    completed: Annotated[
        int, Meta(description="Hours that were prepared; of an execution, candles that were seen.")
    ]
    startTime: Time | None
    endTime: Time | None


class ExecutionResults(msgspec.Struct, frozen=True):
    """What has no value is left out; amounts in quote currency."""

    strategyId: Annotated[str, Meta(description="Ends with the id of the strategy.")]
    instrument: str
    hostName: Annotated[str | UnsetType, Meta(description="The machine that it ran on.")] = UNSET
    iops: Annotated[float | UnsetType, Meta(description="Candles per second of the run.")] = UNSET
    pnlTotal: float | UnsetType = UNSET
    totalTrades: Annotated[int | UnsetType, Meta(description="Closed trades.")] = UNSET
    winRate: Annotated[float | UnsetType, Meta(description="In percent.")] = UNSET
    sharpeRatio: float | UnsetType = UNSET
    sortinoRatio: float | UnsetType = UNSET
    cagr: Annotated[float | UnsetType, Meta(description="A fraction.")] = UNSET
    maxDrawdown: Annotated[
        float | UnsetType, Meta(description="The largest fall from a peak, as an amount.")
    ] = UNSET
    maxDrawdownPercent: float | UnsetType = UNSET
    signalCount: int | UnsetType = UNSET
    signalsId: Annotated[
        str | UnsetType, Meta(description="The file of signals, from the home directory on.")
    ] = UNSET
    signalsUpload: Annotated[
        Literal["Done", "Failed", "Skipped"] | UnsetType,
        Meta(description="With `storeSignals`. `Skipped`: there were none."),
    ] = UNSET
    signalsUploadedAt: Time | UnsetType = UNSET


class ExecutionAnswer(msgspec.Struct, frozen=True):
    state: JobStateAnswer
    results: ExecutionResults


class CancelExecutionAnswer(msgspec.Struct, frozen=True):
    status: Literal["cancelling"]
    jobId: str


class _Execution(msgspec.Struct, frozen=True):
    """What the queue keeps of a request."""

    source_type: str
    exchange: str
    instrument: str
    prepare_job_id: str
    strategy_id: str
    store_signals: bool


async def compile_source(server: Server, call: Call) -> CompileAnswer:
    """Compile a program in Starlark, sent as it is.

    The same source has the same id, for the same account. What is wrong with it is told with line
    and column.
    """
    strategy_id = await server.in_thread(
        _compile, server, call.account_id, call.body.text, fails_later=call.headers.compile_async
    )
    if call.headers.compile_async:
        return CompileAnswer(jobId=strategy_id)
    return CompileAnswer(strategyId=strategy_id)


async def strategy(server: Server, call: Call) -> StrategyStateAnswer:
    """Whether a program compiles."""
    found = await server.in_thread(
        get_program, server.store, call.account_id, call.path["strategyId"]
    )
    if found.error is not None:
        return StrategyStateAnswer(found.strategy_id, "Failed", None, found.error, "failed")
    return StrategyStateAnswer(found.strategy_id, "Completed", found.strategy_id, None, "passed")


async def prepare(server: Server, call: Call) -> PrepareAnswer:
    """Prepare the candles of an instrument and a time for programs to be executed on.

    They are ready when this answers. Of the time, that is prepared which there are candles of.
    """
    planned = await server.in_thread(_plan_preparation, server, call)
    await server.jobs.prepare(_spec(planned))
    done = msgspec.structs.replace(planned, finished_at=now())
    await server.in_thread(put_preparation, server.store, done)
    return PrepareAnswer(done.job_id, interval_name(done.interval))


async def preparation(server: Server, call: Call) -> JobStateAnswer:
    """How far a preparation is."""
    found = await server.in_thread(_preparation, server, call, call.path["jobId"])
    return JobStateAnswer(
        _context(found, found.job_id),
        "Completed",
        None,
        0,
        -(-(found.end_time - found.start_time) // HOUR),
        format_time(found.started_at),
        format_time(found.finished_at),
    )


async def execute(server: Server, call: Call) -> ExecuteAnswer:
    """Run a program over what was prepared, from 10,000 of quote currency, with default costs.

    The same request has the same job, which runs again if it has failed or was aborted. At most
    5 jobs of an account are queued or running at a time.
    """
    body: ExecuteBody = call.body
    prepared, program = await server.in_thread(_parts, server, call)
    job_id = _digest(prepared.job_id, program.strategy_id, body.store_signals)
    request = _Execution(
        prepared.source_type,
        prepared.exchange,
        prepared.instrument,
        prepared.job_id,
        program.strategy_id,
        body.store_signals,
    )
    spec = _spec(prepared, program.source, store_signals=body.store_signals)
    record = await server.jobs.submit(
        call.account_id, "execute", [spec], msgspec.to_builtins(request), job_id
    )
    return ExecuteAnswer(record.job_id)


async def execution(server: Server, call: Call) -> ExecutionAnswer:
    """How far an execution is, and how it came out.

    The answer waits for its end, 4 seconds at most.
    """
    await _execution(server, call)
    record = await server.jobs.wait(call.account_id, call.path["jobId"], _HELD_SECONDS)
    request = msgspec.convert(record.request, _Execution)
    prepared = await server.in_thread(
        get_preparation, server.store, call.account_id, request.prepare_job_id
    )
    outcome = record.outcomes[0]
    summary = outcome.summary if outcome is not None and record.status == "done" else None
    spec = record.specs[0]
    seen = int(record.progress * ((spec.end_time - spec.start_time) // spec.interval))
    state = JobStateAnswer(
        _context(prepared, record.job_id),
        _STATES[record.status],
        record.error_message,
        0,
        seen if summary is None else summary.candles,
        optional_time(record.started_at),
        optional_time(record.finished_at),
    )
    strategy_id = f"strategy:{record.account_id}:{request.source_type}:{request.strategy_id}"
    results = ExecutionResults(strategy_id, request.instrument)
    if outcome is None or summary is None:
        return ExecutionAnswer(state, results)
    results = msgspec.structs.replace(
        results,
        hostName=outcome.host,
        iops=round(summary.candles / outcome.seconds, 2) if outcome.seconds else UNSET,
        **_figures(summary),
    )
    if request.store_signals:
        is_there = await server.in_thread(_signals(server, record).exists)
        results = _with_signals(server, record, results, is_there=is_there)
    return ExecutionAnswer(state, results)


async def cancel(server: Server, call: Call) -> CancelExecutionAnswer:
    """End an execution, in the middle of its run too; takes effect within a second."""
    record = await _execution(server, call)
    await server.jobs.cancel(call.account_id, record.job_id)
    return CancelExecutionAnswer("cancelling", record.job_id)


def _compile(server: Server, account_id: str, source: str, *, fails_later: bool) -> str:
    error = None
    try:
        compile_strategy({"source": source})
    except InvalidParameter as refusal:
        if not fails_later:
            raise
        error = refusal.message
    strategy_id = _digest(account_id, source)
    put_program(server.store, account_id, strategy_id, source, error)
    return strategy_id


def _plan_preparation(server: Server, call: Call) -> Preparation:
    """What is to be prepared, checked against the candles there are."""
    body: PrepareBody = call.body
    started_at = now()
    source_type = _type(call)
    exchange = known_exchange(server, call.path["exchangeId"])
    symbol = normalise_symbol(body.instrument)
    start, end = parse_time(body.start, "from"), parse_time(body.end, "to")
    if start >= end:
        raise InvalidParameter("to", "must be after from")
    of_symbol = [
        each
        for each in server.catalogue.series()
        if (each.exchange, each.symbol) == (exchange, symbol)
    ]
    there = [each for each in of_symbol if each.start < end and each.end > start]
    if not there:
        raise _no_candles(exchange, symbol, of_symbol)
    own = min(each.interval for each in there)
    interval = own
    if body.cadence not in (None, _OWN_CADENCE):
        interval = parse_interval(body.cadence, "cadence")
    if interval < own:
        raise InvalidParameter(
            "cadence", f"must be {interval_name(own)} or more: there are no finer candles then"
        )
    first = max(start, min(each.start for each in there))
    last = min(end, max(each.end for each in there))
    first, last = -(-first // interval) * interval, last // interval * interval
    if first >= last:
        raise InvalidParameter("to", f"must be a candle of {interval_name(interval)} after from")
    number = effective_imports(server.store, exchange, [symbol], latest_import(server.store))[
        symbol
    ]
    job_id = _digest(call.account_id, source_type, exchange, symbol, start, end, interval, number)
    return Preparation(
        job_id=job_id,
        account_id=call.account_id,
        source_type=source_type,
        exchange=exchange,
        symbol=symbol,
        base=there[0].base,
        quote=there[0].quote,
        start_time=first,
        end_time=last,
        interval=interval,
        import_number=number,
        started_at=started_at,
        finished_at=started_at,
    )


def _no_candles(exchange: str, symbol: str, series: Sequence[Series]) -> NoPrice:
    has = "; ".join(f"from {format_time(each.start)} to {format_time(each.end)}" for each in series)
    return NoPrice(
        f"there are no candles of {symbol} then"
        + (
            f", but {has}"
            if has
            else f"; GET /api/v1/exchange/{exchange}/instruments lists what there is"
        ),
        instrument=symbol,
    )


def _type(call: Call) -> SourceType:
    name = call.path["type"]
    source_type = _TYPES.get(name)
    if source_type is None:
        raise InvalidParameter("type", f"{shown(name)!r} is none of {', '.join(_TYPES)}")
    return source_type


def _preparation(server: Server, call: Call, job_id: str) -> Preparation:
    """The account's preparation, if it is of the exchange and the type that the path names."""
    found = get_preparation(server.store, call.account_id, job_id)
    _require_path(call, found.exchange, found.source_type, job_id)
    return found


def _parts(server: Server, call: Call) -> tuple[Preparation, StoredProgram]:
    """What is to be executed, and on what."""
    body: ExecuteBody = call.body
    prepared = _preparation(server, call, body.prepare_job_id)
    program = get_program(server.store, call.account_id, body.strategy_id)
    if program.error is not None:
        raise InvalidParameter("strategyId", f"does not compile: {program.error}")
    return prepared, program


async def _execution(server: Server, call: Call) -> JobRecord:
    """The execution that the path names, as of now; raises ``JobNotFound``."""
    record = await server.jobs.get(call.account_id, call.path["jobId"])
    if record.origin != "execute":
        raise job_not_found(record.job_id)
    request = msgspec.convert(record.request, _Execution)
    _require_path(call, request.exchange, request.source_type, record.job_id)
    return record


def _require_path(call: Call, exchange: str, source_type: str, job_id: str) -> None:
    if (call.path["exchangeId"].lower(), call.path["type"]) != (exchange, source_type):
        raise job_not_found(job_id)


def _spec(prepared: Preparation, source: str = "", *, store_signals: bool = False) -> RunSpec:
    return RunSpec(
        strategy={"source": source},
        exchange=prepared.exchange,
        pairs=[prepared.symbol],
        start_time=prepared.start_time,
        end_time=prepared.end_time,
        interval=prepared.interval,
        starting_balance=STARTING_BALANCE,
        config={"currency": prepared.quote},
        store_signals=store_signals,
        import_number=prepared.import_number,
    )


def _context(prepared: Preparation, job_id: str) -> str:
    parts = (
        prepared.source_type,
        prepared.account_id,
        prepared.exchange,
        job_id,
        prepared.instrument.lower(),
        str(prepared.import_number),
    )
    return ":".join(("jctx", *parts))


def _figures(summary: RunSummary) -> dict[str, Any]:
    metrics = summary.metrics
    amount = metrics.max_drawdown_amount
    figures = {
        "pnlTotal": float(summary.total_pnl),
        "totalTrades": summary.closed_trades,
        "winRate": metrics.win_rate,
        "sharpeRatio": metrics.sharpe_ratio,
        "sortinoRatio": metrics.sortino_ratio,
        "cagr": metrics.cagr,
        "maxDrawdown": None if amount is None else float(amount),
        "maxDrawdownPercent": metrics.max_drawdown_pct,
        "signalCount": summary.signals,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _with_signals(
    server: Server, record: JobRecord, results: ExecutionResults, *, is_there: bool
) -> ExecutionResults:
    if not results.signalCount:
        return msgspec.structs.replace(results, signalsUpload="Skipped")
    if not is_there and record.payload_deleted_at is None:
        return msgspec.structs.replace(results, signalsUpload="Failed")
    done = msgspec.structs.replace(
        results, signalsUpload="Done", signalsUploadedAt=optional_time(record.finished_at) or UNSET
    )
    if not is_there:
        return done
    path = _signals(server, record).relative_to(server.settings.home)
    return msgspec.structs.replace(done, signalsId=path.as_posix())


def _signals(server: Server, record: JobRecord) -> Path:
    return payload_file(run_directory(server.settings.home, record.job_id, 0), "signals")


def _digest(*parts: Any) -> str:
    """An id of 22 letters and digits that these parts, which are JSON, always give."""
    number = int.from_bytes(hashlib.sha256(msgspec.json.encode(parts)).digest()[:16])
    digits = []
    for _ in range(_ID_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


_COMPILED = ("STRATEGY_NOT_FOUND",)
_JOB = ("NOT_FOUND",)
_LOADING = ("NO_DATA", "RATE_LIMITED")

ROUTES = [
    Route(
        "POST", "/api/v1/strategy", compile_source, "Compile a program", CompileAnswer, body=Text,
        headers=CompileHeaders, refused_with=400,
    ),
    Route(
        "GET", "/api/v1/strategy/{strategyId}", strategy, "A compiled program",
        StrategyStateAnswer, errors=_COMPILED, refused_with=400,
    ),
    Route(
        "POST", f"{_BASE}/prepare", prepare, "Prepare candles", PrepareAnswer, body=PrepareBody,
        status=202, errors=("EXCHANGE_NOT_FOUND", *_LOADING), refused_with=400,
    ),
    Route(
        "GET", f"{_BASE}/prepare/{{jobId}}", preparation, "A preparation", JobStateAnswer,
        errors=_JOB, refused_with=400,
    ),
    Route(
        "POST", f"{_BASE}/execute", execute, "Execute a program", ExecuteAnswer, body=ExecuteBody,
        status=202, errors=(*_JOB, *_COMPILED, "RATE_LIMITED"), refused_with=400,
    ),
    Route(
        "GET", f"{_BASE}/execute/{{jobId}}", execution, "An execution", ExecutionAnswer,
        errors=_JOB, refused_with=400,
    ),
    Route(
        "DELETE", f"{_BASE}/execute/{{jobId}}", cancel, "Cancel an execution",
        CancelExecutionAnswer, errors=(*_JOB, "INVALID_STATE"), refused_with=400,
    ),
]  # fmt: skip
