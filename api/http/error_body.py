"""The body of every error response."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.sandbox import SandboxError


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every error; ``error`` and ``code`` are the same."""

    success: Annotated[bool, Meta(extra_json_schema={"const": False})]
    error: str
    code: str
    message: str
    """The problem, and what to do about it."""
    details: dict[str, Any]
    timestamp: str
    request_id: str


def error_body(error: SandboxError, request_id: str) -> ErrorBody:
    """Return the body that describes ``error``."""
    return ErrorBody(
        success=False,
        error=error.code,
        code=error.code,
        message=error.message,
        details=error.details,
        timestamp=_wall_time(),
        request_id=request_id,
    )


def _wall_time() -> str:
    """Return the time of day, which is never part of a simulation."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
