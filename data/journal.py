"""The journal of a session: an append-only file of lines, from which the session is made again.

Format 1. Each line is 8 hexadecimal digits, a space, a JSON object and a newline. The digits are
the CRC-32 of the JSON text, begun with the value of the line before (0 for the first), so that a
changed, missing or misplaced line is noticed. The first object is the header, each further one a
command. A last line without its newline is one that was being written when the process ended; it
was never acknowledged, and is dropped.
"""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from data.errors import JournalDamaged, StorageUnavailable

Durability = Literal["process", "power"]

FORMAT = 1
_CHECKSUM = 8
_PREFIX = _CHECKSUM + 1


class Journal:
    """An open journal. One thread at a time may use it."""

    def __init__(self, path: Path, descriptor: int, size: int, checksum: int) -> None:
        """Use ``create`` or ``read``."""
        self.path = path
        self._descriptor = descriptor
        self._size = size
        self._checksum = checksum

    @classmethod
    def create(cls, path: Path, lines: Iterable[bytes]) -> "Journal":
        """A new journal with ``lines``, on disk before this returns, or not there at all.

        A journal that is there already is replaced. Raises ``StorageUnavailable``.
        """
        temporary = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            journal = cls(path, descriptor, 0, 0)
            try:
                journal._write(b"".join(journal._framed(line) for line in lines))
                os.fsync(descriptor)
                temporary.replace(path)
                _sync_directory(path.parent)
            except BaseException:
                os.close(descriptor)
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _unwritten(path, error) from error
        return journal

    @classmethod
    def read(cls, path: Path) -> tuple["Journal", list[bytes]]:
        """The journal at ``path``, to be appended to, and its JSON texts, header first.

        Raises ``JournalDamaged``, which says where, and ``StorageUnavailable``.
        """
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise StorageUnavailable(f"{path.name} cannot be read: {error.strerror}") from error
        try:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                content = file.read()
            whole = content.rfind(b"\n") + 1
            texts, checksum = parse(content[:whole], path.name)
            if whole < len(content):
                os.ftruncate(descriptor, whole)
            os.lseek(descriptor, whole, os.SEEK_SET)
        except OSError as error:
            os.close(descriptor)
            raise StorageUnavailable(f"{path.name} cannot be read: {error.strerror}") from error
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, whole, checksum), texts

    def append(self, text: bytes) -> None:
        """Write one command; when this returns, it survives the end of the process.

        Raises ``StorageUnavailable``, and then the journal is as it was.
        """
        before = self._size, self._checksum
        try:
            self._write(self._framed(text))
        except OSError as error:
            self._size, self._checksum = before
            self._cut(error)
            raise _unwritten(self.path, error) from error

    def sync(self) -> None:
        """Wait until all that was written survives a loss of power. Blocks."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _unwritten(self.path, error) from error

    def close(self) -> None:
        """Close the file; the journal stays."""
        os.close(self._descriptor)

    def _framed(self, text: bytes) -> bytes:
        self._checksum = zlib.crc32(text, self._checksum)
        return b"%08x %b\n" % (self._checksum, text)

    def _write(self, content: bytes) -> None:
        written = 0
        while written < len(content):
            written += os.write(self._descriptor, content[written:])
        self._size += written

    def _cut(self, cause: OSError) -> None:
        """Take back what was written of a line that could not be written whole."""
        try:
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
        except OSError:
            raise _unwritten(self.path, cause) from cause


def parse(content: bytes, name: str) -> tuple[list[bytes], int]:
    """The JSON texts of whole lines, and the checksum of the last.

    Raises ``JournalDamaged`` with the line and the byte at which the first damage is.
    """
    texts = []
    checksum = position = 0
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        text = line[_PREFIX:]
        checksum = zlib.crc32(text, checksum)
        if line[:_PREFIX] != b"%08x " % checksum:
            raise JournalDamaged(
                f"{name} is damaged at line {number}, byte {position}; what comes before is whole",
                line=number,
                byte=position,
            )
        texts.append(text)
        position += len(line) + 1
    if not texts:
        raise JournalDamaged(f"{name} is damaged: it has no header", line=1, byte=0)
    return texts, checksum


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritten(path: Path, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(
        f"the journal {path.name} cannot be written: {error.strerror}; make room and try again"
    )
