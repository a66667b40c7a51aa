"""The settings of a server: each from a flag, an environment variable, or its default.

A new setting is a field of ``Settings``: its flag, its variable and its help follow from that.
"""

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec

from candlestep.data.store.home import DEFAULT_HOME
from candlestep.sandbox import InvalidParameter
from candlestep.sandbox.errors import abbreviate

_MAX_SIZE = 10**15
_SIZE = re.compile(r"([0-9]{1,15})\s*([kmgt]?i?b)?", re.ASCII | re.IGNORECASE)
_ORIGIN = re.compile(
    r"https?://(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII
)
_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _directory(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("is not a directory")
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, OSError):
        raise ValueError("is not a directory; give an absolute path") from None


def _number(least: int, most: int, problem: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(problem)
        return int(text)

    return parse


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[(match[2] or "").lower()] if match else 0
    if not 1 <= size <= _MAX_SIZE:
        raise ValueError("is not a size: use bytes, or a number with MB, MiB, GB or GiB")
    return size


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError(
            "is not a list of addresses and networks such as 127.0.0.1,10.0.0.0/8"
        ) from None


def _origins(text: str) -> frozenset[str]:
    origins = [part.strip().lower().rstrip("/") for part in text.split(",")]
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("is not a list of origins such as https://app.example.org")
    return frozenset(origins)


def _file(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("is not the name of a file")
    return Path(text).absolute()


def _matching(pattern: str, problem: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(problem)
        return text

    return parse


class Setting(NamedTuple):
    """The parser and the help text of a setting."""

    parse: Callable[[str], object]
    """Raises ``ValueError`` with the rest of a sentence that begins with the text."""
    help: str


Directory = Annotated[Path, _directory]
Host = Annotated[str, _matching(r"[A-Za-z0-9.:_-]{1,255}", "is not an address such as 127.0.0.1")]
Port = Annotated[int, _number(0, 65535, "is not a port: use 0 (any free port) to 65535")]
Count = Annotated[int, _number(1, 10**9, "is not a whole number from 1 to 1000000000")]
Days = Annotated[int, _number(1, 100_000, "is not a number of days from 1 to 100000")]
Workers = Annotated[int, _number(1, 10_000, "is not a number of runs from 1 to 10000")]
Size = Annotated[int, _size]
Durability = Annotated[
    Literal["process", "power"], _matching("process|power", "is not one of process, power")
]
Executor = Annotated[Literal["local", "ray"], _matching("local|ray", "is not one of local, ray")]
ClusterAddress = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9.:/_\[\]-]{1,255}",
        "is not an address such as 10.0.0.5:6379 or ray://10.0.0.5:10001",
    ),
]

