"""The store: one DuckDB file under a home directory, written by one thread at a time."""

import os
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import duckdb
from numpy.typing import NDArray

from candlestep.data.clock import NoteSeconds, ignore_seconds, now, timed
from candlestep.data.errors import NotAStore, StorageUnavailable, StoreLocked, StoreTooNew
from candlestep.data.store.migrations import MIGRATIONS
from candlestep.data.store.sql import quote_name, quote_text
from candlestep.sandbox import InvalidParameter

FILE_NAME = "candlestep.duckdb"

_PID = re.compile(r"PID (\d+)")
_READ_TRIES = 5
_BROKEN = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
    duckdb.ConnectionException,
)
"""Errors of DuckDB that blame the storage rather than the statement."""

Fetched = TypeVar("Fetched")


class _Cursors(threading.local):
    """The cursor of the current thread."""

    cursor: duckdb.DuckDBPyConnection | None = None


class Store:
    """An open store. Any thread may use it; each reads through a cursor of its own.

    Reads see committed data. Writes happen inside ``transaction()``, one transaction at a time.
    When storage fails, they raise ``StorageUnavailable`` with nothing changed, and the store can
    be used again as soon as the cause is gone.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        """Use ``Store.open``."""
        self.path = path
        self.on_write: NoteSeconds = ignore_seconds
        """Called with the seconds that each transaction took, in its thread."""
        self._migrations = migrations
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._closed = False
        self._generation = 0
        self._cursors: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        self._connecting = threading.RLock()
        self._writing = threading.RLock()
        self._local = threading.local()
        self._cursor_of = _Cursors()

    @classmethod
    def open(cls, home: str | Path, migrations: Sequence[str] = MIGRATIONS) -> Self:
        """Open the store under ``home`` and migrate it; create both if they do not exist.

        Raises ``StoreLocked``, ``StoreTooNew`` or ``NotAStore`` with the file unchanged.
        """
        path = Path(home).expanduser() / FILE_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageUnavailable(f"{path.parent} cannot be created: {error.strerror}") from None
        if path.exists():
            _check(path, len(migrations))
        store = cls(path, migrations)
        try:
            store._migrate()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the store and the cursors of all threads. May be called twice."""
        with self._writing, self._connecting:
            self._closed = True
            self._disconnect()

    def file_bytes(self) -> int:
        """Return the size of the file and of its write-ahead log."""
        files = (self.path, self.path.with_name(f"{self.path.name}.wal"))
        return sum(file.stat().st_size for file in files if file.exists())

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
    def transaction(self) -> Iterator[None]:
        """Commit everything that this thread writes inside, or nothing if an error is raised.

        One thread at a time; a transaction inside another is part of that one. Raises
        ``StorageUnavailable`` if the store could not be written.
        """
        with self._writing:
            if self._in_transaction():
                yield
                return
            generation = self._generation
            try:
                with timed(self.on_write):
                    self._begin()
                    generation = self._generation
                    try:
                        yield
                        self._transaction_cursor().execute("COMMIT")
                    except BaseException:
                        with suppress(duckdb.Error):
                            self._transaction_cursor().execute("ROLLBACK")
                        raise
                    finally:
                        self._local.writes = False
            except duckdb.Error as error:
                if not isinstance(error, _BROKEN) and generation == self._generation:
                    raise
                self._recover()
                raise _unavailable(error) from error

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
                if is_alive and not isinstance(error, _BROKEN):
                    raise
                if is_alive or not left:
                    raise _unavailable(error) from error
                # A failed write of another thread invalidates every cursor: read again.
        raise AssertionError("the last try raises")

    def _in_transaction(self) -> bool:
        return getattr(self._local, "writes", False)

    def _transaction_cursor(self) -> duckdb.DuckDBPyConnection:
        if not self._in_transaction():
            raise RuntimeError("writes belong inside `with store.transaction():`")
        cursor = self._cursor_of.cursor
        if cursor is None:
            raise duckdb.ConnectionException("the connection was lost")
        return cursor

    def _begin(self) -> None:
        generation = self._generation
        try:
            self._cursor().execute("BEGIN TRANSACTION")
        except duckdb.Error:
            if self._is_alive(generation):
                raise
            self._cursor().execute("BEGIN TRANSACTION")
        self._local.writes = True

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """Return this thread's cursor of the current connection."""
        cursor = self._cursor_of.cursor
        if cursor is None:
            with self._connecting:
                if self._closed:
                    raise StorageUnavailable("the store is closed")
                if self._connection is None:
                    self._connection = _connect(self.path)
                cursor = self._cursor_of.cursor = self._connection.cursor()
                self._cursors.add(cursor)
        return cursor

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

        A write that fills the disk leaves its blocks behind; only a checkpoint frees them.
        """
        with self._connecting:
            if self._closed:
                return
            self._disconnect()
            try:
                self._connection = _connect(self.path)
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
        with self.transaction():
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


def _check(path: Path, latest: int) -> None:
    """Raise if a file is not a store of at most version ``latest``, without writing to it."""
    connection = _connect(path, read_only=True)
    try:
        tables = {
            name
            for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        if not tables:
            return
        if "schema_version" not in tables:
            raise NotAStore(
                f"{path} is a DuckDB file, but not a Candlestep store; use another home"
            )
        version = (
            connection.execute("SELECT max(version) FROM schema_version").fetchall()[0][0] or 0
        )
    finally:
        connection.close()
    if version > latest:
        raise StoreTooNew(
            f"{path} was written by a newer version (store version {version}, this one knows"
            f" {latest}); update candlestep, or use another home",
            version=version,
        )


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
        cursor.execute(f"DETACH {name}")


def _unavailable(error: duckdb.Error) -> StorageUnavailable:
    reason = str(error).splitlines()[0]
    return StorageUnavailable(
        f"the store could not be read or written ({reason}); nothing was changed, try again"
    )
