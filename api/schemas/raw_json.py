"""Fields that may hold any JSON, kept as it was sent.

In the other fields of a body, a number with a point becomes text, so that no digit is lost. In
these it stays a number, so that a client that reads the field gets back what it wrote.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.data.errors import NOT_JSON
from candlestep.sandbox import InvalidParameter

JsonObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]


def empty_object() -> msgspec.Raw:
    """Return the value of a field that is left out."""
    return msgspec.Raw(b"{}")


def json_object(raw: msgspec.Raw, field: str) -> dict[str, Any]:
    """Return the object that a field holds; raises ``InvalidParameter``."""
    try:
        value = msgspec.json.decode(raw)
    except NOT_JSON:
        raise InvalidParameter(
            field, "holds a number that is too large, or is nested too deeply"
        ) from None
    if not isinstance(value, Mapping):
        raise InvalidParameter(field, "must be an object, {…}")
    return dict(value)
