"""The commands that change a session, and how a session is named."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from candlestep.api.schemas.orders import OrderRequest, ReplaceRequest
from candlestep.data.journal.records import MarginChange
from candlestep.sandbox.until import Until


class SessionRef(NamedTuple):
    """The identity of a session; its account is part of it, so that others do not find it."""

    account_id: str
    session_id: str


class StartCommand(msgspec.Struct, frozen=True):
    """Load the market and let the session run."""


class StepCommand(msgspec.Struct, frozen=True):
    """Advance the virtual clock."""

    steps: int = 1
    from_step: int | None = None
    """Refuse the command unless the session is at this step."""
    counts_steps: bool = False
    """Add the number of steps made (``steps_executed``) to the reply."""
    until: Until | Mapping[str, Any] = "steps"
    """The condition at which it stops, as ``Session.step`` takes it."""
    holder: str | None = None
    """The driver that makes the step, while one holds the session."""


class OrderCommand(msgspec.Struct, frozen=True):
    """Place an order."""

    order: OrderRequest


class OcoCommand(msgspec.Struct, frozen=True):
    """Place two orders, of which one cancels the other, or neither."""

    orders: Sequence[OrderRequest]


class ReplaceOrderCommand(msgspec.Struct, frozen=True):
    """Cancel a pending order and place it with other numbers, or do neither."""

    order_id: int
    changes: ReplaceRequest


class CancelOrderCommand(msgspec.Struct, frozen=True):
    """Cancel a pending order."""

    order_id: int


class TurnCommand(msgspec.Struct, frozen=True):
    """Cancel orders, place orders, then step, up to the first refusal: see ``take_turn``."""

    orders: Sequence[OrderRequest] = ()
    cancel: Sequence[int] = ()
    steps: int = 1
    """May be 0."""
    until: Until | Mapping[str, Any] = "steps"
    from_step: int | None = None


class MarginCommand(msgspec.Struct, frozen=True):
    """Change the leverage, the margin mode or the isolated wallet of a perpetual."""

    change: MarginChange


class CancelCommand(msgspec.Struct, frozen=True):
    """End the session here and save its partial results."""


class ForkCommand(msgspec.Struct, frozen=True):
    """Create sessions that share the past of this one."""

    count: int = 1
    strategy_label: str | None = None
    """None: the label of the session."""


Command = (
    StartCommand
    | StepCommand
    | OrderCommand
    | OcoCommand
    | ReplaceOrderCommand
    | CancelOrderCommand
    | TurnCommand
    | MarginCommand
    | CancelCommand
    | ForkCommand
)
