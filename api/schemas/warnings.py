"""Warnings in answers, which join a reply after it is digested and stored, as it is sent."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.api.schemas.fields import Time
from candlestep.api.schemas.response import Response
from candlestep.sandbox.market.coverage import SessionWarning

_HIGH_SLIPPAGE = Decimal(2)
"""Percent of the price beyond which the slippage of an order is warned of."""
_NONE = b',"warnings":[]}'

_encode = msgspec.json.Encoder().encode


class WarningResponse(Response, frozen=True):
    code: Annotated[
        str,
        Meta(
            description="`NO_CANDLES`: the pair has no candles in the whole session or run. `GAP`: it has"
            " none in a stretch of it. `MORE_GAPS`: there are further stretches, of any pairs."
            " `DATA_ENDED`: a position in a perpetual was open when its candles ended."
            " `MARKS_UNUSED`: mark prices are coarser than the candles, so that last prices were used."
            " `SHORT_HISTORY`: candles before the start are left out, to fit the memory."
            " `HIGH_SLIPPAGE`: an order filled more than 2 % worse than the price.",
            examples=["GAP"],
        ),
    ]
    symbol: Annotated[str | None, Meta(description="Null in warnings about all.")]
    start: Time = msgspec.field(name="from")
    end: Time = msgspec.field(name="to")
    message: str


Warnings = Annotated[
    list[WarningResponse],
    Meta(
        description="The stretches of the session or run in which a pair has no candles: at most 20,"
        " and each pair that a run leaves out because it has none."
    ),
]
CoverageByPair = Annotated[
    dict[str, float],
    Meta(
        description="By pair, the share of the steps of the session or run whose time lies within a candle:"
        " after its open, and not after its completion. From 0 to 1.",
        examples=[{"BTCUSDT": 1.0}],
    ),
]


def coverage_fields(
    warnings: Iterable[SessionWarning], shares: Mapping[str, float]
) -> dict[str, Any]:
    """Return the fields ``warnings`` and ``coverage`` of an answer about a session or a run."""
    return {
        "warnings": [WarningResponse.of(warning) for warning in warnings],
        "coverage": shares,
    }


class _FilledOrder(msgspec.Struct):
    """The fields of an order in an answer that a warning depends on."""

    symbol: str
    slippage_pct: str | None
    filled_at: str | None


class _PlacedOrders(msgspec.Struct):
    """The field of the reply to a turn that warnings depend on."""

    orders: list[_FilledOrder]


_NO_ORDERS = b'"orders":[],"refused":'

_read_order = msgspec.json.Decoder(_FilledOrder).decode
_read_orders = msgspec.json.Decoder(_PlacedOrders).decode


def with_order_warnings(body: bytes) -> bytes:
    """Return the reply to an order with its field ``warnings``; see ``without_warnings``."""
    return _with_warnings(body, [_read_order(body)])


def with_turn_warnings(body: bytes) -> bytes:
    """Return the reply to a turn with a field ``warnings`` about its orders."""
    return _with_warnings(body, [] if _NO_ORDERS in body else _read_orders(body).orders)


def _with_warnings(body: bytes, orders: Iterable[_FilledOrder]) -> bytes:
    warnings = [
        _slippage_warning(order.symbol, order.slippage_pct, order.filled_at)
        for order in orders
        if order.filled_at is not None
        and order.slippage_pct is not None
        and Decimal(order.slippage_pct) > _HIGH_SLIPPAGE
    ]
    return b'%s,"warnings":%s}' % (body[:-1], _encode(warnings)) if warnings else body[:-1] + _NONE


def _slippage_warning(symbol: str, slippage_pct: str, time: str) -> WarningResponse:
    message = (
        f"the order filled {slippage_pct} % worse than the price of {symbol}; trade"
        " less at a time, or check that the volume of the candles is in base currency"
    )
    return WarningResponse("HIGH_SLIPPAGE", symbol, time, time, message)


def without_warnings(body: bytes) -> bytes:
    """Return an answer as it is digested and stored: as it was before warnings joined it."""
    reply, joined, _ = body.partition(b',"warnings":')
    return reply + b"}" if joined else body
