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


class InvalidSymbol(InvalidParameter):
    """A text that is no symbol, names a contract, or leaves open which currencies it pairs."""


class FilterViolated(InvalidParameter):
    """An order that breaks a filter of its instrument.

    ``details`` has the name of the ``filter``, the ``value``, and the ``nearest`` that would do.
    """


class InvalidCandles(InvalidParameter):
    """Candles that contradict themselves; ``details["row"]`` is the first such row, from 0."""


class ClientOrderIdInUse(SandboxError):
    """A ``client_order_id`` of another order; ``details`` has that order's id, and what differs."""

    code = "CLIENT_ORDER_ID_IN_USE"


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


class InsufficientMargin(InsufficientBalance):
    """An order or transfer on perpetuals that needs more margin than is available."""

    code = "INSUFFICIENT_MARGIN"


class LeverageLimit(SandboxError):
    """A position and its orders that are larger than the leverage of the symbol allows."""

    code = "LEVERAGE_LIMIT"


class RiskLimitExceeded(SandboxError):
    """An order that a limit of the risk profile refuses; it is recorded as rejected."""

    code = "RISK_LIMIT_EXCEEDED"


class InvalidState(SandboxError):
    """A command that is not possible in the current state, which ``details`` names."""

    code = "INVALID_STATE"


class OrderWouldMatch(SandboxError):
    """An order that has to wait, but would fill at once."""

    code = "ORDER_WOULD_MATCH"


class OrderNotFound(SandboxError):
    """An order id that the session does not have."""

    code = "ORDER_NOT_FOUND"
