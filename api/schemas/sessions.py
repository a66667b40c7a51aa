"""Sessions in requests and answers: created, started, run and ended."""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import (
    NUMBER_PATTERN,
    BasisPoints,
    ExchangeGiven,
    Fraction,
    FundingRate,
    IntervalInput,
    Leverage,
    Money,
    Name,
    PositiveNumber,
    Status,
    Symbol,
    Time,
    TimeInput,
    number_schema,
)
from candlestep.api.schemas.prices import MarkPricesJson, PricesJson
from candlestep.api.schemas.response import Response
from candlestep.api.schemas.warnings import CoverageByPair, Warnings
from candlestep.data.journal.records import ForkRecord
from candlestep.data.records.sessions import SessionRecord
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, format_time, interval_name
from candlestep.sandbox.config import DEFAULT_BALANCE
from candlestep.sandbox.errors import abbreviate
from candlestep.sandbox.exchange.clearing import MarginMode
from candlestep.sandbox.exchange.costs.fees import FeeModel
from candlestep.sandbox.exchange.margin.settings import MarkPrice
from candlestep.sandbox.market.blind.disguise import LARGEST_SEED, Variant
from candlestep.sandbox.money import parse_number

MOST_FORKS = 100
"""The most forks that a request may ask for."""


class VolumeSlippage(RequestBody, tag_field="model", tag="volume"):
    pass


class FixedSlippage(RequestBody, tag_field="model", tag="fixed_bps"):
    bps: BasisPoints


class NoSlippage(RequestBody, tag_field="model", tag="none"):
    pass


Slippage = VolumeSlippage | FixedSlippage | NoSlippage


class BlindRequest(RequestBody):
    seed: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=LARGEST_SEED,
                description="Draws the disguise; the same seed, the same market. Drawn if left out.",
            ),
        ]
        | None
    ) = None
    names: Annotated[
        bool, Meta(description="Symbols become `ASSET1USDT`, …, and the exchange `blind`.")
    ] = True
    times: Annotated[
        bool, Meta(description="Shifted by a whole number of weeks, to between 1990 and 2005.")
    ] = True
    prices: Annotated[
        bool | Literal["exact"],
        Meta(
            description="Multiplied so that each pair's first one lies between 10 and 1,000, and"
            " rounded to 6 digits; `exact` does not round, and the factor can be recovered."
        ),
    ] = True
    variant: Annotated[
        Variant,
        Meta(description="`mirror` turns every return around; `bootstrap` draws whole days anew."),
    ] = "none"


class LiquidationRequest(RequestBody):
    fee_rate: Annotated[
        Fraction | UnsetType,
        Meta(description="Of the notional; at most what is left is taken. By default 0.0125."),
    ] = UNSET
    at: Annotated[
        Literal["path", "bankruptcy"] | UnsetType,
        Meta(
            description="The price: where the mark price meets the liquidation price (the default),"
            " or that at which the margin is used up."
        ),
    ] = UNSET


class TierRequest(RequestBody):
    floor: Annotated[
        Any, number_schema(0, minimum=0, description="The notional from which it applies.")
    ]
    mmr: Annotated[
        Any,
        number_schema(
            "0.004", exclusiveMinimum=0, exclusiveMaximum=1, description="Maintenance margin rate."
        ),
    ]
    max_leverage: Leverage
    cum: (
        Annotated[
            Any,
            number_schema(0, minimum=0, description="Maintenance amount; by default computed."),
        ]
        | UnsetType
    ) = UNSET


LeverageBySymbol = Annotated[
    Any,
    Meta(
        description="A whole number for all pairs, or one by pair; others have 1. It may be"
        " changed later.",
        extra_json_schema={
            "type": ["integer", "string", "object"],
            "minimum": 1,
            "maximum": 1000,
            "pattern": r"^[0-9]{1,4}$",
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 1000},
            "examples": [5, {"SOLUSDT-PERP": 5}],
        },
    ),
]


class FiltersRequest(RequestBody):
    """Rules that the orders of a pair have to meet; what is left out is as it is stored."""

    tick_size: PositiveNumber | UnsetType = UNSET
    step_size: PositiveNumber | UnsetType = UNSET
    min_quantity: PositiveNumber | UnsetType = UNSET
    min_notional: PositiveNumber | UnsetType = UNSET


