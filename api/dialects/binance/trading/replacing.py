"""``cancelReplace``: an order is cancelled and another placed, in one command and one record."""

from typing import Any

import msgspec

from candlestep.api.dialects.binance.call import Call, Endpoint, reads
from candlestep.api.dialects.binance.errors import BinanceError, named
from candlestep.api.dialects.binance.trading.orders import (
    ORDER_NAMES,
    cancelled,
    pending_order,
    placed_order,
    requested_order,
    require_open,
    response_type,
)
from candlestep.api.dialects.binance.trading.shapes import placed_shape
from candlestep.api.schemas.orders import OrderRequest
from candlestep.api.schemas.turns import RefusedPartResponse
from candlestep.api.sessions.commands import OrderCommand, TurnCommand
from candlestep.sandbox import SandboxError

_MODES = {"STOP_ON_FAILURE": True, "ALLOW_FAILURE": False}
_FAILED = -2022, "Order cancel-replace failed."
_HALF_FAILED = -2021, "Order cancel-replace partially failed."
_PARTLY_DONE = 409


class _Turn(msgspec.Struct):
    """The parts of a turn that the reply to it has."""

    orders: list[dict[str, Any]]
    refused: RefusedPartResponse | None


_read_turn = msgspec.json.Decoder(_Turn).decode


async def replace(call: Call) -> Any:
    """Cancel an order and place another; unless failures are allowed, only if it can be cancelled."""
    refusal = BinanceError(-1130, "Data sent for parameter 'cancelReplaceMode' is not valid.")
    stops = call.parameters.choice("cancelReplaceMode", _MODES, refusal)
    response = response_type(call)
    require_open(call)
    request = requested_order(call)
    try:
        old = pending_order(call, "cancelOrderId", "cancelOrigClientOrderId")
    except BinanceError as error:
        if stops or error.code != -2011:
            raise _failure(_FAILED, ("FAILURE", error.body), ("NOT_ATTEMPTED", None)) from None
        return await _only_place(call, request, response, error)
    reply = await call.apply(TurnCommand([request], [old.id], steps=0))
    turn = _read_turn(reply.body)
    gone = cancelled(call, old, "cancelNewClientOrderId")
    if turn.refused is not None:
        told = turn.refused.error
        why = named(told.code, told.message, told.details)
        raise _failure(_HALF_FAILED, ("SUCCESS", gone), ("FAILURE", why.body), status=_PARTLY_DONE)
    order = call.session.order(turn.orders[0]["id"])
    return {
        "cancelResult": "SUCCESS",
        "newOrderResult": "SUCCESS",
        "cancelResponse": gone,
        "newOrderResponse": placed_shape(call, order, response),
    }


async def _only_place(call: Call, request: OrderRequest, response: str, error: BinanceError) -> Any:
    """Place an order although the one that it replaces could not be cancelled."""
    try:
        order = placed_order(call, await call.apply(OrderCommand(request)))
    except SandboxError as refusal:
        told = named(refusal.code, refusal.message, refusal.details)
        raise _failure(_FAILED, ("FAILURE", error.body), ("FAILURE", told.body)) from None
    raise _failure(
        _HALF_FAILED,
        ("FAILURE", error.body),
        ("SUCCESS", placed_shape(call, order, response)),
        status=_PARTLY_DONE,
    )


def _failure(
    what: tuple[int, str],
    cancellation: tuple[str, Any],
    placement: tuple[str, Any],
    status: int = 400,
) -> BinanceError:
    code, text = what
    data = {
        "cancelResult": cancellation[0],
        "newOrderResult": placement[0],
        "cancelResponse": cancellation[1],
        "newOrderResponse": placement[1],
    }
    return BinanceError(code, text, status, data)


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "api/v3/order/cancelReplace"): reads(
        replace, "signed", *ORDER_NAMES, "cancelReplaceMode", "cancelOrderId",
        "cancelOrigClientOrderId", "cancelNewClientOrderId",
    ),
}  # fmt: skip
