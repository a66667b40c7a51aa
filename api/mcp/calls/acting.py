"""Tools that change a running session: orders and cancellations, and steps of its clock."""

from decimal import Decimal
from typing import Any

import msgspec

from candlestep.api.mcp.answers import Acted, Stepped
from candlestep.api.mcp.arguments import Act, Steps
from candlestep.api.mcp.caller import CALLER
from candlestep.api.mcp.calls.finding import find_session, ref_of, sub_key
from candlestep.api.mcp.calls.sessions import note_reason
from candlestep.api.mcp.calls.turns import Turns
from candlestep.api.mcp.text import (
    MOST_BYTES,
    fill_text,
    line_of,
    order_text,
    prices_text,
    refusal_text,
    session_line,
    table,
)
from candlestep.api.schemas.steps import FastResponse, StepResponse
from candlestep.api.services import Services
from candlestep.api.sessions.commands import SessionRef, StepCommand
from candlestep.sandbox import InvalidParameter, Session

_PART_BYTES = MOST_BYTES // 4
"""The bytes of the orders, the fills and the closed orders of an answer, each."""


async def step(services: Services, arguments: Steps) -> Stepped:
    """Advance the virtual clock."""
    hosted = await find_session(services, arguments.session_id)
    ref, until = ref_of(hosted), _until(arguments, hosted.session)
    command = StepCommand(arguments.steps, counts_steps=True, until=until)
    key = sub_key(arguments.key, "step", arguments)
    reply = await services.sessions.apply(ref, command, key)
    made = msgspec.json.decode(reply.body, type=FastResponse)
    return Stepped(passed=_passed(made.steps_executed), **_step_fields(ref, made))


async def act(services: Services, arguments: Act) -> Acted:
    """Cancel orders, then place orders in their sequence, then step; a refusal stops the rest."""
    hosted = await find_session(services, arguments.session_id)
    ref, session = ref_of(hosted), hosted.session
    note_reason("act", ref, arguments.reason)
    before = session.step_number
    turns = Turns(services, ref, arguments)
    await turns.take(_until(arguments, session))
    done: dict[str, Any] = {
        "cancelled": "\n".join(f"#{number} cancelled" for number in turns.cancelled),
        "orders": _rows("orders", map(order_text, turns.orders)),
    }
    if turns.refused is not None:
        services.refusals.note(CALLER.get().session_id)
        return Acted(
            line=session_line(session),
            refused=refusal_text(*turns.refused),
            done=session.status != "running",
            next="mend the refused part; act again with what was not done",
            **done,
        )
    if turns.step is None:
        return Acted(line=session_line(session), done=False, next="step, or observe", **done)
    passed = _passed(turns.step.step - before)
    return Acted(passed=passed, **done, **_step_fields(ref, turns.step))


def _step_fields(ref: SessionRef, step: StepResponse) -> dict[str, Any]:
    """Return the fields of an answer that tell of a step."""
    portfolio = step.portfolio
    # What was cancelled on request, the answer to that request has told.
    closed = [order for order in step.orders_closed if order.reason != "requested"]
    line = line_of(
        step.virtual_time,
        step.step,
        step.total_steps,
        Decimal(portfolio.total_equity),
        Decimal(portfolio.starting_balance),
        Decimal(portfolio.available_cash),
    )
    return {
        "line": line,
        "fills": _rows("fills", [fill_text(order, line) for order in step.orders_filled]),
        "closed": _rows("closed", map(order_text, closed)),
        "prices": prices_text(step.prices),
        "done": step.is_complete,
        "next": f'the session is over: results(session_id="{ref.session_id}")'
        if step.is_complete
        else "observe, act, or step on",
    }


def _until(arguments: Act | Steps, session: Session) -> Any:
    """Return the condition at which steps end, as the native command takes it."""
    level = {
        name: getattr(arguments, name)
        for name in ("symbol", "above", "below")
        if getattr(arguments, name) is not None
    }
    if arguments.until == "price":
        if ("above" in level) == ("below" in level):
            raise InvalidParameter("above", 'or below is what until="price" waits for: give one')
        symbols = session.market.symbols
        if "symbol" not in level and len(symbols) > 1:
            raise InvalidParameter("symbol", f"names whose price it is: {', '.join(symbols)}")
        return {"symbol": symbols[0]} | level
    if level:
        raise InvalidParameter(next(iter(level)), 'belongs to until="price"')
    return arguments.until


def _passed(steps: int) -> str:
    """Return the number of candles that have passed; nothing for an answer that is repeated."""
    return f"{steps} candle{'s' if steps > 1 else ''} passed" if steps > 0 else ""


def _rows(title: str, rows: Any) -> str:
    return table(title, list(rows), _PART_BYTES)
