"""What requests carry. A number may be a JSON number or a string; an unknown field is refused."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.fields import (
    NUMBER_PATTERN,
    BasisPoints,
    ExchangeGiven,
    Fraction,
    IntervalInput,
    Name,
    Percent,
    PositiveNumber,
    Symbol,
    TimeInput,
)
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox.exchange.costs.fees import FeeModel

MOST_FORKS = 100
"""Of one call."""


class RequestBody(msgspec.Struct, forbid_unknown_fields=True):
    """Base of what is received: an unknown field is refused by name."""

    has_strategy: ClassVar[bool] = False
    """Whether a field holds a strategy, whose numbers ``with_numbers`` gives back."""


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
        Annotated[str, Meta(max_length=100, description="Left out: the key's agent.")] | None
    ) = None
    pairs: Annotated[
        list[Symbol] | None, Meta(description="Left out: all that have data in the time.")
    ] = None
    exchange: ExchangeGiven = DEFAULT_EXCHANGE
    fee_rate: Annotated[
        Fraction | None,
        Meta(description="0.001 where neither this nor `fee_model` is given; not with it."),
    ] = None
    fee_model: Annotated[
        FeeModel | None,
        Meta(
            description="`none`; `fixed_bps`, which is `fee_bps`; `tiered_maker_taker`, by the"
            " volume of the last 30 days; `match_exchange`, by the dated schedule of `exchange`."
        ),
    ] = None
    fee_bps: Annotated[
        BasisPoints | None, Meta(description="Of `fixed_bps` only; left out: 5.")
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
            description="A whole number; it stops at the session's end.",
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
        bool, Meta(description="Accepted; fills are always included.")
    ] = True


class OrderRequest(RequestBody):
    symbol: Symbol
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop_loss", "take_profit"]
    quantity: PositiveNumber
    price: Annotated[
        PositiveNumber | None,
        Meta(description="A limit order's; else `trigger_price`, where that is not."),
    ] = None
    trigger_price: Annotated[
        PositiveNumber | None, Meta(description="Of a stop_loss or take_profit.")
    ] = None
    client_order_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    oco_group: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    expires_at: TimeInput | None = None


class EmptyBody(RequestBody):
    pass


class ForkRequest(RequestBody):
    count: Annotated[int, Meta(ge=1, le=MOST_FORKS)] = 1
    strategy_label: Annotated[
        Name | None, Meta(description="Left out: that of the session that is forked.")
    ] = None


class RiskRequest(RequestBody):
    max_order_size_pct: Percent | None = None
    max_position_size_pct: Percent | None = None
    daily_loss_limit_pct: Percent | None = None


class RiskChange(RequestBody):
    max_order_size_pct: Percent | UnsetType | None = UNSET
    max_position_size_pct: Percent | UnsetType | None = UNSET
    daily_loss_limit_pct: Percent | UnsetType | None = UNSET


class AgentRequest(RequestBody):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    risk_profile: RiskRequest | None = None


class AgentChange(RequestBody):
    name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    risk_profile: Annotated[
        RiskChange | UnsetType,
        Meta(description="The limits to change; null lifts one, those left out stay."),
    ] = UNSET
