"""What a job is to run: read from a request, checked, and made a run."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field_names
from candlestep.api.jobs.planning import Period, clip_to_data, past_period, require_candles
from candlestep.api.schemas.decoding import RequestBody, with_numbers
from candlestep.api.schemas.fields import (
    BasisPoints,
    ExchangeGiven,
    IntervalInput,
    Money,
    PositiveNumber,
    Symbol,
    Time,
    TimeInput,
    money,
)
from candlestep.api.services import Services
from candlestep.data.market.catalogue import Series, by_symbol
from candlestep.data.market.fee_schedules import fee_schedule
from candlestep.data.records.jobs import RunSpec
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_exchange, normalise_symbol
from candlestep.sandbox import InvalidParameter, SessionConfig, format_time, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.exchange.costs.fees import FeeModel
from candlestep.sandbox.money import format_decimal, parse_number
from candlestep.sandbox.strategies import TEMPLATES, Strategy, compile_strategy


class JobRequest(RequestBody):
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
    fee_model: FeeModel = "fixed_bps"
    fee_bps: Annotated[
        BasisPoints | None, Meta(description="Of `fixed_bps` only; left out: 5.")
    ] = None


class JobConfig(msgspec.Struct, frozen=True):
    """What a job was asked for, resolved."""

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
    """Of ``fixed_bps`` only."""


def plan(services: Services, account_id: str, body: JobRequest) -> tuple[JobConfig, RunSpec]:
    """What a job is asked for, resolved and checked against the data, and the run that it is.

    Raises ``InvalidParameter``, ``StrategyNotFound``, and ``NoPrice`` where there is no data.
    """
    stored = None
    if body.strategy_id is not None:
        stored = get_strategy(services.store, account_id, body.strategy_id)
    content = _content(body, stored)
    interval, pairs = _market(body, content, stored)
    _require_no_leverage(body.leverage)
    if body.capital is None:
        raise _missing("capital", '"10000"')
    span = _span(body, interval)
    strategy = _compiled(content | {"timeframe": interval_name(interval), "symbols": pairs})
    _require_one_price(strategy, pairs)
    exchange = normalise_exchange(body.exchange)
    groups = by_symbol(services.catalogue.series())
    markets = {symbol: groups.get((exchange, symbol), []) for symbol in pairs}
    currency = _require_data(markets, exchange, interval, span)
    span = clip_to_data(span, markets.values(), interval)
    session = _session(
        services,
        body,
        exchange,
        start_time=span.first,
        end_time=span.last,
        starting_balance=body.capital,
        candle_interval=interval // 1000,
        currency=currency,
    )
    spec = RunSpec(
        strategy=strategy.content,
        exchange=exchange,
        pairs=pairs,
        start_time=span.first,
        end_time=span.last,
        interval=interval,
        starting_balance=format_decimal(session.starting_balance),
        config={"currency": currency, **session.costs.fees.settings()},
        history=strategy.history(interval),
    )
    return _config(body, strategy, spec, span), spec


def _market(
    body: JobRequest, content: dict[str, Any], stored: StoredStrategy | None
) -> tuple[int, list[str]]:
    """The interval and the symbols: as the request says, or else the strategy."""
    timeframe = body.timeframe or content.get("timeframe") or (stored and stored.timeframe)
    symbols = body.symbols or content.get("symbols") or (stored and stored.universe)
    if not timeframe:
        raise _missing("timeframe", "1h")
    if not symbols:
        raise _missing("symbols", '["BTCUSDT"]')
    interval = parse_interval(timeframe, "timeframe")
    return interval, list(dict.fromkeys(normalise_symbol(symbol, "symbols") for symbol in symbols))


def _require_no_leverage(leverage: Any) -> None:
    if parse_number("leverage", leverage) != 1:
        raise InvalidParameter(
            "leverage", f"must be 1, got {abbreviate(leverage)}: there are no perpetuals yet"
        )


def _require_one_price(strategy: Strategy, pairs: list[str]) -> None:
    """Raise ``InvalidParameter`` for several symbols and a strategy that names prices of one."""
    template = TEMPLATES.get(strategy.content.get("template", ""))
    names_prices = strategy.content.get("grid") or (template and template.is_of_one_symbol)
    if len(pairs) > 1 and names_prices:
        raise InvalidParameter("symbols", "must be one, for its prices are those of one symbol")


def _session(services: Services, body: JobRequest, exchange: str, **settings: Any) -> SessionConfig:
    """The session that the job's run is; what is wrong with it is named as the request does."""
    fees: dict[str, Any] = {"fee_model": body.fee_model}
    if body.fee_bps is not None:
        fees["fee_bps"] = body.fee_bps
    if body.fee_model == "match_exchange":
        fees["fee_schedule"] = fee_schedule(exchange, services.settings.home)
    try:
        return SessionConfig(**settings, **fees)
    except InvalidParameter as refusal:
        raise with_field_names(
            refusal, {"starting_balance": "capital", "end_time": "end"}
        ) from None


def _config(body: JobRequest, strategy: Strategy, spec: RunSpec, span: Period) -> JobConfig:
    return JobConfig(
        template_id=strategy.content.get("template"),
        params=strategy.content.get("parameters"),
        card=strategy.content if strategy.kind == "card" else None,
        strategy_id=body.strategy_id,
        exchange=spec.exchange,
        symbols=spec.pairs,
        timeframe=interval_name(spec.interval),
        start=format_time(span.start),
        end=format_time(span.end),
        capital=money(Decimal(spec.starting_balance)),
        leverage=1,
        fee_model=body.fee_model,
        fee_bps=spec.config.get("fee_bps"),
    )


def _content(body: JobRequest, stored: StoredStrategy | None) -> dict[str, Any]:
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
            raise with_field_names(
                refusal, {"template": "template_id", "parameters": "params"}
            ) from None
        if "source" in content:
            raise
        raise with_field_names(refusal, {}, within="card.") from None


def _span(body: JobRequest, interval: int) -> Period:
    if body.start is None:
        raise _missing("start", '"2025-01-01T00:00:00Z"')
    if body.end is None:
        raise _missing("end", '"2025-06-01T00:00:00Z"')
    return past_period(body.start, body.end, interval, start_field="start", end_field="end")


def _missing(field: str, example: str) -> InvalidParameter:
    return InvalidParameter(field, f"is required, such as {example}")


def _require_data(
    markets: Mapping[str, Sequence[Series]], exchange: str, interval: int, span: Period
) -> str:
    """The currency of the pairs, all of which have candles in the time, fine enough."""
    quotes = set()
    for symbol, series in markets.items():
        there = [each for each in series if each.start < span.last and each.end > span.first]
        finest = min((each.interval for each in there), default=interval)
        if finest > interval:
            raise InvalidParameter(
                "timeframe",
                f"must be {interval_name(finest)} or more: {symbol} has no finer candles then",
            )
        require_candles(
            symbol,
            series,
            interval,
            span.first,
            span.last,
            field="symbol",
            when=f"of {exchange} in the job's time",
            otherwise="GET /api/v1/market/data-range tells what there is",
        )
        quotes.add(series[0].quote)
    if len(quotes) > 1:
        raise InvalidParameter(
            "symbols", f"must be of one currency, not of {', '.join(sorted(quotes))}"
        )
    return quotes.pop()
