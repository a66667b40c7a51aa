"""Fields that are JSON of any shape, taken as they were sent.

The other fields of a body keep a number with a point as its text, so that no digit is lost; of
these a reader gets back what was written, ``0.5`` as ``0.5``.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from candlestep.sandbox import InvalidParameter

JsonObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]


def empty_object() -> msgspec.Raw:
    """What a field that is left out holds."""
    return msgspec.Raw(b"{}")


def json_object(raw: msgspec.Raw, field: str) -> dict[str, Any]:
    """The object that a field holds; raises ``InvalidParameter``."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidParameter(
            field, "holds a number that is too large, or is nested too deeply"
        ) from None
    if not isinstance(found, Mapping):
        raise InvalidParameter(field, "must be an object, {…}")
    return dict(found)
