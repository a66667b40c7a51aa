"""Dialects of sessions in requests and answers."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from candlestep.api.schemas.decoding import RequestBody
from candlestep.api.schemas.fields import PositiveNumber

Clock = Annotated[
    Literal["manual", "lockstep", "paced"],
    Meta(
        description="`manual`: time stands until the session is stepped; `lockstep`: `candlestep"
        " drive` makes the time of a bot that of the session; `paced`: the session follows the wall"
        " clock at `speed`, caught up before each request."
    ),
]


class SymbolFilters(RequestBody):
    tick_size: PositiveNumber | None = None
    step_size: PositiveNumber | None = None
    min_quantity: PositiveNumber | None = None
    min_notional: PositiveNumber | None = None


class DialectRequest(RequestBody):
    dialect: Literal["binance"] = "binance"
    clock: Clock = "manual"
    speed: Annotated[
        PositiveNumber, Meta(description="Seconds of the market in one of the wall; of `paced`.")
    ] = 60
    strict_time: Annotated[
        bool, Meta(description="Refuse requests whose `timestamp` is not the virtual time.")
    ] = False
    rate_limits: Annotated[
        bool, Meta(description="Refuse more requests in a minute than Binance admits.")
    ] = False
    symbols: Annotated[
        dict[str, SymbolFilters], Meta(description="Filters that replace those of the session.")
    ] = msgspec.field(default_factory=dict)


class DialectResponse(msgspec.Struct, frozen=True):
    base_url: Annotated[str, Meta(description="What stands for the address of the exchange.")]
    api_key: str
    api_secret: Annotated[str, Meta(description="Shown here alone.")]
    control_url: Annotated[
        str, Meta(description="`POST {control_url}/step?n=1`, signed, steps the session.")
    ]
