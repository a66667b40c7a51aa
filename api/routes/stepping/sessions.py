"""The life of a session: create, start, step, cancel, and what is known of it."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.http.route import Call, Encoded, Route
from candlestep.api.schemas.requests import (
    BatchBody,
    Body,
    CreateBody,
    FastBody,
    FixedSlippage,
    NoBody,
    StepBody,
    VolumeSlippage,
)
from candlestep.api.schemas.sessions import (
    CancelAnswer,
    CreateAnswer,
    SessionAnswer,
    SessionsAnswer,
    StartAnswer,
)
from candlestep.api.schemas.steps import FastAnswer, StepAnswer
from candlestep.api.services import Server
from candlestep.api.sessions.hosted_session import Live
from candlestep.api.sessions.idempotency import Asked, asked, require_same
from candlestep.api.sessions.player import Played, started
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
from candlestep.sandbox.errors import NoPrice, shown
from candlestep.sandbox.money import parse_number

_RANGES_SHOWN = 20
_BASE = "/api/v1/backtest"


class ListQuery(Body):
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


async def create(server: Server, call: Call) -> CreateAnswer:
    """Check the configuration against the data there is, and store the session."""
    record = await server.in_thread(_create, server, call, asked(call, "create"))
    return CreateAnswer(record.session_id, "created", record.total_steps, len(record.pairs))


async def start(server: Server, call: Call) -> StartAnswer:
    """Load the market as it is now, and take the first snapshot."""
    live = await server.hub.start(call)
    told = started(live.session)
    return StartAnswer(live.record.session_id, told.status, told.virtual_time, told.prices)


async def step(server: Server, call: Call) -> Encoded:
    """Advance by one candle."""
    body: StepBody = call.body
    if call.key is None and body.from_step is None:
        live = server.hub.memory.get(call.account_id, call.path["session_id"])
        answer = None if live is None else server.hub.step_at_once(live)
        if answer is not None:
            return answer
    return await _step(server, call, "step", 1)


async def step_batch(server: Server, call: Call) -> Encoded:
    """Advance by many candles; every one is checked against the pending orders."""
    return await _step(server, call, "step/batch", _steps(call))


async def step_batch_fast(server: Server, call: Call) -> Encoded:
    """As ``step/batch``, and tells how many steps were made."""
    return await _step(server, call, "step/batch/fast", _steps(call), fast=True)


async def _step(
    server: Server, call: Call, what: str, steps: int, *, fast: bool = False
) -> Encoded:
    def act(live: Live, request: Asked | None) -> Played:
        if call.body.from_step is not None:
            _require_step(live, call.body.from_step)
        return live.step(steps, request, fast=fast)

    return await server.hub.perform(call, what, act)


async def cancel(server: Server, call: Call) -> Encoded:
    """End the session here and save its partial results."""
    return await server.hub.perform(call, "cancel", lambda live, request: live.cancel(request))


async def status(server: Server, call: Call) -> SessionAnswer:
    """How far the session is, and how it came out."""
    record = await server.hub.record(call.account_id, call.path["session_id"])
    return SessionAnswer.of(record)


async def sessions(server: Server, call: Call) -> SessionsAnswer:
    """The sessions of the account, filtered, sorted and paged."""
    query: ListQuery = call.query
    records, total = await server.in_thread(
        list_sessions,
        server.store,
        call.account_id,
        strategy_label=query.strategy_label,
        status=query.status,
        agent_id=query.agent_id,
        sort_by=query.sort_by,
        order=query.order,
        limit=query.limit,
        offset=query.offset,
    )
    found = [SessionAnswer.of(server.hub.up_to_date(record)) for record in records]
    return SessionsAnswer(found, total)


def _steps(call: Call) -> int:
    """How many steps the body asks for, in whatever way the number is written."""
    steps = call.body.steps
    if type(steps) is int:
        return steps
    refusal = InvalidParameter("steps", f"must be a whole number from 1 on, got {shown(steps)}")
    try:
        number = parse_number("steps", steps)
    except InvalidParameter:
        raise refusal from None
    if number != int(number):
        raise refusal
    return int(number)


def _require_step(live: Live, step: int) -> None:
    """Raise ``InvalidState`` unless the session is at this step, or has just ended unsaved."""
    at = live.session.step_number
    if at != step and live.final is None:
        raise InvalidState(
            f"from_step is {step}, but the session is at step {at}; an earlier request may have"
            " been carried out although its answer was lost",
            status="running",
            current_step=at,
        )


def _create(server: Server, call: Call, request: Asked | None) -> SessionRecord:
    """The new session, or the one that the same key created before."""
    body: CreateBody = call.body
    with ExitStack() as stack:
        if request is not None:
            # The same key in two calls at once is still one session.
            stack.enter_context(server.store.transaction())
            known = session_of_key(server.store, call.account_id, request.key)
            if known is not None:
                record, key_body = known
                require_same(request, key_body)
                return record
        plan = _plan(server, call, body)
        config, clock = plan.config, plan.config.clock
        return create_session(
            server.store,
            call.account_id,
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
            key=None if request is None else request.key,
            key_body=None if request is None else request.body,
        )


def _plan(server: Server, call: Call, body: CreateBody) -> _Plan:
    agent = get_agent(server.store, call.account_id, body.agent_id or call.agent_id)
    exchange = normalise_exchange(body.exchange)
    start = parse_time(body.start_time, "start_time")
    end = parse_time(body.end_time, "end_time")
    Clock.between(start, end, parse_interval(body.candle_interval, "candle_interval"))
    if end - start > server.settings.max_span_days * DAY:
        raise InvalidParameter(
            "end_time", f"may be at most {server.settings.max_span_days} days after start_time"
        )
    series = [each for each in server.catalogue.series() if each.exchange == exchange]
    available = [each for each in series if has_candle(each, start, end)]
    if body.pairs is None:
        pairs, currency = _all_pairs(available)
    else:
        pairs, currency = _asked_pairs(body.pairs, series, server.settings.max_pairs)
    if not any(each.symbol in pairs for each in available):
        raise _no_data(series, body)
    settings: dict[str, Any] = {
        "currency": currency,
        **_fees(server, body, exchange),
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
    return _Plan(agent, exchange, pairs[: server.settings.max_pairs], config, settings)


def _fees(server: Server, body: CreateBody, exchange: str) -> dict[str, Any]:
    """What the body says of fees, with the venue's schedule where that is asked for."""
    said = {"fee_rate": body.fee_rate, "fee_model": body.fee_model, "fee_bps": body.fee_bps}
    fees = {name: value for name, value in said.items() if value is not None}
    if body.fee_model == "match_exchange":
        fees["fee_schedule"] = fee_schedule(exchange, server.settings.home)
    return fees


def _slippage(body: CreateBody) -> dict[str, Any]:
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


def _no_data(series: Sequence[Series], body: CreateBody) -> NoPrice:
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
        CreateAnswer,
        body=CreateBody,
        errors=("AGENT_NOT_FOUND", "NO_DATA"),
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/start",
        start,
        "Start a session",
        StartAnswer,
        body=NoBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/step",
        step,
        "Advance by one candle",
        StepAnswer,
        body=StepBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/step/batch",
        step_batch,
        "Advance by many candles",
        StepAnswer,
        body=BatchBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/step/batch/fast",
        step_batch_fast,
        "Advance by many candles, and tell how many",
        FastAnswer,
        body=FastBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "POST",
        f"{_BASE}/{{session_id}}/cancel",
        cancel,
        "End a session early",
        CancelAnswer,
        body=NoBody,
        errors=FIND_ERRORS,
        takes_key=True,
    ),
    Route(
        "GET",
        f"{_BASE}/{{session_id}}/status",
        status,
        "How far a session is",
        SessionAnswer,
        errors=("SESSION_NOT_FOUND",),
    ),
    Route(
        "GET",
        f"{_BASE}/list",
        sessions,
        "List sessions",
        SessionsAnswer,
        query=ListQuery,
    ),
]
