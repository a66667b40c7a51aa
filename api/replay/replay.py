"""Replay: run a recording again and find the first reply that differs.

A refusal is a reply too. Replies are compared with the recorded ones, or with recorded digests,
each of which covers all replies since the start.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from candlestep import __version__
from candlestep.api.sessions.player import Reply, digest_input
from candlestep.data.journal.candle_fingerprints import Difference, Fingerprints, differences
from candlestep.data.journal.compaction import compacted
from candlestep.data.journal.recording import Recording, chained, encoded
from candlestep.data.journal.records import CommandRecord, OrderRecord, StepRecord
from candlestep.sandbox import InvalidParameter

_COMMANDS_BETWEEN_REPORTS = 100

ReportCommands = Callable[[int, int], None]
"""Receives the number of commands played so far, and their total number."""


class ReplayTarget(Protocol):
    """A session to play commands on."""

    def candles(self) -> Fingerprints:
        """Return the fingerprints of the candles that the session can read."""

    def start_digest(self) -> bytes:
        """Return the digest of the reply to the start."""

    def play(self, command: CommandRecord) -> Reply:
        """Play one command, once; a refusal is a reply."""

    def account(self) -> dict[str, Any]:
        """Return the portfolio, as the API shows it."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first command whose reply differs from the recorded one."""

    line: int
    command: dict[str, Any]
    step: int
    """The step of the session before the command."""
    expected: Any = None
    """None where the recording has only a digest."""
    actual: Any = None
    expected_status: int = 200
    status: int = 200
    account: dict[str, Any]
    """The portfolio after the command."""


class ReplayResult(msgspec.Struct, frozen=True):
    """The result of a replay."""

    commands: int
    """The number of commands played."""
    compared: int
    """The number of commands for which the recording has a reply or a digest."""
    candles: list[Difference]
    """The candles that differ from those recorded on."""
    divergence: Divergence | None

    @property
    def is_same(self) -> bool:
        """True if every reply was compared and is the recorded one."""
        return self.divergence is None and not self.candles and self.compared == self.commands


class _StepNumber(msgspec.Struct):
    """The step of the session, as the reply to a step has it."""

    step: int


_read_step_number = msgspec.json.Decoder(_StepNumber).decode


def replay(recording: Recording, target: ReplayTarget, report: ReportCommands) -> ReplayResult:
    """Play a recording to its end, or to the first reply that differs.

    Raises ``InvalidParameter`` for a recording with nothing to compare.
    """
    start = recording.start
    other_candles = list(differences(start.candles, target.candles())) if start.candles else []
    digest = target.start_digest()
    if start.digest not in (None, digest.decode()):
        start_line = {"do": "start"}
        divergence = Divergence(line=1, command=start_line, step=0, account=target.account())
        return ReplayResult(0, 0, other_candles, divergence)
    lines = [
        (line, record)
        for line, record in enumerate(recording.records, 2)
        if isinstance(record, CommandRecord)
    ]
    if not lines and start.digest is None:
        raise InvalidParameter("recording", "has no commands, and no digest of its start")
    compared = step = 0
    for done, (line, command) in enumerate(lines, 1):
        step_before = step
        for reply in _replies(target, command):
            digest = chained(digest, digest_input(reply.body, reply.status))
            step = _step_after(command, reply, step)
        compared += command.digest is not None or command.answer is not UNSET
        if not _is_as_recorded(command, reply, digest):
            divergence = _divergence(line, command, step_before, reply, target)
            return ReplayResult(done, compared, other_candles, divergence)
        _report(report, done, len(lines))
    return ReplayResult(len(lines), compared, other_candles, None)


def re_record(recording: Recording, target: ReplayTarget, report: ReportCommands) -> bytes:
    """Play a recording to its end, and return it as the content of a file with today's replies."""
    digest = target.start_digest()
    start = msgspec.structs.replace(
        recording.start, engine=__version__, candles=target.candles(), digest=digest.decode()
    )
    commands = [record for record in recording.records if isinstance(record, CommandRecord)]
    records: list[CommandRecord] = []
    step = 0
    for done, command in enumerate(commands, 1):
        for reply in _replies(target, command):
            digest = chained(digest, digest_input(reply.body, reply.status))
            step = _step_after(command, reply, step)
            records.append(_with_reply(command, reply, step, digest.decode()))
        _report(report, done, len(commands))
    return encoded(start) + b"".join(map(encoded, compacted(records, ())))


def _report(report: ReportCommands, done: int, total: int) -> None:
    if done % _COMMANDS_BETWEEN_REPORTS == 0 or done == total:
        report(done, total)


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


def _is_as_recorded(command: CommandRecord, reply: Reply, digest: bytes) -> bool:
    """Return whether the reply matches its record: a digest, the reply, both or neither."""
    if command.digest is not None and command.digest != digest.decode():
        return False
    if isinstance(command, OrderRecord) and command.status not in (None, reply.status):
        return False
    if command.answer is UNSET or command.answer == reply.body:
        return True
    expected, actual = msgspec.json.decode(command.answer), msgspec.json.decode(reply.body)
    if reply.status >= 400 and isinstance(expected, dict):
        # The message of a refusal is for people, and may have been reworded since.
        expected["message"] = actual["message"]
    return bool(expected == actual)


def _step_after(command: CommandRecord, reply: Reply, step: int) -> int:
    is_step = isinstance(command, StepRecord) and reply.status == 200
    return _read_step_number(reply.body).step if is_step else step


def _with_reply(command: CommandRecord, reply: Reply, step: int, digest: str) -> CommandRecord:
    """Return the record of a command, with what it replied and the step it led to."""
    answer = UNSET if reply.is_quiet else msgspec.Raw(reply.body)
    fields: dict[str, Any] = {"at": step, "answer": answer, "digest": digest}
    if isinstance(command, StepRecord):
        return StepRecord(steps=command.steps, **fields)
    if isinstance(command, OrderRecord):
        return OrderRecord(order=command.order, status=reply.status, **fields)
    return msgspec.structs.replace(command, **fields)


def _divergence(
    line: int, command: CommandRecord, step: int, reply: Reply, target: ReplayTarget
) -> Divergence:
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(command))
    for name in ("answer", "digest", "at", "status"):
        fields.pop(name, None)
    expected = None if command.answer is UNSET else msgspec.json.decode(command.answer)
    status = command.status if isinstance(command, OrderRecord) else None
    return Divergence(
        line=line,
        command=fields,
        step=step,
        expected=expected,
        actual=msgspec.json.decode(reply.body),
        expected_status=200 if status is None else status,
        status=reply.status,
        account=target.account(),
    )
