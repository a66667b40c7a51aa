"""The work of the commands on a store: the same whether the command line or a server does it.

A command is a request, a function that does what it asks and tells how far it is, and a result.
The command line runs it on the store itself, or hands the request to the server that has the
store open.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from candlestep.api.http.auth import DEFAULT_ACCOUNT
from candlestep.api.replay.replay import (
    LocalTarget,
    Replayed,
    TellDone,
    load_market,
    record,
    replay,
)
from candlestep.data.errors import AgentNotFound, UnreadableFile
from candlestep.data.imports.importer import ImportSummary, import_file, prune
from candlestep.data.imports.sample import SOURCE, drop_sample, load_sample
from candlestep.data.journal.recording import read_recording, write_recording
from candlestep.data.market.catalogue import Catalogue, Series
from candlestep.data.records.accounts import (
    Agent,
    create_key,
    default_agent,
    ensure_account,
    list_accounts,
    list_agents,
    list_keys,
    revoke_key,
)
from candlestep.data.records.jobs import job_imports
from candlestep.data.records.sessions import pinned_imports
from candlestep.data.store.database import Store
from candlestep.data.symbols import DEFAULT_EXCHANGE
from candlestep.sandbox import InvalidParameter, SandboxError

_LONGEST_NAME = 100


class Progress(msgspec.Struct, frozen=True):
    """How far a part of a command is: ``done`` of ``total`` rows or bytes of a file."""

    part: str
    done: int
    total: int
    unit: str


Report = Callable[[Progress], None]
Input = TypeVar("Input", bound=msgspec.Struct)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Operation(Generic[Input, Result]):
    """What a command takes, does and gives, and the path under which a server does it."""

    path: str
    summary: str
    request: type[Input]
    result: type[Result]
    run: Callable[[Store, Input, Report], Result]
    """Raises ``SandboxError`` for what it refuses; nothing has changed then."""


class EmptyInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request of a command that needs to be told nothing."""


class ImportFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files of candles, by absolute paths; what is None is inferred from each file."""

    files: list[str]
    symbol: str | None = None
    interval: str | None = None
    exchange: str = DEFAULT_EXCHANGE


class ImportReport(msgspec.Struct, frozen=True):
    """What became of each file or other source of candles: each is imported whole or not at all."""

    imports: list["Import"]
    refusals: list["Refusal"]


class Import(msgspec.Struct, frozen=True):
    """A source of candles, and what its import did."""

    source: str
    summary: ImportSummary


class Refusal(msgspec.Struct, frozen=True):
    """A file that was not imported, and why."""

    file: str
    code: str
    message: str
    details: dict[str, Any]


class Candles(msgspec.Struct, frozen=True):
    """All series of candles there are."""

    series: list[Series]


class Dropped(msgspec.Struct, frozen=True):
    """The symbols that had candles of the sample market."""

    symbols: list[str]


class ExportTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The absolute path of a file that does not exist yet."""

    path: str


class Exported(msgspec.Struct, frozen=True):
    """A copy of the store, and its size in bytes."""

    path: str
    size: int


class Pruned(msgspec.Struct, frozen=True):
    """How many superseded candles were dropped."""

    rows: int


class CreateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key for an account, which is made if it is new, and for one of its agents by name or id."""

    name: str
    account: str = DEFAULT_ACCOUNT
    agent: str | None = None


class KeyInfo(msgspec.Struct, frozen=True):
    """What may be told of a key at any time; times in milliseconds."""

    key_id: str
    name: str
    account: str
    agent: str
    agent_id: str
    created_at: int
    revoked_at: int | None


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key with its secret, which is told this once."""

    key: KeyInfo
    secret: str


class KeyList(msgspec.Struct, frozen=True):
    """The keys of all accounts, oldest first."""

    keys: list[KeyInfo]


class RevokeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key that is to open nothing any more."""

    key_id: str


class RunRecording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recording to run again, by absolute path."""

    path: str


class Recorded(msgspec.Struct, frozen=True):
    """How many lines a recording has that was written anew."""

    lines: int


def _import_files(store: Store, request: ImportFiles, report: Report) -> ImportReport:
    imports, refusals = [], []
    for file in request.files:
        name = Path(file).name

        def tell_rows(done: int, total: int, name: str = name) -> None:
            report(Progress(name, done, total, "rows"))

        try:
            if not os.path.isfile(file):  # Path.is_file raises where a name is too long
                is_there = os.path.isdir(file)
                problem = "it is a directory; name files" if is_there else "there is no such file"
                raise UnreadableFile(file, problem)
            summary = import_file(
                store,
                file,
                symbol=request.symbol,
                interval=request.interval,
                exchange=request.exchange,
                progress=tell_rows,
            )
        except SandboxError as error:
            refusals.append(Refusal(name, error.code, error.message, error.details))
        else:
            imports.append(Import(name, summary))
    return ImportReport(imports, refusals)


def _list_candles(store: Store, request: EmptyInput, report: Report) -> Candles:
    return Candles(list(Catalogue(store).series()))


