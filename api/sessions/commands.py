"""The commands that change a session, and how a session is named."""

from typing import NamedTuple

import msgspec

from candlestep.api.schemas.orders import OrderRequest


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


class OrderCommand(msgspec.Struct, frozen=True):
    """Place an order."""

    order: OrderRequest


class CancelOrderCommand(msgspec.Struct, frozen=True):
    """Cancel a pending order."""

    order_id: int


class CancelCommand(msgspec.Struct, frozen=True):
    """End the session here and save its partial results."""


class ForkCommand(msgspec.Struct, frozen=True):
    """Create sessions that share the past of this one."""

    count: int = 1
    strategy_label: str | None = None
    """None: the label of the session."""


Command = (
    StartCommand | StepCommand | OrderCommand | CancelOrderCommand | CancelCommand | ForkCommand
)
