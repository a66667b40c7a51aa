"""Recordings: the start of a session and every command that changed it, one line of JSON each.

The journal of a session is a recording, and ``candlestep replay`` runs one. The first line starts
the session, every other line is a command: ``{"do":"step","steps":60}``. The server adds three
fields to a command: its ``answer``; a ``digest`` of this answer and all earlier ones, so that equal
digests mean equal answers from the start; and, always last, ``crc``, the CRC-32 of the line up to
there. A line written by hand may omit all three. ``records.py`` defines the fields.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec import UNSET

from candlestep.data.errors import NOT_JSON, UnreadableFile
from candlestep.data.given_files import require_file
from candlestep.data.journal.records import (
    FORMAT,
    CommandRecord,
    Line,
    Record,
    Start,
    StepRecord,
)
from candlestep.sandbox import SandboxError

DIGEST_LENGTH = 16

ReportBytes = Callable[[int, int], object]
"""Receives the bytes read so far, and their total number. May raise to stop."""

_LINES_BETWEEN_REPORTS = 1000

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_CRC_LENGTH = len(b',"crc":"01234567"}')

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line, float_hook=str)


class InvalidRecording(SandboxError):
    """A line that is damaged or not a record; ``details`` has ``line`` (from 1) and ``byte``."""

    code = "INVALID_RECORDING"

    def __init__(self, problem: str, *, line: int, byte: int, file: str = "") -> None:
        where = f"{file}, line {line}" if file else f"line {line}"
        super().__init__(f"{where} (byte {byte}): {problem}", line=line, byte=byte)
        self.problem = problem


class Read(msgspec.Struct, frozen=True):
    """A record and the place of its line: the number of the line, from 1, and its first byte."""

    record: Line
    line: int
    byte: int


class Recording(msgspec.Struct, frozen=True):
    """The start of a session and all its records, including those of a past that it shares."""

    start: Start
    records: Sequence[Record]
    shared: int = 0
    """The number of records, from the first on, that belong to the shared past of a fork."""


def command_count(records: Iterable[Record]) -> int:
    """Return the number of commands among records, which compaction leaves as it is."""
    commands = (record for record in records if isinstance(record, CommandRecord))
    return sum(record.times if isinstance(record, StepRecord) else 1 for record in commands)


def chained(digest: bytes, answer: bytes) -> bytes:
    """Return the digest after an answer: 16 digits of the SHA-256 of the previous digest and it."""
    return sha256(digest + answer).hexdigest()[:DIGEST_LENGTH].encode()


def encoded(record: Line) -> bytes:
    """Return the line of a record."""
    return checked(_encode(record)[:-1])


def quiet_step(steps: int, at: int, digest: bytes) -> bytes:
    """Return the line of steps in which nothing happened, several times faster than ``encoded``."""
    return checked(b'{"do":"step","steps":%d,"at":%10d,"digest":"%s"' % (steps, at, digest))


def checked(text: bytes) -> bytes:
    """Return a line with its checksum; ``text`` is its JSON object without the last brace."""
    return b'%s,"crc":"%08x"}\n' % (text, crc32(text))


def records_of(data: bytes, *, needs_crc: bool, line: int = 1, byte: int = 0) -> Iterator[Read]:
    """Yield the records of whole lines; ``line`` and ``byte`` are the place of the first one.

    Raises ``InvalidRecording`` for a line with a wrong checksum, or, with ``needs_crc``, without one.
    """
    for number, text in enumerate(data.splitlines(keepends=True), line):
        yield _read(text, number, byte, needs_crc)
        byte += len(text)


def recording_of(reads: Iterable[Read]) -> Recording:
    """Return the recording of these lines.

    Raises ``InvalidRecording`` unless the first line, and no other, starts the session.
    """
    start: Start | None = None
    records: list[Record] = []
    for read in reads:
        if isinstance(read.record, Start):
            if start is not None:
                raise InvalidRecording("it starts again", line=read.line, byte=read.byte)
            start = read.record
            if start.format != FORMAT:
                raise InvalidRecording(
                    f"its format is {start.format}, and this version reads {FORMAT}; update"
                    " candlestep",
                    line=read.line,
                    byte=read.byte,
                )
        elif start is None:
            break
        else:
            records.append(read.record)
    if start is None:
        raise InvalidRecording('it must begin with {"do":"start",…}', line=1, byte=0)
    return Recording(start, records)


def read_recording(path: Path, report: ReportBytes | None = None) -> Recording:
    """Read a recording, which may be written by hand, from a file.

    Raises ``UnreadableFile``, ``InvalidRecording`` and what ``report`` raises.
    """
    with _named_after(path):
        data = path.read_bytes()
        reads = records_of(data, needs_crc=False)
        return recording_of(reads if report is None else _reported(reads, len(data), report))


def _reported(reads: Iterable[Read], size: int, report: ReportBytes) -> Iterator[Read]:
    for number, read in enumerate(reads):
        if number % _LINES_BETWEEN_REPORTS == 0:
            report(read.byte, size)
        yield read


def read_start(path: Path) -> Start:
    """Read the first line of a recording alone; raises as ``read_recording`` does."""
    with _named_after(path), path.open("rb") as file:
        return recording_of(records_of(file.readline(), needs_crc=False)).start


@contextmanager
def _named_after(path: Path) -> Iterator[None]:
    """Name the file in errors; raise ``UnreadableFile`` if it is none."""
    require_file(path)
    try:
        yield
    except InvalidRecording as error:
        raise InvalidRecording(error.problem, **error.details, file=path.name) from None
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None


def write_recording(path: Path, lines: bytes) -> None:
    """Write a recording to a file, all at once; raises ``UnreadableFile``."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(lines)
        temporary.replace(path)
    except OSError as error:
        # Where nothing can be written, nothing can be deleted: the first error says more.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UnreadableFile(str(path), error.strerror or str(error)) from None


def whole_lines(data: bytes) -> bytes:
    """Return the content of a file without a last line that was never finished.

    A line that was being written when the process ended lacks its end, or has zeros there. Raises
    ``InvalidRecording`` if it runs into another line, because the file is damaged then.
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
    checksum = _CRC.fullmatch(tail)
    if checksum:
        content = content[:-_CRC_LENGTH]
        if crc32(content) != int(checksum[1], 16):
            raise InvalidRecording(
                "its checksum is wrong: the line is damaged or was changed by hand (if so, omit crc"
                " and record it anew)",
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
    except NOT_JSON as error:
        raise InvalidRecording(f"it is not a record: {error}", line=line, byte=byte) from None


def _check_answer(record: Line) -> None:
    """Raise a decoding error if an answer, perhaps written by hand, is not valid JSON."""
    answer = getattr(record, "answer", UNSET)
    if answer is not UNSET:
        msgspec.json.decode(answer)
