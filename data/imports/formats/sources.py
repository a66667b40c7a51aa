"""The files to import from: plain, compressed, or in an archive, read within bounds.

A file may unpack to at most the smaller of 10 GiB and the larger of 64 MiB and 100 times its size,
so that a small file cannot fill the memory or the time of whoever reads it.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from candlestep.data.errors import UnreadableFile

_BUFFER = 1 << 20
_MOST_UNPACKED = 10 << 30
_LEAST_BOUND = 64 << 20
_MOST_RATIO = 100


class Source(NamedTuple):
    """One file of candles: on the disk, or a member of an archive."""

    path: Path
    member: str | None
    """The name within a zip archive."""

    @property
    def name(self) -> str:
        """The name of the file, which tells of its candles."""
        return self.path.name if self.member is None else Path(self.member).name

    @contextmanager
    def open(
        self, report_bytes: Callable[[int], None] | None = None
    ) -> Iterator[io.BufferedReader]:
        """Open the unpacked content, and report how much of the file on the disk has been read.

        Raises ``UnreadableFile`` for what cannot be unpacked, within the context too.
        """
        with _in_words(self.path.name), self.path.open("rb") as file:
            counted = _Counted(file, report_bytes)
            bound = min(_MOST_UNPACKED, max(_LEAST_BOUND, _MOST_RATIO * self.path.stat().st_size))
            if self.member is not None:
                with zipfile.ZipFile(counted) as archive, archive.open(self.member) as unpacked:
                    yield _bounded(self.path.name, unpacked, bound)
            elif file.peek(2)[:2] == b"\x1f\x8b":
                yield _bounded(
                    self.path.name, cast(IO[bytes], gzip.GzipFile(fileobj=counted)), bound
                )
            else:
                yield io.BufferedReader(counted, _BUFFER)


def sources_of(path: Path) -> list[Source]:
    """Return the files of candles that a path stands for: itself, or the members of an archive."""
    with _in_words(path.name):
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return [Source(path, None)]
        with zipfile.ZipFile(path) as archive:
            members = [member.filename for member in archive.infolist() if _is_data(member)]
    if not members:
        raise UnreadableFile(path.name, "there is no file of candles in it")
    return [Source(path, member) for member in sorted(members)]


def _is_data(member: zipfile.ZipInfo) -> bool:
    parts = Path(member.filename).parts
    return not member.is_dir() and not any(
        part.startswith(".") or part == "__MACOSX" for part in parts
    )


class _Counted(io.RawIOBase):
    """A file that reports how far it has been read."""

    def __init__(self, file: IO[bytes], report: Callable[[int], None] | None) -> None:
        self._file = file
        self._report = report

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        if self._report is not None:
            self._report(self._file.tell())
        return len(data)


class _Bounded(io.RawIOBase):
    """A stream that refuses to unpack to more than a number of bytes."""

    def __init__(self, file: str, stream: IO[bytes], bound: int) -> None:
        self._file = file
        self._stream = stream
        self._left = bound
        self._bound = bound

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UnreadableFile(
                self._file,
                f"it unpacks to more than {self._bound >> 20} MiB, which is more than candles do;"
                " unpack it yourself if it is what it should be",
            )
        buffer[: len(data)] = data
        return len(data)


def _bounded(file: str, stream: IO[bytes], bound: int) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(file, stream, bound), _BUFFER)


@contextmanager
def _in_words(file: str) -> Iterator[None]:
    """Raise ``UnreadableFile`` in the place of what reading and unpacking raise."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile):
        raise UnreadableFile(file, "it is damaged or was cut off; get it again") from None
    except (RuntimeError, NotImplementedError) as error:
        raise UnreadableFile(file, f"it cannot be unpacked: {error}") from None
    except OSError as error:
        raise UnreadableFile(file, f"it cannot be read: {error.strerror or error}") from None
