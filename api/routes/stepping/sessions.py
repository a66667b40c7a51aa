"""The life of a session: create, start, step, cancel, and what is known of it."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import JsonBytes, Request, Route
from candlestep.api.schemas.decoding import EmptyBody, RequestBody
from candlestep.api.schemas.sessions import (
    BatchRequest,
    CancelResponse,
    CreateRequest,
    CreateResponse,
    FastRequest,
    FixedSlippage,
    SessionResponse,
    SessionsResponse,
    StartResponse,
    StepRequest,
    VolumeSlippage,
)
from candlestep.api.schemas.steps import FastResponse, StepResponse
from candlestep.api.services import Services
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import IdempotencyKey, asked, require_same
from candlestep.api.sessions.player import Reply, started
from candlestep.api.sessions.pool import FIND_ERRORS
from candlestep.data.market.catalogue import Series, has_candle
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.records.accounts import Agent, get_agent
from candlestep.data.records.sessions import (
    SessionRecord,
    SortBy,
    create_session,
    list_sessions,
    session_of_key,
)
from candlestep.data.symbols import normalise_exchange, normalise_symbol
from candlestep.sandbox import (
    InvalidParameter,
    InvalidState,
    RiskProfile,
    SessionConfig,
    format_time,
    parse_time,
)
from candlestep.sandbox.clock import DAY, Clock, parse_interval
from candlestep.sandbox.errors import NoPrice, abbreviate
from candlestep.sandbox.money import parse_number

_RANGES_SHOWN = 20
_BASE = "/api/v1/backtest"


class ListQuery(RequestBody):
    strategy_label: Annotated[str, Meta(max_length=200, description="A prefix.")] | None = None
    status: Literal["created", "running", "completed", "cancelled", "failed"] | None = None
    agent_id: str | None = None
    sort_by: SortBy = "created_at"
    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class _Plan(msgspec.Struct, frozen=True):
    """What a session is to be created with, checked."""

    agent: Agent
    exchange: str
    pairs: tuple[str, ...]
    config: SessionConfig
    settings: dict[str, Any]


async def create(services: Services, request: Request) -> CreateResponse:
    """Check the configuration against the data there is, and store the session."""
    record = await services.in_thread(_create, services, request, asked(request, "create"))
    return CreateResponse(record.session_id, "created", record.total_steps, len(record.pairs))


async def start(services: Services, request: Request) -> StartResponse:
    """Load the market as it is now, and take the first snapshot."""
    live = await services.hub.start(request)
    told = started(live.session)
    return StartResponse(live.record.session_id, told.status, told.virtual_time, told.prices)


async def step(services: Services, request: Request) -> JsonBytes:
    """Advance by one candle."""
    body: StepRequest = request.body
    if request.key is None and body.from_step is None:
        live = services.hub.memory.get(request.account_id, request.path["session_id"])
        answer = None if live is None else services.hub.step_at_once(live)
        if answer is not None:
            return answer
    return await _step(services, request, "step", 1)


async def step_batch(services: Services, request: Request) -> JsonBytes:
    """Advance by many candles; every one is checked against the pending orders."""
    return await _step(services, request, "step/batch", _steps(request))


async def step_batch_fast(services: Services, request: Request) -> JsonBytes:
    """As ``step/batch``, and tells how many steps were made."""
    return await _step(services, request, "step/batch/fast", _steps(request), fast=True)


async def _step(
    services: Services, request: Request, what: str, steps: int, *, fast: bool = False
) -> JsonBytes:
    def act(live: HostedSession, key: IdempotencyKey | None) -> Reply:
        if request.body.from_step is not None:
            _require_step(live, request.body.from_step)
        return live.step(steps, key, fast=fast)

    return await services.hub.perform(request, what, act)


async def cancel(services: Services, request: Request) -> JsonBytes:
    """End the session here and save its partial results."""
    return await services.hub.perform(request, "cancel", lambda live, key: live.cancel(key))


async def status(services: Services, request: Request) -> SessionResponse:
    """How far the session is, and how it came out."""
    record = await services.hub.record(request.account_id, request.path["session_id"])
    return SessionResponse.of(record)


async def sessions(services: Services, request: Request) -> SessionsResponse:
    """The sessions of the account, filtered, sorted and paged."""
    query: ListQuery = request.query
    records, total = await services.in_thread(
        list_sessions,
        services.store,
        request.account_id,
        strategy_label=query.strategy_label,
        status=query.status,
        agent_id=query.agent_id,
        sort_by=query.sort_by,
        order=query.order,
        limit=query.limit,
        offset=query.offset,
    )
    found = [SessionResponse.of(services.hub.up_to_date(record)) for record in records]
    return SessionsResponse(found, total)


def _steps(request: Request) -> int:
    """How many steps the body asks for, in whatever way the number is written."""
    steps = request.body.steps
    if type(steps) is int:
        return steps
    refusal = InvalidParameter(
        "steps", f"must be a whole number from 1 on, got {abbreviate(steps)}"
    )
    try:
        number = parse_number("steps", steps)
    except InvalidParameter:
        raise refusal from None
    if number != int(number):
        raise refusal
    return int(number)


def _require_step(live: HostedSession, step: int) -> None:
    """Raise ``InvalidState`` unless the session is at this step, or has just ended unsaved."""
    at = live.session.step_number
    if at != step and live.final is None:
        raise InvalidState(
            f"from_step is {step}, but the session is at step {at}; an earlier request may have"
            " been carried out although its answer was lost",
            status="running",
            current_step=at,
        )


def _create(services: Services, request: Request, key: IdempotencyKey | None) -> SessionRecord:
    """The new session, or the one that the same key created before."""
    body: CreateRequest = request.body
    with ExitStack() as stack:
        if key is not None:
            # The same key in two calls at once is still one session.
            stack.enter_context(services.store.transaction())
            known = session_of_key(services.store, request.account_id, key.key)
            if known is not None:
                record, key_body = known
                require_same(key, key_body)
                return record
        plan = _plan(services, request, body)
        config, clock = plan.config, plan.config.clock
        return create_session(
            services.store,
            request.account_id,
            agent_id=plan.agent.agent_id,
            exchange=plan.exchange,
            strategy_label=body.strategy_label,
            pairs=plan.pairs,
            start_time=config.start_time,
            end_time=config.end_time,
            interval=clock.interval,
            starting_balance=config.starting_balance,
            total_steps=clock.total_steps,
            config=plan.settings,
            risk_profile=plan.agent.risk_profile,
            key=None if key is None else key.key,
            key_body=None if key is None else key.body,
        )


def _plan(services: Services, request: Request, body: CreateRequest) -> _Plan:
    agent = get_agent(services.store, request.account_id, body.agent_id or request.agent_id)
    exchange = normalise_exchange(body.exchange)
    start = parse_time(body.start_time, "start_time")
    end = parse_time(body.end_time, "end_time")
    Clock.between(start, end, parse_interval(body.candle_interval, "candle_interval"))
    if end - start > services.settings.max_span_days * DAY:
        raise InvalidParameter(
            "end_time", f"may be at most {services.settings.max_span_days} days after start_time"
        )
    series = [each for each in services.catalogue.series() if each.exchange == exchange]
    available = [each for each in series if has_candle(each, start, end)]
    if body.pairs is None:
        pairs, currency = _all_pairs(available)
    else:
        pairs, currency = _asked_pairs(body.pairs, series, services.settings.max_pairs)
    if not any(each.symbol in pairs for each in available):
        raise _no_data(series, body)
    settings: dict[str, Any] = {
        "currency": currency,
        **_fees(services, body, exchange),
        "slippage": _slippage(body),
        "trigger": body.trigger,
        "liquidate_at_end": body.liquidate_at_end,
    }
    config = SessionConfig(
        start_time=start,
        end_time=end,
        starting_balance=body.starting_balance,
        candle_interval=body.candle_interval,
        risk=RiskProfile(**agent.risk_profile),
        **settings,
    )
    # The rates themselves, so that the session stays what it is when a schedule's file changes.
    settings |= config.costs.fees.settings()
    return _Plan(agent, exchange, pairs[: services.settings.max_pairs], config, settings)


def _fees(services: Services, body: CreateRequest, exchange: str) -> dict[str, Any]:
    """What the body says of fees, with the venue's schedule where that is asked for."""
    said = {"fee_rate": body.fee_rate, "fee_model": body.fee_model, "fee_bps": body.fee_bps}
    fees = {name: value for name, value in said.items() if value is not None}
    if body.fee_model == "match_exchange":
        fees["fee_schedule"] = fee_schedule(exchange, services.settings.home)
    return fees