class CreateRequest(RequestBody):
    foreign_names: ClassVar[Mapping[str, str]] = {
        "symbols": "`pairs`", "symbol": "`pairs`, a list", "start": "`start_time`",
        "end": "`end_time`", "balance": "`starting_balance`", "interval": "`candle_interval`",
        "timeframe": "`candle_interval`", "fee": "`fee_rate`",
    }  # fmt: skip
    start_time: TimeInput
    end_time: TimeInput
    starting_balance: PositiveNumber = DEFAULT_BALANCE
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
    locking_stops: Annotated[
        bool | UnsetType,
        Meta(description="True has sells that wait lock their quantity, whatever their type."),
    ] = UNSET
    filters: Annotated[
        dict[str, FiltersRequest] | UnsetType,
        Meta(description="The filters of orders, by pair; others have those that are stored."),
    ] = UNSET
    allow_gaps: Annotated[
        bool | UnsetType,
        Meta(
            description="True lets the session start before the first candle of its pairs or end"
            " after the last one, which is refused otherwise."
        ),
    ] = UNSET
    """Not a default of false: stored digests of requests are of those without this field, and of
    those that follow."""
    blind: Annotated[
        bool | BlindRequest | UnsetType,
        Meta(
            description="Disguises the market, for agents that may remember it: true, or in which"
            " way. What was real can be read when the session has ended."
        ),
    ] = UNSET
    sealed: Annotated[
        bool | UnsetType,
        Meta(
            description="Refuses forks, and recordings before the end; with a key of the session"
            " `cancel` too. By default true if the session is blind."
        ),
    ] = UNSET
    market_type: Annotated[
        Literal["spot", "perp"] | UnsetType,
        Meta(
            description="A session trades spot pairs (the default) or perpetual futures. With `perp`,"
            " `SOLUSDT` means `SOLUSDT-PERP`; all that follows applies to it alone."
        ),
    ] = UNSET
    leverage: LeverageBySymbol | UnsetType = UNSET
    margin_mode: Annotated[
        MarginMode | UnsetType,
        Meta(description="By default `cross`. It may be changed later, for each pair."),
    ] = UNSET
    funding: Annotated[
        bool | UnsetType,
        Meta(description="Pay and receive funding, at its imported rates; by default true."),
    ] = UNSET
    funding_rate_default: Annotated[
        FundingRate | UnsetType,
        Meta(description="Rate where one is missing; without it, the start is refused then."),
    ] = UNSET
    mark: Annotated[
        MarkPrice | UnsetType,
        Meta(
            description="`auto` (the default) values and liquidates at imported mark prices, `last` at"
            " the prices of the candles."
        ),
    ] = UNSET
    liquidation: LiquidationRequest | UnsetType = UNSET
    margin_tiers: Annotated[
        list[TierRequest] | dict[str, list[TierRequest]] | UnsetType,
        Meta(
            description="For all pairs, or by pair. By default those that were imported, else one of"
            " 0.4 % and 125x."
        ),
    ] = UNSET
    settle_at_data_end: Annotated[
        bool | UnsetType,
        Meta(
            description="Close a position where the candles of its pair end, at the last price; by"
            " default it stands there."
        ),
    ] = UNSET

    @property
    def is_sealed(self) -> bool:
        """True if the session is sealed, by the request or because it is blind."""
        return bool(self.blind) if self.sealed is UNSET else bool(self.sealed)

    def margin_settings(self) -> dict[str, Any]:
        """Return the fields that apply to perpetuals alone, those that are given, as plain data."""
        given = {name: getattr(self, name) for name in _OF_PERPETUALS}
        return {
            name: msgspec.to_builtins(value) for name, value in given.items() if value is not UNSET
        }


_OF_PERPETUALS = (
    "leverage",
    "margin_mode",
    "funding",
    "funding_rate_default",
    "mark",
    "liquidation",
    "margin_tiers",
    "settle_at_data_end",
)

MOST_STEPS = 10**9
"""The most steps that one command may ask for."""

FromStep = (
    Annotated[
        int,
        Meta(ge=0, le=10**15, description="Refused with 409 unless the session is at this step."),
    ]
    | None
)


class PriceLevelRequest(RequestBody, kw_only=True):
    """A price that a candle has to reach: one of ``above`` and ``below``."""

    symbol: Symbol
    above: PositiveNumber | UnsetType = UNSET
    below: PositiveNumber | UnsetType = UNSET


UntilInput = Annotated[
    Literal["steps", "order_change"] | PriceLevelRequest,
    Meta(
        description="Stop after the first step in which an order fills or closes (`order_change`), or"
        " in which a candle reaches a price. A candle that is running at the request counts by its"
        " close. By default all steps are made."
    ),
]


def until_of(given: Any) -> Any:
    """Return a condition as ``Session.step`` takes it; one that was left out is ``steps``."""
    if given is UNSET:
        return "steps"
    return msgspec.to_builtins(given) if isinstance(given, PriceLevelRequest) else given


def steps_input(least: int) -> Meta:
    """Return the description of a number of steps; ``whole_steps`` checks it."""
    return Meta(
        description="A whole number; stepping stops at the session's end.",
        extra_json_schema={
            "type": ["integer", "string"],
            "minimum": least,
            "maximum": MOST_STEPS,
            "pattern": NUMBER_PATTERN,
            "examples": [60],
        },
    )


def whole_steps(steps: object, least: int = 1) -> int:
    """Return the number of steps that a body asks for, as a number or a string."""
    number: int | Decimal = -1
    with suppress(InvalidParameter):
        number = steps if type(steps) is int else parse_number("steps", steps)
    if not least <= number <= MOST_STEPS or number != int(number):
        raise InvalidParameter(
            "steps",
            f"must be a whole number from {least} to {MOST_STEPS}, got {abbreviate(steps)}",
        )
    return int(number)


class StepRequest(RequestBody):
    from_step: FromStep = None

    foreign_names: ClassVar[Mapping[str, str]] = {"steps": "`POST …/step/batch`, which takes it"}


class BatchRequest(RequestBody, kw_only=True):
    steps: Annotated[Any, steps_input(least=1)]
    from_step: FromStep = None
    until: UntilInput | UnsetType = UNSET


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
    estimated_pairs: Annotated[
        int, Meta(description="The number of pairs that have candles in the session.")
    ]
    warnings: Warnings
    coverage: CoverageByPair


class StartResponse(msgspec.Struct, frozen=True):
    session_id: str
    status: Literal["running"]
    virtual_time: Time
    prices: PricesJson
    warnings: Warnings
    coverage: CoverageByPair
    mark_prices: MarkPricesJson = UNSET


class StartedResponse(msgspec.Struct, frozen=True):
    """The part of a ``StartResponse`` that is digested: it is the same in every replay."""

    status: Literal["running"]
    virtual_time: Time
    prices: PricesJson
    mark_prices: MarkPricesJson = UNSET


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


class StatusResponse(SessionResponse, frozen=True):
    warnings: Warnings
    coverage: CoverageByPair


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
