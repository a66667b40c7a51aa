"""The program of a process that reads files to import for the process that started it.

``python -m candlestep.data.imports.process.reading FD BYTES`` answers requests over the inherited
socket ``FD``, and may allocate at most ``BYTES`` beyond what it has at its start. It ends with the
process that started it, even in the middle of a file.
"""

import hashlib
import os
import signal
import sys
import tempfile
import threading
import traceback
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from candlestep.data.errors import StorageUnavailable, UnreadableFile
from candlestep.data.imports.contents import Content, read_contents
from candlestep.data.imports.perpetual.funding import ReadFunding
from candlestep.data.imports.perpetual.tiers import ReadTiers
from candlestep.data.imports.process import messages
from candlestep.data.imports.series import ReadSeries
from candlestep.data.processes import limit_memory
from candlestep.sandbox import SandboxError

_NICE = 10
"""Stepping comes before reading."""

Requests = SimpleQueue[tuple[messages.Request, int]]


def main() -> None:
    """Read files for the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    handle, memory, tempfile.tempdir = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    connection: Connection[bytes, bytes] = Connection(handle)
    requests: Requests = SimpleQueue()
    threading.excepthook = _fail
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    limit_memory(memory)
    while True:
        request, columns = requests.get()
        connection.send_bytes(messages.encode(_reply(request, columns, connection)))


def _receive(connection: "Connection[bytes, bytes]", requests: Requests) -> None:
    """Pass requests on, and end this process when the other one has ended."""
    try:
        while True:
            request = messages.decode_request(connection.recv_bytes())
            requests.put((request, recv_handle(connection)))
    except (EOFError, OSError):
        os._exit(0)


def _fail(failure: threading.ExceptHookArgs) -> None:
    """End this process when its requests cannot be received: who sends them waits for answers."""
    traceback.print_exception(failure.exc_value)
    os._exit(1)


def _reply(
    request: messages.Request, columns: int, connection: "Connection[bytes, bytes]"
) -> messages.Reply:
    def report(done: int, total: int) -> None:
        connection.send_bytes(messages.encode(messages.RowsRead(done, total)))

    path = Path(request.path)
    try:
        contents = read_contents(path, request.options, report, request.time)
        _write(contents, columns)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except SandboxError as error:
        return messages.Refused(type(error).__name__, error.message, error.details)
    except MemoryError:
        return messages.NoMemory()
    except OSError as error:
        refusal = UnreadableFile(path.name, f"it cannot be read: {error.strerror or error}")
        return messages.Refused("UnreadableFile", refusal.message, refusal.details)
    return messages.Finished([_found(one) for one in contents], digest)


def _found(content: Content) -> messages.Found:
    match content:
        case ReadSeries():
            rows = len(content.candles)
            return messages.SeriesFound(
                content.pair, content.interval, content.taken, rows, content.kind
            )
        case ReadFunding():
            return messages.FundingFound(content.pair, content.taken, len(content.funding))
        case ReadTiers():
            return messages.TiersFound(content.pair, content.start, content.tiers, content.taken)


def _write(contents: list[Content], columns: int) -> None:
    try:
        with open(columns, "wb") as file:
            for one in contents:
                for column in _columns(one):
                    column.tofile(file)
    except OSError as error:
        raise StorageUnavailable(
            f"the rows that were read could not be written ({error}); free some space"
        ) from None


def _columns(content: Content) -> tuple[NDArray[Any], ...]:
    match content:
        case ReadSeries():
            return (content.candles.open_time, *content.candles.numbers())
        case ReadFunding():
            return content.funding.columns()
        case ReadTiers():
            return ()


if __name__ == "__main__":
    main()
