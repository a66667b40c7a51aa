"""Operations on the API keys of a store: create, list, revoke."""

from typing import Any

import msgspec

from candlestep.api.admin.operation import EmptyInput, Operation, Report
from candlestep.data.errors import AgentNotFound
from candlestep.data.records import accounts
from candlestep.data.store.database import Store
from candlestep.sandbox import InvalidParameter

_LONGEST_NAME = 100


class CreateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to create for one agent, named or by id, of an account, created if it is new."""

    name: str
    account: str = accounts.DEFAULT_ACCOUNT
    agent: str | None = None


class KeyInfo(msgspec.Struct, frozen=True):
    """Everything about a key except its secret; times in milliseconds."""

    key_id: str
    name: str
    account: str
    agent: str
    agent_id: str
    created_at: int
    revoked_at: int | None


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


def _create_key(store: Store, request: CreateKey, report: Report) -> CreatedKey:
    name, account_name = _valid_name("name", request.name), _valid_name("account", request.account)
    with store.transaction():
        account = accounts.ensure_account(store, account_name)
        agent = _agent_of(store, account, request.agent)
        key, secret = accounts.create_key(store, account.account_id, name, agent.agent_id)
        return CreatedKey(_key_info(store, key.key_id), secret)


def _list_keys(store: Store, request: EmptyInput, report: Report) -> KeyList:
    return KeyList(_key_infos(store))


def _revoke_key(store: Store, request: RevokeKey, report: Report) -> KeyInfo:
    with store.transaction():
        return _key_info(store, accounts.revoke_key(store, request.key_id).key_id)


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

OPERATIONS: tuple[Operation[Any, Any], ...] = (CREATE_KEY, LIST_KEYS, REVOKE_KEY)
