"""What a backtest is to be run with: read from a request, checked, and made a run of a job."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field_names
from candlestep.api.jobs.planning import Period, clip_to_data, past_period
from candlestep.api.jobs.run import session_config
from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    ExchangeGiven,
    IntervalInput,
    Symbol,
    TimeInput,
    number_schema,
)
from candlestep.api.schemas.raw_json import JsonObject, empty_object, json_object
from candlestep.api.services import Services
from candlestep.data.market.catalogue import Series
from candlestep.data.records.backtests import BacktestSetup
from candlestep.data.records.jobs import RunSpec
from candlestep.data.records.strategies import StoredStrategy
from candlestep.data.symbols import DEFAULT_EXCHANGE, normalise_exchange, normalise_symbol
from candlestep.sandbox import InvalidParameter, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.engines.run import check_engine
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    PRICE_PLACES,
    format_decimal,
    multiply,
    parse_number,
    parse_positive,
    rounded,
)
from candlestep.sandbox.strategies import Strategy, compile_strategy
from candlestep.sandbox.strategies.card import ParsedCard

SizeType = Literal["percent", "shares", "signal_weight"]

_MOST_SLIPPAGE = Decimal("0.5")
_BPS = Decimal(10_000)
_MOST_BARS = 10**7
_LEAST_RATE = Decimal("-0.5")
_NO_FEATURES = "must be empty: there is no feature store here, a strategy's indicators are its own"
_SIZES: dict[SizeType, str] = {
    "percent": "equity_share",
    "shares": "quantity",
}
"""In what unit an entry is sized, in the words of a card."""


class BacktestConfig(RequestBody):
    """Over what a strategy is run, and how its results are read."""

    symbol: Symbol
    start_date: Annotated[
        TimeInput, Meta(description="The first candle is the one that opens at or after it.")
    ]
    end_date: Annotated[
        TimeInput, Meta(description="The last candle is the one that opens at or before it.")
    ]
    exchange: ExchangeGiven = DEFAULT_EXCHANGE
    timeframe: IntervalInput = "1d"
    bars_per_year: Annotated[
        Any,
        number_schema(252, exclusiveMinimum=0, maximum=_MOST_BARS),
        Meta(
            description="Kept with the backtest. Metrics are annualised by the calendar, of 365"
            " days, whatever it says."
        ),
    ] = 252
    risk_free_rate: Annotated[
        Any,
        number_schema(0.02, minimum=-0.5, maximum=1),
        Meta(description="A yearly rate, as a fraction, for the Sharpe and Sortino ratios."),
    ] = 0
    size_type: Annotated[
        SizeType | None,
        Meta(
            description="In what the strategy's entries are sized: `percent`, shares of equity;"
            " `shares`, quantities; `signal_weight`, as each entry says. The strategy says how"
            " much; what does not fit it is refused. Left out: what fits it."
        ),
    ] = None
    signal_plugin_key: Annotated[
        str | None,
        Meta(
            description="A template that is run in place of what the strategy has; see"
            " `GET /api/v1/strategy-templates`."
        ),
    ] = None
    signal_plugin_params: Annotated[
        JsonObject, Meta(description="Parameters of the template, over those that it has.")
    ] = msgspec.field(default_factory=empty_object)
    feature_ids: Annotated[
        list[str] | None, Meta(description="Empty.", extra_json_schema={"maxItems": 0})
    ] = None
    model_id: Annotated[
        str | None, Meta(description="Empty.", extra_json_schema={"maxLength": 0})
    ] = None
    signal_logic_id: Annotated[
        str | None, Meta(description="Empty.", extra_json_schema={"maxLength": 0})
    ] = None


class BacktestRunConfig(msgspec.Struct, frozen=True):
    """The configuration as it is kept: dates as they were sent, and all defaults."""

    symbol: str
    timeframe: Annotated[str, Meta(examples=["1d"])]
    start_date: str
    end_date: str
    bars_per_year: float | int
    risk_free_rate: float | int
    size_type: SizeType
    signal_plugin_key: str | None
    signal_plugin_params: dict[str, Any]
    feature_ids: list[str]
    model_id: str | None
    signal_logic_id: str | None
    exchange: str = DEFAULT_EXCHANGE


class Plan(msgspec.Struct, frozen=True):
    """A backtest that has been checked, and the run that it is."""

    setup: BacktestSetup
    spec: RunSpec


def plan(
    services: Services,
    stored: StoredStrategy,
    *,
    engine: str,
    initial_capital: Any,
    commission: Any,
    slippage: Any,
    config: BacktestConfig,
) -> Plan:
    """A backtest of a stored strategy, checked. Whether there is data for it, its run finds out.

    Raises ``InvalidParameter``, which names ``config.…`` or what else is refused.
    """
    capital = parse_positive("initial_capital", initial_capital, AMOUNT_PLACES)
    fee_rate = _fraction("commission", commission, Decimal(1))
    slipped = _fraction("slippage", slippage, _MOST_SLIPPAGE)
    _require_no_features(config)
    interval = parse_interval(config.timeframe, "config.timeframe")
    symbol = normalise_symbol(config.symbol, "config.symbol")
    exchange = normalise_exchange(config.exchange, "config.exchange")
    series = services.catalogue.of_symbol(exchange, symbol)
    span = clip_to_data(_span(config, interval), [series], interval)
    risk_free = _risk_free_rate(config)
    strategy = _compiled(
        stored, config, {"timeframe": interval_name(interval), "symbols": [symbol]}
    )
    setup = BacktestSetup(
        strategy_id=stored.strategy_id,
        engine=engine,
        initial_capital=capital,
        commission=fee_rate,
        slippage=slipped,
        config=msgspec.to_builtins(_kept(config, strategy, interval, exchange)),
    )
    spec = RunSpec(
        strategy=strategy.content,
        engine=engine,
        exchange=exchange,
        pairs=[symbol],
        start_time=span.first,
        end_time=span.last,
        interval=interval,
        starting_balance=format_decimal(capital),
        config=_session_config(series, fee_rate, slipped),
        risk_free_rate=float(risk_free),
        history=strategy.history(interval),
    )
    check_engine(engine, strategy, session_config(spec))
    return Plan(setup, spec)


def _kept(
    config: BacktestConfig, strategy: Strategy, interval: int, exchange: str
) -> BacktestRunConfig:
    return BacktestRunConfig(
        symbol=config.symbol,
        timeframe=interval_name(interval),
        start_date=config.start_date,
        end_date=config.end_date,
        bars_per_year=_json_number(_bars_per_year(config)),
        risk_free_rate=_json_number(_risk_free_rate(config)),
        size_type=_size_type(strategy, config.size_type),
        signal_plugin_key=config.signal_plugin_key,
        signal_plugin_params=_parameters(config),
        feature_ids=[],
        model_id=None,
        signal_logic_id=None,
        exchange=exchange,
    )


def planned_again(services: Services, stored: StoredStrategy, setup: BacktestSetup) -> Plan:
    """The plan of a backtest that is kept, with the strategy as it is now; raises as ``plan``."""
    config = msgspec.convert(setup.config, BacktestRunConfig)
    values = {name: getattr(config, name) for name in BacktestConfig.__struct_fields__}
    raw = msgspec.Raw(msgspec.json.encode(config.signal_plugin_params))
    return plan(
        services,
        stored,
        engine=setup.engine,
        initial_capital=setup.initial_capital,
        commission=setup.commission,
        slippage=setup.slippage,
        config=BacktestConfig(**(values | {"signal_plugin_params": raw})),
    )


def _fraction(field: str, value: Any, most: Decimal) -> Decimal:
    number = parse_number(field, value)
    if not 0 <= number <= most:
        raise InvalidParameter(field, f"is a fraction, from 0 to {most}; got {abbreviate(value)}")
    return rounded(number, PRICE_PLACES).copy_abs()


def _bars_per_year(config: BacktestConfig) -> Decimal:
    bars = parse_number("config.bars_per_year", config.bars_per_year)
    if not 0 < bars <= _MOST_BARS:
        raise InvalidParameter("config.bars_per_year", f"must be above 0, at most {_MOST_BARS}")
    return bars


def _risk_free_rate(config: BacktestConfig) -> Decimal:
    rate = parse_number("config.risk_free_rate", config.risk_free_rate)
    if not _LEAST_RATE <= rate <= 1:
        raise InvalidParameter(
            "config.risk_free_rate", f"is a yearly rate, a fraction from {_LEAST_RATE} to 1"
        )
    return rate


def _parameters(config: BacktestConfig) -> dict[str, Any]:
    return json_object(config.signal_plugin_params, "config.signal_plugin_params")


def _require_no_features(config: BacktestConfig) -> None:
    for name in ("feature_ids", "model_id", "signal_logic_id"):
        if getattr(config, name):
            raise InvalidParameter(f"config.{name}", _NO_FEATURES)


def _span(config: BacktestConfig, interval: int) -> Period:
    return past_period(
        config.start_date,
        config.end_date,
        interval,
        start_field="config.start_date",
        end_field="config.end_date",
    )


def _compiled(stored: StoredStrategy, config: BacktestConfig, scope: Mapping[str, Any]) -> Strategy:
    """The strategy that is run: the stored one, or a template in its place."""
    base, key, parameters = dict(stored.content), config.signal_plugin_key, _parameters(config)
    if key is not None:
        base = base if base.get("template") == key else {"template": key}
    elif not base:
        raise InvalidParameter(
            "config.signal_plugin_key",
            "is required, for the strategy's pipeline_config is empty: what is to be run?",
        )
    if parameters:
        if "template" not in base:
            raise InvalidParameter(
                "config.signal_plugin_params",
                "are those of a template, and the strategy is none; leave them out, or name one by"
                " signal_plugin_key",
            )
        base["parameters"] = base.get("parameters", {}) | parameters
    try:
        return compile_strategy({**base, **scope})
    except InvalidParameter as refusal:
        names = {"template": "signal_plugin_key", "parameters": "signal_plugin_params"}
        raise with_field_names(refusal, names, within="config.") from None


def _size_type(strategy: Strategy, given: SizeType | None) -> SizeType:
    """In what unit the strategy sizes its entries, which is ``given`` where that is said."""
    if not isinstance(strategy.body, ParsedCard):
        # What a program will order is not known before it runs.
        return given or "signal_weight"
    card = strategy.body.card
    sizes = [card.grid.size] if card.grid is not None else [each.size for each in card.entries]
    units = {name for size in sizes for name in size.__struct_fields__ if getattr(size, name)}
    fits: SizeType = "signal_weight"
    for size_type, unit in _SIZES.items():
        if units == {unit}:
            fits = size_type
    if given not in (None, fits, "signal_weight"):
        raise InvalidParameter(
            "config.size_type",
            f"the strategy sizes its entries by {' and '.join(sorted(units))}: leave it out, or"
            f" say {fits}",
        )
    return given or fits


def _session_config(
    series: Sequence[Series], commission: Decimal, slippage: Decimal
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "fee_rate": format_decimal(commission),
        "slippage": {"model": "fixed_bps", "bps": format_decimal(multiply(slippage, _BPS))},
    }
    return config | ({"currency": series[0].quote} if series else {})


def _json_number(number: Decimal) -> float | int:
    return int(number) if number == int(number) else float(number)
