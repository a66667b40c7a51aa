"""The time of a session, for harnesses and for ``candlestep drive``. Binance has nothing like it."""

from typing import Any

from candlestep.api.dialects.binance.call import Call, Endpoint, reads
from candlestep.api.dialects.binance.errors import BinanceError
from candlestep.api.sessions.commands import StepCommand
from candlestep.api.sessions.hold import renewed, require_free

_MOST_STEPS = 10**9


async def step(call: Call) -> Any:
    """Advance by ``n`` candles of the session, 1 by default."""
    _require_running(call)
    steps = call.parameters.count("n", 1, _MOST_STEPS)
    await call.apply(StepCommand(steps, holder=call.parameters.text("holder")))
    return clock(call)


async def advance(call: Call) -> Any:
    """Advance to ``to`` (ms) as the driver ``holder``; what is less than a step is kept.

    A time that was reached before changes nothing, so that it may be sent again.
    """
    holder = call.parameters.required("holder")
    to = call.parameters.whole("to")
    if to is None:
        raise BinanceError(-1102, "Mandatory parameter 'to' was not sent.")
    session, interval = call.session, call.session.config.clock.interval
    require_free(call.hosted.hold, holder)
    steps = (to - session.time) // interval
    if session.status == "running" and steps > 0:
        steps = min(steps, _MOST_STEPS)
        if call.services.sessions.try_step(call.ref, steps, holder) is None:
            await call.apply(StepCommand(steps, holder=holder))
    ahead = min(max(0, to - session.time), interval - 1)
    call.hosted.hold = renewed(holder, ahead)
    return clock(call)


async def hold(call: Call) -> Any:
    """Make the time of the session from now on as ``holder``, or go on to."""
    holder, known = call.parameters.required("holder"), call.hosted.hold
    require_free(known, holder)
    is_known = known is not None and known.holder == holder
    call.hosted.hold = renewed(holder, known.ahead if known is not None and is_known else 0)
    return clock(call)


async def release(call: Call) -> Any:
    """Let others step the session again."""
    require_free(call.hosted.hold, call.parameters.required("holder"))
    call.hosted.hold = None
    return clock(call)


def clock(call: Call) -> dict[str, Any]:
    """Return the step and the time of the session."""
    session, held = call.session, call.hosted.hold
    ahead = 0 if held is None or held.is_over else held.ahead
    return {
        "now": session.time + ahead,
        "step": session.step_number,
        "totalSteps": session.total_steps,
        "interval": session.config.clock.interval,
        "status": session.status,
        "ahead": ahead,
    }


def _require_running(call: Call) -> None:
    if call.session.status != "running":
        raise BinanceError(-1013, f"the session is {call.session.status}; create a new one")


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "control/step"): reads(step, "signed", "n", "holder"),
    ("POST", "control/advance"): reads(advance, "signed", "to", "holder"),
    ("POST", "control/hold"): reads(hold, "signed", "holder"),
    ("POST", "control/release"): reads(release, "signed", "holder"),
}
