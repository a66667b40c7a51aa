"""Holds: while a driver makes the time of a session, the steps of others are refused."""

import time

import msgspec

from candlestep.sandbox import InvalidState

HOLD_SECONDS = 30.0
"""The time after which a hold ends that its driver does not renew."""


class Hold(msgspec.Struct, frozen=True):
    """A driver that makes the time of a session."""

    holder: str
    until: float
    """Seconds of the process's own clock."""
    ahead: int = 0
    """The milliseconds, less than a step, by which the driver's time is ahead of the session's."""

    @property
    def is_over(self) -> bool:
        """True once the driver has not renewed it in time."""
        return time.monotonic() >= self.until


def renewed(holder: str, ahead: int = 0) -> Hold:
    """Return the hold of a driver from now on."""
    return Hold(holder, time.monotonic() + HOLD_SECONDS, ahead)


def require_free(hold: Hold | None, holder: str | None) -> None:
    """Raise ``InvalidState`` if another driver than ``holder`` makes the time of a session."""
    if hold is not None and hold.holder != holder and not hold.is_over:
        raise InvalidState(
            "a driver makes the time of the session (`candlestep drive`): wait for its end, or"
            " fork the session",
            status="running",
        )