def _slippage(body: CreateRequest) -> dict[str, Any]:
    chosen = body.slippage or VolumeSlippage()
    bps = {"bps": str(chosen.bps)} if isinstance(chosen, FixedSlippage) else {}
    return {"model": chosen.__struct_config__.tag} | bps


def _all_pairs(available: Sequence[Series]) -> tuple[tuple[str, ...], str]:
    """All pairs of one currency: USDT if there are any, else the one that all have."""
    quotes = sorted({each.quote for each in available})
    currency = "USDT" if "USDT" in quotes or not quotes else quotes[0]
    if currency != "USDT" and len(quotes) > 1:
        raise InvalidParameter(
            "pairs", f"name the pairs: there are pairs quoted in {', '.join(quotes)}"
        )
    return tuple(sorted({each.symbol for each in available if each.quote == currency})), currency


def _asked_pairs(
    asked: Sequence[str], series: Sequence[Series], most: int
) -> tuple[tuple[str, ...], str]:
    if not asked:
        raise InvalidParameter("pairs", "is empty; leave it out to have all pairs")
    if len(asked) > most:
        raise InvalidParameter("pairs", f"may name at most {most} pairs")
    pairs = tuple(dict.fromkeys(normalise_symbol(pair) for pair in asked))
    quotes = sorted({each.quote for each in series if each.symbol in pairs})
    if len(quotes) > 1:
        raise InvalidParameter(
            "pairs", f"must all be quoted in one currency, not in {', '.join(quotes)}"
        )
    return pairs, quotes[0] if quotes else "USDT"


