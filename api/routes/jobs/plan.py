"""The request for a job, and the run that is planned from it."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.jobs import planning
from candlestep.api.schemas.decoding import RequestBody, with_numbers
from candlestep.api.schemas.fields import (
    BasisPoints,
    ExchangeGiven,
    IntervalInput,
    Money,
    PositiveNumber,
    StrategyId,
    Symbol,
    Time,
    TimeInput,
    money,
)
from candlestep.api.services import Services
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.records.jobs import RunSpec
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, format_time, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.exchange.costs.fees import FeeModel
from candlestep.sandbox.strategies import TEMPLATES, Strategy

_NAMES = planning.FieldNames(
    session={"starting_balance": "capital", "end_time": "end"},
    strategy={"template": "template_id", "parameters": "params"},
)


class JobRequest(RequestBody):
    """A run to be done: one of ``template_id``, ``card`` and ``strategy_id`` names the strategy."""

    has_strategy = True

    template_id: (
        Annotated[str, Meta(description="See `GET /api/v1/strategy-templates`.")] | None
    ) = None
    params: Annotated[dict[str, Any] | None, Meta(description="Of the template.")] = None
    card: Annotated[
        dict[str, Any] | None,
        Meta(description="A strategy card, instead of a template."),
    ] = None
    strategy_id: Annotated[
        StrategyId | None,
        Meta(description="A stored strategy: it says what this request leaves out."),
    ] = None
    symbols: Annotated[list[Symbol], Meta(min_length=1, max_length=100)] | None = None
    exchange: ExchangeGiven = DEFAULT_EXCHANGE
    timeframe: IntervalInput | None = None
    start: Annotated[
        TimeInput | None, Meta(description="The first candle is the one that opens at or after it.")
    ] = None
    end: Annotated[
        TimeInput | None, Meta(description="The last candle is the one that opens at or before it.")
    ] = None
    capital: PositiveNumber | None = None
    leverage: Annotated[
        Any,
        Meta(
            description="1: there are no perpetuals to be had with more.",
            extra_json_schema={"enum": [1, "1"]},
        ),
    ] = 1
    fee_model: FeeModel = planning.DEFAULT_COSTS["jobs"].fee_model
    fee_bps: Annotated[
        BasisPoints | None, Meta(description="Of `fixed_bps` only; left out: 5.")
    ] = None


class JobConfig(msgspec.Struct, frozen=True):
    """The request for a job, with everything resolved that it left out."""

    template_id: str | None
    params: dict[str, Any] | None
    card: dict[str, Any] | None
    strategy_id: str | None
    exchange: str
    symbols: list[str]
    timeframe: Annotated[str, Meta(examples=["1h"])]
    start: Time
    end: Time
    capital: Money
    leverage: int
    fee_model: FeeModel
    fee_bps: Annotated[str | None, Meta(examples=["5"])]
    """None unless ``fee_model`` is ``fixed_bps``."""


def plan_job(services: Services, account_id: str, body: JobRequest) -> tuple[JobConfig, RunSpec]:
    """Return the resolved request for a job, and its run, checked against the candles there are.

    Raises ``InvalidParameter``, ``StrategyNotFound``, and ``NoPrice`` without candles.
    """
    stored = None
    if body.strategy_id is not None:
        stored = get_strategy(services.store, account_id, body.strategy_id)
    content = _content(body, stored)
    timeframe = body.timeframe or content.get("timeframe") or (stored and stored.timeframe)
    symbols = body.symbols or content.get("symbols") or (stored and stored.universe)
    if not timeframe:
        raise _missing("timeframe", "1h")
    if not symbols:
        raise _missing("symbols", '["BTCUSDT"]')
    interval = parse_interval(timeframe, "timeframe")
    market = planning.MarketScope.resolve(services.catalogue, body.exchange, symbols, _NAMES)
    planning.require_no_leverage(body.leverage, _NAMES)
    if body.capital is None:
        raise _missing("capital", '"10000"')
    period = _period(body, interval)
    scope = {"timeframe": interval_name(interval), "symbols": market.symbols}
    strategy = planning.compile_for(content, scope, _names_for(content))
    _require_one_price(strategy, market)
    market.require_candles(period, interval, "GET /api/v1/market/data-range")
    period = market.clip(period, interval)
    costs = _costs(services, body, market.exchange)
    spec = planning.plan_run(strategy, market, period, interval, body.capital, costs)
    return _config(body, strategy, spec, period), spec


def _content(body: JobRequest, stored: StoredStrategy | None) -> dict[str, Any]:
    """Return the strategy's content: that of the request, over that of the stored strategy."""
    if body.card is not None and (body.template_id is not None or body.params is not None):
        raise InvalidParameter(
            "card", "cannot be combined with template_id and params; leave one of them out"
        )
    if body.card is not None:
        if {"template", "source"} & body.card.keys():
            raise InvalidParameter("card", "must be a card; name a template in template_id")
        return dict(with_numbers(body.card))
    base = dict(stored.content) if stored is not None else {}
    template_id = body.template_id or base.get("template")
    if template_id is None:
        if body.params is not None:
            raise InvalidParameter("params", "belong to a template; name it in template_id")
        if not base:
            raise InvalidParameter(
                "template_id", "is required, unless card or strategy_id names what to run"
            )
        return base
    params = base.get("parameters", {}) if template_id == base.get("template") else {}
    if stored is None and body.params is None:
        raise InvalidParameter("params", "is required: the parameters of the template, as {…}")
    scope = {name: base[name] for name in ("timeframe", "symbols") if name in base}
    return scope | {"template": template_id, "parameters": params | with_numbers(body.params or {})}


