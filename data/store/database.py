"""The store: one DuckDB file under a home directory.

One thread at a time writes records, and one candles.
"""

import os
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import duckdb
from numpy.typing import NDArray

from candlestep.data.clock import NoteSeconds, ignore_seconds, now, timed
from candlestep.data.errors import (
    NotAStore,
    StorageUnavailable,
    StoreDamaged,
    StoreLocked,
    StoreTooNew,
)
from candlestep.data.store.home import open_home
from candlestep.data.store.migrations import MIGRATIONS
from candlestep.data.store.sql import quote_name, quote_text
from candlestep.sandbox import InvalidParameter

FILE_NAME = "candlestep.duckdb"

_PID = re.compile(r"PID (\d+)")
_READ_TRIES = 5
_WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_BROKEN = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
    duckdb.ConnectionException,
)
"""Errors of DuckDB that blame the storage rather than the statement.

So does ``duckdb.Error`` itself, which is raised for a block that was changed.
"""
_DAMAGED = "Corrupt database file"
"""Part of the message about such a block."""

Part = Literal["candles", "records"]
"""A part of the store. The candles are the tables of candles, imports, gaps, digests of days and
instruments; the records are all others."""
_PARTS: tuple[Part, ...] = ("candles", "records")
"""All parts, in the order in which they are locked."""

Fetched = TypeVar("Fetched")


class _Cursors(threading.local):
    """The cursor of the current thread."""

    cursor: duckdb.DuckDBPyConnection | None = None