def _no_data(series: Sequence[Series], body: CreateRequest) -> NoPrice:
    wanted = {normalise_symbol(pair) for pair in body.pairs or ()}
    relevant = [each for each in series if each.symbol in wanted] or list(series)
    ranges = [
        {"symbol": each.symbol, "start": format_time(each.start), "end": format_time(each.end)}
        for each in relevant[:_RANGES_SHOWN]
    ]
    known = ", ".join(f"{r['symbol']} {r['start']} to {r['end']}" for r in ranges[:3])
    if not known:
        problem = "there are no candles; import some: candlestep data import FILE"
    elif wanted and not wanted & {each.symbol for each in series}:
        problem = f"there are no candles of {', '.join(sorted(wanted)[:3])}; there are {known}"
    else:
        problem = f"no pair has candles between start_time and end_time; there are {known}"
    return NoPrice(problem, available=ranges)


ROUTES = [
    Route(
        "POST",
        f"{_BASE}/create",
        create,
        "Create a session",
        CreateResponse,
        body=CreateRequest,
        errors=("AGENT_NOT_FOUND", "NO_DATA"),
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/start",
        start,
        "Start a session",
        StartResponse,
        body=EmptyBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/step",
        step,
        "Advance by one candle",
        StepResponse,
        body=StepRequest,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/step/batch",
        step_batch,
        "Advance by many candles",
        StepResponse,
        body=BatchRequest,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/step/batch/fast",
        step_batch_fast,
        "Advance by many candles, and tell how many",
        FastResponse,
        body=FastRequest,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/cancel",
        cancel,
        "End a session early",
        CancelResponse,
        body=EmptyBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "GET",
        f"{_BASE}/{{session_id}}/status",
        status,
        "How far a session is",
        SessionResponse,
        errors=("SESSION_NOT_FOUND",),
    ),
    Route(
        "GET",
        f"{_BASE}/list",
        sessions,
        "List sessions",
        SessionsResponse,
        query=ListQuery,
    ),
]
