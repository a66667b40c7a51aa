"""The turns that a call of ``act`` takes: one, unless an order depends on what the ones before did.

An amount of cash or a share of equity becomes a quantity once the orders before it are placed, and
guards are placed at distances from the fill of what they guard: each of these ends a turn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec

from candlestep.api.mcp.arguments import Act
from candlestep.api.mcp.calls.finding import sub_key
from candlestep.api.mcp.calls.orders import (
    entry_order,
    guard_order,
    guard_requests,
    guards_of,
    has_plain_size,
)
from candlestep.api.schemas.orders import OrderRequest, OrderResponse
from candlestep.api.schemas.steps import StepResponse
from candlestep.api.schemas.turns import PartError
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef, TurnCommand
from candlestep.api.sessions.hosted_session import HostedSession
from candlestep.api.sessions.idempotency import repeat_reply
from candlestep.data.errors import StorageUnavailable
from candlestep.sandbox import InvalidParameter, SandboxError, Session
from candlestep.sandbox.turn import MOST_IN_A_TURN


class _Turn(msgspec.Struct):
    """The parts of the reply to a turn that matter here."""

    class Refused(msgspec.Struct):
        part: str
        index: int
        error: PartError

    cancelled: list[OrderResponse]
    orders: list[OrderResponse]
    refused: Refused | None
    step: StepResponse | None


class _Planned(NamedTuple):
    """An order of a turn: what it is called in a refusal, and how it is made when its turn comes."""

    name: str
    made: Callable[[Session], OrderRequest]


class Turns:
    """The turns of one call, and what they have done so far."""

    def __init__(self, services: Services, ref: SessionRef, arguments: Act) -> None:
        """Take the turns of ``arguments``, of which all that can be is checked now.

        Raises ``InvalidParameter`` with nothing done.
        """
        if len(arguments.orders) > MOST_IN_A_TURN:
            raise InvalidParameter("orders", f"may have at most {MOST_IN_A_TURN} orders")
        self._services = services
        self._ref = ref
        self._arguments = arguments
        self._orders = [
            (f"orders[{number}]", order, guards_of(order, f"orders[{number}]."))
            for number, order in enumerate(arguments.orders)
        ]
        self._cancel = [_order_id(name) for name in arguments.cancel if name != "all"]
        self._taken = 0
        self.cancelled: list[int] = []
        self.orders: list[OrderResponse] = []
        self.step: StepResponse | None = None
        self.refused: tuple[str, PartError] | None = None
        """The name of the part that was refused, and why."""

    async def take(self, until: Any) -> None:
        """Take all turns, up to the first refusal; the steps are part of the last."""
        planned: list[_Planned] = []
        for name, order, guards in self._orders:
            if not has_plain_size(order) and (planned or self._cancels_now):
                if not await self._turn(planned, 0, "steps"):
                    return
                planned = []
            planned.append(_Planned(name, partial(entry_order, order=order, guards=guards)))
            if guards and order.type == "market":
                if not await self._turn(planned, 0, "steps"):
                    return
                planned = [
                    _Planned(f"{name} {guard.type}", partial(guard_order, guard=guard))
                    for guard in guard_requests(self.orders[-1], guards)
                ]
        if planned or self._cancels_now or self._arguments.steps:
            await self._turn(planned, self._arguments.steps, until)

    @property
    def _cancels_now(self) -> bool:
        """True if cancellations are still to be done: they are part of the first turn."""
        return not self._taken and bool(self._arguments.cancel)

    async def _turn(self, planned: list[_Planned], steps: int, until: Any) -> bool:
        """Take a turn; return whether all of it was done."""
        hosted = await self._services.sessions.find(self._ref)
        cancels, self._taken = self._cancels_now, self._taken + 1
        key = sub_key(self._arguments.key, f"turn/{self._taken}", self._arguments)
        stored = None if key is None else hosted.replies.find(key)
        if stored is not None:
            # The market has moved on: an amount of cash would be another quantity by now.
            reply = repeat_reply(stored)
        else:
            cancel = self._to_cancel(hosted) if cancels else []
            requests = self._made(planned, hosted.session)
            if len(requests) < len(planned):
                steps, until = 0, "steps"
            if not (requests or cancel or steps):
                return self.refused is None
            command = TurnCommand(requests, cancel, steps, until)
            reply = await self._services.sessions.apply(self._ref, command, key)
        turn = msgspec.json.decode(reply.body, type=_Turn)
        self._note(turn, [order.name for order in planned])
        return self.refused is None

    def _made(self, planned: list[_Planned], session: Session) -> list[OrderRequest]:
        """Return the orders of a turn, up to the first that cannot be made, which is refused."""
        requests = []
        for order in planned:
            try:
                requests.append(order.made(session))
            except StorageUnavailable:
                raise
            except SandboxError as error:
                self.refused = (order.name, PartError.of(error))
                break
        return requests

    def _note(self, turn: _Turn, names: list[str]) -> None:
        """Add what a turn did to what was done before it."""
        self.cancelled += [cancelled.order_id for cancelled in turn.cancelled]
        self.orders += turn.orders
        self.step = turn.step
        if turn.refused is not None:
            index = turn.refused.index
            name = names[index] if turn.refused.part == "orders" else f"cancel[{index}]"
            self.refused = (name, turn.refused.error)

    def _to_cancel(self, hosted: HostedSession) -> list[int]:
        """Return the ids of the orders to cancel."""
        if len(self._cancel) == len(self._arguments.cancel):
            return self._cancel
        # Sent again, a call means the orders that were open at first, and those are cancelled.
        later = sub_key(self._arguments.key, "turn/", None)
        if later is not None and any(name.startswith(later.key) for name in hosted.replies):
            return []
        return [order.id for order in hosted.session.open_orders()]


def _order_id(name: Any) -> int:
    text = str(name).removeprefix("#")
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidParameter("cancel", 'takes ids of orders, such as [3], or ["all"]')
    return int(text)
