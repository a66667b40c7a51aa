"""Journals: the file of each session, to which every command is written before it is answered.

A journal is a recording (see ``data.recording``). It only grows, but for runs of quiet steps,
which become one record when the session is passivated or ends, or when they are most of the file.
While it is written to, zeros may follow its last line.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from mmap import ALLOCATIONGRANULARITY, mmap
from pathlib import Path

from candlestep.data.clock import NoteSeconds, ignore_seconds, timed
from candlestep.data.errors import StorageUnavailable
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
"""In the home: one file a session."""

_SUFFIX = ".jsonl"
_WORTH_COMPACTING = 1024 * 1024
_TAIL = 256 * 1024
_ZEROS = bytes(64 * 1024)


class JournalDamaged(SandboxError):
    """A journal that cannot be followed: where in it, and why."""

    code = "INVALID_STATE"


class Journals:
    """The journals of a home."""

    def __init__(self, home: Path, *, synced: bool, on_write: NoteSeconds = ignore_seconds) -> None:
        """With ``synced``, files and their names are on disk when what writes them returns.

        ``on_write`` gets the seconds that each write to a file takes, in any thread. Lines
        that fit into what is mapped to memory are not timed.
        """
        self._directory = home / DIRECTORY
        self._synced = synced
        self._on_write = on_write
        with _unavailable("the directory of journals cannot be made"):
            self._directory.mkdir(parents=True, exist_ok=True)
            for unfinished in self._directory.glob("*.new"):
                unfinished.unlink()
            if synced:
                _sync(home)

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
        """Where the session's journal is, or would be."""
        return self._directory / f"{session_id}{_SUFFIX}"

    def create(self, start: Start) -> "Journal":
        """A journal with its first line; one that is there already is replaced. Blocks."""
        assert start.session_id is not None
        journal = self._journal(start.session_id)
        journal.replace(encoded(start))
        return journal

    def remove(self, session_id: str) -> None:
        """Forget a session whose journal was begun and that was never told of."""
        with suppress(OSError):
            self.path(session_id).unlink()

    def open(self, session_id: str) -> "Journal":
        """The journal to write on in, without a last line that was never finished. Blocks."""
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
        """A session's recording, with the past that it shares; or of its first ``size`` bytes.

        Blocks; linear. Raises ``JournalDamaged``, ``FileNotFoundError`` and
        ``StorageUnavailable``.
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
            # A key was of that session, not of this one.
            past[:0] = without_keys(part.records)
            origin = part.start.forked_from
        return Recording(own.start, [*past, *own.records], len(past))

    def last_step(self, session_id: str) -> tuple[int, bool]:
        """How many steps a session has made, and whether it was cancelled. Quick; blocks."""
        path = self.path(session_id)
        with _unavailable("the journal cannot be read"), path.open("rb") as file, _as_damage(path):
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _TAIL)
            file.seek(start)
            data = file.read()
            lines = whole_lines(data).splitlines(keepends=True)
            for text in reversed(lines[1:] if start else lines):
                for each in records_of(text, needs_crc=True):
                    if each.record.at is not None:
                        return each.record.at, isinstance(each.record, CancelRecord)
        found = self._read(session_id)
        last = next((each for each in reversed(found.records) if each.at is not None), found.start)
        return last.at or 0, isinstance(last, CancelRecord)

    def _journal(self, session_id: str) -> "Journal":
        return Journal(self.path(session_id), synced=self._synced, on_write=self._on_write)

    def _read(self, session_id: str, size: int | None = None) -> Recording:
        """What the file itself holds, or its first ``size`` bytes."""
        path = self.path(session_id)
        with _unavailable("the journal cannot be read"), _as_damage(path):
            data = path.read_bytes()
            data = whole_lines(data) if size is None else data[:size]
            if size is not None and len(data) < size:
                raise InvalidRecording("it ends before", line=data.count(b"\n") + 1, byte=len(data))
            return recording_of(records_of(data, needs_crc=True))


class Journal:
    """The journal of one session that is in memory. Its file is opened when first written to.

    What comes next is written into memory that is mapped to the file: the operating system has
    it at once, and it costs a tenth of a call. Zeros are written there before, so that a full
    disk is told of then.
    """

    __slots__ = (
        "_on_write",
        "_synced",
        "_window",
        "_window_end",
        "_window_start",
        "compacted_size",
        "path",
        "shared_size",
        "size",
    )

    def __init__(self, path: Path, *, synced: bool, on_write: NoteSeconds = ignore_seconds) -> None:
        self.path = path
        self._on_write = on_write
        self.size = 0
        """Bytes of the file up to the end of its last line."""
        self.shared_size = 0
        """Of these, what forks share: it is never written anew."""
        self.compacted_size = 0
        """What the size was when it was last compacted."""
        self._synced = synced
        self._window: mmap | None = None
        self._window_start = 0
        self._window_end = 0
        """Of the file, what is mapped; nothing if it ends at 0."""

    @property
    def is_worth_compacting(self) -> bool:
        """Whether it has at least doubled since it was compacted, and is not small."""
        return self.size - self.compacted_size > max(_WORTH_COMPACTING, self.compacted_size)

    def append(self, line: bytes) -> None:
        """Write a line: the operating system has it when this returns, whatever ends the process.

        Raises ``StorageUnavailable`` with the file as it was.
        """
        end = self.size + len(line)
        window = self._window
        if window is not None and end <= self._window_end:
            start = self._window_start
            window[self.size - start : end - start] = line
        else:
            with timed(self._on_write):
                self._write(line)
        self.size = end

    def _write(self, line: bytes) -> None:
        """Write a line for which there is no room, and zeros for more; map these."""
        self._unmap()
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                written = os.pwrite(file, line + _ZEROS, self.size)
                if written < len(line):
                    raise OSError("no more could be written")
                self._map(file, self.size + len(line), self.size + written)
            finally:
                os.close(file)
        except OSError as error:
            self.truncate(self.size)
            raise _as_unavailable("the journal cannot be written", error) from None

    def _map(self, file: int, start: int, end: int) -> None:
        """Map what is to be written from ``start`` on, and was made longer up to ``end``."""
        start = start // ALLOCATIONGRANULARITY * ALLOCATIONGRANULARITY
        # Where the file system cannot map, every line is written as the first one is.
        with suppress(OSError, ValueError):
            self._window = mmap(file, end - start, offset=start)
            self._window_start, self._window_end = start, end

    def _unmap(self) -> None:
        if self._window is not None:
            self._window.close()
            self._window = None
            self._window_start = self._window_end = 0

    def truncate(self, size: int) -> None:
        """Take back what was appended beyond ``size``; what cannot be, is torn, or is repeated."""
        self._unmap()
        with suppress(OSError):
            os.truncate(self.path, size)
        self.size = size

    def sync(self) -> None:
        """Have all that was appended on the disk. Blocks; other journals may sync meanwhile."""
        with _unavailable("the journal cannot be synced"), timed(self._on_write):
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fdatasync(file)
            finally:
                os.close(file)

    def compact(self, keys: Iterable[str]) -> None:
        """Make each run of quiet steps one record. ``keys`` are those still to be answered.

        Blocks; linear. What forks share stays as it is.
        """
        data = self.path.read_bytes()[: self.size]
        shared = data[: self.shared_size] or data[: data.index(b"\n") + 1]
        with _as_damage(self.path):
            reads = list(records_of(collapsed(data[len(shared) :]), needs_crc=True))
        records = [each.record for each in reads if not isinstance(each.record, Start)]
        lines = b"".join(map(encoded, compacted(records, keys)))
        if len(shared) + len(lines) < self.size:
            self.replace(shared + lines)
        self.compacted_size = self.size

    def replace(self, data: bytes) -> None:
        """Have the file hold ``data``, all at once: it is never seen half-written."""
        temporary = self.path.with_suffix(".new")
        self.close()
        with _unavailable("the journal cannot be written"), timed(self._on_write):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    if self._synced:
                        file.flush()
                        os.fsync(file.fileno())
                temporary.replace(self.path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            if self._synced:
                _sync(self.path.parent)
        self.size = self.compacted_size = len(data)

    def share(self, line: bytes) -> None:
        """Append the record of a fork: what there is up to it, stays as it is for ever."""
        self.append(line)
        self.shared_size = self.size

    def close(self) -> None:
        """Let go of the file; it is opened again when there is more to write."""
        if self._window is not None:
            self.truncate(self.size)


def _shared_size(data: bytes) -> int:
    """The end of the last record of a fork."""
    found = data.rfind(b'\n{"do":"fork"')
    return 0 if found < 0 else data.index(b"\n", found + 1) + 1


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
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
