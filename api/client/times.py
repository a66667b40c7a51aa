"""The times of answers, in milliseconds since the epoch."""

from datetime import datetime


def milliseconds(text: str) -> int:
    """Return a time of an answer in milliseconds since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def optional_milliseconds(text: str | None) -> int | None:
    """Return a time of an answer as ``milliseconds`` does; None stays None."""
    return None if text is None else milliseconds(text)
