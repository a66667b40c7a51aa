"""Sessions in requests and answers: created, started, run and ended."""

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    NUMBER_PATTERN,
    BasisPoints,
    ExchangeGiven,
    Fraction,
    IntervalInput,
    Money,
    Name,
    PositiveNumber,
    Status,
    Symbol,
    Time,
    TimeInput,
)
from candlestep.api.schemas.response import Response
from candlestep.data.journal.records import ForkRecord
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import format_time, interval_name
from candlestep.sandbox.exchange.costs.fees import FeeModel

MOST_FORKS = 100
"""The most forks that a request may ask for."""


class VolumeSlippage(RequestBody, tag_field="model", tag="volume"):
    pass


class FixedSlippage(RequestBody, tag_field="model", tag="fixed_bps"):
    bps: BasisPoints


class NoSlippage(RequestBody, tag_field="model", tag="none"):
    pass


Slippage = VolumeSlippage | FixedSlippage | NoSlippage


class CreateRequest(RequestBody):
    start_time: TimeInput
    end_time: TimeInput
    starting_balance: PositiveNumber = 10_000
    candle_interval: Annotated[IntervalInput, Meta(description="A name, or seconds.")] = "1m"
    strategy_label: Name = ""
    agent_id: (
        Annotated[str, Meta(max_length=100, description="By default the key's agent.")] | None
    ) = None
    pairs: Annotated[
        list[Symbol] | None, Meta(description="By default all that have data in the period.")
    ] = None
    exchange: ExchangeGiven = DEFAULT_EXCHANGE
    fee_rate: Annotated[
        Fraction | None,
        Meta(description="Excludes `fee_model`. The default is 0.001 if neither is given."),
    ] = None
    fee_model: Annotated[
        FeeModel | None,
        Meta(
            description="`none`; `fixed_bps`, at the rate `fee_bps`; `tiered_maker_taker`, by the"
            " volume of the last 30 days; `match_exchange`, by the dated schedule of `exchange`."
        ),
    ] = None
    fee_bps: Annotated[
        BasisPoints | None, Meta(description="Only with `fixed_bps`; by default 5.")
    ] = None
    slippage: Slippage | None = None
    trigger: Literal["path", "close"] = "path"
    liquidate_at_end: bool = False


FromStep = (
    Annotated[
        int,
        Meta(ge=0, le=10**15, description="Refused with 409 unless the session is at this step."),
    ]
    | None
)


class StepRequest(RequestBody):
    from_step: FromStep = None


class BatchRequest(RequestBody, kw_only=True):
    steps: Annotated[
        Any,
        Meta(
            description="A whole number; stepping stops at the session's end.",
            extra_json_schema={
                "type": ["integer", "string"],
                "minimum": 1,
                "pattern": NUMBER_PATTERN,
                "examples": [60],
            },
        ),
    ]
    from_step: FromStep = None


class FastRequest(BatchRequest, kw_only=True):
    include_intermediate_trades: Annotated[
        bool, Meta(description="Accepted and ignored: fills are always included.")
    ] = True


class ForkRequest(RequestBody):
    count: Annotated[int, Meta(ge=1, le=MOST_FORKS)] = 1
    strategy_label: Annotated[
        Name | None, Meta(description="By default that of the session that is forked.")
    ] = None


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
    """A ``StartResponse`` without the session's id, so that it is the same in every replay."""

    status: Literal["running"]
    virtual_time: Time
    prices: dict[str, Money]


class SessionResponse(Response, frozen=True):
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
    def of(cls, record: SessionRecord, /, **fields: Any) -> Self:
        """Return the answer that shows the record of a session."""
        virtual_time = record.start_time + record.current_step * record.interval
        return super().of(
            record,
            candle_interval=interval_name(record.interval),
            progress_pct=progress(record.current_step, record.total_steps),
            virtual_time=format_time(virtual_time),
            **fields,
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
    """A ``CancelResponse`` without the session's id, so that it is the same in every replay."""

    status: Literal["cancelled", "completed"]
    total_trades: int
    roi_pct: Money


class ForkedSession(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    strategy_label: str


class ForkResponse(msgspec.Struct, frozen=True):
    session_id: str
    """The session that was forked."""
    current_step: int
    virtual_time: Time
    forks: list[ForkedSession]
    count: int


def fork_response(record: SessionRecord, fork: ForkRecord) -> ForkResponse:
    """Return the reply to a fork of the session with this record."""
    return ForkResponse(
        record.session_id,
        fork.at,
        format_time(record.start_time + fork.at * record.interval),
        [ForkedSession(name, "running", fork.strategy_label) for name in fork.sessions],
        len(fork.sessions),
    )


def progress(step: int, total_steps: int) -> str:
    """Return the share of steps made in percent, with 2 decimals, rounded half up."""
    hundredths = (step * 20_000 + total_steps) // (2 * total_steps)
    return f"{hundredths // 100}.{hundredths % 100:02d}"
