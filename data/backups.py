"""Backups: copies of a home that are made while a server runs on it, and homes made of them.

The store is copied first, as of one moment, and then the journals of its sessions. A journal may
have grown meanwhile, and it always has what the store says of its session, as after a crash: so a
restored session is where its journal ends, at or a little after that moment.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from candlestep.data.clock import now
from candlestep.data.errors import NOT_JSON, StorageUnavailable
from candlestep.data.journal import archive
from candlestep.data.journal.journal import DIRECTORY
from candlestep.data.records.sessions import started_sessions
from candlestep.data.run_files import run_files
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.data.store.home import open_home
from candlestep.data.store.server_file import running_server
from candlestep.sandbox import InvalidParameter

_MANIFEST = "backup.json"
_FEES = "fee_schedules.json"
_RUN_FILES = f"{run_files.DIRECTORY}/*/*/*.parquet"
_RESTORING = "restoring"
_LEFT_BY_RESTORE = {_RESTORING, DIRECTORY, run_files.DIRECTORY, _FEES}

Progress = Callable[[int, int], None]
"""Receives how many of how many files are copied."""


class Backup(msgspec.Struct, frozen=True):
    """The contents of a backup: the bytes of each file, by its path, and its start (ms)."""

    made_at: int
    files: dict[str, int]

    @property
    def sessions(self) -> int:
        """The number of journals."""
        return sum(name.startswith(f"{DIRECTORY}/") for name in self.files)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(self.files.values())


def back_up(store: Store, directory: Path, progress: Progress) -> Backup:
    """Copy the home of a store into a new directory, which appears when it is complete. Blocks.

    The copy has all but what tokens are signed with: they end. Raises ``InvalidParameter`` if the
    directory exists, or another backup is being written there, and ``StorageUnavailable``.
    """
    if directory.exists():
        raise InvalidParameter("directory", f"{directory} exists; give the name of a new directory")
    made_at = now()
    try:
        with _partial(directory) as partial:
            store.export(partial / FILE_NAME)
            with closing(Store.open_to_read(partial)) as copied:
                session_ids = started_sessions(copied)
            _copy_home(store.path.parent, partial, session_ids, progress)
            backup = Backup(made_at, dict(_sizes(partial)))
            (partial / _MANIFEST).write_bytes(msgspec.json.encode(backup))
            os.sync()
            partial.rename(directory)
    except OSError as error:
        raise StorageUnavailable(
            f"the backup could not be written ({error.strerror}: {error.filename}); free some space,"
            " or name a directory elsewhere"
        ) from None
    return backup


@contextmanager
def _partial(directory: Path) -> Iterator[Path]:
    """Make the directory that is to be renamed to ``directory``; delete it if that fails.

    It is locked, so that no two backups write there. What a killed one has left is deleted.
    """
    partial = directory.with_name(f".{directory.name}.partial")
    partial.mkdir(parents=True, mode=0o700, exist_ok=True)
    opened = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidParameter(
                "directory",
                f"another backup is being written to {directory}; give the name of another directory",
            ) from None
        try:
            for left in partial.iterdir():
                _remove(left)
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(opened)


def restore(directory: Path, home: Path, progress: Progress) -> Backup:
    """Make a home of a backup. Blocks.

    The home must not exist, or be empty, or be what an interrupted ``restore`` left. The store comes
    last, so that there is none before everything is there. Raises ``InvalidParameter`` for another
    home, or a backup that is not complete, and ``StorageUnavailable``.
    """
    backup = _read(directory)
    _require_room(home)
    open_home(home)
    restoring = home / _RESTORING
    try:
        for name in _LEFT_BY_RESTORE:
            _remove(home / name)
        for number, name in enumerate(sorted(backup.files), 1):
            target = restoring / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, target)
            progress(number, len(backup.files))
        os.sync()
        for path in sorted(restoring.iterdir(), key=lambda path: path.name == FILE_NAME):
            path.rename(home / path.name)
        restoring.rmdir()
    except OSError as error:
        raise StorageUnavailable(
            f"the backup could not be restored ({error.strerror}: {error.filename}); try again"
        ) from None
    return backup


def _copy_home(home: Path, target: Path, session_ids: list[str], progress: Progress) -> None:
    """Copy journals and the files of runs; what is deleted meanwhile is left out."""
    journals = target / DIRECTORY
    journals.mkdir()
    for number, session_id in enumerate(session_ids, 1):
        archive.copy(home / DIRECTORY / f"{session_id}{archive.SUFFIX}", journals)
        progress(number, len(session_ids))
    for path in (*home.glob(_RUN_FILES), home / _FEES):
        copy = target / path.relative_to(home)
        with suppress(FileNotFoundError):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        progress(len(session_ids), len(session_ids))


def _sizes(directory: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory).as_posix(), path.stat().st_size


def _read(directory: Path) -> Backup:
    """Return what a backup says it has, once all of that is there."""
    try:
        backup = msgspec.json.decode((directory / _MANIFEST).read_bytes(), type=Backup)
    except (FileNotFoundError, NotADirectoryError, *NOT_JSON):
        raise InvalidParameter(
            "directory", f"{directory} is not a backup that `candlestep backup` has completed"
        ) from None
    found = dict(_sizes(directory))
    for name, size in backup.files.items():
        if found.get(name) != size:
            has = "is missing" if name not in found else f"has {found[name]} bytes, not {size}"
            raise InvalidParameter("directory", f"{directory} is not complete: {name} {has}")
    return backup


def _require_room(home: Path) -> None:
    if running_server(home) is not None:
        raise InvalidParameter("home", f"a server runs on {home}; name another home")
    names = {path.name for path in home.iterdir()} if home.is_dir() else set()
    if names and not (_RESTORING in names and names <= _LEFT_BY_RESTORE):
        raise InvalidParameter(
            "home", f"{home} is not empty; name a new one, or move away what is there"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
