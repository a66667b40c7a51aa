"""The creation of sessions: a request checked against the data and the bounds of the server."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
from msgspec import UNSET

from candlestep.api.errors import with_field
from candlestep.api.schemas.sessions import (
    CreateRequest,
    FiltersRequest,
    FixedSlippage,
    VolumeSlippage,
)
from candlestep.api.sessions.blind import blind_settings, hide, require_drawable
from candlestep.api.sessions.coverage import require_range
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.settings import Settings
from candlestep.data.market.catalogue import Catalogue, Series, by_symbol, has_candle
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.records.accounts import Agent, get_agent
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.records.sessions import (
    NewSession,
    SessionRecord,
    create_session,
    session_of_key,
)
from candlestep.data.store.database import Store
from candlestep.data.symbols import is_perpetual, normalise_exchange, traded_symbol
from candlestep.sandbox import (
    InvalidParameter,
    NoPrice,
    SessionConfig,
    format_time,
    parse_time,
)
from candlestep.sandbox.clock import DAY, Clock, parse_interval
from candlestep.sandbox.config import MarketType
from candlestep.sandbox.exchange.instruments import Filters, Instrument, parse_instruments
from candlestep.sandbox.exchange.margin.settings import DEFAULTS, MarginSettings
from candlestep.sandbox.exchange.risk import risk_profile_of

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
            plan = plan_session(self._settings, self._catalogue, agent, request)
            if market_type_of(request) == "perp" and plan.blind is None:
                _require_leverages(self._store, plan)
            name = self._settings.server_name
            return create_session(self._store, account_id, plan, key, name)


def plan_session(
    bounds: Settings, catalogue: Catalogue, agent: Agent, request: CreateRequest
) -> NewSession:
    """Check a request for a session against the candles in the store. Blocks.

    Raises ``InvalidParameter`` naming the field, and ``NoPrice`` if no pair has candles, or if the
    session does not lie within them and the request does not allow gaps.
    """
    exchange = normalise_exchange(request.exchange)
    market_type = market_type_of(request)
    start = parse_time(request.start_time, "start_time")
    end = parse_time(request.end_time, "end_time")
    Clock.between(start, end, parse_interval(request.candle_interval, "candle_interval"))
    require_span(bounds, start, end)
    latest = catalogue.latest_import()
    of_exchange = [
        known
        for known in catalogue.series(latest)
        if known.exchange == exchange and is_perpetual(known.symbol) == (market_type == "perp")
    ]
    groups = by_symbol(of_exchange).values()
    available = [known for group in groups if has_candle(group, start, end) for known in group]
    if request.pairs is None:
        pairs, currency = _all_pairs(available)
    else:
        pairs, currency = _requested_pairs(request, of_exchange, bounds.max_pairs)
    if not any(known.symbol in pairs for known in available):
        raise _no_data(of_exchange, request)
    pairs = pairs[: bounds.max_pairs]
    settings: dict[str, Any] = {
        "currency": currency,
        **_fees(bounds, request, exchange),
        "slippage": _slippage(request),
        "trigger": request.trigger,
        "liquidate_at_end": request.liquidate_at_end,
        "allow_gaps": request.allow_gaps is True,
        **({"locking_stops": True} if request.locking_stops is True else {}),
    }
    config = SessionConfig(
        start_time=start,
        end_time=end,
        starting_balance=request.starting_balance,
        candle_interval=request.candle_interval,
        risk=risk_profile_of(market_type, agent.risk_profile),
        market_type=market_type,
        **_by_pair(request.margin_settings(), market_type, pairs),
        **settings,
    )
    if not config.allow_gaps:
        require_range(config.clock, catalogue.covered(exchange, pairs, latest))
    # The rates themselves, so that a changed file of schedules does not change the session.
    settings |= config.costs.fees.settings()
    if request.filters is not UNSET:
        by_pair = _by_pair({"filters": request.filters}, market_type, pairs)["filters"]
        settings["instruments"] = [
            _instrument(pair, given).settings() for pair, given in by_pair.items()
        ]
    if config.margin is not None:
        settings |= {"market_type": market_type, **config.margin.settings()}
    plan = NewSession(
        agent_id=agent.agent_id,
        exchange=exchange,
        strategy_label=request.strategy_label,
        pairs=pairs,
        start_time=start,
        end_time=end,
        interval=config.clock.interval,
        starting_balance=config.starting_balance,
        total_steps=config.clock.total_steps,
        config=settings,
        risk_profile=agent.risk_profile,
        is_sealed=request.is_sealed,
    )
    if not request.blind:
        return plan
    hidden = hide(plan, blind_settings(request.blind))
    require_drawable(hidden, catalogue.covered(exchange, pairs, latest))
    return hidden


def _instrument(pair: str, given: FiltersRequest) -> Instrument:
    """Return an instrument with filters; raises ``InvalidParameter`` naming one that cannot be."""
    fields = msgspec.structs.asdict(given)
    try:
        filters = Filters(**{name: value for name, value in fields.items() if value is not UNSET})
    except InvalidParameter as refusal:
        raise with_field(refusal, f"filters.{pair}.{refusal.details['field']}") from None
    return Instrument(pair, "perp" if is_perpetual(pair) else "spot", filters=filters)


def _require_leverages(store: Store, plan: NewSession) -> None:
    """Raise ``InvalidParameter`` for a leverage above that of the tiers as they are stored now."""
    given = {name: plan.config[name] for name in DEFAULTS if name in plan.config}
    margin = MarginSettings.parse(**{**DEFAULTS, **given})
    copied = instruments_to_copy(store, plan.exchange, plan.pairs, plan.start_time)
    margin.require_leverages(plan.pairs, parse_instruments(copied))


def market_type_of(request: CreateRequest) -> MarketType:
    """Return the kind of market that a request is about: spot, if it does not say."""
    return "spot" if request.market_type is UNSET else request.market_type


def require_span(bounds: Settings, start: int, end: int) -> None:
    """Raise ``InvalidParameter`` for a session that is longer than the server allows; times in ms."""
    if end - start > bounds.max_span_days * DAY:
        raise InvalidParameter(
            "end_time", f"may be at most {bounds.max_span_days} days after start_time"
        )


def require_pair_count(most: int, count: int) -> None:
    """Raise ``InvalidParameter`` for a session of more than ``most`` pairs."""
    if count > most:
        raise InvalidParameter("pairs", f"may name at most {most} pairs")


def _fees(bounds: Settings, request: CreateRequest, exchange: str) -> dict[str, Any]:
    """Return the fees that the request sets, with the venue's schedule if it asks for that."""
    terms = {name: getattr(request, name) for name in ("fee_rate", "fee_model", "fee_bps")}
    fees = {name: value for name, value in terms.items() if value is not None}
    if request.fee_model == "match_exchange":
        fees["fee_schedule"] = fee_schedule(exchange, market_type_of(request), bounds.home)
    return fees


