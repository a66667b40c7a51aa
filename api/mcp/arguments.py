"""The arguments of each tool: their types are the input schemas, and raw arguments are checked by them."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

from candlestep.api.errors import with_field_names
from candlestep.api.schemas.decoding import RequestBody, decode_body
from candlestep.api.schemas.orders import OrderRequest
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.exchange.orders import Side
from candlestep.sandbox.market.blind.disguise import LARGEST_SEED, Variant

MOST_CANDLES = 120
MOST_INDICATORS = 5
MOST_FORKS = 8
MOST_COMPARED = 20
MOST_CURVE_POINTS = 50
MOST_ROWS = 100
LONGEST_WAIT = 60
"""The longest time in seconds for which ``run_strategy`` waits."""

_NUMBER = Meta(extra_json_schema={"type": ["string", "number"]})
Amount = Annotated[Any, _NUMBER]
Percent = Annotated[Any, _NUMBER]
Slippage = Annotated[
    Any,
    Meta(
        description="Basis points, `volume` or `none`.",
        extra_json_schema={"type": ["string", "number"]},
    ),
]
Fee = Annotated[
    Any,
    Meta(
        description="0.001 is 0.1 %.",
        extra_json_schema={"type": ["string", "number"]},
    ),
]
Until = Literal["steps", "order_change", "price"]
Key = (
    Annotated[
        str,
        Meta(pattern="^[!-~]{1,200}$", description="A call sent again with its key is done once."),
    ]
    | None
)
Time = Annotated[str, Meta(description="UTC, such as 2025-01-05.")]

_WHOLE = {
    "steps",
    "count",
    "limit",
    "candles",
    "before",
    "curve_points",
    "trades",
    "wait_s",
    "leverage",
}
"""The arguments that count something."""
_LISTS = {
    "orders": '[{"symbol": "BTCUSDT", "side": "buy", "quote": 100}]',
    "cancel": '[3] or ["all"]',
    "indicators": '["rsi:14"]',
}
"""Examples of the arguments that are lists, for one that is not."""

Arguments = TypeVar("Arguments", bound=RequestBody)


class ListData(RequestBody):
    symbol: Annotated[str, Meta(description="A part of its name.")] | None = None


class RiskLimits(RequestBody, omit_defaults=True):
    max_order_size_pct: Percent | None = None
    max_position_size_pct: Percent | None = None
    daily_loss_limit_pct: Percent | None = None


class Disguise(RequestBody, omit_defaults=True):
    seed: Annotated[int, Meta(ge=0, le=LARGEST_SEED)] | None = None
    variant: Variant = "none"


class CreateSession(RequestBody, kw_only=True):
    symbols: list[str]
    start: Time
    end: str
    balance: Amount = "10000"
    interval: str = "1m"
    fee: Fee | None = None
    slippage: Slippage | None = None
    risk: RiskLimits | None = None
    leverage: (
        Annotated[Any, Meta(description="Of perpetuals.", extra_json_schema={"type": "integer"})]
        | None
    ) = None
    blind: Annotated[
        bool | Disguise,
        Meta(description="Disguise symbols, times and prices."),
    ] = False
    sealed: Annotated[bool | None, Meta(description="No forks. Default: if blind.")] = None
    label: str = ""
    key: Key = None

    foreign_names: ClassVar[Mapping[str, str]] = {
        "pairs": "`symbols`",
        "start_time": "`start`",
        "end_time": "`end`",
        "starting_balance": "`balance`",
    }


class ListSessions(RequestBody):
    status: Literal["created", "running", "completed", "cancelled", "failed"] | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = 10


class OfSession(RequestBody):
    session_id: str | None = None


class Observe(RequestBody):
    session_id: str | None = None
    symbols: list[str] | None = None
    interval: str = "1h"
    candles: Annotated[int, Meta(ge=1, le=MOST_CANDLES, description="24 if left out.")] | None = (
        None
    )
    indicators: (
        Annotated[
            list[str],
            Meta(max_length=MOST_INDICATORS, description="rsi:14, ema:50, bollinger:20:2, …"),
        ]
        | None
    ) = None


class OrderArguments(RequestBody, kw_only=True, omit_defaults=True):
    symbol: str
    side: Side
    type: Literal["market", "limit", "stop_loss", "take_profit"] = "market"
    quantity: Amount | None = None
    quote: Annotated[Amount, Meta(description="Or an amount of cash.")] | None = None
    equity_share: Annotated[Amount, Meta(description="Or a fraction of equity, 0 to 1.")] | None = (
        None
    )
    price: Amount | None = None
    trigger_price: Amount | None = None
    oco_group: str | None = None
    stop_loss_pct: (
        Annotated[
            Percent, Meta(description="Guard a market or limit order, percent from its price.")
        ]
        | None
    ) = None
    take_profit_pct: Percent | None = None
    client_order_id: str | None = None

    foreign_names: ClassVar[Mapping[str, str]] = {
        **OrderRequest.foreign_names,
        "stop_price": "`trigger_price`",
        "stop_loss": "`stop_loss_pct`, in percent, or an order of `type` stop_loss",
        "take_profit": "`take_profit_pct`, in percent, or an order of `type` take_profit",
    }


class Act(RequestBody):
    session_id: str | None = None
    orders: tuple[OrderArguments, ...] = ()
    cancel: Annotated[tuple[int | str, ...], Meta(description='Order ids, or "all".')] = ()
    steps: Annotated[int, Meta(ge=0, le=10**9)] = 0
    until: Until = "steps"
    symbol: str | None = None
    above: Amount | None = None
    below: Amount | None = None
    reason: str | None = None
    key: Key = None


class Steps(RequestBody):
    session_id: str | None = None
    steps: Annotated[int, Meta(ge=1, le=10**9)] = 1
    until: Until = "steps"
    symbol: Annotated[str, Meta(description="Of until=price.")] | None = None
    above: Amount | None = None
    below: Amount | None = None
    key: Key = None


class History(RequestBody):
    session_id: str | None = None
    what: Literal["orders", "trades"] = "orders"
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = 20
    before: Annotated[int, Meta(ge=1, description="An id: those before it.")] | None = None


class Fork(RequestBody):
    session_id: str | None = None
    count: Annotated[int, Meta(ge=1, le=MOST_FORKS)] = 1
    key: Key = None


class Compare(RequestBody):
    session_ids: Annotated[list[str], Meta(min_length=2, max_length=MOST_COMPARED)]


class SessionResults(RequestBody):
    session_id: str | None = None
    curve_points: Annotated[int, Meta(ge=0, le=MOST_CURVE_POINTS)] = 0


class EndSession(RequestBody):
    session_id: str
    reason: str | None = None
    key: Key = None


class RunStrategy(RequestBody, kw_only=True):
    has_strategy = True

    strategy: Annotated[
        Any,
        Meta(
            description="A card; {template, parameters}; or the text of a Starlark program.",
            extra_json_schema={"type": ["object", "string"]},
        ),
    ]
    symbols: list[str]
    timeframe: str
    start: Time
    end: str
    balance: Amount = "10000"
    fee: Fee | None = None
    slippage: Slippage | None = None
    wait_s: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)] = 20
    key: Key = None


class Job(RequestBody):
    job_id: str
    cancel: bool = False
    trades: Annotated[int, Meta(ge=0, le=50)] = 0


def read_arguments(kind: type[Arguments], raw: Any) -> Arguments:
    """Check the raw arguments of a call; numbers keep their digits, and may be texts.

    Raises ``InvalidParameter``, which names the argument.
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise InvalidParameter("arguments", "must be an object with the tool's arguments")
    given = {name: _whole(value) if name in _WHOLE else value for name, value in raw.items()}
    try:
        arguments: Arguments = decode_body(kind, msgspec.json.encode(given))
    except InvalidParameter as refusal:
        is_text_or_object = refusal.message.endswith(("got `str`", "got `object`"))
        if not is_text_or_object or "expected `array" not in refusal.message:
            raise
        field = str(refusal.details["field"])
        example = _LISTS.get(field, '["BTCUSDT"]')
        raise InvalidParameter(field, f"must be a list, such as {example}") from None
    return arguments


def _whole(value: Any) -> Any:
    """Return a text of digits as the number that it is."""
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16
    return int(value) if is_number else value


def in_words_of_tools(refusal: InvalidParameter) -> InvalidParameter:
    """Return a refusal of a native request with its field named as tools name it."""
    return with_field_names(
        refusal,
        {
            "pairs": "symbols",
            "start_time": "start",
            "end_time": "end",
            "starting_balance": "balance",
            "candle_interval": "interval",
            "fee_rate": "fee",
            "fee_bps": "fee",
            "Idempotency-Key": "key",
        },
    )
