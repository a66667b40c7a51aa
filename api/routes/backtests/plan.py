"""The configuration of a backtest, and the run that is planned from it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.jobs import planning
from candlestep.api.jobs.margin import MarginTerms, require_tiers
from candlestep.api.jobs.run import session_config
from candlestep.api.schemas import fields
from candlestep.api.schemas.decoding import RequestBody, decode_body
from candlestep.api.schemas.raw_json import JsonObject, empty_object, json_object
from candlestep.api.services import Services
from candlestep.data.records.backtests import BacktestRecord, BacktestSetup
from candlestep.data.records.instruments import instruments_to_copy
from candlestep.data.records.jobs import RunSpec
from candlestep.data.records.strategies import StoredStrategy, get_strategy
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, interval_name
from candlestep.sandbox.clock import parse_interval
from candlestep.sandbox.engines.run import check_engine
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.money import (
    AMOUNT_PLACES,
    PRICE_PLACES,
    multiply,
    parse_number,
    parse_positive,
    rounded,
)
from candlestep.sandbox.strategies import Strategy
from candlestep.sandbox.strategies.card import ParsedCard

SizeType = Literal["percent", "shares", "signal_weight"]
EngineName = Annotated[
    str, Meta(max_length=100, description="See `GET /api/v1/backtests/engines/available`.")
]

_MOST_SLIPPAGE = Decimal("0.5")
_BPS = Decimal(10_000)
_MOST_BARS = 10**7
_LEAST_RATE = Decimal("-0.5")
_NO_FEATURES = "must be empty: there is no feature store, strategies compute their own indicators"
_SIZES: dict[SizeType, str] = {
    "percent": "equity_share",
    "shares": "quantity",
}
"""The unit of an entry's size, as a card calls it."""
_NAMES = planning.FieldNames(
    exchange="config.exchange",
    symbols="config.symbol",
    timeframe="config.timeframe",
    start="config.start_date",
    end="config.end_date",
    leverage="config.leverage",
    strategy={"template": "signal_plugin_key", "parameters": "signal_plugin_params"},
    strategy_within="config.",
)


NoId = Annotated[str | None, Meta(description="Empty.", extra_json_schema={"maxLength": 0})]


class BacktestConfig(RequestBody):
    """The market and the period on which a strategy is run, and how its results are computed."""

    symbol: fields.Symbol
    start_date: Annotated[
        fields.TimeInput, Meta(description="The first candle is the one that opens at or after it.")
    ]
    end_date: Annotated[
        fields.TimeInput, Meta(description="The last candle is the one that opens at or before it.")
    ]
    exchange: fields.ExchangeGiven = DEFAULT_EXCHANGE
    timeframe: fields.IntervalInput = "1d"
    bars_per_year: Annotated[
        Any,
        fields.number_schema(252, exclusiveMinimum=0, maximum=_MOST_BARS),
        Meta(
            description="Stored with the backtest and otherwise ignored: metrics are annualised"
            " by a calendar of 365 days."
        ),
    ] = 252
    risk_free_rate: Annotated[
        Any,
        fields.number_schema(0.02, minimum=-0.5, maximum=1),
        Meta(description="A yearly rate, as a fraction, for the Sharpe and Sortino ratios."),
    ] = 0
    size_type: Annotated[
        SizeType | None,
        Meta(
            description="The unit in which the strategy sizes its entries: `percent` of equity;"
            " `shares`, which are quantities; or `signal_weight`, as each entry says. The strategy"
            " sets the amounts, and a unit that does not fit it is refused. The default fits it."
        ),
    ] = None
    signal_plugin_key: Annotated[
        str | None,
        Meta(
            description="A template to run instead of the strategy's own; see"
            " `GET /api/v1/strategy-templates`."
        ),
    ] = None
    signal_plugin_params: Annotated[
        JsonObject, Meta(description="Parameters that override those of the template.")
    ] = msgspec.field(default_factory=empty_object)
    feature_ids: Annotated[
        list[str] | None, Meta(description="Empty.", extra_json_schema={"maxItems": 0})
    ] = None
    model_id: NoId = None
    signal_logic_id: NoId = None
    leverage: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | UnsetType,
        Meta(description="Of a perpetual; 1 if left out, and for spot pairs."),
    ] = UNSET
    funding: Annotated[
        bool | UnsetType,
        Meta(
            description="Pay the funding of a perpetual; true if left out. Other engines than the"
            " sandbox need false."
        ),
    ] = UNSET


class BacktestRequest(RequestBody):
    strategy_id: fields.StrategyId
    config: BacktestConfig
    engine: EngineName = "sandbox"
    initial_capital: fields.PositiveNumber = 100_000
    commission: Annotated[fields.Fraction, Meta(description="A fraction of the notional.")] = (
        planning.DEFAULT_COSTS["backtests"].fee_rate
    )
    slippage: Annotated[
        fields.Fraction,
        Meta(description="A fraction of the price, against each trade; at most 0.5."),
    ] = planning.DEFAULT_COSTS["backtests"].slippage_bps / 10_000


class BacktestRunConfig(msgspec.Struct, frozen=True):
    """The configuration as it is stored: dates as they were sent, and all defaults filled in."""

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
    leverage: Annotated[int | UnsetType, Meta(description="If it was given.")] = UNSET
    funding: Annotated[bool | UnsetType, Meta(description="If it was given.")] = UNSET


