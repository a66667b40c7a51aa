"""The file in a home that says which server runs on it and holds its store."""

from pathlib import Path

import msgspec

from candlestep import __version__
from candlestep.data.errors import NOT_JSON, StorageUnavailable
from candlestep.data.store.database import Store

SERVER_FILE = "server.json"
"""The name of the file, which the user alone may read."""
TOKEN_HEADER = "x-candlestep-token"
"""The header with the token of a server, which its user's other processes send."""


class RunningServer(msgspec.Struct, frozen=True):
    """A server as it announces itself in its home: process, URL, and token for operations."""

    pid: int
    url: str
    token: str
    version: str = ""
    """Empty for a server of version 0.1, which does not say it."""


def running_server(home: Path) -> RunningServer | None:
    """Return the server that runs on ``home``; None if its file is absent, broken or left behind.

    It runs if its process has the store open: the id alone may be another program's by now. Raises
    ``StorageUnavailable`` if it is another user's, or of another version than this process: requests
    and answers of the two may differ.
    """
    try:
        server = msgspec.json.decode((home / SERVER_FILE).read_bytes(), type=RunningServer)
    except (FileNotFoundError, NotADirectoryError, *NOT_JSON):
        return None
    except PermissionError:
        raise StorageUnavailable(
            f"{home} is in use by a server of another user; run the command as that user"
        ) from None
    if Store.holder(home) not in (0, server.pid):
        return None
    if server.version != __version__:
        raise StorageUnavailable(
            f"the server on {home} is of version {server.version or '0.1'}, and this is"
            f" {__version__}: stop the server and start it with this version, or use the"
            " command line of its version"
        )
    return server
