"""Recordings: how a session was started and every command that changed it, a line of JSON each.

A session's journal is one, and so is what ``candlestep replay`` runs. The first line starts the
session, each other one is a command: ``{"do":"step","steps":60}``. What the server adds to a
command are what it answered and two short texts: ``digest`` is of this answer and of all before
it, so that equal digests mean equal answers from the start; ``crc``, always last, is the CRC-32
of the line up to it. A line written by hand may leave out all three.

``at`` is the session's step after the command; ``key`` and ``body`` are the Idempotency-Key it
was sent with, and a digest of what was asked.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import msgspec
from msgspec import UNSET, Meta, UnsetType

from candlestep.data.errors import UnreadableFile
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import SandboxError
from candlestep.sandbox.clock import DAY

FORMAT = 1
DIGEST_LENGTH = 16
_LONGEST_LOOK_BACK = 3660 * DAY

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_QUIET = rb'\{"do":"step","steps":%s,"at": *[0-9]+,"digest":"[0-9a-f]{16}","crc":"[0-9a-f]{8}"\}\n'
_QUIET_RUN = re.compile(_QUIET % b"([0-9]+)" + rb"(?:" + _QUIET % rb"\1" + rb"){2,}")
_CRC_LENGTH = len(b',"crc":"01234567"}')


class InvalidRecording(SandboxError):
    """A line that is no record, or damaged; ``details`` has ``line`` (from 1) and ``byte``."""

    code = "INVALID_RECORDING"

    def __init__(self, problem: str, *, line: int, byte: int, file: str = "") -> None:
        where = f"{file}, line {line}" if file else f"line {line}"
        super().__init__(f"{where} (byte {byte}): {problem}", line=line, byte=byte)
        self.problem = problem


class _Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="do",
):
    pass


class Origin(msgspec.Struct, frozen=True):
    """The past that a fork shares: the first ``size`` bytes of another session's journal."""

    session_id: str
    size: int
    digest: str
    """Of all answers up to there."""


class Start(_Record, frozen=True, tag="start"):
    """The first line: everything that a session depends on."""

    config: dict[str, Any]
    """As ``SessionConfig`` takes it."""
    pairs: list[str]
    exchange: str = DEFAULT_EXCHANGE
    risk_profile: dict[str, Any] = {}
    format: int = FORMAT
    engine: str | None = None
    """The version of Candlestep that wrote it."""
    session_id: str | None = None
    import_number: int | None = None
    """In the store that it ran on, the market is as of this import."""
    look_back: Annotated[int, Meta(ge=0, le=_LONGEST_LOOK_BACK)] | None = None
    """Of candles before its start, in milliseconds."""
    candles: dict[str, dict[str, str]] | None = None
    """Of each symbol and UTC month, a digest of the candles that the session can read."""
    forked_from: Origin | None = None
    at: int = 0
    key: str | None = None
    body: str | None = None
    digest: str | None = None


