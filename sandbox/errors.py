"""Errors of the exchange, as one small hierarchy.

Every error has a ``code`` (a constant of its class), a ``message`` that says what is wrong and
how to fix it, and ``details`` (plain values) that name the field, limit or state. The HTTP layer
passes all three on unchanged. A command that raises has changed nothing, except that
``RiskLimitExceeded`` leaves a *rejected* order.
"""

from typing import Any

_LONG_BITS = 1000


class SandboxError(Exception):
    """The base class of all errors of the exchange."""

    code: str = "SANDBOX_ERROR"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidParameter(SandboxError):
    """A value that cannot be accepted; ``details["field"]`` names it."""

    code = "INVALID_PARAMETER"

    def __init__(self, field: str, message: str, **details: Any) -> None:
        super().__init__(f"{field}: {message}", field=field, **details)


class InvalidCandles(InvalidParameter):
    """Candles that contradict themselves; ``details["row"]`` is the first such row, from 0."""


def abbreviate(value: object) -> str:
    """Return ``value`` as text for a message: at most 40 characters of it."""
    if isinstance(value, int) and value.bit_length() > _LONG_BITS:
        return "a number with hundreds of digits"
    if isinstance(value, list | dict):
        return f"a {type(value).__name__}"  # It may be nested too deeply to be written.
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"


class SymbolNotFound(SandboxError):
    """A symbol that the market does not have."""

    code = "SYMBOL_NOT_FOUND"


class NoPrice(SandboxError):
    """A symbol without a candle yet at the virtual time."""

    code = "NO_DATA"


class InsufficientBalance(SandboxError):
    """An order that needs more cash, or more of the position, than is available."""

    code = "INSUFFICIENT_BALANCE"


class RiskLimitExceeded(SandboxError):
    """An order that a limit of the risk profile refuses; it is recorded as rejected."""

    code = "RISK_LIMIT_EXCEEDED"


class InvalidState(SandboxError):
    """A command that is not possible in the current state, which ``details`` names."""

    code = "INVALID_STATE"


class OrderNotFound(SandboxError):
    """An order id that the session does not have."""

    code = "ORDER_NOT_FOUND"
