"""The creation of sessions: a request checked against the data and the bounds of the server."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from candlestep.api.schemas.sessions import CreateRequest, FixedSlippage, VolumeSlippage
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.settings import Settings
from candlestep.data.market.catalogue import Catalogue, Series, has_candle
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.records.accounts import Agent, get_agent
from candlestep.data.records.sessions import (
    NewSession,
    SessionRecord,
    create_session,
    session_of_key,
)
from candlestep.data.store.database import Store
from candlestep.data.symbols import normalise_exchange, normalise_symbol
from candlestep.sandbox import (
    InvalidParameter,
    NoPrice,
    RiskProfile,
    SessionConfig,
    format_time,
    parse_time,
)
from candlestep.sandbox.clock import DAY, Clock, parse_interval

_MAX_RANGES = 20
"""The number of ranges of data that an error lists."""


class SessionCreator:
    """Creates sessions in a store, within the bounds of the server. Its method blocks."""

    def __init__(self, settings: Settings, store: Store, catalogue: Catalogue) -> None:
        self._settings = settings
        self._store = store
        self._catalogue = catalogue

    def create(
        self, account_id: str, agent_id: str, request: CreateRequest, key: IdempotencyKey | None
    ) -> SessionRecord:
        """Create a session, or return the one that the same key created before.

        It belongs to the agent ``agent_id`` unless the request names another.
        """
        # Two requests with one key at the same time create one session.
        with nullcontext() if key is None else self._store.transaction():
            if key is not None:
                stored = session_of_key(self._store, account_id, key.key)
                if stored is not None:
                    record, digest = stored
                    key.require_same(digest)
                    return record
            agent = get_agent(self._store, account_id, request.agent_id or agent_id)
            plan = plan_session(self._settings, self._catalogue.series(), agent, request)
            return create_session(self._store, account_id, plan, key)


def plan_session(
    bounds: Settings, series: Sequence[Series], agent: Agent, request: CreateRequest
) -> NewSession:
    """Check a request for a session against the ``series`` of the store.

    Raises ``InvalidParameter`` naming the field, and ``NoPrice`` if no pair has candles.
    """
    exchange = normalise_exchange(request.exchange)
    start = parse_time(request.start_time, "start_time")
    end = parse_time(request.end_time, "end_time")
    Clock.between(start, end, parse_interval(request.candle_interval, "candle_interval"))
    if end - start > bounds.max_span_days * DAY:
        raise InvalidParameter(
            "end_time", f"may be at most {bounds.max_span_days} days after start_time"
        )
    of_exchange = [known for known in series if known.exchange == exchange]
    available = [known for known in of_exchange if has_candle(known, start, end)]
    if request.pairs is None:
        pairs, currency = _all_pairs(available)
    else:
        pairs, currency = _requested_pairs(request.pairs, of_exchange, bounds.max_pairs)
    if not any(known.symbol in pairs for known in available):
        raise _no_data(of_exchange, request)
    settings: dict[str, Any] = {
        "currency": currency,
        **_fees(bounds, request, exchange),
        "slippage": _slippage(request),
        "trigger": request.trigger,
        "liquidate_at_end": request.liquidate_at_end,
    }
    config = SessionConfig(
        start_time=start,
        end_time=end,
        starting_balance=request.starting_balance,
        candle_interval=request.candle_interval,
        risk=RiskProfile(**agent.risk_profile),
        **settings,
    )
    # The rates themselves, so that a changed file of schedules does not change the session.
    settings |= config.costs.fees.settings()
    return NewSession(
        agent_id=agent.agent_id,
        exchange=exchange,
        strategy_label=request.strategy_label,
        pairs=pairs[: bounds.max_pairs],
        start_time=start,
        end_time=end,
        interval=config.clock.interval,
        starting_balance=config.starting_balance,
        total_steps=config.clock.total_steps,
        config=settings,
        risk_profile=agent.risk_profile,
    )


def _fees(bounds: Settings, request: CreateRequest, exchange: str) -> dict[str, Any]:
    """Return the fees that the request sets, with the venue's schedule if it asks for that."""
    terms = {name: getattr(request, name) for name in ("fee_rate", "fee_model", "fee_bps")}
    fees = {name: value for name, value in terms.items() if value is not None}
    if request.fee_model == "match_exchange":
        fees["fee_schedule"] = fee_schedule(exchange, bounds.home)
    return fees


def _slippage(request: CreateRequest) -> dict[str, Any]:
    slippage = request.slippage or VolumeSlippage()
    bps = {"bps": str(slippage.bps)} if isinstance(slippage, FixedSlippage) else {}
    return {"model": slippage.__struct_config__.tag} | bps


def _all_pairs(available: Sequence[Series]) -> tuple[tuple[str, ...], str]:
    """Return all pairs of one currency: USDT if there are any, else the only one there is."""
    quotes = sorted({series.quote for series in available})
    currency = "USDT" if "USDT" in quotes or not quotes else quotes[0]
    if currency != "USDT" and len(quotes) > 1:
        raise InvalidParameter(
            "pairs", f"name the pairs: there are pairs quoted in {', '.join(quotes)}"
        )
    symbols = {series.symbol for series in available if series.quote == currency}
    return tuple(sorted(symbols)), currency


def _requested_pairs(
    requested: Sequence[str], available: Sequence[Series], max_pairs: int
) -> tuple[tuple[str, ...], str]:
    if not requested:
        raise InvalidParameter("pairs", "is empty; leave it out for all pairs")
    if len(requested) > max_pairs:
        raise InvalidParameter("pairs", f"may name at most {max_pairs} pairs")
    pairs = tuple(dict.fromkeys(normalise_symbol(pair) for pair in requested))
    quotes = sorted({series.quote for series in available if series.symbol in pairs})
    if len(quotes) > 1:
        raise InvalidParameter(
            "pairs", f"must all be quoted in one currency, not in {', '.join(quotes)}"
        )
    return pairs, quotes[0] if quotes else "USDT"


def _no_data(available: Sequence[Series], request: CreateRequest) -> NoPrice:
    requested = {normalise_symbol(pair) for pair in request.pairs or ()}
    relevant = [series for series in available if series.symbol in requested] or list(available)
    ranges = [
        {
            "symbol": series.symbol,
            "start": format_time(series.start),
            "end": format_time(series.end),
        }
        for series in relevant[:_MAX_RANGES]
    ]
    known = ", ".join(
        f"{covered['symbol']} {covered['start']} to {covered['end']}" for covered in ranges[:3]
    )
    if not known:
        problem = "there are no candles; import some: candlestep data import FILE"
    elif requested and not requested & {series.symbol for series in available}:
        names = ", ".join(sorted(requested)[:3])
        problem = f"there are no candles of {names}; there are {known}"
    else:
        problem = f"no pair has candles between start_time and end_time; there are {known}"
    return NoPrice(problem, available=ranges)
