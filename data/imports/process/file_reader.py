"""The reader of files in a process of its own, with a limit on memory and a low priority.

Whatever a file has in it, the process that imports it keeps its memory and its turns.
"""

import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from tempfile import TemporaryDirectory, TemporaryFile
from types import TracebackType
from typing import IO, NamedTuple, Self

import numpy as np

from candlestep.data.errors import BadRows, StorageUnavailable, UnreadableFile
from candlestep.data.imports.contents import Content
from candlestep.data.imports.perpetual.funding import FundingColumns, ReadFunding
from candlestep.data.imports.perpetual.tiers import ReadTiers
from candlestep.data.imports.process import messages
from candlestep.data.imports.reading import ImportOptions, Report
from candlestep.data.imports.series import ReadSeries
from candlestep.data.imports.validation import CandleColumns
from candlestep.data.processes import environment
from candlestep.sandbox import InvalidParameter, InvalidSymbol, SandboxError

MOST_MEMORY = 4 << 30
_COMMAND = (sys.executable, "-P", "-m", "candlestep.data.imports.process.reading")
_OUTPUT_BYTES = 2000
_SILENT_SECONDS = 0.5
"""The time after which the latest progress is reported again."""
_SECONDS_TO_END = 10
"""The time that a process has to end after it has broken off the conversation."""
_NO_MEMORY = ("bad_alloc", "memory allocation", "out of memory", "MemoryError", "Cannot allocate")
"""Parts of the last output of a process that could not get the memory it needed."""
_ERRORS = {
    kind.__name__: kind for kind in (UnreadableFile, BadRows, InvalidSymbol, StorageUnavailable)
}


class FileContent(NamedTuple):
    """The content of a file, mapped from the disk, and its SHA-256."""

    contents: list[Content]
    sha256: str


class FileReader:
    """Reads files to import in a process that it starts for the first, and ends after the last.

    Use it as a context, in one thread.
    """

    def __init__(self, directory: Path, memory: int | None = None) -> None:
        """Prepare to read files, with columns that pass through ``directory``.

        ``memory`` is the number of bytes that the process may take, by default half of the
        machine's and at most 4 GiB.
        """
        self._directory = directory
        self._memory = _usual_memory() if memory is None else memory
        self._process: Popen[bytes] | None = None
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def process_id(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def read(
        self,
        path: Path,
        options: ImportOptions,
        progress: Report | None = None,
        time: int | None = None,
    ) -> FileContent:
        """Read what is in a file; ``time`` is the present in milliseconds.

        Raises what ``read_contents`` raises, ``UnreadableFile`` for a file that needs more memory
        than there is, and ``StorageUnavailable`` if the process cannot be started.
        """
        try:
            if self._process is None:
                self._start()
            return self._read(path, messages.Request(str(path), options, time), progress)
        except OSError as error:
            self._stop()
            raise StorageUnavailable(
                f"{path.name} could not be read in a process of its own: {error}; try again"
            ) from None
        except BaseException as error:
            if not isinstance(error, SandboxError):
                self._stop()
            raise

    def _read(self, path: Path, request: messages.Request, progress: Report | None) -> FileContent:
        assert self._process is not None
        with TemporaryFile(dir=self._directory) as columns:
            self._connection.send_bytes(messages.encode(request))
            send_handle(self._connection, columns.fileno(), self._process.pid)
            latest = (0, 0)
            while True:
                # A report may raise, to stop this, also while the process is silent.
                while progress is not None and not self._connection.poll(_SILENT_SECONDS):
                    progress(*latest)
                try:
                    reply = messages.decode_reply(self._connection.recv_bytes())
                except (EOFError, ConnectionResetError):
                    raise self._failure(path) from None
                match reply:
                    case messages.RowsRead(done, total):
                        latest = (done, total)
                        if progress is not None:
                            progress(done, total)
                    case messages.Finished(contents, sha256):
                        return FileContent(_mapped(contents, columns), sha256)
                    case messages.Refused():
                        raise _refusal(reply)
                    case messages.NoMemory():
                        self._stop()
                        raise self._too_large(path)

    def _start(self) -> None:
        with ExitStack() as resources:
            self._output = resources.enter_context(TemporaryFile())
            directory = resources.enter_context(TemporaryDirectory(prefix="candlestep-import-"))
            ours, theirs = Pipe()
            self._connection: Connection[bytes, bytes] = resources.enter_context(ours)
            with theirs:
                handle = theirs.fileno()
                self._process = Popen(
                    [*_COMMAND, str(handle), str(self._memory), directory],
                    stdin=DEVNULL,
                    stdout=self._output,
                    stderr=self._output,
                    pass_fds=[handle],
                    env=environment(),
                )
            self._resources = resources.pop_all()

    def _stop(self) -> None:
        """End the process, if there is one, with all that it has written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._resources.close()

    def _failure(self, path: Path) -> SandboxError:
        """Return the error for a process that ended in the middle of a file."""
        assert self._process is not None
        try:
            code = self._process.wait(_SECONDS_TO_END)
        except TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - _OUTPUT_BYTES))
        output = self._output.read().decode(errors="replace").strip()
        self._stop()
        if any(words in output for words in _NO_MEMORY):
            return self._too_large(path)
        last_line = output.splitlines()[-1] if output else f"it ended with code {code}"
        perhaps = f", perhaps for want of memory ({self._memory >> 20} MiB)" if code < 0 else ""
        return UnreadableFile(path.name, f"the process that read it failed{perhaps}: {last_line}")

    def _too_large(self, path: Path) -> UnreadableFile:
        return UnreadableFile(
            path.name,
            f"it needs more than {self._memory >> 20} MiB of memory to be read; split it into"
            " several files",
        )


def _usual_memory() -> int:
    with suppress(ValueError, OSError):
        return min(MOST_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return MOST_MEMORY


def _refusal(refused: messages.Refused) -> SandboxError:
    """Return the error that the process raised."""
    kind = _ERRORS.get(refused.kind, InvalidParameter)
    # Past the classes' own constructors, which make the message from its parts.
    error = kind.__new__(kind)
    SandboxError.__init__(error, refused.message, **refused.details)
    return error


def _mapped(found: Sequence[messages.Found], file: IO[bytes]) -> list[Content]:
    """Return the contents of a file, with columns that are mapped from another one."""
    size = sum(map(messages.bytes_of, found))
    mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    contents: list[Content] = []
    start = 0
    for one in found:
        match one:
            case messages.SeriesFound(pair, interval, taken, rows, kind):
                open_time = np.frombuffer(mapped, np.int64, rows, start)
                numbers = np.frombuffer(mapped, np.float64, 5 * rows, start + open_time.nbytes)
                candles = CandleColumns(open_time, *numbers.reshape(5, rows))
                contents.append(ReadSeries(pair, interval, candles, taken, kind))
            case messages.FundingFound(pair, taken, rows):
                whole = np.frombuffer(mapped, np.int64, 5 * rows, start).reshape(5, rows)
                numbers = whole.view(np.float64)
                funding = FundingColumns(whole[0], whole[1], numbers[2], whole[3], numbers[4])
                contents.append(ReadFunding(pair, funding, taken))
            case messages.TiersFound(pair, first, tiers, taken):
                contents.append(ReadTiers(pair, first, tiers, taken))
        start += messages.bytes_of(one)
    return contents
