"""The refusals of a server, as the exceptions that the library raises."""

from typing import Any

import msgspec

from candlestep.api import errors as of_server
from candlestep.sandbox import errors as of_library
from candlestep.sandbox.errors import FilterViolated, InvalidParameter, SandboxError


class _Refusal(msgspec.Struct):
    """The fields of an answer that tells of an error."""

    code: str
    message: str
    details: dict[str, Any] = {}


_read = msgspec.json.Decoder(_Refusal).decode

_CLASSES: dict[str, type[SandboxError]] = {
    error.code: error
    for error in (
        InvalidParameter,
        of_library.ClientOrderIdInUse,
        of_library.SymbolNotFound,
        of_library.NoPrice,
        of_library.InsufficientBalance,
        of_library.InsufficientMargin,
        of_library.LeverageLimit,
        of_library.OrderWouldMatch,
        of_library.RiskLimitExceeded,
        of_library.InvalidState,
        of_library.OrderNotFound,
        of_server.InvalidJson,
        of_server.InvalidRequest,
        of_server.Unauthorized,
        of_server.Forbidden,
        of_server.NotFound,
        of_server.MethodNotAllowed,
        of_server.PayloadTooLarge,
        of_server.UnsupportedMediaType,
        of_server.RateLimited,
        of_server.InternalError,
    )
}
"""The class of the errors of each code; any other is a ``SandboxError`` with its own ``code``."""


def refusal(status: int, body: bytes) -> SandboxError:
    """Return the exception for an answer that is no success."""
    try:
        told = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return of_server.RefusedByServer(
            f"the server answers {status}: is it a Candlestep server, and the URL its address?"
        )
    return refusal_of(told.code, told.message, told.details)


def refusal_of(code: str, message: str, details: dict[str, Any]) -> SandboxError:
    """Return the exception with this code, with the message and the details as they were sent."""
    kind = _CLASSES.get(code, SandboxError)
    if kind is InvalidParameter and "filter" in details:
        kind = FilterViolated
    error = kind.__new__(kind)
    SandboxError.__init__(error, message)
    error.details = details
    if error.code != code:
        error.code = code
    return error