class Store:
    """An open store. Any thread may use it; each reads through a cursor of its own.

    Reads see committed data. Writes happen inside ``transaction()``, one transaction at a time in
    each part, so that records are written during an import.
    When storage fails, they raise ``StorageUnavailable`` with nothing changed, and the store can
    be used again as soon as the cause is gone.
    """

    def __init__(
        self, path: Path, migrations: Sequence[str], *, is_read_only: bool = False
    ) -> None:
        """Use ``Store.open`` or ``Store.open_to_read``."""
        self.path = path
        self._is_read_only = is_read_only
        self.on_write: NoteSeconds = ignore_seconds
        """Called with the seconds that each transaction took, in its thread."""
        self._migrations = migrations
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._closed = False
        self._generation = 0
        self._cursors: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, int] = (
            weakref.WeakKeyDictionary()
        )
        """The cursors of all threads, each with the id of its thread."""
        self._connecting = threading.RLock()
        self._writing = {part: threading.RLock() for part in _PARTS}
        self._local = threading.local()
        self._cursor_of = _Cursors()

    @classmethod
    def open(cls, home: str | Path, migrations: Sequence[str] = MIGRATIONS) -> Self:
        """Open the store under ``home`` and migrate it; create both if they do not exist.

        Raises ``StoreLocked``, ``StoreTooNew`` or ``NotAStore`` with the file unchanged.
        """
        path = Path(home).expanduser() / FILE_NAME
        open_home(path.parent)
        if path.exists():
            _check(path, len(migrations))
        store = cls(path, migrations)
        try:
            store._migrate()
        except BaseException:
            store.close()
            raise
        path.chmod(0o600)
        return store

    @classmethod
    def open_to_read(cls, home: str | Path) -> Self:
        """Open the store under ``home``, which must exist, next to other processes that read it.

        An older store is migrated first. Waits for a process that has it open for writing, which
        may just be migrating it, for at most ``_WAIT_SECONDS``; then raises ``StoreLocked``. Raises
        ``StoreTooNew`` or ``NotAStore``.
        """
        path = Path(home).expanduser() / FILE_NAME
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                if _check(path, len(MIGRATIONS)) < len(MIGRATIONS):
                    cls.open(home).close()
                store = cls(path, MIGRATIONS, is_read_only=True)
                store.rows("SELECT 1")  # Else the first query would connect, and not wait.
                return store
            except StoreLocked as error:
                if error.details["pid"] == os.getpid() or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    @staticmethod
    def holder(home: Path) -> int | None:
        """Return the id of the process that has the store under ``home`` open for writing.

        Return 0 for a process whose id is not known, and None if there is no such process.
        """
        try:
            _connect(home / FILE_NAME, read_only=True).close()
        except StoreLocked as error:
            return error.details["pid"] or 0
        except StorageUnavailable:
            pass  # Who opens it is told why that fails.
        return None

    def close(self) -> None:
        """Close the store and the cursors of all threads. May be called twice."""
        with self._locked(_PARTS), self._connecting:
            self._closed = True
            self._disconnect()

    def file_bytes(self) -> int:
        """Return the size of the file and of its write-ahead log."""
        files = (self.path, self.path.with_name(f"{self.path.name}.wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def interrupt(self, thread_id: int) -> None:
        """Break off the statement that a thread runs, if any; it raises there.

        A transaction that is under way is then undone.
        """
        with self._connecting:
            for cursor in [one for one, thread in self._cursors.items() if thread == thread_id]:
                cursor.interrupt()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Inside a transaction, a query sees the transaction's writes."""
        return self._read(lambda cursor: cursor.execute(sql, parameters).fetchall())

    def arrays(self, sql: str, *parameters: Any) -> dict[str, NDArray[Any]]:
        """Return the columns of a query by name, as NumPy arrays. They must not have NULL."""
        return self._read(lambda cursor: cursor.execute(sql, parameters).fetchnumpy())

    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement that writes and return the rows of its ``RETURNING`` clause.

        Only inside ``transaction()``.
        """
        return self._transaction_cursor().execute(sql, parameters).fetchall()

    def insert(self, statement: str, columns: Mapping[str, NDArray[Any]]) -> None:
        """Run one statement that reads these columns from the table ``incoming``.

        For example ``INSERT INTO t SELECT * FROM incoming``. NULL and text need an array of
        objects, see ``text_column``. Only inside ``transaction()``.
        """
        cursor = self._transaction_cursor()
        cursor.register("incoming", dict(columns))
        try:
            cursor.execute(statement)
        finally:
            with suppress(duckdb.Error):
                cursor.unregister("incoming")

    @contextmanager
    def transaction(self, *parts: Part) -> Iterator[None]:
        """Commit everything that this thread writes inside, or nothing if an error is raised.

        It may write to these ``parts``, or only to the records if none is named. One thread at a
        time for each part; a transaction inside another is part of that one, which must have its
        parts. Raises ``StorageUnavailable`` if the store could not be written.
        """
        wanted: tuple[Part, ...] = parts or ("records",)
        if self._in_transaction():
            if not {*wanted} <= {*self._local.parts}:
                raise RuntimeError(f"the transaction around this one does not have {wanted}")
            yield
            return
        generation = self._generation
        try:
            with self._locked(wanted), timed(self.on_write):
                generation = self._generation
                self._begin(wanted)
                generation = self._generation
                try:
                    yield
                    self._transaction_cursor().execute("COMMIT")
                except BaseException:
                    with suppress(duckdb.Error):
                        self._transaction_cursor().execute("ROLLBACK")
                    raise
                finally:
                    self._local.parts = ()
        except duckdb.Error as error:
            if not _is_broken(error) and generation == self._generation:
                raise
            self._recover()
            raise self._unavailable(error) from error

    def export(self, path: str | Path) -> None:
        """Write a copy of the store that the DuckDB shell can open while a server is running.

        Raises ``InvalidParameter`` if ``path`` exists or cannot be written to.
        """
        target = Path(path).expanduser()
        try:
            target.open("xb").close()
        except FileExistsError:
            raise InvalidParameter(
                "path", f"{target} exists; give the name of a new file"
            ) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidParameter("path", f"{target} cannot be written: {reason}") from None
        name = f"export_{uuid.uuid4().hex}"
        partial = target.with_name(f".{target.name}.{name}")
        try:
            self._read(lambda cursor: _copy_database(cursor, self.path.stem, partial, name))
            partial.replace(target)
        except BaseException:
            for leftover in (target, partial, partial.with_name(f"{partial.name}.wal")):
                with suppress(OSError):
                    leftover.unlink(missing_ok=True)
            raise

    def _read(self, fetch: Callable[[duckdb.DuckDBPyConnection], Fetched]) -> Fetched:
        if self._in_transaction():
            return fetch(self._transaction_cursor())
        for left in reversed(range(_READ_TRIES)):
            generation = self._generation
            try:
                return fetch(self._cursor())
            except duckdb.Error as error:
                # The error is not stored: its frames hold a cursor, which keeps a dead database.
                is_alive = self._is_alive(generation)
                if is_alive and not _is_broken(error):
                    raise
                if is_alive or not left:
                    raise self._unavailable(error) from error
                # A failed write of another thread invalidates every cursor: read again.
        raise AssertionError("the last try raises")

    def _in_transaction(self) -> bool:
        return bool(getattr(self._local, "parts", ()))

    @contextmanager
    def _locked(self, parts: Collection[Part]) -> Iterator[None]:
        """Keep other threads from writing to these parts."""
        with ExitStack() as locks:
            for part in _PARTS:
                if part in parts:
                    locks.enter_context(self._writing[part])
            yield

    def _transaction_cursor(self) -> duckdb.DuckDBPyConnection:
        if not self._in_transaction():
            raise RuntimeError("writes belong inside `with store.transaction():`")
        cursor = self._cursor_of.cursor
        if cursor is None:
            raise duckdb.ConnectionException("the connection was lost")
        return cursor

    def _begin(self, parts: tuple[Part, ...]) -> None:
        generation = self._generation
        try:
            self._cursor().execute("BEGIN TRANSACTION")
        except duckdb.Error:
            if self._is_alive(generation):
                raise
            self._cursor().execute("BEGIN TRANSACTION")
        self._local.parts = parts

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """Return this thread's cursor of the current connection."""
        cursor = self._cursor_of.cursor
        if cursor is None:
            with self._connecting:
                if self._closed:
                    raise StorageUnavailable("the store is closed")
                if self._connection is None:
                    self._connection = _connect(self.path, self._is_read_only)
                cursor = self._cursor_of.cursor = self._connection.cursor()
                self._cursors[cursor] = threading.get_ident()
        return cursor

    def _unavailable(self, error: duckdb.Error) -> StorageUnavailable:
        if _DAMAGED in str(error):
            return _damaged(self.path, error)
        reason = str(error).splitlines()[0]
        return StorageUnavailable(
            f"the store could not be read or written ({reason}); nothing was changed, try again"
        )

    def _is_alive(self, generation: int) -> bool:
        """Return whether the connection of ``generation`` is in use and answers; else close it."""
        with self._connecting:
            if generation != self._generation or self._connection is None or self._closed:
                return False
            try:
                self._connection.cursor().execute("SELECT count(*) FROM schema_version")
            except duckdb.Error:
                self._disconnect()
                return False
            return True

    def _recover(self) -> None:
        """Reopen the file after a failed write, and free the disk space that the write took.

        A write that fills the disk leaves its blocks behind; only a checkpoint frees them. Waits
        for the transaction of another thread, which would be lost with the connection.
        """
        with self._locked(_PARTS), self._connecting:
            if self._closed:
                return
            self._disconnect()
            try:
                self._connection = _connect(self.path, self._is_read_only)
                self._connection.execute("CHECKPOINT")
            except (duckdb.Error, StorageUnavailable):
                self._disconnect()

    def _disconnect(self) -> None:
        # Drop every reference, not only close: DuckDB hands a dead database to the next open of
        # its file as long as one is left. A thread that sees the new generation gets a new cursor.
        self._cursor_of = _Cursors()
        self._generation += 1
        for cursor in list(self._cursors):
            with suppress(duckdb.Error):
                cursor.close()
        self._cursors.clear()
        if self._connection is not None:
            with suppress(duckdb.Error):
                self._connection.close()
        self._connection = None

    def _migrate(self) -> None:
        with self.transaction(*_PARTS):
            self.execute(
                "CREATE TABLE IF NOT EXISTS schema_version"
                " (version INTEGER NOT NULL, migrated_at TIMESTAMP NOT NULL)"
            )
            version = self.rows("SELECT coalesce(max(version), 0) FROM schema_version")[0][0]
            for number, script in enumerate(self._migrations[version:], version + 1):
                self._transaction_cursor().execute(script)
                self.execute(
                    "INSERT INTO schema_version VALUES (?, epoch_ms(?::BIGINT))", number, now()
                )


def _check(path: Path, latest: int) -> int:
    """Return the version of a store without writing to it; raise if it is above ``latest``."""
    connection = _connect(path, read_only=True)
    try:
        tables = {
            name
            for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        if not tables:
            return 0
        if "schema_version" not in tables:
            raise NotAStore(
                f"{path} is a DuckDB file, but not a Candlestep store; use another home"
            )
        version: int = (
            connection.execute("SELECT max(version) FROM schema_version").fetchall()[0][0] or 0
        )
    except duckdb.Error as error:
        raise _damaged(path, error) from error
    finally:
        connection.close()
    if version > latest:
        raise StoreTooNew(
            f"{path} was written by a newer version (store version {version}, this one knows"
            f" {latest}); update candlestep, or use another home",
            version=version,
        )
    return version


def _connect(path: Path, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
        connection.execute("SET TimeZone = 'UTC'")
        return connection
    except duckdb.ConnectionException:
        raise StoreLocked(f"{path} is already open in this process", pid=os.getpid()) from None
    except duckdb.Error as error:
        text = str(error)
        if "Could not set lock" in text:
            holder = _PID.search(text)
            pid = int(holder[1]) if holder else None
            by = f"process {pid}" if pid else "another process"
            raise StoreLocked(
                f"{path} is in use by {by}; stop it, or use another home", pid=pid
            ) from None
        if _DAMAGED in text:
            raise _damaged(path, error) from error
        if "not a valid DuckDB" in text or "Is a directory" in text:
            raise NotAStore(
                f"{path} is not a DuckDB file; move it away, or use another home"
            ) from None
        if "newer version" in text or "version number" in text:
            raise StoreTooNew(f"{path} was written by a newer DuckDB: {text}") from None
        raise StorageUnavailable(f"{path} cannot be opened: {text.splitlines()[0]}") from error


def _copy_database(cursor: duckdb.DuckDBPyConnection, source: str, path: Path, name: str) -> None:
    cursor.execute(f"ATTACH {quote_text(str(path))} AS {name}")
    try:
        # One thread, so that what others read and write meanwhile does not wait for processors.
        cursor.execute("SET threads = 1")
        # In one transaction, so that the secrets are never in the file, not even for a moment.
        cursor.execute("BEGIN TRANSACTION")
        cursor.execute(f"COPY FROM DATABASE {quote_name(source)} TO {name}")
        cursor.execute(f"DELETE FROM {name}.signing_keys")
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        raise
    finally:
        with suppress(duckdb.Error):
            cursor.execute("RESET threads")
        cursor.execute(f"DETACH {name}")


def _is_broken(error: duckdb.Error) -> bool:
    return isinstance(error, _BROKEN) or type(error) is duckdb.Error


def _damaged(path: Path, error: duckdb.Error) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged ({str(error).splitlines()[0]}): a part of it was changed by something"
        " else than Candlestep, or the disk fails; `candlestep restore` makes a home of a backup"
    )
