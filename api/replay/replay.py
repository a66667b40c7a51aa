"""Replay: run a recording again and find the replies that differ.

A refusal is a reply too. Replies are compared with the recorded ones, or with recorded digests.
A digest covers its reply and the digest before it, so each line is compared on its own: replies
are chained to the digest that the recording has for the line before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from candlestep import __version__
from candlestep.api.errors import STATUS
from candlestep.api.replay.difference import (
    Divergence,
    Event,
    ReplayResult,
    field_differences,
    step_event,
)
from candlestep.api.replay.target import OpenTarget, ReplayTarget
from candlestep.api.sessions.player import Reply, digest_input, recorded_config
from candlestep.data.journal.candle_fingerprints import KnownDays, differences
from candlestep.data.journal.compaction import compacted
from candlestep.data.journal.recording import Recording, chained, encoded
from candlestep.data.journal.records import (
    CommandRecord,
    OcoRecord,
    OrderRecord,
    ReplaceOrderRecord,
    Start,
    StepRecord,
    TurnRecord,
)
from candlestep.data.symbols import normalise_symbol
from candlestep.sandbox import InvalidParameter, SandboxError, format_time
from candlestep.sandbox.clock import Clock

_REPLIES_BETWEEN_REPORTS = 200
_MOST_STEPS = 10**9
"""The most steps of one command."""
_NO_ORDERS: dict[str, Any] = {"orders_filled": [], "orders_closed": []}
"""The part of the reply to a quiet step that a recording tells: no order filled or closed."""

_WITH_STATUS = OrderRecord | OcoRecord | ReplaceOrderRecord

ReportCommands = Callable[[int, int], None]
"""Receives the number of commands played so far, and their total number. May raise to stop."""


class _PlayedLine(NamedTuple):
    """The reply to a line that matters: the first that is not quiet where it was, else the last."""

    reply: Reply
    digest: bytes
    """The digest after this reply."""
    before: int
    """The step of the session before this reply."""
    after: int
    is_unexpected: bool
    """True if a run of steps in which nothing had happened stopped being quiet here."""
    first: int
    """The step of the session before the line."""


def replay(
    recording: Recording,
    open_target: OpenTarget,
    report: ReportCommands,
    *,
    find_all: bool = False,
) -> ReplayResult:
    """Play a recording to the first reply that differs, or with ``find_all`` to its end.

    The first difference is then played again in a new session, up to the event in it, to read the
    account and the candle there. Raises ``InvalidParameter`` for a recording with nothing to
    compare, and what ``report`` raises.
    """
    with open_target() as target:
        result, first = _compare(recording, target, report, find_all=find_all)
    if first is None:
        return result
    index, event = first
    with open_target() as target:
        explained = _explain(recording, index, event, target, report)
    [divergence, *rest] = result.divergences
    divergence = msgspec.structs.replace(divergence, event=explained)
    return msgspec.structs.replace(result, divergences=[divergence, *rest])


def re_record(recording: Recording, target: ReplayTarget, report: ReportCommands) -> bytes:
    """Play a recording to its end, and return it as the content of a file with today's replies.

    Raises what ``report`` raises.
    """
    commands = [record for _, record in _commands(recording)]

    def reported() -> Iterator[CommandRecord]:
        for done, command in enumerate(commands):
            report(done, len(commands))
            yield command

    replies = count(1)

    def note(command: CommandRecord, reply: Reply) -> None:
        if next(replies) % _REPLIES_BETWEEN_REPORTS == 0:
            report(0, len(commands))

    return record_commands(recording.start, reported(), target, note)


def record_commands(
    start: Start,
    commands: Iterable[CommandRecord],
    target: ReplayTarget,
    note: Callable[[CommandRecord, Reply], None],
) -> bytes:
    """Play commands, each after the reply to the one before, and return them as a recording.

    ``note`` is called with each command and its reply; what it raises is raised.
    """
    digest = target.start_digest()
    start = msgspec.structs.replace(
        start,
        engine=__version__,
        candles=target.candles(),
        digest=digest.decode(),
        days=target.days(),
    )

    def records() -> Iterator[CommandRecord]:
        last, step = digest, 0
        for command in commands:
            for reply in _replies(target, command):
                last = chained(last, digest_input(reply))
                step = _step_after(command, reply, step)
                note(command, reply)
                yield _with_reply(command, reply, step, last.decode())

    return encoded(start) + b"".join(map(encoded, compacted(records(), ())))


def _compare(
    recording: Recording, target: ReplayTarget, report: ReportCommands, *, find_all: bool
) -> tuple[ReplayResult, tuple[int, Event] | None]:
    """Play and compare; also return the place of the first difference among the commands, if any."""
    start = recording.start
    lines = _commands(recording)
    if not lines and start.digest is None:
        raise InvalidParameter("recording", "has no commands, and no digest of its start")
    clock = recorded_config(start.config, start.risk_profile).clock
    other_candles = []
    if start.candles:
        recorded_days, present_days = start.days, target.days()
        days = None
        if recorded_days is not None and present_days is not None:
            days = KnownDays(recorded_days, present_days, clock.end)
        other_candles = [*differences(start.candles, target.candles(), days)]
    divergences: list[Divergence] = []
    first: tuple[int, Event] | None = None
    digest = target.start_digest()
    if start.digest not in (None, digest.decode()):
        divergences.append(_start_divergence())
    digest = digest if start.digest is None else start.digest.encode()
    compared = step = done = 0
    for index, (line, command) in enumerate(lines):
        if divergences and not find_all:
            break
        played = _play(target, command, digest, step, partial(report, index, len(lines)), find_all)
        step, done = played.after, index + 1
        compared += command.digest is not None or command.answer is not UNSET
        if not _is_as_recorded(command, played):
            divergence, event = _divergence(line, command, played, clock)
            if not divergences:
                first = index, event
            divergences.append(divergence)
        digest = played.digest if command.digest is None else command.digest.encode()
        if done % _REPLIES_BETWEEN_REPORTS == 0 or done == len(lines):
            report(done, len(lines))
    return ReplayResult(done, compared, other_candles, divergences), first


def _commands(recording: Recording) -> Sequence[tuple[int, CommandRecord]]:
    """Return the commands of a recording, each with the number of its line."""
    return [
        (line, record)
        for line, record in enumerate(recording.records, 2)
        if isinstance(record, CommandRecord)
    ]


def _play(
    target: ReplayTarget,
    command: CommandRecord,
    digest: bytes,
    step: int,
    report: Callable[[], None],
    play_on: bool,
) -> _PlayedLine:
    """Play a line; stop where it stops being quiet, unless ``play_on``."""
    first = step
    was_quiet = isinstance(command, StepRecord) and command.is_quiet
    times = command.times if isinstance(command, StepRecord) else 1
    unexpected: _PlayedLine | None = None
    for number, reply in enumerate(_replies(target, command), 1):
        before, step = step, _step_after(command, reply, step)
        digest = chained(digest, digest_input(reply))
        if unexpected is None and was_quiet and number < times and not reply.is_quiet:
            unexpected = _PlayedLine(reply, digest, before, step, True, first)
            if not play_on:
                return unexpected
        if number % _REPLIES_BETWEEN_REPORTS == 0:
            report()
    if unexpected is not None:
        return unexpected._replace(digest=digest, after=step)
    return _PlayedLine(reply, digest, before, step, False, first)


def _replies(target: ReplayTarget, command: CommandRecord) -> Iterator[Reply]:
    if isinstance(command, StepRecord):
        once = msgspec.structs.replace(command, times=1)
        for _ in range(command.times):
            reply = target.play(once)
            yield reply
            if reply.status != 200:
                return  # The session has ended: every other reply is the same.
    else:
        yield target.play(command)


def _is_as_recorded(command: CommandRecord, played: _PlayedLine) -> bool:
    """Return whether the reply matches its record: a digest, the reply, both or neither."""
    if played.is_unexpected:
        return False
    if command.digest is not None and command.digest != played.digest.decode():
        return False
    reply = played.reply
    if isinstance(command, _WITH_STATUS) and command.status not in (None, reply.status):
        return False
    if command.answer is UNSET or command.answer == reply.body:
        return True
    expected, actual = _comparable(command, reply)
    return bool(expected == actual)


def _comparable(command: CommandRecord, reply: Reply) -> tuple[Any, Any]:
    """Return the recorded and the present reply, decoded, as far as they are to be the same."""
    actual = msgspec.json.decode(reply.body)
    if command.answer is UNSET:
        actual = actual["step"] if reply.is_turn else actual
        return _NO_ORDERS, {name: actual[name] for name in _NO_ORDERS if name in actual} or actual
    expected = msgspec.json.decode(command.answer)
    if reply.status >= 400 and isinstance(expected, dict) and "message" in expected:
        # The message of a refusal is for people, and may have been reworded since.
        expected["message"] = actual["message"]
    elif reply.is_turn and expected["refused"] and actual["refused"]:
        expected["refused"]["error"]["message"] = actual["refused"]["error"]["message"]
    return expected, actual


def _step_after(command: CommandRecord, reply: Reply, step: int) -> int:
    if reply.status != 200 or not isinstance(command, StepRecord | TurnRecord):
        return step
    body = reply.body if isinstance(command, StepRecord) else reply.step
    return step if body is None else _read_step_number(body).step


class _StepNumber(msgspec.Struct):
    """The step of the session, as the reply to a step has it."""

    step: int


_read_step_number = msgspec.json.Decoder(_StepNumber).decode


def _with_reply(command: CommandRecord, reply: Reply, step: int, digest: str) -> CommandRecord:
    """Return the record of a command, with what it replied and the step it led to."""
    answer = UNSET if reply.is_quiet else msgspec.Raw(reply.body)
    fields: dict[str, Any] = {"at": step, "answer": answer, "digest": digest}
    if isinstance(command, StepRecord):
        return StepRecord(steps=command.steps, **fields)
    if isinstance(command, OrderRecord):
        return OrderRecord(order=command.order, status=reply.status, **fields)
    if isinstance(command, OcoRecord | ReplaceOrderRecord):
        fields |= {"status": reply.status, "key": None, "body": None}
    return msgspec.structs.replace(command, **fields)


def _start_divergence() -> Divergence:
    return Divergence(line=1, command={"do": "start"}, step=0, fields=[], is_recorded=False)


def _divergence(
    line: int, command: CommandRecord, played: _PlayedLine, clock: Clock
) -> tuple[Divergence, Event]:
    """Return the difference of a reply, and the event in it, still without account and candle."""
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(command))
    for name in ("answer", "digest", "at", "status"):
        shown.pop(name, None)
    expected, actual = _comparable(command, played.reply)
    divergence = Divergence(
        line=line,
        command=shown,
        step=played.before,
        fields=field_differences(expected, actual),
        expected_status=_expected_status(command, expected),
        status=played.reply.status,
        is_recorded=command.answer is not UNSET,
    )
    return divergence, _event(command, played, expected, actual, clock)


def _expected_status(command: CommandRecord, expected: Any) -> int:
    """Return the recorded status; only that of orders is written down."""
    if isinstance(command, _WITH_STATUS) and command.status is not None:
        return command.status
    return STATUS.get(expected["code"], 500) if _is_refusal(expected) else 200


def _is_refusal(reply: Any) -> bool:
    return isinstance(reply, dict) and reply.keys() == {"code", "message", "details"}


def _event(
    command: CommandRecord, played: _PlayedLine, expected: Any, actual: Any, clock: Clock
) -> Event:
    step = _step_after(command, played.reply, played.before)
    is_step = isinstance(command, StepRecord)
    if is_step and not _is_refusal(expected) and not _is_refusal(actual):
        # In a run of quiet steps that is still quiet, any of them may be the one.
        is_run = command.answer is UNSET and played.reply.is_quiet
        return step_event(
            expected, actual, clock, (played.first if is_run else played.before, step)
        )
    symbol = None
    if isinstance(command, OrderRecord):
        symbol = _symbol(command.order)
    elif isinstance(command, OcoRecord):
        symbol = _symbol(command.orders[0])
    return Event(
        kind="command",
        step=step,
        first_step=played.before + 1 if is_step else step,
        time=format_time(clock.time(step)),
        expected=expected if command.answer is not UNSET and isinstance(expected, dict) else None,
        actual=actual,
        symbol=symbol,
    )


def _symbol(order: dict[str, Any]) -> str | None:
    """Return the symbol of a recorded order, which may be written by hand."""
    try:
        return normalise_symbol(order.get("symbol", ""))
    except SandboxError:
        return None


def _explain(
    recording: Recording, index: int, event: Event, target: ReplayTarget, report: ReportCommands
) -> Event:
    """Play the commands before the one at ``index``, then up to the event; complete the event."""
    commands = [command for _, command in _commands(recording)]
    step = 0
    for number, command in enumerate(commands[:index]):
        step = _step_after(command, target.play(at_once(command)), step)
        if number % _REPLIES_BETWEEN_REPORTS == 0:
            report(index, len(commands))
    differing: CommandRecord = commands[index]
    if isinstance(differing, StepRecord):
        if event.first_step - 1 > step:
            target.play(StepRecord(steps=event.first_step - 1 - step))
        differing = StepRecord(steps=max(1, event.step - max(step, event.first_step - 1)))
    before = target.account()
    target.play(differing)
    candle = None if event.symbol is None else target.candle(event.symbol)
    return msgspec.structs.replace(event, before=before, after=target.account(), candle=candle)


def at_once(command: CommandRecord) -> CommandRecord:
    """Return the command with its repetitions as one step, which leads to the same state."""
    if not isinstance(command, StepRecord):
        return command
    return StepRecord(steps=min(command.steps * command.times, _MOST_STEPS))
