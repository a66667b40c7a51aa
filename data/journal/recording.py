"""Recordings: how a session was started and every command that changed it, a line of JSON each.

A session's journal is one, and so is what ``candlestep replay`` runs. The first line starts the
session, each other one is a command: ``{"do":"step","steps":60}``. What the server adds to a
command are what it answered and two short texts: ``digest`` is of this answer and of all before
it, so that equal digests mean equal answers from the start; ``crc``, always last, is the CRC-32
of the line up to it. A line written by hand may leave out all three.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec import UNSET

from candlestep.data.errors import UnreadableFile
from candlestep.data.journal.records import FORMAT, Line, Record, Start
from candlestep.sandbox import SandboxError

DIGEST_LENGTH = 16

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_CRC_LENGTH = len(b',"crc":"01234567"}')

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line, float_hook=str)


class InvalidRecording(SandboxError):
    """A line that is no record, or damaged; ``details`` has ``line`` (from 1) and ``byte``."""

    code = "INVALID_RECORDING"

    def __init__(self, problem: str, *, line: int, byte: int, file: str = "") -> None:
        where = f"{file}, line {line}" if file else f"line {line}"
        super().__init__(f"{where} (byte {byte}): {problem}", line=line, byte=byte)
        self.problem = problem


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
