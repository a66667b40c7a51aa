"""The results of sessions in answers: configuration, metrics, equity, comparisons."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import Decimals, Money, SignedDecimals, Status, Time, money
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.warnings import CoverageByPair, Warnings
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import Snapshot, format_time, interval_name
from candlestep.sandbox.exchange.clearing import MarginMode
from candlestep.sandbox.exchange.costs.fees import FeeModel
from candlestep.sandbox.exchange.margin.clearing import LiquidationAt, LiquidationRules
from candlestep.sandbox.exchange.margin.reports import MarkSource
from candlestep.sandbox.exchange.margin.settings import DEFAULTS, MarkPrice, TiersSource
from candlestep.sandbox.market.blind.disguise import Variant
from candlestep.sandbox.money import format_decimal

Reading = Annotated[
    Literal["blind", "real"],
    Meta(description="Of a blind session: as it shows itself, or under what was real."),
]


class ReadingQuery(RequestBody):
    reading: Reading = "blind"


class SlippageResponse(msgspec.Struct, frozen=True):
    model: Literal["volume", "fixed_bps", "none"]
    bps: Decimals | UnsetType = UNSET


class FeePeriodResponse(msgspec.Struct, frozen=True):
    start: Time = msgspec.field(name="from")
    until: Time | None
    symbols: Annotated[
        list[str] | None, Meta(description="Null for all symbols that no other period names.")
    ]
    maker: Decimals
    taker: Decimals

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "FeePeriodResponse":
        fields: list[Any] = [entry.get(name) for name in cls.__struct_encode_fields__]
        return cls(*fields)


class RiskResponse(msgspec.Struct, frozen=True):
    max_order_size_pct: Decimals | None
    max_position_size_pct: Decimals | None
    daily_loss_limit_pct: Decimals | None

    @classmethod
    def of(cls, profile: Mapping[str, str | None]) -> "RiskResponse":
        return cls(*(profile.get(limit) for limit in cls.__struct_fields__))


class LiquidationTermsResponse(msgspec.Struct, frozen=True):
    fee_rate: Decimals
    at: LiquidationAt


class MarginTierResponse(msgspec.Struct, frozen=True):
    floor: Decimals
    mmr: Decimals
    cum: Decimals
    max_leverage: Decimals


class TiersResponse(msgspec.Struct, frozen=True):
    source: Annotated[
        TiersSource,
        Meta(
            description="`given` with the session; imported for the `instrument`; or the `default`,"
            " because neither was."
        ),
    ]
    tiers: list[MarginTierResponse]


class ResultsConfig(Response, frozen=True):
    start_time: Time
    end_time: Time
    starting_balance: Money
    strategy_label: str
    candle_interval: str
    agent_id: str
    pairs: list[str]
    exchange: str
    import_number: Annotated[
        int | None, Meta(description="The import as of which the session saw the market.")
    ]
    fee_rate: Annotated[Decimals | None, Meta(description="Null with a `fee_model`.")]
    fee_model: FeeModel | None
    fee_bps: Annotated[Decimals | None, Meta(description="Null unless the model is `fixed_bps`.")]
    fee_schedule: Annotated[
        list[FeePeriodResponse] | None, Meta(description="The rates that `match_exchange` used.")
    ]
    slippage: SlippageResponse
    trigger: Literal["path", "close"]
    liquidate_at_end: bool
    allow_gaps: bool
    risk_profile: RiskResponse
    locking_stops: Annotated[bool | UnsetType, Meta(description="Left out if false.")] = UNSET
    market_type: Annotated[
        Literal["perp"] | UnsetType, Meta(description="Left out on spot, as all that follows.")
    ] = UNSET
    leverage: Annotated[
        int | dict[str, int] | UnsetType, Meta(description="At the start, of all pairs or by pair.")
    ] = UNSET
    margin_mode: MarginMode | UnsetType = UNSET
    funding: bool | UnsetType = UNSET
    funding_rate_default: SignedDecimals | UnsetType | None = UNSET
    mark: MarkPrice | UnsetType = UNSET
    liquidation: LiquidationTermsResponse | UnsetType = UNSET
    settle_at_data_end: bool | UnsetType = UNSET
    margin_tiers: Annotated[
        dict[str, TiersResponse] | UnsetType, Meta(description="Those of the session, by pair.")
    ] = UNSET

    @classmethod
    def of(cls, record: SessionRecord, /, **fields: Any) -> Self:
        """Return the answer that shows the configuration of a session."""
        config = record.config
        if config.get("market_type") == "perp":
            fields |= _settings_of_perpetuals(config)
        periods = config.get("fee_schedule")
        schedule = None if periods is None else [FeePeriodResponse.of(entry) for entry in periods]
        own = {
            "candle_interval": interval_name(record.interval),
            **{name: config.get(name) for name in ("fee_rate", "fee_model", "fee_bps")},
            "fee_schedule": schedule,
            "slippage": SlippageResponse(**config["slippage"]),
            "trigger": config["trigger"],
            "liquidate_at_end": config["liquidate_at_end"],
            "allow_gaps": record.allows_gaps,
            "locking_stops": config.get("locking_stops", UNSET),
            "risk_profile": RiskResponse.of(record.risk_profile),
        }
        return super().of(record, **own, **fields)


def _settings_of_perpetuals(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a session on perpetuals: those stored, else their defaults."""
    settings: dict[str, Any] = {**DEFAULTS}
    settings |= {name: config[name] for name in DEFAULTS if name in config}
    del settings["margin_tiers"]
    rules, stored = LiquidationRules(), settings["liquidation"] or {}
    settings["liquidation"] = LiquidationTermsResponse(
        stored.get("fee_rate", format_decimal(rules.fee_rate)), stored.get("at", rules.at)
    )
    return settings | {"market_type": "perp"}