def _load_sample(store: Store, request: EmptyInput, report: Report) -> ImportReport:
    return ImportReport([Import(SOURCE, summary) for summary in load_sample(store)], [])


def _drop_sample(store: Store, request: EmptyInput, report: Report) -> Dropped:
    return Dropped(drop_sample(store))


def _export(store: Store, request: ExportTo, report: Report) -> Exported:
    store.export(request.path)
    return Exported(request.path, Path(request.path).stat().st_size)


def _prune(store: Store, request: EmptyInput, report: Report) -> Pruned:
    with store.transaction():
        return Pruned(prune(store, [*pinned_imports(store), *job_imports(store)]))


def _replay(store: Store, request: RunRecording, report: Report) -> Replayed:
    path = Path(request.path)
    recording = read_recording(path)
    target = LocalTarget(recording.start, load_market(store, recording.start))
    return replay(recording, target, _commands_of(path, report))


def _record(store: Store, request: RunRecording, report: Report) -> Recorded:
    path = Path(request.path)
    recording = read_recording(path)
    target = LocalTarget(recording.start, load_market(store, recording.start))
    lines = record(recording, target, _commands_of(path, report))
    write_recording(path, lines)
    return Recorded(lines.count(b"\n"))


def _commands_of(path: Path, report: Report) -> TellDone:
    return lambda done, total: report(Progress(path.name, done, total, "commands"))


def _create_key(store: Store, request: CreateKey, report: Report) -> CreatedKey:
    name, account_name = _name("name", request.name), _name("account", request.account)
    with store.transaction():
        account = ensure_account(store, account_name)
        agent = _agent(store, account.account_id, account_name, request.agent)
        key, secret = create_key(store, account.account_id, name, agent.agent_id)
        return CreatedKey(_shown(store, key.key_id), secret)


def _list_keys(store: Store, request: EmptyInput, report: Report) -> KeyList:
    accounts = {account.account_id: account.name for account in list_accounts(store)}
    agents = {agent.agent_id: agent.name for each in accounts for agent in list_agents(store, each)}
    return KeyList(
        [
            KeyInfo(
                key.key_id,
                key.name,
                accounts[key.account_id],
                agents[key.agent_id],
                key.agent_id,
                key.created_at,
                key.revoked_at,
            )
            for key in list_keys(store)
        ]
    )


def _revoke_key(store: Store, request: RevokeKey, report: Report) -> KeyInfo:
    with store.transaction():
        return _shown(store, revoke_key(store, request.key_id).key_id)


def _shown(store: Store, key_id: str) -> KeyInfo:
    keys = _list_keys(store, EmptyInput(), lambda progress: None).keys
    return next(key for key in keys if key.key_id == key_id)


def _agent(store: Store, account_id: str, account: str, wanted: str | None) -> Agent:
    """The account's agent of this id or name; the default one where none is wanted."""
    if wanted is None:
        return default_agent(store, account_id)
    agents = list_agents(store, account_id)
    found = [agent for agent in agents if wanted in (agent.agent_id, agent.name)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(agent.agent_id for agent in found)
        raise InvalidParameter("agent", f"{len(found)} agents have this name; give one of {ids}")
    names = ", ".join(agent.name for agent in agents)
    raise AgentNotFound(
        f"the account {account} has no agent {wanted!r}, it has: {names};"
        " POST /api/v1/agents makes one",
        account=account,
        agent=wanted,
    )


def _name(field: str, text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidParameter(field, f"must be a name of 1 to {_LONGEST_NAME} characters")
    return name


IMPORT = Operation(
    "/admin/data/import", "Import files of candles", ImportFiles, ImportReport, _import_files
)
LIST = Operation("/admin/data/list", "List the candles", EmptyInput, Candles, _list_candles)
SAMPLE = Operation(
    "/admin/data/sample", "Load the sample market", EmptyInput, ImportReport, _load_sample
)
DROP_SAMPLE = Operation(
    "/admin/data/drop-sample", "Drop the sample market", EmptyInput, Dropped, _drop_sample
)
EXPORT = Operation("/admin/data/export", "Write a copy of the store", ExportTo, Exported, _export)
PRUNE = Operation("/admin/data/prune", "Drop superseded candles", EmptyInput, Pruned, _prune)
REPLAY = Operation("/admin/replay", "Run a recording again", RunRecording, Replayed, _replay)
RECORD = Operation("/admin/record", "Write down a recording", RunRecording, Recorded, _record)
CREATE_KEY = Operation(
    "/admin/keys/create", "Create an API key", CreateKey, CreatedKey, _create_key
)
LIST_KEYS = Operation("/admin/keys/list", "List the API keys", EmptyInput, KeyList, _list_keys)
REVOKE_KEY = Operation("/admin/keys/revoke", "Revoke an API key", RevokeKey, KeyInfo, _revoke_key)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    IMPORT, LIST, SAMPLE, DROP_SAMPLE, EXPORT, PRUNE, REPLAY, RECORD, CREATE_KEY, LIST_KEYS, REVOKE_KEY,
)  # fmt: skip
