"""Sessions as they are answered: made, started, under way and ended."""

from typing import Literal

import msgspec

from candlestep.api.schemas.fields import Money, Status, Time, money, optional_money, optional_time
from candlestep.data.records.sessions import SessionRecord
from candlestep.sandbox import format_time, interval_name


class CreateResponse(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["created"]
    total_steps: int
    estimated_pairs: int


class StartResponse(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    virtual_time: Time
    prices: dict[str, Money]


class StartedResponse(msgspec.Struct, frozen=True):
    """A ``StartResponse`` but for the session's id: the same in every replay."""

    status: Literal["running"]
    virtual_time: Time
    prices: dict[str, Money]


class SessionResponse(msgspec.Struct, frozen=True):
    session_id: str
    agent_id: str
    strategy_label: str
    status: Status
    start_time: Time
    end_time: Time
    candle_interval: str
    starting_balance: Money
    pairs: list[str]
    current_step: int
    total_steps: int
    progress_pct: Money
    virtual_time: Time
    final_equity: Money | None
    total_pnl: Money | None
    roi_pct: Money | None
    total_trades: int | None
    total_fees: Money | None
    sharpe_ratio: float | None
    max_drawdown_pct: float | None
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    error: str | None

    @classmethod
    def of(cls, record: SessionRecord) -> "SessionResponse":
        return cls(
            session_id=record.session_id,
            agent_id=record.agent_id,
            strategy_label=record.strategy_label,
            status=record.status,
            start_time=format_time(record.start_time),
            end_time=format_time(record.end_time),
            candle_interval=interval_name(record.interval),
            starting_balance=money(record.starting_balance),
            pairs=record.pairs,
            current_step=record.current_step,
            total_steps=record.total_steps,
            progress_pct=progress(record.current_step, record.total_steps),
            virtual_time=format_time(record.start_time + record.current_step * record.interval),
            final_equity=optional_money(record.final_equity),
            total_pnl=optional_money(record.total_pnl),
            roi_pct=None if record.roi_pct is None else money(record.roi_pct),
            total_trades=record.total_trades,
            total_fees=optional_money(record.total_fees),
            sharpe_ratio=record.sharpe_ratio,
            max_drawdown_pct=record.max_drawdown_pct,
            created_at=format_time(record.created_at),
            started_at=optional_time(record.started_at),
            completed_at=optional_time(record.completed_at),
            error=record.error,
        )


class SessionsResponse(msgspec.Struct, frozen=True):
    backtests: list[SessionResponse]
    total: int


class CancelResponse(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["cancelled", "completed"]
    total_trades: int
    roi_pct: Money


class EndResponse(msgspec.Struct, frozen=True):
    """A ``CancelResponse`` but for the session's id: the same in every replay."""

    status: Literal["cancelled", "completed"]
    total_trades: int
    roi_pct: Money


def progress(step: int, total_steps: int) -> str:
    """Share of steps done, in percent with 2 decimals, half up."""
    hundredths = (step * 20_000 + total_steps) // (2 * total_steps)
    return f"{hundredths // 100}.{hundredths % 100:02d}"
