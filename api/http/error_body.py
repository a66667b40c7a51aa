"""The bodies of error responses: flat, or with the error as an object besides the flat fields."""

from datetime import UTC, datetime
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from candlestep.sandbox import SandboxError


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error; ``error`` and ``code`` are the same."""

    success: Annotated[bool, Meta(extra_json_schema={"const": False})]
    error: str
    code: str
    message: str
    """The problem, and what to do about it."""
    details: dict[str, Any]
    """Field, limit or state; a 503 with ``"applied": true`` tells that the command is done."""
    timestamp: str
    request_id: str

    @classmethod
    def of(cls, error: SandboxError, request_id: str) -> Self:
        """Return the body that describes ``error``."""
        return cls(
            success=False,
            error=error.code,
            code=error.code,
            message=error.message,
            details=error.details,
            timestamp=_wall_time(),
            request_id=request_id,
        )


class ErrorObject(msgspec.Struct, frozen=True):
    """An error as the clients of the stepping API read it."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorObjectBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error; ``error`` holds the fields ``code``, ``message`` and ``details``, too."""

    success: Annotated[bool, Meta(extra_json_schema={"const": False})]
    error: ErrorObject
    code: str
    message: str
    """The problem, and what to do about it."""
    details: dict[str, Any]
    """Field, limit or state; a 503 with ``"applied": true`` tells that the command is done."""
    timestamp: str
    request_id: str

    @classmethod
    def of(cls, error: SandboxError, request_id: str) -> Self:
        """Return the body that describes ``error``."""
        return cls(
            success=False,
            error=ErrorObject(error.code, error.message, error.details),
            code=error.code,
            message=error.message,
            details=error.details,
            timestamp=_wall_time(),
            request_id=request_id,
        )


class NumberedErrorBody(msgspec.Struct, frozen=True):
    """The body of an error as clients of Binance read it: a number and a message."""

    code: int
    msg: str

    @classmethod
    def of(cls, error: SandboxError, request_id: str) -> Self:
        """Return the body that describes ``error``, with the number of unknown errors."""
        return cls(-1001 if error.code == "STORAGE_UNAVAILABLE" else -1000, error.message)


def _wall_time() -> str:
    """Return the time of day, which is never part of a simulation."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
