"""Jobs: a strategy over a time in the past, queued, run by a worker, and its result."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.bodies import Body
from api.fields import (
    INTERVAL_SECONDS,
    INTERVAL_TEXTS,
    BasisPoints,
    Money,
    Positive,
    Symbol,
    Time,
    TimeGiven,
    money,
    optional_time,
)
from api.problems import renamed
from api.routing import Call, Route, with_numbers
from api.server import Server
from data.catalogue import Series
from data.fee_schedules import fee_schedule
from data.importer import DEFAULT_EXCHANGE
from data.jobs import JobRecord, JobStatus, RunSpec, RunSummary, job_not_found
from data.payloads import read_equity_json, read_trades_json, run_directory
from data.store import now
from data.strategies import StoredStrategy, get_strategy
from data.symbols import normalise_symbol
from sandbox import InvalidParameter, SessionConfig, format_time, interval_name, parse_time
from sandbox.clock import parse_interval
from sandbox.errors import NoPrice, shown
from sandbox.fees import FeeModel
from sandbox.money import EXACT, plain
from sandbox.strategies import TEMPLATES, Strategy, Template, compile_strategy

MOST_YEARS = 5
"""Between the start and the end of a job."""

_BASE = "/api/v1/backtest/jobs"
_PLACES = Decimal("0.000001")
_RATIO = {"pattern": r"^-?\d+(\.\d+)?$"}

Ratio = Annotated[
    str, Meta(extra_json_schema=_RATIO, examples=["1.84"], description="Rounded to 6 decimals.")
]


class JobBody(Body):
    """What to run. One of ``template_id``, ``card`` and ``strategy_id`` says by which strategy."""

    has_strategy = True

    template_id: (
        Annotated[str, Meta(description="See `GET /api/v1/strategy-templates`.")] | None
    ) = None
    params: Annotated[dict[str, Any] | None, Meta(description="Of the template.")] = None
    card: Annotated[
        dict[str, Any] | None,
        Meta(description="A strategy card, instead of a template."),
    ] = None
    strategy_id: (
        Annotated[
            str,
            Meta(
                description="A stored strategy: it says what this request leaves out.",
                max_length=100,
            ),
        ]
        | None
    ) = None
    symbols: Annotated[list[Symbol], Meta(min_length=1, max_length=100)] | None = None
    timeframe: (
        Annotated[str | int, Meta(extra_json_schema={"enum": [*INTERVAL_TEXTS, *INTERVAL_SECONDS]})]
        | None
    ) = None
    start: Annotated[
        TimeGiven | None, Meta(description="The first candle is the one that opens at or after it.")
    ] = None
    end: Annotated[
        TimeGiven | None, Meta(description="The last candle is the one that opens at or before it.")
    ] = None
    capital: Positive | None = None
    leverage: Annotated[
        Any,
        Meta(
            description="1: there are no perpetuals to be had with more.",
            extra_json_schema={"enum": [1, "1"]},
        ),
    ] = 1
    fee_model: FeeModel = "fixed_bps"
    fee_bps: Annotated[
        BasisPoints | None, Meta(description="Of `fixed_bps` only; left out: 5.")
    ] = None


class CancelJobBody(Body):
    reason: Annotated[str, Meta(max_length=200)] | None = None


class JobsQuery(Body, rename={"submitted_from": "from", "submitted_to": "to"}):
    status: JobStatus | None = None
    template_id: str | None = None
    submitted_from: TimeGiven | None = None
    submitted_to: TimeGiven | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: (
        Annotated[str, Meta(pattern="^[0-9]{1,18}$", description="The `next_cursor` of a page.")]
        | None
    ) = None


class JobConfig(msgspec.Struct, frozen=True):
    """What a job was asked for, resolved."""

    template_id: str | None
    params: dict[str, Any] | None
    card: dict[str, Any] | None
    strategy_id: str | None
    symbols: list[str]
    timeframe: Annotated[str, Meta(examples=["1h"])]
    start: Time
    end: Time
    capital: Money
    leverage: int
    fee_model: FeeModel
    fee_bps: Annotated[str | None, Meta(examples=["5"])]
    """Of ``fixed_bps`` only."""


class JobMetrics(msgspec.Struct, frozen=True):
    """Figures of a job; null where one is undefined."""

    sharpe: Ratio | None
    sortino: Ratio | None
    calmar: Ratio | None
    max_drawdown: Annotated[Ratio, Meta(description="A fraction, 0 or negative.")]
    win_rate: Annotated[Ratio | None, Meta(description="A fraction of the closed trades.")]
    profit_factor: Ratio | None
    cagr: Annotated[Ratio | None, Meta(description="A fraction.")]
    expected_value: Annotated[Money | None, Meta(description="Mean PnL of a closed trade.")]
    total_trades: Annotated[int, Meta(description="Closed trades.")]
    avg_trade_duration_seconds: int | None


class JobTrade(msgspec.Struct, frozen=True):
    """A closed trade: a fill that reduces a position, and what it closes."""

    id: int
    side: Literal["buy", "sell"]
    symbol: str
    entry_time: Time
    entry_price: Money
    exit_time: Time
    exit_price: Money
    qty: Money
    pnl: Money
    fee: Money


EquityPoint = tuple[Time, Money]


class JobSummary(msgspec.Struct, frozen=True):
    """A result without equity curve and trades."""

    metrics: JobMetrics


class JobResult(JobSummary, frozen=True):
    equity_curve: Annotated[
        list[EquityPoint] | None,
        Meta(description="At the start and at the end of each candle; null once it is deleted."),
    ]
    trades: Annotated[
        list[JobTrade] | None, Meta(description="Closed trades; null once they are deleted.")
    ]


class JobError(msgspec.Struct, frozen=True):
    code: str
    message: str


class JobItem(msgspec.Struct, frozen=True):
    """A job in a list."""

    id: str
    status: JobStatus
    config: JobConfig
    submitted_at: Time
    started_at: Time | None
    finished_at: Time | None
    progress: Annotated[float, Meta(ge=0, le=1)]
    result: JobSummary | None
    error: Annotated[
        JobError | None,
        Meta(description="Of a job that failed, or was cancelled for a reason that was given."),
    ]


class JobAnswer(JobItem, frozen=True):
    result: Annotated[JobResult | None, Meta(description="Of a job that is done.")]


class JobsAnswer(msgspec.Struct, frozen=True):
    data: list[JobItem]
    next_cursor: str | None


class TemplateAnswer(msgspec.Struct, frozen=True):
    id: str
    name: str
    description: str
    params: Annotated[dict[str, Any], Meta(description="A JSON schema of the parameters.")]
    several_symbols: bool


class TemplatesAnswer(msgspec.Struct, frozen=True):
    data: list[TemplateAnswer]


async def create(server: Server, call: Call) -> JobAnswer:
    """Check what is asked for against the data there is, and queue it.

    At most 5 jobs of an account are queued or running at a time.
    """
    config, spec = await server.in_thread(_plan, server, call.account_id, call.body)
    request = msgspec.to_builtins(config)
    record = await server.jobs.submit(call.account_id, "jobs", [spec], request)
    return await _answer(server, record)


async def job(server: Server, call: Call) -> JobAnswer:
    """How far the job is, and how it came out."""
    return await _answer(server, await _found(server, call))


async def jobs(server: Server, call: Call) -> JobsAnswer:
    """The account's jobs, the newest first, without equity curves and trades."""
    query: JobsQuery = call.query
    found = await server.jobs.list(
        call.account_id,
        origin="jobs",
        status=query.status,
        template_id=query.template_id,
        submitted_from=_given_time(query.submitted_from, "from"),
        submitted_to=_given_time(query.submitted_to, "to"),
        before=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    more = len(found) > query.limit
    return JobsAnswer([_item(each) for each in page], str(page[-1].number) if more else None)


async def cancel(server: Server, call: Call) -> JobAnswer:
    """End the job, in the middle of its run too; takes effect within a second."""
    await _found(server, call)
    body: CancelJobBody = call.body
    cancelled = await server.jobs.cancel(call.account_id, call.path["job_id"], body.reason)
    return await _answer(server, cancelled)


async def templates(server: Server, call: Call) -> TemplatesAnswer:
    """The strategies that a job can be made of by name, with their parameters."""
    return TemplatesAnswer([_template(each) for each in TEMPLATES.values()])


async def _found(server: Server, call: Call) -> JobRecord:
    """The job that the path names, if it came by this API; raises ``JobNotFound``."""
    record = await server.jobs.get(call.account_id, call.path["job_id"])
    if record.origin != "jobs":
        raise job_not_found(record.job_id)
    return record


def _plan(server: Server, account_id: str, body: JobBody) -> tuple[JobConfig, RunSpec]:
    stored = None
    if body.strategy_id is not None:
        stored = get_strategy(server.store, account_id, body.strategy_id)
    content = _content(body, stored)
    timeframe = body.timeframe or content.get("timeframe") or (stored and stored.timeframe)
    symbols = body.symbols or content.get("symbols") or (stored and stored.universe)
    if not timeframe:
        raise _missing("timeframe", "1h")
    if not symbols:
        raise _missing("symbols", '["BTCUSDT"]')
    interval = parse_interval(timeframe, "timeframe")
    pairs = list(dict.fromkeys(normalise_symbol(symbol) for symbol in symbols))
    if body.leverage is True or body.leverage not in (1, "1"):
        raise InvalidParameter(
            "leverage", f"must be 1, got {shown(body.leverage)}: there are no perpetuals yet"
        )
    if body.capital is None:
        raise _missing("capital", '"10000"')
    start, end = _span(body)
    first, last = -(-start // interval) * interval, end // interval * interval + interval
    strategy = _compiled(content | {"timeframe": interval_name(interval), "symbols": pairs})
    template = TEMPLATES.get(strategy.content.get("template", ""))
    has_grid = strategy.content.get("grid") or (template and template.is_of_one_symbol)
    if len(pairs) > 1 and has_grid:
        raise InvalidParameter("symbols", "must be one, for its prices are those of one symbol")
    currency = _require_data(server, pairs, interval, first, last)
    fees: dict[str, Any] = {"fee_model": body.fee_model}
    if body.fee_bps is not None:
        fees["fee_bps"] = body.fee_bps
    if body.fee_model == "match_exchange":
        fees["fee_schedule"] = fee_schedule(DEFAULT_EXCHANGE, server.settings.home)
    try:
        checked = SessionConfig(
            start_time=first,
            end_time=last,
            starting_balance=body.capital,
            candle_interval=interval // 1000,
            currency=currency,
            **fees,
        )
    except InvalidParameter as refusal:
        raise renamed(refusal, {"starting_balance": "capital", "end_time": "end"}) from None
    rates = checked.costs.fees.settings()
    spec = RunSpec(
        strategy=strategy.content,
        exchange=DEFAULT_EXCHANGE,
        pairs=pairs,
        start_time=first,
        end_time=last,
        interval=interval,
        starting_balance=plain(checked.starting_balance),
        config={"currency": currency, **rates},
    )
    config = JobConfig(
        template_id=strategy.content.get("template"),
        params=strategy.content.get("parameters"),
        card=strategy.content if strategy.kind == "card" else None,
        strategy_id=body.strategy_id,
        symbols=pairs,
        timeframe=interval_name(interval),
        start=format_time(start),
        end=format_time(end),
        capital=money(checked.starting_balance),
        leverage=1,
        fee_model=body.fee_model,
        fee_bps=rates.get("fee_bps"),
    )
    return config, spec


def _content(body: JobBody, stored: StoredStrategy | None) -> dict[str, Any]:
    """The strategy's content: what the request says, over what the stored strategy does."""
    if body.card is not None and (body.template_id is not None or body.params is not None):
        raise InvalidParameter("card", "goes without template_id and params; leave one of them out")
    if body.card is not None:
        if {"template", "source"} & body.card.keys():
            raise InvalidParameter("card", "must be a card; a template is named by template_id")
        return dict(with_numbers(body.card))
    base = dict(stored.content) if stored is not None else {}
    template_id = body.template_id or base.get("template")
    if template_id is None:
        if body.params is not None:
            raise InvalidParameter("params", "go with a template; name it by template_id")
        if not base:
            raise InvalidParameter(
                "template_id", "is required, or else card or strategy_id: what is to be run"
            )
        return base
    params = base.get("parameters", {}) if template_id == base.get("template") else {}
    if stored is None and body.params is None:
        raise InvalidParameter("params", "is required: the parameters of the template, as {…}")
    scope = {name: base[name] for name in ("timeframe", "symbols") if name in base}
    return scope | {"template": template_id, "parameters": params | with_numbers(body.params or {})}


def _compiled(content: dict[str, Any]) -> Strategy:
    """The strategy; what is wrong with it is named as the request does."""
    try:
        return compile_strategy(content)
    except InvalidParameter as refusal:
        if "template" in content:
            raise renamed(refusal, {"template": "template_id", "parameters": "params"}) from None
        if "source" in content:
            raise
        raise renamed(refusal, {}, within="card.") from None


def _span(body: JobBody) -> tuple[int, int]:
    """The start and the end, both included, in milliseconds."""
    if body.start is None:
        raise _missing("start", '"2025-01-01T00:00:00Z"')
    if body.end is None:
        raise _missing("end", '"2025-06-01T00:00:00Z"')
    start, end = parse_time(body.start, "start"), parse_time(body.end, "end")
    if start >= end:
        raise InvalidParameter("end", "must be after start")
    if end > now():
        raise InvalidParameter("end", "must not be in the future")
    if end > _years_later(start):
        raise InvalidParameter("end", f"may be at most {MOST_YEARS} years after start")
    return start, end


def _years_later(start: int) -> int:
    """The same day and time 5 years later; 29 February becomes 1 March."""
    day = datetime.fromtimestamp(start // 1000, UTC)
    try:
        later = day.replace(year=day.year + MOST_YEARS)
    except ValueError:
        later = day.replace(year=day.year + MOST_YEARS, month=3, day=1)
    return int(later.timestamp()) * 1000 + start % 1000


def _missing(field: str, example: str) -> InvalidParameter:
    return InvalidParameter(field, f"is required, such as {example}")


def _require_data(server: Server, pairs: list[str], interval: int, start: int, end: int) -> str:
    """The currency of the pairs, all of which have candles in the time, fine enough."""
    by_symbol: dict[str, list[Series]] = {}
    for each in server.catalogue.series():
        if each.exchange == DEFAULT_EXCHANGE and each.symbol in pairs:
            by_symbol.setdefault(each.symbol, []).append(each)
    for symbol in pairs:
        series = by_symbol.get(symbol, [])
        there = [each for each in series if each.start < end and each.end > start]
        if not there:
            has = "; ".join(
                f"from {format_time(each.start)} to {format_time(each.end)}" for each in series
            )
            raise NoPrice(
                f"there are no candles of {symbol} in the job's time"
                + (
                    f", but {has}" if has else "; GET /api/v1/market/data-range tells what there is"
                ),
                symbol=symbol,
            )
        finest = min(each.interval for each in there)
        if finest > interval:
            raise InvalidParameter(
                "timeframe",
                f"must be {interval_name(finest)} or more: {symbol} has no finer candles then",
            )
    quotes = sorted({each.quote for series in by_symbol.values() for each in series})
    if len(quotes) > 1:
        raise InvalidParameter("symbols", f"must be of one currency, not of {', '.join(quotes)}")
    return quotes[0]


async def _answer(server: Server, record: JobRecord) -> JobAnswer:
    item = _item(record)
    result = None
    if item.result is not None:
        directory = run_directory(server.settings.home, record.job_id, 0)
        equity = await server.in_thread(read_equity_json, directory)
        trades = await server.in_thread(read_trades_json, directory)
        # They are JSON as they come: of years of minutes, megabytes.
        result = JobResult(item.result.metrics, equity, trades)  # type: ignore[arg-type]
    fields = msgspec.structs.asdict(item) | {"result": result}
    return JobAnswer(**fields)


def _item(record: JobRecord) -> JobItem:
    outcome = record.outcomes[0]
    summary = outcome.summary if outcome is not None and record.status == "done" else None
    error = None
    if record.error_code is not None:
        error = JobError(record.error_code, record.error_message or "")
    return JobItem(
        record.job_id,
        record.status,
        msgspec.convert(record.request, JobConfig),
        format_time(record.submitted_at),
        optional_time(record.started_at),
        optional_time(record.finished_at),
        record.progress,
        None if summary is None else JobSummary(_metrics(summary)),
        error,
    )


def _metrics(summary: RunSummary) -> JobMetrics:
    metrics = summary.metrics
    seconds = summary.mean_trade_seconds
    return JobMetrics(
        sharpe=_ratio(metrics.sharpe_ratio),
        sortino=_ratio(metrics.sortino_ratio),
        calmar=_ratio(metrics.calmar_ratio),
        max_drawdown=_ratio(-metrics.max_drawdown_pct / 100),
        win_rate=_ratio(None if metrics.win_rate is None else metrics.win_rate / 100),
        profit_factor=_ratio(metrics.profit_factor),
        cagr=_ratio(metrics.cagr),
        expected_value=None if metrics.expectancy is None else money(metrics.expectancy),
        total_trades=summary.closed_trades,
        avg_trade_duration_seconds=None if seconds is None else round(seconds),
    )


def _ratio(value: float | None) -> Any:
    """A number as text: at most 6 decimals."""
    if value is None:
        return None
    return plain(EXACT.normalize(Decimal(repr(value + 0.0)).quantize(_PLACES)))


def _given_time(text: str | None, field: str) -> int | None:
    return None if text is None else parse_time(text, field)


def _template(template: Template) -> TemplateAnswer:
    return TemplateAnswer(
        template.id,
        template.name,
        template.description,
        template.schema(),
        not template.is_of_one_symbol,
    )


ROUTES = [
    Route(
        "POST", _BASE, create, "Submit a job", JobAnswer, body=JobBody,
        errors=("STRATEGY_NOT_FOUND", "NO_DATA", "RATE_LIMITED"),
    ),
    Route("GET", _BASE, jobs, "List jobs", JobsAnswer, query=JobsQuery),
    Route("GET", f"{_BASE}/{{job_id}}", job, "A job", JobAnswer, errors=("NOT_FOUND",)),
    Route(
        "POST", f"{_BASE}/{{job_id}}/cancel", cancel, "Cancel a job", JobAnswer,
        body=CancelJobBody, errors=("NOT_FOUND", "INVALID_STATE"),
    ),
    Route("GET", "/api/v1/strategy-templates", templates, "Strategy templates", TemplatesAnswer),
]  # fmt: skip
