"""Differences that a replay finds: the reply, the fields, and the first event that is another."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from candlestep.data.journal.candle_fingerprints import Difference
from candlestep.sandbox.clock import Clock, format_time, parse_time


class FieldDifference(msgspec.Struct, frozen=True):
    """A field of two replies that differs, such as ``orders_filled[0].fee``; None where absent."""

    name: str
    expected: str | None
    actual: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A difference at one step, with the account just before and just after it."""

    kind: Literal["fill", "close", "command", "amounts"]
    """A fill; an order cancelled, rejected or expired; the reply to a command other than a step, or
    a refusal; or nothing that filled or closed, only other prices and amounts.
    """
    step: int
    first_step: int
    """The first step at which it may have happened: ``step``, except for amounts and refused steps."""
    time: str
    expected: dict[str, Any] | None = None
    """The order, or the refusal, as recorded; None if there was none, or it is not known."""
    actual: dict[str, Any] | None = None
    """The order, or the refusal, as it is now; None if there is none."""
    symbol: str | None = None
    candle: dict[str, Any] | None = None
    """The latest candle of the symbol that was complete then."""
    before: dict[str, Any] = {}
    """The portfolio before the event."""
    after: dict[str, Any] = {}


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """A command whose reply differs from the recorded one."""

    line: int
    command: dict[str, Any]
    step: int
    """The step of the session before the reply that differs."""
    fields: list[FieldDifference]
    """Empty where the recording has only a digest and neither reply has orders."""
    expected_status: int = 200
    status: int = 200
    is_recorded: bool = True
    """False if the recording has only a digest of the reply."""
    event: Event | None = None
    """Set for the first difference."""


class CandleDifference(msgspec.Struct, frozen=True):
    """A candle that is another in a file than in the market; None where there is none.

    Each side is the open, high, low, close and volume.
    """

    symbol: str
    open_time: str
    file: list[float] | None
    market: list[float] | None


class ReplayResult(msgspec.Struct, frozen=True):
    """The result of a replay."""

    commands: int
    """The number of commands played."""
    compared: int
    """The number of commands for which the recording has a reply or a digest."""
    candles: list[Difference]
    """The candles that differ from those recorded on."""
    divergences: list[Divergence]
    """The first difference, or all of them."""
    different_candles: list[CandleDifference] = []
    """The first candles that a file has otherwise."""
    different_candle_count: int = 0

    @property
    def divergence(self) -> Divergence | None:
        """The first difference."""
        return self.divergences[0] if self.divergences else None

    @property
    def is_different(self) -> bool:
        """True if a reply or a candle differs."""
        return bool(self.divergences or self.candles)

    @property
    def is_same(self) -> bool:
        """True if every reply was compared and is the recorded one."""
        return not self.is_different and self.compared == self.commands


def field_differences(expected: Any, actual: Any) -> list[FieldDifference]:
    """Return the plain fields of two decoded replies that differ, those of ``expected`` first."""
    recorded, present = dict(_leaves("", expected)), dict(_leaves("", actual))
    return [
        FieldDifference(name, recorded.get(name), present.get(name))
        for name in dict.fromkeys([*recorded, *present])
        if recorded.get(name) != present.get(name)
    ]


def step_event(expected: Any, actual: Any, clock: Clock, steps: tuple[int, int]) -> Event:
    """Return the first order that filled or closed differently in the replies to a step.

    ``steps`` are those of the session before and after it. Without such an order, the event is
    that amounts differ.
    """
    recorded, present = _orders(expected), _orders(actual)
    first, last = steps
    changes = [
        (_time_of(order), order_id)
        for orders in (recorded, present)
        for order_id, order in orders.items()
        if recorded.get(order_id) != present.get(order_id)
    ]
    if not changes:
        return Event(
            kind="amounts", step=last, first_step=min(first + 1, last), time=_text(clock, last)
        )
    time, order_id = min(changes)
    was, now = recorded.get(order_id), present.get(order_id)
    order = now or was
    assert order is not None
    step = -(-(parse_time(time) - clock.start) // clock.interval) if time else last
    step = min(max(step, first + 1), max(last, first + 1))
    is_fill = any(side is not None and side.get("filled_at") for side in (was, now))
    return Event(
        kind="fill" if is_fill else "close",
        step=step,
        first_step=step,
        time=time or _text(clock, step),
        expected=was,
        actual=now,
        symbol=order.get("symbol"),
    )


def _text(clock: Clock, step: int) -> str:
    return format_time(clock.time(step))


def _orders(reply: Any) -> dict[int, dict[str, Any]]:
    """Return the orders that a step filled or closed, by id; none of a refusal."""
    if not isinstance(reply, dict):
        return {}
    orders = [*reply.get("orders_filled", ()), *reply.get("orders_closed", ())]
    return {order["order_id"]: order for order in orders}


def _time_of(order: dict[str, Any]) -> str:
    return order.get("filled_at") or order.get("closed_at") or ""


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the plain values of a reply with their paths."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, member)
    elif isinstance(value, list) and value:
        for index, member in enumerate(value):
            yield from _leaves(f"{path}[{index}]", member)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