def plan_backtest(
    services: Services, stored: StoredStrategy, body: BacktestRequest
) -> tuple[BacktestSetup, RunSpec]:
    """Plan a backtest of a stored strategy; only its run finds out whether there are candles.

    Raises ``InvalidParameter``, which names ``config.…`` or another field of the request.
    """
    config = body.config
    capital = parse_positive("initial_capital", body.initial_capital, AMOUNT_PLACES)
    commission = _fraction("commission", body.commission, Decimal(1))
    slippage = _fraction("slippage", body.slippage, _MOST_SLIPPAGE)
    _require_no_features(config)
    interval = parse_interval(config.timeframe, "config.timeframe")
    market = planning.MarketScope.resolve(
        services.catalogue, config.exchange, [config.symbol], _NAMES
    )
    period = planning.Period.parse(config.start_date, config.end_date, interval, _NAMES)
    risk_free_rate = _risk_free_rate(config)
    scope = {"timeframe": interval_name(interval), "symbols": market.symbols}
    strategy = planning.compile_for(_content(stored, config), scope, _NAMES)
    stored_config = msgspec.structs.asdict(config) | {
        "exchange": market.exchange,
        "timeframe": interval_name(interval),
        "bars_per_year": _json_number(_bars_per_year(config)),
        "risk_free_rate": _json_number(risk_free_rate),
        "size_type": _size_type(strategy, config.size_type),
        "signal_plugin_params": _parameters(config),
        "feature_ids": [],
        "model_id": None,
        "signal_logic_id": None,
    }
    setup = BacktestSetup(
        strategy_id=stored.strategy_id,
        engine=body.engine,
        initial_capital=capital,
        commission=commission,
        slippage=slippage,
        config=msgspec.to_builtins(BacktestRunConfig(**stored_config)),
    )
    spec = planning.plan_run(
        strategy,
        market,
        market.clip(period, interval),
        interval,
        capital,
        planning.CostTerms(fee_rate=commission, slippage_bps=multiply(slippage, _BPS)),
        MarginTerms(
            1 if config.leverage is UNSET else config.leverage,
            config.funding is UNSET or config.funding,
        ),
        engine=body.engine,
        risk_free_rate=float(risk_free_rate),
    )
    require_tiers(services.store, spec, "config.leverage")
    check_engine(body.engine, strategy, session_config(_with_instruments(services, spec)))
    return setup, spec


def _with_instruments(services: Services, spec: RunSpec) -> RunSpec:
    """Return a run with its instruments as they are now, which it copies when it is submitted."""
    instruments = instruments_to_copy(services.store, spec.exchange, spec.pairs)
    config = spec.config | ({"instruments": instruments} if instruments else {})
    return msgspec.structs.replace(spec, config=config)


def replan(services: Services, record: BacktestRecord) -> RunSpec:
    """Plan a stored backtest again, with its strategy as it is now.

    Raises ``StrategyNotFound``, and as ``plan_backtest`` does.
    """
    stored = get_strategy(services.store, record.account_id, record.strategy_id)
    terms = {name: getattr(record, name) for name in BacktestRequest.__struct_fields__}
    config = decode_body(BacktestConfig, msgspec.json.encode(record.config))
    return plan_backtest(services, stored, BacktestRequest(**terms | {"config": config}))[1]


def _fraction(field: str, value: Any, most: Decimal) -> Decimal:
    number = parse_number(field, value)
    if not 0 <= number <= most:
        raise InvalidParameter(
            field, f"must be a fraction from 0 to {most}, got {abbreviate(value)}"
        )
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
            "config.risk_free_rate", f"must be a yearly rate, a fraction from {_LEAST_RATE} to 1"
        )
    return rate


def _parameters(config: BacktestConfig) -> dict[str, Any]:
    return json_object(config.signal_plugin_params, "config.signal_plugin_params")


def _require_no_features(config: BacktestConfig) -> None:
    for name in ("feature_ids", "model_id", "signal_logic_id"):
        if getattr(config, name):
            raise InvalidParameter(f"config.{name}", _NO_FEATURES)


def _content(stored: StoredStrategy, config: BacktestConfig) -> Mapping[str, Any]:
    """Return what is run: the stored strategy, or a template in its place."""
    content, key, parameters = dict(stored.content), config.signal_plugin_key, _parameters(config)
    if key is not None:
        content = content if content.get("template") == key else {"template": key}
    elif not content:
        raise InvalidParameter(
            "config.signal_plugin_key",
            "is required, because the strategy's pipeline_config is empty",
        )
    if parameters:
        if "template" not in content:
            raise InvalidParameter(
                "config.signal_plugin_params",
                "belong to a template, and the strategy is not one; leave them out, or name a"
                " template in signal_plugin_key",
            )
        content["parameters"] = content.get("parameters", {}) | parameters
    return content


def _size_type(strategy: Strategy, requested: SizeType | None) -> SizeType:
    """Return the unit that the strategy sizes its entries in, or the ``requested`` one.

    Raises ``InvalidParameter`` if they do not fit.
    """
    if not isinstance(strategy.body, ParsedCard):
        # The orders of a program are not known before it runs.
        return requested or "signal_weight"
    card = strategy.body.card
    sizes = [card.grid.size] if card.grid is not None else [entry.size for entry in card.entries]
    units = {name for size in sizes for name in size.__struct_fields__ if getattr(size, name)}
    fitting: SizeType = "signal_weight"
    for size_type, unit in _SIZES.items():
        if units == {unit}:
            fitting = size_type
    if requested not in (None, fitting, "signal_weight"):
        raise InvalidParameter(
            "config.size_type",
            f"must be {fitting} or left out: the strategy sizes its entries by"
            f" {' and '.join(sorted(units))}",
        )
    return requested or fitting


def _json_number(number: Decimal) -> float | int:
    return int(number) if number == int(number) else float(number)
