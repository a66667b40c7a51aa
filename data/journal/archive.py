"""Archived journals: those of sessions that ended long ago are compressed, and read as before."""

import gzip
import os
import shutil
import zlib
from pathlib import Path

from candlestep.data.journal.recording import InvalidRecording

SUFFIX = ".jsonl"
_ARCHIVED = ".gz"


def archived_path(path: Path) -> Path:
    """Return the path of a journal once it is archived."""
    return path.with_name(f"{path.name}{_ARCHIVED}")


def archived_journals(directory: Path) -> dict[str, Path]:
    """Return the archived journals of a directory by session. Linear in all of its files."""
    suffix = f"{SUFFIX}{_ARCHIVED}"
    return {path.name.removesuffix(suffix): path for path in sorted(directory.glob(f"*{suffix}"))}


def journaled_sessions(directory: Path) -> set[str]:
    """Return the sessions that have a journal in a directory, archived or not, or half of each."""
    return {path.name.partition(SUFFIX)[0] for path in directory.glob(f"*{SUFFIX}*")}


def archive(path: Path) -> None:
    """Compress the journal of a session that has ended.

    The file is replaced once the compressed one is on disk. Blocks; linear.
    """
    archived = archived_path(path)
    unfinished = archived.with_name(f"{archived.name}.new")
    with path.open("rb") as source, unfinished.open("wb") as target:
        with gzip.GzipFile(fileobj=target, mode="wb", filename="", mtime=0) as compressed:
            shutil.copyfileobj(source, compressed)
        target.flush()
        os.fsync(target.fileno())
    unfinished.replace(archived)
    path.unlink()


def read(path: Path) -> bytes:
    """Return the content of a journal, archived or not.

    Raises ``FileNotFoundError`` that names ``path`` if it is neither, and ``InvalidRecording``.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as missing:
        try:
            return gzip.decompress(archived_path(path).read_bytes())
        except FileNotFoundError:
            raise missing from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidRecording(f"it cannot be unpacked ({error})", line=1, byte=0) from None


def copy(path: Path, directory: Path) -> Path | None:
    """Copy a journal, archived or not, into a directory while it may grow, and return the copy.

    The copy is what the journal has at one moment. None if there is no journal.
    """
    # While a journal is archived, the other file is there before the first one is not.
    for source in (path, archived_path(path)):
        try:
            file = source.open("rb")
        except FileNotFoundError:
            continue
        target = directory / source.name
        with file, target.open("wb") as copied:
            left = os.fstat(file.fileno()).st_size
            while left and (part := file.read(min(left, 1 << 20))):
                copied.write(part)
                left -= len(part)
        return target
    return None
