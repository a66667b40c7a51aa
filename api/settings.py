"""What a server is started with: each setting from a flag, else from the environment."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate

DEFAULT_HOME = "~/.candlestep"
_NO_HOME = ("home", DEFAULT_HOME)

EXECUTORS = ("local", "ray")
_MOST = 10**15
_SIZE = re.compile(r"([0-9]{1,15})\s*([kmgt]?i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


Durability = Literal["process", "power"]
_DURABILITIES: dict[str, Durability] = {"process": "process", "power": "power"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a server. Each is a flag (``--max-pairs``) or a variable of the environment
    (``CANDLESTEP_MAX_PAIRS``) too.
    """

    home: Path
    """The directory of the store and of all else that is kept."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0: one that the system chooses."""
    durability: Durability = "process"
    """What an answered command survives: the end of the process, or of power."""
    memory_budget: int = 2 << 30
    """Bytes of candles and sessions in memory, of all sessions together."""
    idle_seconds: int = 900
    """A session that nobody asks for in this time leaves memory until somebody does."""
    max_body_bytes: int = 1 << 20
    """Of a request."""
    max_pairs: int = 1000
    """Of one session."""
    max_span_days: int = 3660
    """Between the start and the end of one session."""
    max_pending_orders: int = 1000
    """Of one session, at a time."""
    executor: str = "local"
    """Where the runs of jobs are done: ``local``, by processes on this machine, or ``ray``."""
    ray_address: str = ""
    """Of a Ray cluster; empty: one that is started on this machine."""
    workers: int = 0
    """How many runs are done at a time; 0: as many as there are cores."""
    run_seconds: int = 600
    """What one run of a job may take."""
    run_memory: int = 2 << 30
    """Bytes that one run of a job may take, candles not counted."""
    result_days: int = 90
    """How long the equity curve and the trades of a job are kept after its end."""

    @classmethod
    def from_environment(cls, **flags: str | None) -> "Settings":
        """The settings that ``flags`` give, else CANDLESTEP_* variables, else the defaults.

        A flag that is None and a variable that is empty are not given. Raises
        ``InvalidParameter``, whose field is the flag or variable at fault.
        """
        unknown = flags.keys() - DESCRIPTIONS.keys()
        if unknown:
            raise TypeError(f"there is no setting {', '.join(sorted(unknown))}")
        given = {name: _given(name, flags.get(name)) for name in DESCRIPTIONS}
        return cls(**_read(given | {"home": given["home"] or _NO_HOME}))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def home_directory(flag: str | None = None) -> Path:
    """The home that ``flag`` names, else CANDLESTEP_HOME, else ``~/.candlestep``; absolute."""
    home: Path = _read({"home": _given("home", flag) or _NO_HOME})["home"]
    return home


def flag_name(setting: str) -> str:
    """The flag of a setting: ``--max-pairs``."""
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    """The environment's variable of a setting: ``CANDLESTEP_MAX_PAIRS``."""
    return f"CANDLESTEP_{setting.upper()}"


def _given(setting: str, flag: str | None) -> tuple[str, str] | None:
    """Where a setting is given, and as what; None if it is not."""
    if flag is not None:
        return flag_name(setting), flag
    variable = os.environ.get(variable_name(setting), "").strip()
    return (variable_name(setting), variable) if variable else None


def _read(given: Mapping[str, tuple[str, str] | None]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for setting, found in given.items():
        if found is not None:
            source, text = found
            try:
                settings[setting] = _READERS[setting](text.strip())
            except ValueError as error:
                raise InvalidParameter(source, f"{abbreviate(text)!r} {error}") from None
    return settings


def _directory(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("is no directory")
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, OSError):
        raise ValueError("is no directory; write it as a path from /") from None


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,255}", text):
        raise ValueError("is no address; give one such as 127.0.0.1")
    return text


def _port(text: str) -> int:
    number = _whole(text)
    if number is None or number > 65535:
        raise ValueError("is no port; give a number from 0 (the system chooses) to 65535")
    return number


def _executor(text: str) -> str:
    if text not in EXECUTORS:
        raise ValueError(f"is none of {', '.join(EXECUTORS)}")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:/_\[\]-]{1,255}", text):
        raise ValueError("is no address; give one such as 10.0.0.5:6379 or ray://10.0.0.5:10001")
    return text


def _count(text: str) -> int:
    number = _whole(text)
    if not number:
        raise ValueError("is no number of 1 or more")
    return number


def _durability(text: str) -> Durability:
    durability = _DURABILITIES.get(text)
    if durability is None:
        raise ValueError(f"is no durability; give {' or '.join(_DURABILITIES)}")
    return durability


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    size = int(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0
    if not 1 <= size <= _MOST:
        raise ValueError("is no size; give bytes, or a number with MB, MiB, GB or GiB")
    return size


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) else None


_READERS: dict[str, Callable[[str], object]] = {
    "home": _directory,
    "host": _host,
    "port": _port,
    "durability": _durability,
    "memory_budget": _size,
    "idle_seconds": _count,
    "max_body_bytes": _size,
    "max_pairs": _count,
    "max_span_days": _count,
    "max_pending_orders": _count,
    "executor": _executor,
    "ray_address": _address,
    "workers": _count,
    "run_seconds": _count,
    "run_memory": _size,
    "result_days": _count,
}

DESCRIPTIONS = {
    "home": f"directory of the store (default {DEFAULT_HOME})",
    "host": "address to listen on (default 127.0.0.1: this machine only)",
    "port": "port to listen on; 0: one that the system chooses (default 8000)",
    "durability": "what an answered command survives: the end of the process, or of power"
    " (process or power; default process)",
    "memory_budget": "memory for candles and sessions, such as 500MB or 4GiB (default 2GiB)",
    "idle_seconds": "after which an idle session leaves memory until it is asked for (default 900)",
    "max_body_bytes": "largest request body (default 1MiB)",
    "max_pairs": "most pairs of one session (default 1000)",
    "max_span_days": "longest session, in days (default 3660)",
    "max_pending_orders": "most pending orders of one session (default 1000)",
    "executor": "where jobs run: local (processes on this machine) or ray (default local)",
    "ray_address": "address of a Ray cluster (default: Ray is started on this machine)",
    "workers": "how many runs of jobs are done at a time (default: as many as there are cores)",
    "run_seconds": "longest run of a job, in seconds (default 600)",
    "run_memory": "memory that one run of a job may take, such as 500MB (default 2GiB)",
    "result_days": "days that equity and trades of a job are kept after its end (default 90)",
}
"""What each setting is, in words for a person, in the order of ``Settings``."""
