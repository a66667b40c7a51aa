"""The caller of a tool, which the endpoint sets before the SDK takes the request."""

from contextvars import ContextVar

from candlestep.api.http.auth import Caller

CALLER: ContextVar[Caller] = ContextVar("caller")
"""The account and the agent that the key of the request belongs to."""
