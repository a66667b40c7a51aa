"""The request for a job, and the run that is planned from it."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.jobs import planning
from candlestep.api.jobs.margin import MarginTerms, require_margin_data
from candlestep.api.schemas import fields
from candlestep.api.schemas.decoding import RequestBody, with_numbers
from candlestep.api.services import Services
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.records.jobs import RunSpec
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, format_time, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.exchange.costs.fees import FeeModel
from candlestep.sandbox.strategies import Strategy

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
        fields.StrategyId | None,
        Meta(description="A stored strategy: it says what this request leaves out."),
    ] = None
    symbols: (
        Annotated[
            list[fields.Symbol],
            Meta(
                min_length=1,
                max_length=100,
                description="Those without candles in the period are left out; `warnings` names"
                " them.",
            ),
        ]
        | None
    ) = None
    exchange: fields.ExchangeGiven = DEFAULT_EXCHANGE
    timeframe: fields.IntervalInput | None = None
    start: Annotated[
        fields.TimeInput | None,
        Meta(description="The first candle is the one that opens at or after it."),
    ] = None
    end: Annotated[
        fields.TimeInput | None,
        Meta(description="The last candle is the one that opens at or before it."),
    ] = None
    capital: fields.PositiveNumber | None = None
    leverage: Annotated[
        Any,
        Meta(
            description="A whole number, at most that of the tiers; 1 for spot pairs. Shares of"
            " equity are margin, so that positions are so many times as large.",
            extra_json_schema={"type": ["integer", "string"], "minimum": 1, "examples": [3]},
        ),
    ] = 1
    fee_model: FeeModel = planning.DEFAULT_COSTS["jobs"].fee_model
    fee_bps: Annotated[
        fields.BasisPoints | None, Meta(description="Of `fixed_bps` only; left out: 5.")
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
    start: fields.Time
    end: fields.Time
    capital: fields.Money
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
    requested = planning.MarketScope.resolve(services.catalogue, body.exchange, symbols, _NAMES)
    if body.capital is None:
        raise _missing("capital", '"10000"')
    period = _period(body, interval)
    strategy = _compile(content, interval, requested)
    planning.require_one_price(strategy, requested)
    market = requested.with_candles(period, interval, "GET /api/v1/market/data-range")
    if market.left_out:
        strategy = _compile(content, interval, market)
    period = market.clip(period, interval)
    costs = _costs(services, body, market)
    terms = MarginTerms(body.leverage)
    spec = planning.plan_run(strategy, market, period, interval, body.capital, costs, terms)
    require_margin_data(
        services.store, services.catalogue, spec, "leverage", planning.IMPORT_FUNDING
    )
    return _config(body, strategy, spec, period, requested.symbols), spec


def _compile(content: dict[str, Any], interval: int, market: planning.MarketScope) -> Strategy:
    scope = {"timeframe": interval_name(interval), "symbols": market.symbols}
    return planning.compile_for(content, scope, _names_for(content))


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


def _period(body: JobRequest, interval: int) -> planning.Period:
    if body.start is None:
        raise _missing("start", '"2025-01-01T00:00:00Z"')
    if body.end is None:
        raise _missing("end", '"2025-06-01T00:00:00Z"')
    return planning.Period.parse(body.start, body.end, interval, _NAMES)


def _costs(
    services: Services, body: JobRequest, market: planning.MarketScope
) -> planning.CostTerms:
    schedule = None
    if body.fee_model == "match_exchange":
        schedule = fee_schedule(market.exchange, market.market_type, services.settings.home)
    return planning.CostTerms(fee_model=body.fee_model, fee_bps=body.fee_bps, fee_schedule=schedule)


def _config(
    body: JobRequest,
    strategy: Strategy,
    spec: RunSpec,
    period: planning.Period,
    symbols: list[str],
) -> JobConfig:
    return JobConfig(
        template_id=strategy.content.get("template"),
        params=strategy.content.get("parameters"),
        card=strategy.content if strategy.kind == "card" else None,
        strategy_id=body.strategy_id,
        exchange=spec.exchange,
        symbols=symbols,
        timeframe=interval_name(spec.interval),
        start=format_time(period.start),
        end=format_time(period.end),
        capital=fields.money(Decimal(spec.starting_balance)),
        leverage=spec.config.get("leverage", 1),
        fee_model=body.fee_model,
        fee_bps=spec.config.get("fee_bps"),
    )


def _missing(field: str, example: str) -> InvalidParameter:
    return InvalidParameter(field, f"is required, such as {example}")
