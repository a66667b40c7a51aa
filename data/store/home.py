"""The home: a directory with the store, the journals and the results, which only its owner reads."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from candlestep.data.errors import StorageUnavailable

DEFAULT_HOME = "~/.candlestep"
HOME_VARIABLE = "CANDLESTEP_HOME"

_OTHERS = 0o077
_NAMES = (
    "candlestep.duckdb*",
    "downloads",
    "fee_schedules.json",
    "journals",
    "mapped",
    "results",
    "server.json",
    "uploads",
)
"""Patterns of all that a home has; other files in it are the user's."""


def home_directory(home: str | Path | None = None) -> Path:
    """Return the path of ``home``, by default the one that the environment names, or the usual one."""
    return Path(home or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser()


def is_open_to_others(home: Path) -> bool:
    """Return whether other users of the machine may enter a home that has a store."""
    return _has_store(home) and bool(home.stat().st_mode & _OTHERS)


def open_home(home: Path) -> None:
    """Create a home for its owner alone, or narrow one that an older version left open to others.

    Raises ``StorageUnavailable``, with nothing changed, for a directory that is open to others and
    has files but no store: it may be one that others need. Linear in the files where it narrows.
    """
    try:
        if not home.exists():
            home.mkdir(parents=True, mode=0o700)
        elif home.stat().st_mode & _OTHERS:
            if not _has_store(home) and any(home.iterdir()):
                raise StorageUnavailable(
                    f"{home} has other files, and other users of this machine may enter it; name a"
                    f" directory of its own with --home, or close this one: chmod 700 {home}"
                )
            _narrow(home)
    except OSError as error:
        raise StorageUnavailable(
            f"{home} cannot be created, or closed to others: {error.strerror}; name another"
            " directory with --home"
        ) from None


@contextmanager
def private_files() -> Iterator[None]:
    """Within the context, let only the owner read the files that this process creates."""
    umask = os.umask(_OTHERS)
    try:
        yield
    finally:
        os.umask(umask)


def _has_store(home: Path) -> bool:
    return any(home.glob(_NAMES[0]))


def _narrow(home: Path) -> None:
    _close_to_others(home)
    for pattern in _NAMES:
        for path in home.glob(pattern):
            for found in (path, *path.rglob("*")):
                if not found.is_symlink():
                    _close_to_others(found)


def _close_to_others(path: Path) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)
