"""The clock ``paced``: a session follows the wall clock, caught up before each request."""

import time
from weakref import WeakKeyDictionary

from candlestep.api.dialects.keys import OpenDialect
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef, StepCommand
from candlestep.sandbox import Session

_begun: WeakKeyDictionary[Session, tuple[OpenDialect, float, int]] = WeakKeyDictionary()


async def catch_up(
    services: Services, ref: SessionRef, session: Session, dialect: OpenDialect
) -> int:
    """Step a session to where the wall clock is, and return the virtual time in milliseconds.

    The clock begins with the first request, or when the settings change, so that no time passes
    while nobody asks for the first time or the server is away.
    """
    wall = time.monotonic()
    begun = _begun.get(session)
    if begun is None or begun[0] is not dialect:
        begun = _begun[session] = (dialect, wall, session.time)
    _, first_wall, first_time = begun
    virtual = first_time + int((wall - first_wall) * dialect.settings.speed * 1000)
    interval = session.config.clock.interval
    steps = (virtual - session.time) // interval
    if session.status == "running" and steps > 0:
        await services.sessions.apply(ref, StepCommand(steps))
    return min(max(virtual, session.time), session.time + interval - 1)