class StepRecord(_Record, frozen=True, tag="step"):
    """Steps; with fills or closed orders in the answer, it is kept.

    ``times`` of them in a row in which nothing happened are one record, with the last digest.
    """

    steps: int
    times: Annotated[int, Meta(ge=1, le=10**9)] = 1
    fast: bool = False
    """Whether it was asked for as ``step/batch/fast``; noted where the answer may be repeated."""
    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether it is known that nothing happened in it."""
        return self.answer is UNSET and self.digest is not None


class OrderRecord(_Record, frozen=True, tag="order"):
    """An order placed, or rejected by a risk limit (status 422)."""

    order: dict[str, Any]
    at: int | None = None
    key: str | None = None
    body: str | None = None
    status: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class CancelOrderRecord(_Record, frozen=True, tag="cancel_order"):
    """A pending order cancelled."""

    order_id: int
    at: int | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class CancelRecord(_Record, frozen=True, tag="cancel"):
    """The session ended early: the last record."""

    at: int | None = None
    key: str | None = None
    body: str | None = None
    answer: msgspec.Raw | UnsetType = UNSET
    digest: str | None = None


class ForkRecord(_Record, frozen=True, tag="fork"):
    """Sessions that share the past up to here. It changes nothing in this one."""

    sessions: list[str]
    strategy_label: str
    forked_at: int
    """Wall clock, in milliseconds."""
    at: int
    size: int
    """Of this journal up to here, in bytes: what is shared."""
    digest: str
    """Of all answers up to here."""
    key: str | None = None
    body: str | None = None


class AnswerRecord(_Record, frozen=True, tag="answer"):
    """What a command with a key was answered that changed nothing: the key answers it again."""

    key: str
    body: str
    status: int
    answer: msgspec.Raw
    at: int | None = None


Command = StepRecord | OrderRecord | CancelOrderRecord | CancelRecord
Record = Command | ForkRecord | AnswerRecord
Line = Start | Record

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line, float_hook=str)


class Read(msgspec.Struct, frozen=True):
    """A record, and where its line is: its number from 1, and its first byte."""

    record: Line
    line: int
    byte: int


class Recording(msgspec.Struct, frozen=True):
    """A session's start and all its records, those of the past that it shares among them."""

    start: Start
    records: Sequence[Record]
    shared: int = 0
    """How many of the records, the first ones, are those of the past of a fork."""


def chained(digest: bytes, answer: bytes) -> bytes:
    """The digest after an answer, given that before it: of SHA-256, the first 16 digits."""
    return sha256(digest + answer).hexdigest()[:DIGEST_LENGTH].encode()


def encoded(record: Line) -> bytes:
    """A record as its line."""
    return checked(_encode(record)[:-1])


def quiet_step(steps: int, at: int, digest: bytes) -> bytes:
    """The line of steps in which nothing happened: as ``encoded``, several times faster."""
    return checked(b'{"do":"step","steps":%d,"at":%10d,"digest":"%s"' % (steps, at, digest))


def checked(text: bytes) -> bytes:
    """A line with its checksum, given the text of its object but for the last brace."""
    return b'%s,"crc":"%08x"}\n' % (text, crc32(text))


def records_of(data: bytes, *, needs_crc: bool, line: int = 1, byte: int = 0) -> Iterator[Read]:
    """The records in whole lines, which begin with the given line and byte of the file.

    With ``needs_crc`` a line without a checksum is damaged; one that is wrong always is. Raises
    ``InvalidRecording``.
    """
    for number, text in enumerate(data.splitlines(keepends=True), line):
        yield _read(text, number, byte, needs_crc)
        byte += len(text)


def recording_of(reads: Iterable[Read]) -> Recording:
    """A recording of its lines; raises ``InvalidRecording`` unless the first alone starts it."""
    start: Start | None = None
    records: list[Record] = []
    for each in reads:
        if isinstance(each.record, Start):
            if start is not None:
                raise InvalidRecording("it starts again", line=each.line, byte=each.byte)
            start = each.record
            if start.format != FORMAT:
                raise InvalidRecording(
                    f"its format is {start.format}, and this version reads {FORMAT}; update"
                    " candlestep",
                    line=each.line,
                    byte=each.byte,
                )
        elif start is None:
            break
        else:
            records.append(each.record)
    if start is None:
        raise InvalidRecording('it must begin with {"do":"start",…}', line=1, byte=0)
    return Recording(start, records)


def read_recording(path: Path) -> Recording:
    """The recording in a file, which may be one by hand.

    Raises ``UnreadableFile`` and ``InvalidRecording``.
    """
    try:
        return recording_of(records_of(path.read_bytes(), needs_crc=False))
    except InvalidRecording as error:
        raise InvalidRecording(error.problem, **error.details, file=path.name) from None
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None


