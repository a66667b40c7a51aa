"""Operations on the API keys of a store: create, list, revoke; and on what tokens are signed with."""

from typing import Any

import msgspec

from candlestep.api.admin.operation import EmptyInput, OpenHome, Operation, Report
from candlestep.data.errors import AgentNotFound, SessionNotFound
from candlestep.data.records import accounts
from candlestep.data.records.sessions import find_session
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter, InvalidState
from candlestep.sandbox.errors import abbreviate

_LONGEST_NAME = 100


class CreateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to create for one agent, named or by id, of an account, created if it is new."""

    name: str
    account: str = accounts.DEFAULT_ACCOUNT
    agent: str | None = None
    is_admin: bool = False
    server_name: str = ""
    """The name to give the server of this home, if it has none yet."""
    session: str | None = None
    """The id of the one session that it may use, in whose account and for whose agent it is."""


class KeyInfo(msgspec.Struct, frozen=True):
    """Everything about a key except its secret; times in milliseconds."""

    key_id: str
    name: str
    account: str
    agent: str
    agent_id: str
    created_at: int
    revoked_at: int | None
    is_admin: bool
    session_id: str | None = None


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key with its secret, which cannot be read again."""

    key: KeyInfo
    secret: str


class KeyList(msgspec.Struct, frozen=True):
    """The keys of all accounts, oldest first."""

    keys: list[KeyInfo]


class RevokeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key to revoke."""

    key_id: str


def _create_key(home: OpenHome, request: CreateKey, report: Report) -> CreatedKey:
    if request.session is not None:
        return _create_session_key(home, request.name, request.session)
    name, account_name = _valid_name("name", request.name), _valid_name("account", request.account)
    with home.store.transaction():
        if request.server_name:
            accounts.name_server(home.store, request.server_name)
        account = accounts.ensure_account(home.store, account_name)
        agent = _agent_of(home.store, account, request.agent)
        key, secret = accounts.create_key(
            home.store, account.account_id, name, agent.agent_id, is_admin=request.is_admin
        )
        return CreatedKey(_key_info(home.store, key.key_id), secret)


def _create_session_key(home: OpenHome, name: str, session_id: str) -> CreatedKey:
    """Create a key of a session, for its account and its agent."""
    record = find_session(home.store, session_id)
    if record is None:
        raise SessionNotFound(
            f"there is no session {abbreviate(session_id)!r}; `candlestep sessions` lists them",
            session_id=session_id,
        )
    if not accounts.list_keys(home.store):
        raise InvalidState(
            "there are no keys yet, so that nobody needs one, and the first one would shut you out;"
            " make your own with `candlestep keys create NAME`"
        )
    key, secret = accounts.create_key(
        home.store,
        record.account_id,
        _valid_name("name", name),
        session_id=session_id,
    )
    return CreatedKey(_key_info(home.store, key.key_id), secret)


def _list_keys(home: OpenHome, request: EmptyInput, report: Report) -> KeyList:
    return KeyList(_key_infos(home.store))


def _revoke_key(home: OpenHome, request: RevokeKey, report: Report) -> KeyInfo:
    with home.store.transaction():
        return _key_info(home.store, accounts.revoke_key(home.store, request.key_id).key_id)


def _rotate_secret(home: OpenHome, request: EmptyInput, report: Report) -> EmptyInput:
    accounts.replace_signing_key(home.store)
    return request


def _key_infos(store: Store) -> list[KeyInfo]:
    account_names = {account.account_id: account.name for account in accounts.list_accounts(store)}
    agent_names = {
        agent.agent_id: agent.name
        for account_id in account_names
        for agent in accounts.list_agents(store, account_id)
    }
    infos = []
    for key in accounts.list_keys(store):
        names = {"account": account_names[key.account_id], "agent": agent_names[key.agent_id]}
        infos.append(msgspec.convert(msgspec.structs.asdict(key) | names, KeyInfo))
    return infos


def _key_info(store: Store, key_id: str) -> KeyInfo:
    return next(key for key in _key_infos(store) if key.key_id == key_id)


def _agent_of(store: Store, account: accounts.Account, wanted: str | None) -> accounts.Agent:
    """Return the account's agent of this id or name, or its default agent for None."""
    if wanted is None:
        return accounts.default_agent(store, account.account_id)
    agents = accounts.list_agents(store, account.account_id)
    matches = [agent for agent in agents if wanted in (agent.agent_id, agent.name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(agent.agent_id for agent in matches)
        raise InvalidParameter("agent", f"{len(matches)} agents have this name; give one of {ids}")
    names = ", ".join(agent.name for agent in agents)
    raise AgentNotFound(
        f"the account {account.name} has no agent {wanted!r}; its agents are {names};"
        " POST /api/v1/agents creates one",
        account=account.name,
        agent=wanted,
    )


def _valid_name(field: str, text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidParameter(field, f"must be a name of 1 to {_LONGEST_NAME} characters")
    return name


CREATE_KEY = Operation(
    "/admin/keys/create", "Create an API key", CreateKey, CreatedKey, _create_key
)
LIST_KEYS = Operation("/admin/keys/list", "List the API keys", EmptyInput, KeyList, _list_keys)
REVOKE_KEY = Operation("/admin/keys/revoke", "Revoke an API key", RevokeKey, KeyInfo, _revoke_key)
ROTATE_SECRET = Operation(
    "/admin/keys/rotate-secret", "End all tokens", EmptyInput, EmptyInput, _rotate_secret
)

OPERATIONS: tuple[Operation[Any, Any], ...] = (CREATE_KEY, LIST_KEYS, REVOKE_KEY, ROTATE_SECRET)