def _by_pair(
    settings: dict[str, Any], market_type: MarketType, pairs: Sequence[str]
) -> dict[str, Any]:
    """Return settings by pair with pairs in their normal spelling.

    Raises ``InvalidParameter`` for a pair that is not one of ``pairs``, or is named twice.
    """
    for field in ("leverage", "margin_tiers", "filters"):
        given = settings.get(field)
        if isinstance(given, dict):
            named: dict[str, Any] = {}
            for text, value in given.items():
                pair = traded_symbol(text, market_type, field)
                if pair not in pairs or pair in named:
                    problem = "twice" if pair in named else "which is not one of the pairs"
                    raise InvalidParameter(field, f"names {pair}, {problem}; name each pair once")
                named[pair] = value
            settings = settings | {field: named}
    return settings


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
    request: CreateRequest, available: Sequence[Series], max_pairs: int
) -> tuple[tuple[str, ...], str]:
    if not request.pairs:
        raise InvalidParameter("pairs", "is empty; leave it out for all pairs")
    require_pair_count(max_pairs, len(request.pairs))
    pairs = _named_pairs(request)
    perpetual = next((pair for pair in pairs if is_perpetual(pair)), None)
    if perpetual is not None and market_type_of(request) == "spot":
        raise InvalidParameter(
            "pairs",
            f"names {perpetual}, a perpetual, and a session trades either spot pairs or perpetuals:"
            " set market_type to 'perp', or leave it out",
        )
    quotes = sorted({series.quote for series in available if series.symbol in pairs})
    if len(quotes) > 1:
        raise InvalidParameter(
            "pairs", f"must all be quoted in one currency, not in {', '.join(quotes)}"
        )
    return pairs, quotes[0] if quotes else "USDT"


def _named_pairs(request: CreateRequest) -> tuple[str, ...]:
    """Return the pairs that a request names, in their normal spelling, each once."""
    market_type = market_type_of(request)
    named = (traded_symbol(pair, market_type) for pair in request.pairs or ())
    return tuple(dict.fromkeys(named))


def _no_data(available: Sequence[Series], request: CreateRequest) -> NoPrice:
    requested = {*_named_pairs(request)}
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