def write_recording(path: Path, lines: bytes) -> None:
    """Have a file hold a recording, all at once; raises ``UnreadableFile``."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(lines)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UnreadableFile(str(path), error.strerror or str(error)) from None


def whole_lines(data: bytes) -> bytes:
    """What a file holds but for a last line that was never finished.

    A line that was being written when the process ended has no end, or zeros in its place.
    Raises ``InvalidRecording`` if it has swallowed another line: then the file is damaged.
    """
    end = data.rstrip(b"\0").rfind(b"\n") + 1
    torn = data[end:]
    if _CRC.search(torn, 0, max(0, len(torn.rstrip(b"\0")) - 1)):
        line = data.count(b"\n", 0, end) + 1
        raise InvalidRecording("a line without its end", line=line, byte=end)
    return data[:end]


def collapsed(lines: bytes) -> bytes:
    """The same lines with each longer run of equal quiet steps as one, but for its last step.

    Much faster than to read them, which ``compacted`` needs; the two lines that are kept of a
    run are read. Raises ``InvalidRecording``, with the place in ``lines``, if one is damaged.
    """
    return _QUIET_RUN.sub(_as_one, lines)


def _as_one(run: re.Match[bytes]) -> bytes:
    lines = run[0].splitlines(keepends=True)
    kept = b"".join(lines[-2:])
    before, _ = records_of(kept, needs_crc=True, byte=run.end() - len(kept))
    assert isinstance(before.record, StepRecord)
    times = len(lines) - 1
    return encoded(msgspec.structs.replace(before.record, times=times)) + lines[-1]


def compacted(records: Iterable[Record], keys: Iterable[str]) -> Iterator[Record]:
    """The same with each run of equal quiet steps as one record, but for its last step.

    ``keys`` are those whose answers may be asked for again; of others, nothing is kept.
    """
    kept = frozenset(keys)
    run: StepRecord | None = None
    last: StepRecord | None = None

    def both() -> Iterator[Record]:
        yield from (each for each in (run, last) if each is not None)

    for each in records:
        record = _without_key(each, kept)
        if record is None:
            continue
        if not (isinstance(record, StepRecord) and record.is_quiet and record.key is None):
            yield from both()
            run = last = None
            yield record
            continue
        if last is None:
            run, last = None, record
        elif record.steps == last.steps and (run is None or run.steps == last.steps):
            times = last.times + (0 if run is None else run.times)
            run = msgspec.structs.replace(last, times=times)
            last = record
        else:
            yield from both()
            run, last = None, record
    yield from both()


def without_keys(records: Iterable[Record]) -> Iterator[Record]:
    """The commands among records, without what was noted of their requests' keys."""
    for each in records:
        record = _without_key(each, frozenset())
        if record is not None and not isinstance(record, ForkRecord):
            yield record


def _without_key(record: Record, kept: frozenset[str]) -> Record | None:
    if isinstance(record, CancelOrderRecord) or record.key is None or record.key in kept:
        return record
    if isinstance(record, AnswerRecord):
        return None
    if isinstance(record, StepRecord):
        return msgspec.structs.replace(record, key=None, body=None, fast=False)
    return msgspec.structs.replace(record, key=None, body=None)


def _read(text: bytes, line: int, byte: int, needs_crc: bool) -> Read:
    content = text.rstrip(b"\r\n")
    tail = content[-_CRC_LENGTH:]
    found = _CRC.fullmatch(tail)
    if found:
        content = content[:-_CRC_LENGTH]
        if crc32(content) != int(found[1], 16):
            raise InvalidRecording(
                "its checksum is wrong: the line is damaged, or was changed by hand (then leave"
                " out crc, and record it anew)",
                line=line,
                byte=byte,
            )
        content += b"}"
    elif needs_crc:
        raise InvalidRecording("it is damaged: it has no checksum", line=line, byte=byte)
    try:
        record = _decoder.decode(content)
        if not needs_crc:
            _check_answer(record)
        return Read(record, line, byte)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidRecording(f"it is no record: {error}", line=line, byte=byte) from None


def _check_answer(record: Line) -> None:
    """Raise what decoding raises if the answer, written by hand, is none."""
    answer = getattr(record, "answer", UNSET)
    if answer is not UNSET:
        msgspec.json.decode(answer)