class ResultsSummary(Response, frozen=True):
    final_equity: Money
    total_pnl: Money
    roi_pct: Money
    total_trades: int
    total_fees: Money
    total_funding: Annotated[
        Money | UnsetType,
        Meta(
            description="Of perpetuals: received less paid. Left out on spot, as all that follows."
        ),
    ] = UNSET
    total_liquidation_fees: Annotated[
        Money | UnsetType, Meta(description="The part of `total_fees` that liquidations cost.")
    ] = UNSET
    liquidations: Annotated[int | UnsetType, Meta(description="Positions liquidated.")] = UNSET
    insurance: Annotated[
        Money | UnsetType, Meta(description="Debts that the insurance fund took over.")
    ] = UNSET
    max_leverage_used: Annotated[
        Money | UnsetType,
        Meta(description="Highest notional of all positions over equity, after a fill."),
    ] = UNSET
    mark_source: Annotated[
        MarkSource | UnsetType,
        Meta(
            description="`mark`: positions were valued at mark prices; `last`: at prices; `mixed`:"
            " at prices where the mark prices have holes."
        ),
    ] = UNSET
    mark_holes: Annotated[
        int | UnsetType, Meta(description="Candles without a mark price, if the pair has any.")
    ] = UNSET
    funding_expected: Annotated[
        int | UnsetType, Meta(description="Settlements at which a position was held.")
    ] = UNSET
    funding_applied: Annotated[
        int | UnsetType,
        Meta(description="Payments, those at `funding_rate_default` included."),
    ] = UNSET


class MetricsResponse(msgspec.Struct, frozen=True):
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown_pct: float
    max_drawdown_duration_days: int
    win_rate: float | None
    profit_factor: float | None
    avg_win: Money | None
    avg_loss: Money | None
    best_trade: Money | None
    worst_trade: Money | None
    trades_per_day: float
    total_return: float
    cagr: float | None
    calmar_ratio: float | None
    volatility: float | None
    var_95: float | None
    var_99: float | None
    cvar_95: float | None
    cvar_99: float | None
    expectancy: Money | None
    turnover: float | None
    candles_in_market: Annotated[
        int, Meta(description="Steps at which a symbol was held that had a candle.")
    ]
    returns_grid: str
    capped_fills: Annotated[
        int | None,
        Meta(
            description="Fills at the largest slippage of the volume model, 10 %. Null, as the times"
            " that follow, in results of earlier versions."
        ),
    ]
    covered_from: Annotated[
        Time | None, Meta(description="The metrics rest on the time that candles cover: from here")
    ]
    covered_to: Annotated[Time | None, Meta(description="up to here.")]


class PairResponse(Response, frozen=True):
    symbol: str
    trades: int
    win_rate: float | None
    net_pnl: Money


class RealResponse(msgspec.Struct, frozen=True):
    """The real market of a blind session."""

    seed: int
    names: bool
    times: bool
    prices: bool | Literal["exact"]
    variant: Variant
    exchange: str
    pairs: Annotated[dict[str, str], Meta(description="By the name that the session shows.")]
    start_time: Time
    end_time: Time


class ResultsResponse(msgspec.Struct, frozen=True):
    session_id: str
    status: Status
    config: ResultsConfig
    summary: ResultsSummary
    metrics: MetricsResponse
    by_pair: list[PairResponse]
    warnings: Warnings
    coverage: CoverageByPair
    real: Annotated[
        RealResponse | UnsetType,
        Meta(description="Of a blind session: what was real. All else is as the session shows it."),
    ] = UNSET


class SnapshotResponse(Response, frozen=True):
    simulated_at: Time
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money
    wallet_balance: Annotated[
        Money | UnsetType, Meta(description="Of perpetuals: cash without open PnL.")
    ] = UNSET
    margin_balance: Annotated[
        Money | UnsetType, Meta(description="Of perpetuals: wallet balance and unrealized PnL.")
    ] = UNSET
    funding: Annotated[
        Money | UnsetType,
        Meta(description="Of perpetuals: received less paid since the start."),
    ] = UNSET

    @classmethod
    def of(cls, snapshot: Snapshot, /, **fields: Any) -> Self:
        """Return the answer that shows a snapshot."""
        own: dict[str, Any] = {"wallet_balance": UNSET}
        if snapshot.funding is not None:
            own = {"margin_balance": money(snapshot.total_equity)}
        return super().of(snapshot, simulated_at=format_time(snapshot.time), **own, **fields)


class EquityCurveResponse(msgspec.Struct, frozen=True):
    session_id: str
    interval: int
    snapshots: list[SnapshotResponse]


class Comparison(Response, frozen=True):
    session_id: str
    strategy_label: str
    roi_pct: float
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown_pct: float
    win_rate: float | None
    profit_factor: float | None
    total_trades: int
    final_equity: Money


class CompareResponse(msgspec.Struct, frozen=True):
    comparisons: list[Comparison]
    best_by_roi: str
    best_by_sharpe: str | None
    best_by_drawdown: str
    recommendation: str


class BestResponse(msgspec.Struct, frozen=True):
    session_id: str
    strategy_label: str
    metric: str
    value: float | Money