def _names_for(content: dict[str, Any]) -> planning.FieldNames:
    """Return the names in errors about a strategy, which depend on what it is."""
    if "template" in content or "source" in content:
        return _NAMES
    return _NAMES._replace(strategy_within="card.")


def _require_one_price(strategy: Strategy, market: planning.MarketScope) -> None:
    """Raise ``InvalidParameter`` for several symbols with a strategy that names prices of one."""
    template = TEMPLATES.get(strategy.content.get("template", ""))
    names_prices = strategy.content.get("grid") or (template and template.is_of_one_symbol)
    if len(market.symbols) > 1 and names_prices:
        raise InvalidParameter(
            "symbols",
            "must contain exactly one symbol, because this strategy names absolute prices",
        )


def _period(body: JobRequest, interval: int) -> planning.Period:
    if body.start is None:
        raise _missing("start", '"2025-01-01T00:00:00Z"')
    if body.end is None:
        raise _missing("end", '"2025-06-01T00:00:00Z"')
    return planning.Period.parse(body.start, body.end, interval, _NAMES)


def _costs(services: Services, body: JobRequest, exchange: str) -> planning.CostTerms:
    schedule = None
    if body.fee_model == "match_exchange":
        schedule = fee_schedule(exchange, services.settings.home)
    return planning.CostTerms(fee_model=body.fee_model, fee_bps=body.fee_bps, fee_schedule=schedule)


def _config(
    body: JobRequest, strategy: Strategy, spec: RunSpec, period: planning.Period
) -> JobConfig:
    return JobConfig(
        template_id=strategy.content.get("template"),
        params=strategy.content.get("parameters"),
        card=strategy.content if strategy.kind == "card" else None,
        strategy_id=body.strategy_id,
        exchange=spec.exchange,
        symbols=spec.pairs,
        timeframe=interval_name(spec.interval),
        start=format_time(period.start),
        end=format_time(period.end),
        capital=money(Decimal(spec.starting_balance)),
        leverage=1,
        fee_model=body.fee_model,
        fee_bps=spec.config.get("fee_bps"),
    )


def _missing(field: str, example: str) -> InvalidParameter:
    return InvalidParameter(field, f"is required, such as {example}")
