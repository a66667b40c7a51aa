"""A turn of an agent: cancellations, orders and steps in one command, up to the first refusal."""

from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from candlestep.sandbox.errors import InvalidParameter, SandboxError

Part = Literal["cancel", "orders"]

Id = TypeVar("Id")
Instruction = TypeVar("Instruction")
Cancelled = TypeVar("Cancelled")
Placed = TypeVar("Placed")
Advanced = TypeVar("Advanced")

MOST_IN_A_TURN = 1000
"""The most orders, and the most cancellations, of one turn."""


class RefusedPart(msgspec.Struct, frozen=True):
    """The part of a turn that was refused: a cancellation or an order, and its index from 0."""

    part: Part
    index: int
    error: SandboxError


class Turn(msgspec.Struct, Generic[Cancelled, Placed, Advanced], frozen=True):
    """The outcome of a turn, as far as it was taken."""

    cancelled: tuple[Cancelled, ...]
    """The orders that were cancelled."""
    orders: tuple[Placed, ...]
    """The orders that were placed, as they were before the steps."""
    refused: RefusedPart | None
    """The first refusal, after which nothing more was done; None if there was none."""
    step: Advanced | None
    """The report of the steps; None if none was made."""


def take_turn(
    cancel: Sequence[Id],
    orders: Sequence[Instruction],
    *,
    cancel_order: Callable[[Id], Cancelled],
    place_order: Callable[[Instruction], Placed],
    advance: Callable[[], Advanced] | None,
) -> Turn[Cancelled, Placed, Advanced]:
    """Cancel, then place orders in their sequence, then advance (None: not at all).

    The first refusal, one that leaves a rejected order too, ends the turn: what was done before it
    stays done, and nothing after it is. Raises ``InvalidParameter`` for a turn of nothing.
    """
    if not cancel and not orders and advance is None:
        raise InvalidParameter("steps", "is 0 and there is nothing else to do; give at least 1")
    cancelled: list[Cancelled] = []
    placed: list[Placed] = []
    refused: RefusedPart | None = None
    part: Part = "cancel"
    try:
        for order_id in cancel:
            cancelled.append(cancel_order(order_id))
        part = "orders"
        for instruction in orders:
            placed.append(place_order(instruction))
    except SandboxError as error:
        refused = RefusedPart(part, len(cancelled if part == "cancel" else placed), error)
    step = None if advance is None or refused is not None else advance()
    return Turn(tuple(cancelled), tuple(placed), refused, step)
