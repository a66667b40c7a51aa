"""Errors of the server and its APIs: the HTTP status of every code, and errors of requests.

The body in which an error is sent is in ``http/error_body.py``.
"""

from collections.abc import Mapping

import msgspec

from candlestep.sandbox import InvalidParameter, SandboxError

STATUS = {
    "INVALID_JSON": 400,
    "INVALID_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "invalid_apikey": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "ACCOUNT_NOT_FOUND": 404,
    "AGENT_NOT_FOUND": 404,
    "BACKTEST_NOT_FOUND": 404,
    "EXCHANGE_NOT_FOUND": 404,
    "KEY_NOT_FOUND": 404,
    "ORDER_NOT_FOUND": 404,
    "SESSION_NOT_FOUND": 404,
    "STRATEGY_NOT_FOUND": 404,
    "SYMBOL_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CLIENT_ORDER_ID_IN_USE": 409,
    "INVALID_STATE": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "INVALID_PARAMETER": 422,
    "NO_DATA": 422,
    "INSUFFICIENT_BALANCE": 422,
    "ORDER_WOULD_MATCH": 422,
    "INSUFFICIENT_MARGIN": 422,
    "LEVERAGE_LIMIT": 422,
    "RISK_LIMIT_EXCEEDED": 422,
    "RATE_LIMITED": 429,
    "INTERNAL_ERROR": 500,
    "DOWNLOAD_FAILED": 502,
    "STORAGE_UNAVAILABLE": 503,
}
"""The HTTP status of each error code."""

RETRY_AFTER_SECONDS = 5


class InvalidJson(SandboxError):
    """A body that is not JSON."""

    code = "INVALID_JSON"


class InvalidRequest(SandboxError):
    """Bytes that are not HTTP."""

    code = "INVALID_REQUEST"


class Unauthorized(SandboxError):
    """No key, or not a valid one."""

    code = "UNAUTHORIZED"


class InvalidApiKey(SandboxError):
    """No key, or not a valid one, in a request for a token."""

    code = "invalid_apikey"


class Forbidden(SandboxError):
    """A request that a web page from another origin may have caused, or that the key may not make."""

    code = "FORBIDDEN"


class NotFound(SandboxError):
    """An unknown path."""

    code = "NOT_FOUND"


class MethodNotAllowed(SandboxError):
    """A method that the path does not have."""

    code = "METHOD_NOT_ALLOWED"


class PayloadTooLarge(SandboxError):
    """A body that is longer than the server accepts."""

    code = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(SandboxError):
    """A body whose content type is not JSON."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class RateLimited(SandboxError):
    """More at a time than is allowed; the request may be sent again later."""

    code = "RATE_LIMITED"


class InternalError(SandboxError):
    """A fault of the server."""

    code = "INTERNAL_ERROR"


class RefusedByServer(SandboxError):
    """A refusal by a server that this process has called, in the server's words."""

    code = "REFUSED"

    @classmethod
    def of_answer(cls, server: str, status: int, body: bytes) -> "RefusedByServer":
        """Return the error for an unsuccessful answer of ``server``, a URL or host."""
        try:
            message = msgspec.json.decode(body)["message"]
        except (msgspec.MsgspecError, ValueError, RecursionError, KeyError, TypeError):
            message = "is it a Candlestep server?"
        return cls(f"the server at {server} answers {status}: {message}")

    @classmethod
    def of_foreign_answer(cls, server: str, error: Exception) -> "RefusedByServer":
        """Return the error for a successful answer of ``server`` that cannot be decoded."""
        return cls(
            f"the server at {server} gives an answer that is not Candlestep's ({error}); name the"
            " address of a server, with its prefix if it has one"
        )


def with_field_names(
    refusal: InvalidParameter, names: Mapping[str, str], within: str = ""
) -> InvalidParameter:
    """Return the refusal with its field renamed to what the request calls it.

    ``names`` maps whole fields, or their first parts, to the names in the request; ``within`` is
    the path in front of these.
    """
    field = str(refusal.details["field"])
    first, dot, rest = field.partition(".")
    name = names.get(field) or names.get(first, first) + dot + rest
    return with_field(refusal, within + name if name else within.removesuffix("."))


def with_field(refusal: InvalidParameter, field: str) -> InvalidParameter:
    """Return the refusal with another field."""
    message = refusal.message.removeprefix(f"{refusal.details['field']}: ")
    others = {key: value for key, value in refusal.details.items() if key != "field"}
    return InvalidParameter(field, message, **others)
