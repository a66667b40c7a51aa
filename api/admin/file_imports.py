"""Imports of files that clients send: received to the disk, imported one after the other.

An import goes on when its client is gone, which asks for its progress and its outcome by id. Both
are kept until the server ends, which breaks off the import that it has begun: none of its candles
are there.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import msgspec
import structlog

from candlestep.api.admin.candles import IMPORT, ImportFiles, ImportReport, Refusal
from candlestep.api.admin.operation import OpenHome, Progress
from candlestep.api.errors import InternalError, RateLimited
from candlestep.api.threads import LongWork
from candlestep.data.errors import StorageUnavailable
from candlestep.sandbox import InvalidParameter, SandboxError

DIRECTORY = "uploads"
"""The directory in the home for files while they are imported."""

MOST_WAITING = 8
"""The most files that are received, wait or are imported at a time."""

_STOPPED = "the server was stopped, and nothing of the file is imported; send it again"
_MOST_ENDED = 1000
_BLOCK_BYTES = 1 << 20

State = Literal["queued", "running", "completed", "failed"]

log = structlog.get_logger()


class ImportNotFound(SandboxError):
    """The account has no import with this id."""

    code = "NOT_FOUND"


@dataclass
class FileImport:
    """The import of one file, and how far it is."""

    import_id: str
    account_id: str
    file: str
    """The name that the client gave the file."""
    state: State = "queued"
    rows_read: int = 0
    share: float = 0.0
    """The part of the file that has been read, from 0 to 1."""
    report: ImportReport | None = None
    """The outcome, once it has completed."""
    refusal: Refusal | None = None
    """The reason why nothing was imported, once it has failed."""

    def note(self, progress: Progress) -> None:
        """Note how far the reading has come."""
        self.rows_read = progress.done
        self.share = min(1.0, progress.done / progress.total) if progress.total else 0.0


@dataclass
class FileImports:
    """The imports of a server. Call its methods on the event loop."""

    open_home: OpenHome
    home: Path
    in_thread: Callable[..., Coroutine[Any, Any, Any]]
    """Runs work of milliseconds in a thread."""
    start_long: Callable[[Callable[[LongWork], None]], LongWork]
    """Starts work of minutes in a thread of its own, which the end of the server stops."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the import that runs."""
    _imports: dict[str, FileImport] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _receiving: int = 0
    _is_closed: bool = False

    def remove_left_over(self) -> None:
        """Delete the files that an earlier process received and did not finish. Blocks."""
        shutil.rmtree(self.home / DIRECTORY, ignore_errors=True)

    async def receive(
        self, account_id: str, file: str, options: ImportFiles, content: AsyncIterator[bytes]
    ) -> FileImport:
        """Receive a file of this name, and begin its import as soon as those before it are done.

        Raises ``RateLimited``, ``InvalidParameter`` for a name or a content that is empty,
        ``StorageUnavailable`` and what ``content`` raises, with nothing left on the disk.
        """
        if self._receiving + len(self._tasks) >= MOST_WAITING:
            raise RateLimited(
                f"{MOST_WAITING} files are being imported; send this one when one of them is done"
            )
        require_file_name(file)
        started = FileImport(str(uuid4()), account_id, file)
        directory = self.home / DIRECTORY / started.import_id
        self._receiving += 1
        try:
            await self._write(directory / file, content)
        except BaseException:
            await self.in_thread(shutil.rmtree, directory, ignore_errors=True)
            raise
        finally:
            self._receiving -= 1
        self._keep(started)
        request = msgspec.structs.replace(options, files=[str(directory / file)])
        task = asyncio.create_task(self._import(started, directory, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return started

    def get(self, account_id: str, import_id: str) -> FileImport:
        """Return an import of the account; raises ``ImportNotFound``."""
        found = self._imports.get(import_id)
        if found is None or found.account_id != account_id:
            raise ImportNotFound(
                "there is no import with this id since the server started;"
                " GET /api/v1/market/data-range shows what is imported"
            )
        return found

    async def close(self) -> None:
        """Wait until the import that runs has been broken off; those that wait are not begun."""
        self._is_closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, path: Path, content: AsyncIterator[bytes]) -> None:
        try:
            await self.in_thread(path.parent.mkdir, parents=True)
            with await self.in_thread(path.open, "wb") as file:
                block = bytearray()
                async for chunk in content:
                    block += chunk
                    if len(block) >= _BLOCK_BYTES:
                        await self.in_thread(file.write, block)
                        block = bytearray()
                await self.in_thread(file.write, block)
                await self.in_thread(file.flush)
                size = file.tell()
        except OSError as error:
            raise StorageUnavailable(
                f"the file could not be received ({error.strerror or error}); nothing was changed,"
                " try again"
            ) from None
        if not size:
            raise InvalidParameter("body", "is empty; send the content of the file")

    def _keep(self, started: FileImport) -> None:
        """Keep an import for those who ask for it, and forget the oldest ones that have ended."""
        self._imports[started.import_id] = started
        ended = [
            known for known in self._imports.values() if known.state in ("completed", "failed")
        ]
        for known in ended[: max(0, len(ended) - _MOST_ENDED)]:
            del self._imports[known.import_id]

    async def _import(self, started: FileImport, directory: Path, request: ImportFiles) -> None:
        try:
            async with self._turn:
                await self._run_in_thread(started, request)
        finally:
            await self.in_thread(shutil.rmtree, directory, ignore_errors=True)
            started.state = "completed" if started.refusal is None else "failed"
        log.info("import_ended", import_id=started.import_id, state=started.state)

    async def _run_in_thread(self, started: FileImport, request: ImportFiles) -> None:
        if self._is_closed:
            started.refusal = Refusal(started.file, StorageUnavailable.code, _STOPPED, {})
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def work(long: LongWork) -> None:
            try:
                self._run(started, request, long)
            finally:
                loop.call_soon_threadsafe(ended.set)

        started.state = "running"
        self.start_long(work)
        await ended.wait()

    def _run(self, started: FileImport, request: ImportFiles, long: LongWork) -> None:
        """Import a file. Blocks."""

        def report(progress: Progress) -> None:
            long.require_wanted()
            started.note(progress)

        try:
            with long.interruptible():
                done = IMPORT.run(self.open_home, request, report)
        except Exception:
            # What was broken off raises errors of many kinds.
            if long.is_wanted:
                log.exception("import_failed", import_id=started.import_id)
            message = "the server failed to import the file; its log has the error"
            started.refusal = Refusal(started.file, InternalError.code, message, {})
        else:
            started.report, started.refusal = done, next(iter(done.refusals), None)
        if started.refusal is None:
            started.share = 1.0
        elif not long.is_wanted:
            started.refusal = Refusal(started.file, StorageUnavailable.code, _STOPPED, {})


def require_file_name(name: str) -> None:
    """Raise ``InvalidParameter`` unless a text can be the name of a file in a directory."""
    if name in (".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        raise InvalidParameter("file", "must be the name of a file, without a directory")
    if not 1 <= len(name.encode()) <= 200:
        raise InvalidParameter("file", "must have 1 to 200 bytes")
