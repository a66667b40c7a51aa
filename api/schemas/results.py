"""The results of sessions in answers: configuration, metrics, equity, comparisons."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.fields import Decimals, Money, Status, Time, money
from candlestep.sandbox import Snapshot, format_time
from candlestep.sandbox.exchange.costs.fees import FeeModel


class SlippageResponse(msgspec.Struct, frozen=True, omit_defaults=True):
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
        return cls(
            entry["from"],
            entry.get("until"),
            entry.get("symbols"),
            entry["maker"],
            entry["taker"],
        )


class RiskResponse(msgspec.Struct, frozen=True):
    max_order_size_pct: Decimals | None
    max_position_size_pct: Decimals | None
    daily_loss_limit_pct: Decimals | None

    @classmethod
    def of(cls, profile: Mapping[str, str | None]) -> "RiskResponse":
        return cls(*(profile.get(limit) for limit in cls.__struct_fields__))


class ResultsConfig(msgspec.Struct, frozen=True):
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
    risk_profile: RiskResponse


class ResultsSummary(msgspec.Struct, frozen=True):
    final_equity: Money
    total_pnl: Money
    roi_pct: Money
    total_trades: int
    total_fees: Money


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
    candles_in_market: int
    returns_grid: str


class PairResponse(msgspec.Struct, frozen=True):
    symbol: str
    trades: int
    win_rate: float | None
    net_pnl: Money


class ResultsResponse(msgspec.Struct, frozen=True):
    session_id: str
    status: Status
    config: ResultsConfig
    summary: ResultsSummary
    metrics: MetricsResponse
    by_pair: list[PairResponse]


class SnapshotResponse(msgspec.Struct, frozen=True):
    simulated_at: Time
    total_equity: Money
    available_cash: Money
    locked_cash: Money
    position_value: Money
    unrealized_pnl: Money
    realized_pnl: Money

    @classmethod
    def of(cls, snapshot: Snapshot) -> "SnapshotResponse":
        return cls(
            format_time(snapshot.time),
            money(snapshot.total_equity),
            money(snapshot.available_cash),
            money(snapshot.locked_cash),
            money(snapshot.position_value),
            money(snapshot.unrealized_pnl),
            money(snapshot.realized_pnl),
        )


class EquityCurveResponse(msgspec.Struct, frozen=True):
    session_id: str
    interval: int
    snapshots: list[SnapshotResponse]


class Comparison(msgspec.Struct, frozen=True):
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