Networks = Annotated[tuple[Network, ...], _networks]
Origins = Annotated[frozenset[str], _origins]
File = Annotated[Path | None, _file]
ServerName = Annotated[
    str, _matching("[a-z0-9]{1,16}", "is not a name of 1 to 16 lower-case letters and digits")
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a server, each with its parser (in its type) and its description.

    Each one is also a flag (``--max-pairs``) and an environment variable
    (``CANDLESTEP_MAX_PAIRS``).
    """

    home: Annotated[Directory, f"directory of the store (default {DEFAULT_HOME})"]
    host: Annotated[Host, "address to listen on (default 127.0.0.1: this machine only)"] = (
        "127.0.0.1"
    )
    port: Annotated[Port, "port to listen on; 0 takes any free port (default 8000)"] = 8000
    durability: Annotated[
        Durability,
        "failure that acknowledged commands survive: the end of the process, or power loss"
        " (process or power; default process)",
    ] = "process"
    memory_budget: Annotated[
        Size, "memory for candles and sessions, such as 500MB or 4GiB (default 2GiB)"
    ] = 2 << 30
    idle_seconds: Annotated[
        Count, "seconds after which an idle session leaves memory (default 900)"
    ] = 900
    max_body_bytes: Annotated[Size, "largest request body (default 1MiB)"] = 1 << 20
    max_import_bytes: Annotated[Size, "largest file that is imported over HTTP (default 1GiB)"] = (
        1 << 30
    )
    max_pairs: Annotated[Count, "most pairs in a session (default 1000)"] = 1000
    max_span_days: Annotated[Days, "longest period of a session, in days (default 3660)"] = 3660
    max_pending_orders: Annotated[Count, "most pending orders in a session (default 1000)"] = 1000
    max_connections: Annotated[
        Count, "most connections at a time; never more than half the limit of files (default 10000)"
    ] = 10_000
    head_seconds: Annotated[
        Count, "seconds that the head of a request may take, from its first byte (default 10)"
    ] = 10
    body_seconds: Annotated[
        Count,
        "seconds that a client may take to send the next byte of a body, or to receive any of an"
        " answer (default 60)",
    ] = 60
    keep_alive_seconds: Annotated[
        Count, "seconds after which a connection without a request is closed (default 300)"
    ] = 300
    trusted_proxies: Annotated[
        Networks,
        "addresses or networks, with commas between, whose X-Forwarded- headers are believed"
        " (default: none)",
    ] = ()
    allow_origin: Annotated[
        Origins, "origins of web pages that may use the server, with commas between (default: none)"
    ] = frozenset()
    server_name: Annotated[
        ServerName,
        "name of this server among others, kept in the home; new keys, sessions and tokens carry"
        " it (default: the one in the home)",
    ] = ""
    first_key_file: Annotated[
        File, "file with the key that a home without keys gets at start (default: none)"
    ] = None
    executor: Annotated[
        Executor, "where jobs run: local (processes on this machine) or ray (default local)"
    ] = "local"
    ray_address: Annotated[
        ClusterAddress, "address of a Ray cluster (default: Ray is started on this machine)"
    ] = ""
    workers: Annotated[Workers, "number of runs at a time (default: the number of cores)"] = 0
    run_seconds: Annotated[Count, "longest run of a job, in seconds (default 600)"] = 600
    run_memory: Annotated[
        Size, "memory for one run of a job, without candles, such as 500MB (default 2GiB)"
    ] = 2 << 30
    result_days: Annotated[
        Days,
        "days for which equity and trades of a job are kept, and journals of ended sessions are"
        " not compressed (default 90)",
    ] = 90

    @classmethod
    def from_environment(cls, **flags: str | None) -> "Settings":
        """Return the settings that flags, else CANDLESTEP_* variables, else the defaults give.

        A flag that is None and a variable that is empty count as absent. Raises
        ``InvalidParameter``, whose field is the flag or variable at fault.
        """
        unknown = flags.keys() - _SETTINGS.keys()
        if unknown:
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        values = {name: _read(name, flags.get(name)) for name in _SETTINGS}
        return cls(**{name: value for name, value in values.items() if value is not None})

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


_SETTINGS: dict[str, Setting] = {
    name: Setting(*hint.__metadata__)
    for name, hint in get_type_hints(Settings, include_extras=True).items()
}
DESCRIPTIONS = {name: setting.help for name, setting in _SETTINGS.items()}
"""The help text of each setting."""


def home_directory(flag: str | None = None) -> Path:
    """Return the absolute path that ``flag``, else CANDLESTEP_HOME, else ``DEFAULT_HOME`` names."""
    home: Path = _read("home", flag)
    return home


def server_name(flag: str | None = None) -> str:
    """Return the name of the server that ``flag``, else CANDLESTEP_SERVER_NAME gives, or none."""
    return _read("server_name", flag) or ""


def flag_name(setting: str) -> str:
    """Return the flag of a setting, such as ``--max-pairs``."""
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting, such as ``CANDLESTEP_MAX_PAIRS``."""
    return f"CANDLESTEP_{setting.upper()}"


def _read(setting: str, flag: str | None) -> Any:
    """Return the value of a setting's flag, else of its variable; None if both are absent.

    The home is never None, because its default depends on the user.
    """
    variable = os.environ.get(variable_name(setting), "").strip()
    if flag is not None:
        source, text = flag_name(setting), flag
    elif variable:
        source, text = variable_name(setting), variable
    elif setting == "home":
        source, text = setting, DEFAULT_HOME
    else:
        return None
    try:
        return _SETTINGS[setting].parse(text.strip())
    except ValueError as error:
        raise InvalidParameter(source, f"{abbreviate(text)!r} {error}") from None
