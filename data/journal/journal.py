"""Journals: every command is written to its session's journal before it is acknowledged.

A journal is a recording (see ``recording.py``). It only grows, except that runs of quiet steps
become one record when the session is evicted or ends, or when they are most of the file. Long after
its end it is archived (see ``archive.py``).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from candlestep.data.clock import NoteSeconds, ignore_seconds, timed
from candlestep.data.errors import StorageUnavailable
from candlestep.data.journal.archive import SUFFIX, archive
from candlestep.data.journal.archive import read as read_file
from candlestep.data.journal.compaction import collapsed, compacted, without_keys
from candlestep.data.journal.recording import (
    InvalidRecording,
    Recording,
    encoded,
    recording_of,
    records_of,
    whole_lines,
)
from candlestep.data.journal.records import CancelRecord, Record, Start
from candlestep.sandbox import SandboxError

DIRECTORY = "journals"
"""The directory in the home; it has one file per session."""

_WORTH_COMPACTING = 1024 * 1024
_TAIL = 256 * 1024


class JournalDamaged(SandboxError):
    """A journal is damaged; the message says where and how."""

    code = "INVALID_STATE"


class Journals:
    """The journals of a home."""

    def __init__(self, home: Path, *, synced: bool, on_write: NoteSeconds = ignore_seconds) -> None:
        """Open the journals of ``home``; blocks.

        With ``synced``, a file and its name are on disk when the call that writes them returns.
        ``on_write`` is called with the seconds that each write to a file took, in any thread, except
        for single lines, of which there is one a step.
        """
        self._directory = home / DIRECTORY
        self._synced = synced
        self._on_write = on_write
        with _unavailable("the directory of journals cannot be created"):
            self._directory.mkdir(parents=True, exist_ok=True)
            for unfinished in self._directory.glob("*.new"):
                unfinished.unlink()
            if synced:
                _sync(home)

    @classmethod
    def to_read(cls, home: Path) -> "Journals":
        """Return the journals of a home only to read them, next to a server that writes them."""
        journals = cls.__new__(cls)
        journals._directory = home / DIRECTORY
        journals._synced = False
        journals._on_write = ignore_seconds
        return journals

    def file_bytes(self) -> int:
        """Return the size of all journals. Blocks; linear in their number."""
        with os.scandir(self._directory) as entries:
            total = 0
            for entry in entries:
                # A journal may be removed meanwhile.
                with suppress(FileNotFoundError):
                    total += entry.stat().st_size
            return total

    def path(self, session_id: str) -> Path:
        """Return the path of the session's journal, which need not exist."""
        return self._directory / f"{session_id}{SUFFIX}"

    def create(self, start: Start) -> "Journal":
        """Create a journal with its first line, replacing one of the same session. Blocks."""
        assert start.session_id is not None
        journal = self._journal(start.session_id)
        journal.replace(encoded(start))
        return journal

    def remove(self, session_id: str) -> None:
        """Delete the journal of a session that was never acknowledged."""
        with suppress(OSError):
            self.path(session_id).unlink()

    def open(self, session_id: str) -> "Journal":
        """Open a journal to append to; a last line that was never finished is cut off. Blocks."""
        journal = self._journal(session_id)
        with _unavailable("the journal cannot be opened"), _as_damage(journal.path):
            data = journal.path.read_bytes()
            whole = whole_lines(data)
            if len(whole) < len(data):
                os.truncate(journal.path, len(whole))
            journal.size = journal.compacted_size = len(whole)
            journal.shared_size = _shared_size(whole)
        return journal

    def read(self, session_id: str, size: int | None = None) -> Recording:
        """Return a session's recording, with the past that it shares.

        With ``size``, reads only the first ``size`` bytes of its own journal. Blocks; linear. Raises
        ``JournalDamaged``, ``FileNotFoundError`` and ``StorageUnavailable``.
        """
        own = self._read(session_id, size)
        past: list[Record] = []
        origin = own.start.forked_from
        while origin is not None:
            try:
                part = self._read(origin.session_id, origin.size)
            except FileNotFoundError as error:
                raise JournalDamaged(
                    f"the journal {error.filename}, whose past it shares, is missing"
                ) from None
            # The keys belong to that session, not to this one.
            past[:0] = without_keys(part.records)
            origin = part.start.forked_from
        return Recording(own.start, [*past, *own.records], len(past))

    def sync(self, session_ids: Iterable[str]) -> None:
        """Flush the journals of sessions to disk; those that are missing are left out. Blocks."""
        for session_id in session_ids:
            with suppress(FileNotFoundError):
                self._journal(session_id).sync()

    def archive(self, session_id: str) -> None:
        """Compress the journal of a session that has ended.

        It is read as before, but can no longer be opened. Blocks; linear.
        """
        with _unavailable("the journal cannot be archived"):
            archive(self.path(session_id))

    def last_step(self, session_id: str) -> tuple[int, bool]:
        """Return the step of a session, and whether it was cancelled.

        Blocks; usually reads only the end of the journal.
        """
        path = self.path(session_id)
        with _unavailable("the journal cannot be read"), path.open("rb") as file, _as_damage(path):
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _TAIL)
            file.seek(start)
            data = file.read()
            lines = whole_lines(data).splitlines(keepends=True)
            for text in reversed(lines[1:] if start else lines):
                for read in records_of(text, needs_crc=True):
                    if read.record.at is not None:
                        return read.record.at, isinstance(read.record, CancelRecord)
        whole = self._read(session_id)
        dated = (record for record in reversed(whole.records) if record.at is not None)
        last = next(dated, whole.start)
        return last.at or 0, isinstance(last, CancelRecord)

    def _journal(self, session_id: str) -> "Journal":
        return Journal(self.path(session_id), synced=self._synced, on_write=self._on_write)

    def _read(self, session_id: str, size: int | None = None) -> Recording:
        """Read the file itself, or its first ``size`` bytes."""
        path = self.path(session_id)
        with _unavailable("the journal cannot be read"), _as_damage(path):
            data = read_file(path)
            data = whole_lines(data) if size is None else data[:size]
            if size is not None and len(data) < size:
                raise InvalidRecording(
                    "the file ends too early", line=data.count(b"\n") + 1, byte=len(data)
                )
            return recording_of(records_of(data, needs_crc=True))


