"""Files that a user names, which are read whole."""

import stat
from pathlib import Path

from candlestep.data.errors import UnreadableFile


def require_file(path: Path) -> None:
    """Raise ``UnreadableFile`` unless a path is that of a file that can be read to its end.

    A pipe or a device may have none, and a server that waits for it could not be stopped.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UnreadableFile(str(path), f"it is {kind}; give the name of a file")
