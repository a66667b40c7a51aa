"""Tools of the life of a session: create, list, fork, end."""

from decimal import Decimal
from typing import Any

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from candlestep.api.errors import Forbidden
from candlestep.api.mcp.answers import Created, Forked, Outcome, SessionList
from candlestep.api.mcp.arguments import (
    CreateSession,
    Disguise,
    EndSession,
    Fork,
    ListSessions,
    RiskLimits,
    in_words_of_tools,
)
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.calls.data import exchange_of
from candlestep.api.mcp.calls.finding import find_ref, sub_key
from candlestep.api.mcp.calls.outcomes import outcome_of
from candlestep.api.mcp.text import percent, prices_text, session_line, short_time, table
from candlestep.api.schemas.sessions import (
    BlindRequest,
    CreateRequest,
    FixedSlippage,
    ForkResponse,
    NoSlippage,
    Slippage,
    StartResponse,
    VolumeSlippage,
)
from candlestep.api.services import Services
from candlestep.api.sessions.commands import (
    CancelCommand,
    ForkCommand,
    SessionRef,
    StartCommand,
)
from candlestep.data.records.accounts import create_agent, list_agents
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.store.database import Store
from candlestep.data.symbols import is_perpetual, normalise_symbol
from candlestep.sandbox import InvalidParameter, RiskProfile, format_time, interval_name
from candlestep.sandbox.money import format_decimal

_MOST_WARNINGS = 3

log = structlog.get_logger()


async def create_session(services: Services, arguments: CreateSession) -> Created:
    """Create a session and start it, as ``create`` and ``start`` over HTTP do."""
    caller = CALLER.get()
    agent_id = caller.agent_id
    if arguments.risk is not None:
        agent_id = await services.in_thread(
            _agent_with, services.store, caller.account_id, arguments.risk
        )
    exchange = await services.read(exchange_of, services.catalogue, arguments.symbols)
    request = CreateRequest(
        start_time=arguments.start,
        end_time=arguments.end,
        starting_balance=arguments.balance,
        candle_interval=arguments.interval,
        strategy_label=arguments.label,
        pairs=arguments.symbols,
        exchange=exchange,
        fee_rate=arguments.fee,
        slippage=None if arguments.slippage is None else _slippage(arguments.slippage),
        market_type="perp" if all(map(_is_perpetual, arguments.symbols)) else UNSET,
        leverage=UNSET if arguments.leverage is None else arguments.leverage,
        blind=_disguise(arguments.blind),
        sealed=UNSET if arguments.sealed is None else arguments.sealed,
    )
    key = sub_key(arguments.key, "create", arguments)
    try:
        record = await services.sessions.create(caller.account_id, agent_id, request, key)
    except InvalidParameter as refusal:
        raise in_words_of_tools(refusal) from None
    ref = SessionRef(caller.account_id, record.session_id)
    start_key = sub_key(arguments.key, "start", None)
    reply = await services.sessions.apply(ref, StartCommand(), start_key)
    started = msgspec.json.decode(reply.body, type=StartResponse)
    session = (await services.sessions.find(ref)).session
    warnings = [warning.message for warning in started.warnings]
    end = short_time(format_time(record.end_time))
    return Created(
        line=session_line(session),
        session_id=record.session_id,
        created=f"session {record.session_id} runs to {end} in steps of"
        f" {interval_name(record.interval)}",
        prices=prices_text(started.prices),
        warnings="\n".join(warnings[:_MOST_WARNINGS]),
        next="observe, then act with orders and steps",
    )


async def list_sessions(services: Services, arguments: ListSessions) -> SessionList:
    """List the account's sessions, the newest last."""
    records, total = await services.sessions.list(
        CALLER.get().account_id, status=arguments.status, limit=arguments.limit
    )
    rows = [_row(record) for record in reversed(records)]
    more = total - len(records)
    return SessionList(
        sessions=table("session status time step symbols interval return label", rows)
        or "no sessions",
        next=f"limit shows {more} older ones"
        if more
        else "observe a running one, or create_session",
    )


async def fork(services: Services, arguments: Fork) -> Forked:
    """Create running sessions that share the past of one."""
    ref = await find_ref(services, arguments.session_id)
    key = sub_key(arguments.key, "fork", arguments)
    reply = await services.sessions.apply(ref, ForkCommand(arguments.count), key)
    forked = msgspec.json.decode(reply.body, type=ForkResponse)
    session = (await services.sessions.find(ref)).session
    ids = [fork.session_id for fork in forked.forks]
    return Forked(
        line=session_line(session),
        session_ids=ids,
        forks="\n".join(ids),
        next="try a decision in each (name its session_id), then compare; the market ahead is the"
        " same in all",
    )


async def end_session(services: Services, arguments: EndSession) -> Outcome:
    """End a session here, and return its partial results."""
    ref = await find_ref(services, arguments.session_id)
    if CALLER.get().session_id is not None and (await services.sessions.record(ref)).is_sealed:
        raise Forbidden("the session is sealed: its owner alone can end it early")
    key = sub_key(arguments.key, "cancel", arguments)
    await services.sessions.apply(ref, CancelCommand(), key)
    note_reason("end_session", ref, arguments.reason)
    return await outcome_of(services, ref)


def note_reason(tool: str, ref: SessionRef, reason: str | None) -> None:
    """Log the reason that a model gave for what it did."""
    if reason:
        log.info("reason", tool=tool, session_id=ref.session_id, reason=reason)


def _slippage(given: Any) -> Slippage:
    if given == "none":
        return NoSlippage()
    return VolumeSlippage() if given == "volume" else FixedSlippage(bps=given)


def _is_perpetual(symbol: str) -> bool:
    return is_perpetual(normalise_symbol(symbol, "symbols"))


def _disguise(given: bool | Disguise) -> bool | BlindRequest | UnsetType:
    """Return the native request for a disguise."""
    if isinstance(given, Disguise):
        return BlindRequest(seed=given.seed, variant=given.variant)
    return given or UNSET


def _agent_with(store: Store, account_id: str, risk: RiskLimits) -> str:
    """Return the id of the account's agent that has exactly these limits, created if it is new."""
    profile = RiskProfile(**msgspec.structs.asdict(risk))
    limits = {
        name: format_decimal(limit)
        for name, limit in msgspec.structs.asdict(profile).items()
        if limit is not None
    }
    name = "tools, " + " ".join(f"{limit} {value}" for limit, value in limits.items())
    for agent in list_agents(store, account_id):
        if agent.name == name and agent.risk_profile == limits:
            return agent.agent_id
    return create_agent(store, account_id, name, limits).agent_id


def _row(record: SessionRecord) -> str:
    time = format_time(record.start_time + record.current_step * record.interval)
    pairs = ",".join(record.pairs[:3]) + (",…" if len(record.pairs) > 3 else "")
    change = "-" if record.roi_pct is None else percent(Decimal(record.roi_pct)).replace(" ", "")
    step = f"{record.current_step}/{record.total_steps}"
    interval, label = interval_name(record.interval), record.strategy_label
    return (
        f"{record.session_id} {record.status} {short_time(time)} {step} {pairs} {interval}"
        f" {change} {label}".rstrip()
    )