@dataclass(slots=True, eq=False)
class Journal:
    """The journal of one session in memory. Its file is opened by the first write.

    A line is one system call, so the operating system has it at once, and a full disk or a file
    that was cut from outside is an error of that call, which harms no other session.
    """

    path: Path
    _: KW_ONLY
    synced: bool
    on_write: NoteSeconds = ignore_seconds
    size: int = 0
    """The length of the file up to the end of its last line, in bytes."""
    shared_size: int = 0
    """The first bytes of the file that forks share; they are never rewritten."""
    compacted_size: int = 0
    """The size after the last compaction."""
    _file: int | None = None
    """The descriptor of the open file."""

    @property
    def is_worth_compacting(self) -> bool:
        """True if the file is not small and has at least doubled since it was compacted."""
        return self.size - self.compacted_size > max(_WORTH_COMPACTING, self.compacted_size)

    @property
    def is_deleted(self) -> bool:
        """True if another program has deleted the open file, or put another one in its place."""
        file = self._file
        return file is not None and os.fstat(file).st_nlink == 0

    def append(self, line: bytes) -> None:
        """Append a line; the operating system has it when this returns.

        It therefore survives the end of the process. Raises ``StorageUnavailable``, with the file
        unchanged, also where somebody else has changed the length of the file.
        """
        try:
            file = self._file
            if file is None:
                file = self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            found = os.lseek(file, 0, os.SEEK_END)
            if found != self.size:
                raise self._changed(found)
            if os.pwrite(file, line, found) < len(line):
                self.truncate(found)
                raise OSError("the line was not written whole")
        except OSError as error:
            raise _as_unavailable("the journal cannot be written", error) from None
        self.size += len(line)

    def _changed(self, found: int) -> OSError:
        return OSError(f"it has {found} bytes instead of {self.size}: another program changed it")

    def truncate(self, size: int) -> None:
        """Cut the file back to ``size`` bytes.

        A failure is ignored: the line left behind is torn, or its command is repeated.
        """
        with suppress(OSError):
            os.truncate(self.path, size)
        self.size = size

    def sync(self) -> None:
        """Flush all appended lines to disk. Blocks; other journals may sync at the same time."""
        with _unavailable("the journal cannot be synced"), timed(self.on_write):
            _sync(self.path, os.O_RDWR)

    def compact(self, keys: Iterable[str]) -> None:
        """Merge each run of quiet steps into one record.

        ``keys`` are the idempotency keys that may be sent again. The part that forks share is left
        unchanged. Blocks; linear.
        """
        data = self.path.read_bytes()[: self.size]
        if len(data) < self.size:
            raise _as_unavailable("the journal cannot be compacted", self._changed(len(data)))
        shared = data[: self.shared_size] or data[: data.index(b"\n") + 1]
        with _as_damage(self.path):
            reads = list(records_of(collapsed(data[len(shared) :]), needs_crc=True))
        records = [read.record for read in reads if not isinstance(read.record, Start)]
        lines = b"".join(map(encoded, compacted(records, keys)))
        if len(shared) + len(lines) < self.size:
            self.replace(shared + lines)
        self.compacted_size = self.size

    def replace(self, data: bytes) -> None:
        """Replace the content of the file atomically: no reader sees it half-written."""
        temporary = self.path.with_suffix(".new")
        self.close()
        with _unavailable("the journal cannot be written"), timed(self.on_write):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    if self.synced:
                        file.flush()
                        os.fsync(file.fileno())
                temporary.replace(self.path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            if self.synced:
                _sync(self.path.parent)
        self.size = self.compacted_size = len(data)

    def share(self, line: bytes) -> None:
        """Append the record of a fork; the file up to its end never changes from then on."""
        self.append(line)
        self.shared_size = self.size

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _shared_size(data: bytes) -> int:
    """Return the end of the last record of a fork; 0 if there is none."""
    fork = data.rfind(b'\n{"do":"fork"')
    return 0 if fork < 0 else data.index(b"\n", fork + 1) + 1


def _sync(path: Path, flags: int = os.O_RDONLY | os.O_DIRECTORY) -> None:
    """Flush a directory, or a file that ``flags`` open, to disk."""
    descriptor = os.open(path, flags)
    try:
        # Not every system has fdatasync.
        getattr(os, "fdatasync", os.fsync)(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _unavailable(problem: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _as_unavailable(problem, error) from None


def _as_unavailable(problem: str, error: OSError) -> StorageUnavailable:
    reason = error.strerror or error
    return StorageUnavailable(f"{problem} ({reason}); nothing was changed, try again")


@contextmanager
def _as_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except InvalidRecording as error:
        raise JournalDamaged(
            f"the journal {path.name} is damaged at {error.message}", **error.details
        ) from None
