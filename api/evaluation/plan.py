"""The plan of an evaluation, read from a file: the agent, the sessions, and how often each is run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from candlestep.data.errors import NOT_JSON, UnreadableFile
from candlestep.sandbox import InvalidParameter

Kind = Literal["open", "blind", "mirror", "bootstrap"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds of sessions: as the market is, in disguise, in its mirror, with its days drawn anew."""

Count = Annotated[int, Meta(ge=0, le=100)]
_VARIANTS: dict[Kind, str] = {"blind": "none", "mirror": "mirror", "bootstrap": "bootstrap"}
_GIVEN_BY_PLAN = ("blind", "sealed", "strategy_label")


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sessions of an evaluation, each a body of ``POST /backtest/create`` with a ``name``."""

    sessions: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1000)]
    seed: Annotated[int, Meta(ge=0, le=2**31)] = 1
    """The first seed; each further session of a kind has the next one."""
    open: Count = 1
    blind: Count = 2
    mirror: Count = 2
    bootstrap: Count = 2


class AgentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a file such as ``agent.toml``."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    command: list[str] | None = None
    """The command that trades one session; ``python`` stands for the Python of Candlestep."""
    folder: str = "."
    """The folder in which the command runs, from that of the file."""
    address: str | None = None
    """The URL of a service that trades one session for each POST, or of an MCP server."""
    tool: str | None = None
    """The tool of the MCP server at the address that trades one session for each call."""
    at_once: Annotated[int, Meta(ge=1, le=64)] = 2
    """The most sessions at a time."""
    seconds: Annotated[float, Meta(gt=0)] = 600
    """The longest time for one session."""
    table: str | Table = "table.toml"
    """The table itself, or the file that has it."""


class Run(msgspec.Struct, frozen=True):
    """One session to be traded."""

    name: str
    kind: Kind
    seed: int | None
    body: dict[str, Any]
    """The body of the request that creates it."""

    @property
    def key(self) -> str:
        """The identity of the run: another body is another run."""
        return msgspec.json.encode([self.name, self.kind, self.seed, self.body]).decode()


class Plan(msgspec.Struct, frozen=True):
    """An agent, and the sessions that it is evaluated on."""

    agent: AgentFile
    table: Table
    folder: Path
    """The folder in which the agent's command runs."""

    def runs(self) -> Iterator[Run]:
        """Yield all runs; a mirror has the seed of the blind session whose market it mirrors."""
        for entry in self.table.sessions:
            body = {name: value for name, value in entry.items() if name != "name"}
            name = str(entry["name"])
            for kind in KINDS:
                for place in range(getattr(self.table, kind)):
                    seed = None if kind == "open" else self.table.seed + place
                    yield Run(name, kind, seed, self._body(body, kind, seed))

    def _body(self, body: dict[str, Any], kind: Kind, seed: int | None) -> dict[str, Any]:
        label = f"{self.agent.name}, {kind}"[:200]
        own = body | {"strategy_label": label, "sealed": True}
        if kind == "open":
            return own
        return own | {"blind": {"seed": seed, "variant": _VARIANTS[kind]}}


def read_plan(path: Path) -> Plan:
    """Read a plan from TOML files; raises ``UnreadableFile`` and ``InvalidParameter``."""
    agent = _decoded(path, AgentFile)
    if (agent.command is None) == (agent.address is None):
        raise InvalidParameter("command", "give either the command of the agent or its address")
    if agent.command == []:
        raise InvalidParameter("command", "is empty")
    if agent.tool is not None and agent.address is None:
        raise InvalidParameter("tool", "is of an MCP server; give its address")
    table = agent.table
    if isinstance(table, str):
        table = _decoded(path.parent / table, Table)
    names: set[str] = set()
    for place, entry in enumerate(table.sessions):
        _check_entry(f"sessions[{place}]", entry, names)
    folder = path.parent.absolute() / agent.folder
    if not folder.is_dir():
        raise InvalidParameter("folder", f"there is no folder {folder}")
    return Plan(agent, table, folder)


def _check_entry(field: str, entry: dict[str, Any], names: set[str]) -> None:
    name = entry.get("name")
    if not isinstance(name, str) or not name or name in names:
        raise InvalidParameter(f"{field}.name", "must be a name that no other session has")
    names.add(name)
    for given in _GIVEN_BY_PLAN:
        if given in entry:
            raise InvalidParameter(f"{field}.{given}", "is set by the evaluation; leave it out")


def _decoded(path: Path, kind: Any) -> Any:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None
    except NOT_JSON as error:
        raise UnreadableFile(str(path), str(error)) from None
