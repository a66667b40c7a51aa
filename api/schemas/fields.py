"""Types of fields that requests and answers share, and the text of amounts and times."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from candlestep.data.records.sessions import SessionStatus
from candlestep.sandbox import format_time
from candlestep.sandbox.clock import INTERVALS

Choice = TypeVar("Choice")

Money = Annotated[
    str, Meta(pattern=r"^-?\d+\.\d{2,}$", examples=["10000.00"], description="A decimal number.")
]
Decimals = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$", examples=["0.001"])]
SignedDecimals = Annotated[str, Meta(pattern=r"^-?\d+(\.\d+)?$", examples=["0.0001"])]
Time = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$",
        examples=["2025-06-01T00:00:00Z"],
        description="ISO 8601, UTC.",
    ),
]
CoveredFrom = Annotated[
    Time,
    Meta(description="The period asked for is cut to the candles there are: it is run from here"),
]
CoveredTo = Annotated[Time, Meta(description="up to here.")]
NUMBER_PATTERN = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
SYMBOL_PATTERN = (
    "^([A-Za-z0-9]{2,40}|[A-Za-z0-9]{1,20}[/_-][A-Za-z0-9]{1,20}"
    "|[A-Za-z0-9]{1,20}/(USDT:USDT|USDC:USDC))$"
)
EXCHANGE_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"
_TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)


def number_schema(example: Any, **bounds: Any) -> Meta:
    """Return the description of a number in a request; the code that uses it checks its bounds."""
    schema = {"type": ["string", "number"], "pattern": NUMBER_PATTERN, "examples": [example]}
    return Meta(
        description="A decimal number, as a JSON number or a string.",
        extra_json_schema=schema | bounds,
    )


PositiveNumber = Annotated[Any, number_schema("0.1", exclusiveMinimum=0, maximum=10**16)]
FundingRate = Annotated[Any, number_schema("0.0001", exclusiveMinimum=-1, exclusiveMaximum=1)]
SignedNumber = Annotated[Any, number_schema("-100", minimum=-(10**16), maximum=10**16)]
Leverage = Annotated[
    Any,
    Meta(
        description="A whole number, at most that of the margin tiers.",
        extra_json_schema={
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": 1000,
            "pattern": r"^[0-9]{1,4}$",
            "examples": [5],
        },
    ),
]
Fraction = Annotated[Any, number_schema("0.001", minimum=0, maximum=1)]
Percent = Annotated[Any, number_schema(10, minimum=0, maximum=100)]
BasisPoints = Annotated[Any, number_schema(5, minimum=0, maximum=5000)]
TimeInput = Annotated[
    str,
    Meta(
        description="ISO 8601; UTC unless it says otherwise.",
        examples=["2025-06-01T00:00:00Z"],
        extra_json_schema={"pattern": _TIME_PATTERN},
    ),
]
ExchangeGiven = Annotated[
    str,
    Meta(
        max_length=200,
        description="The exchange of the candles, such as `binance`.",
        extra_json_schema={"pattern": EXCHANGE_PATTERN},
    ),
]
Symbol = Annotated[
    str,
    Meta(
        description="Such as `BTCUSDT`; `btc-usdt` and `BTC/USDT` are the same. A perpetual is"
        " `BTCUSDT-PERP` or `BTC/USDT:USDT`.",
        max_length=200,
        examples=["BTCUSDT"],
        extra_json_schema={"pattern": SYMBOL_PATTERN},
    ),
]
SYMBOL_IN_PATH: dict[str, Any] = {
    "type": "string",
    "pattern": SYMBOL_PATTERN,
    "description": "Such as `BTCUSDT`; `btc-usdt` and `BTC/USDT` are the same.",
    "examples": ["BTCUSDT"],
}
"""The JSON Schema of a symbol in a path."""
INTERVAL_SECONDS = [length // 1000 for length in INTERVALS.values()]
INTERVAL_TEXTS = [*INTERVALS, *map(str, INTERVAL_SECONDS)]
"""Intervals as text: names and seconds."""
IntervalInput = Annotated[
    str | int, Meta(extra_json_schema={"enum": [*INTERVAL_TEXTS, *INTERVAL_SECONDS]})
]
Status = SessionStatus
Name = Annotated[str, Meta(max_length=200)]
PageSize = Annotated[int, Meta(ge=1, le=1000)]
PageStart = Annotated[int, Meta(ge=0, le=10**9)]
"""The number of items to return of a list, and the number of items before them."""
StrategyId = Annotated[str, Meta(max_length=100)]


def match_choice(choices: Iterable[Choice], text: str) -> Choice | None:
    """Return the member of ``choices`` that equals ``text``, or None."""
    return next((choice for choice in choices if choice == text), None)


def money(amount: Decimal) -> str:
    """Return an amount as text: all its digits, at least two decimals, no exponent.

    >>> money(Decimal("67500.30000000")), money(Decimal("1E+2"))
    ('67500.30', '100.00')
    """
    text = str(amount)
    if text[-3:-2] == ".":
        return text
    if not amount:
        return "0.00"
    if "E" in text:
        text = f"{amount:f}"
    if "." not in text:
        return text + ".00"
    text = text.rstrip("0")
    return text + "00" if text[-1] == "." else text + "0" if text[-2] == "." else text


def optional_money(amount: Decimal | None) -> str | None:
    """Write an amount as ``money`` does; None stays None."""
    return None if amount is None else money(amount)


def optional_time(time: int | None) -> str | None:
    """Write a time as ``format_time`` does; None stays None."""
    return None if time is None else format_time(time)
