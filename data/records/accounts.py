"""Accounts, their agents and API keys, and the key that tokens are signed with."""

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from candlestep.data.clock import now
from candlestep.data.errors import AccountNotFound, AgentNotFound, KeyNotFound
from candlestep.data.store.database import Store
from candlestep.data.store.rows import to_json, to_struct
from candlestep.sandbox import InvalidParameter, InvalidState

DEFAULT_ACCOUNT = "default"
"""The name of the account that requests act for while there are no keys."""

KEY_PREFIX = "ak_"
"""The start of every key, before the name of the server if it has one."""
_KEY_BYTES = 32
_SIGNING_KEY_BYTES = 32

_ACCOUNT = "SELECT account_id, name, epoch_ms(created_at) FROM accounts"
_AGENT = (
    "SELECT agent_id, account_id, name, risk_profile, is_default, epoch_ms(created_at) FROM agents"
)
_AGENT_JSON = ("risk_profile",)
_KEY = (
    "SELECT key_id, account_id, agent_id, name, hash, epoch_ms(created_at), epoch_ms(revoked_at),"
    " is_admin, session_id FROM keys"
)


class Account(msgspec.Struct, frozen=True):
    """The owner of sessions, agents and results. Times are in milliseconds since the epoch."""

    account_id: str
    name: str
    created_at: int


class Agent(msgspec.Struct, frozen=True):
    """A trader of an account. Each session copies its ``risk_profile`` when it is created."""

    agent_id: str
    account_id: str
    name: str
    risk_profile: dict[str, Any]
    is_default: bool
    created_at: int


class Key(msgspec.Struct, frozen=True):
    """An API key without its secret, of which only the hash is stored."""

    key_id: str
    account_id: str
    agent_id: str
    name: str
    hash: str
    created_at: int
    revoked_at: int | None
    is_admin: bool = False
    """True if it may change the data that all accounts share."""
    session_id: str | None = None
    """The one session that it may use; None: all of the account."""


def ensure_account(store: Store, name: str) -> Account:
    """Return the account of this name; create it with a default agent if it does not exist."""
    with store.transaction():
        rows = store.rows(f"{_ACCOUNT} WHERE name = ?", name)
        if rows:
            return Account(*rows[0])
        account = Account(_new_id("acc"), name, now())
        store.execute(
            "INSERT INTO accounts VALUES (?, ?, epoch_ms(?::BIGINT))",
            account.account_id, account.name, account.created_at,
        )  # fmt: skip
        _insert_agent(store, account.account_id, "default", {}, is_default=True)
        return account


def get_account(store: Store, account_id: str) -> Account:
    """Return the account; raises ``AccountNotFound``."""
    rows = store.rows(f"{_ACCOUNT} WHERE account_id = ?", account_id)
    if not rows:
        raise AccountNotFound(f"there is no account {account_id}", account_id=account_id)
    return Account(*rows[0])


def list_accounts(store: Store) -> list[Account]:
    """Return all accounts, oldest first."""
    return [Account(*row) for row in store.rows(f"{_ACCOUNT} ORDER BY created_at, account_id")]


def create_agent(
    store: Store, account_id: str, name: str, risk_profile: Mapping[str, Any]
) -> Agent:
    """Create an agent of the account. The risk profile is stored unchanged, as JSON."""
    with store.transaction():
        get_account(store, account_id)
        return _insert_agent(store, account_id, name, risk_profile, is_default=False)


def list_agents(store: Store, account_id: str) -> list[Agent]:
    """Return the account's agents: the default one, then the others, oldest first."""
    rows = store.rows(
        f"{_AGENT} WHERE account_id = ? ORDER BY is_default DESC, created_at, agent_id", account_id
    )
    return [to_struct(Agent, row, _AGENT_JSON) for row in rows]


def get_agent(store: Store, account_id: str, agent_id: str) -> Agent:
    """Return the account's agent.

    Raises ``AgentNotFound``, also if the agent belongs to another account.
    """
    rows = store.rows(f"{_AGENT} WHERE account_id = ? AND agent_id = ?", account_id, agent_id)
    if not rows:
        raise AgentNotFound(
            f"there is no agent {agent_id!r}; GET /api/v1/agents lists yours", agent_id=agent_id
        )
    return to_struct(Agent, rows[0], _AGENT_JSON)


def default_agent(store: Store, account_id: str) -> Agent:
    """Return the agent of sessions that are created without one."""
    return list_agents(store, account_id)[0]


def update_agent(
    store: Store,
    account_id: str,
    agent_id: str,
    *,
    name: str | None = None,
    risk_profile: Mapping[str, Any] | None = None,
) -> Agent:
    """Change the name or the limits of an agent and return it.

    Limits that ``risk_profile`` does not name stay as they are, and so do those of sessions that
    already exist. Raises ``AgentNotFound``.
    """
    with store.transaction():
        agent = get_agent(store, account_id, agent_id)
        store.execute(
            "UPDATE agents SET name = ?, risk_profile = ? WHERE agent_id = ?",
            agent.name if name is None else name,
            to_json(agent.risk_profile | dict(risk_profile or {})),
            agent_id,
        )
        return get_agent(store, account_id, agent_id)


def delete_agent(store: Store, account_id: str, agent_id: str) -> None:
    """Delete an agent. Its sessions stay, and its keys act for the default agent from now on.

    Raises ``AgentNotFound``, and ``InvalidState`` for the default agent.
    """
    with store.transaction():
        agent = get_agent(store, account_id, agent_id)
        if agent.is_default:
            raise InvalidState(
                "the default agent cannot be deleted; change its name or risk profile instead",
                agent_id=agent_id,
            )
        store.execute(
            "UPDATE keys SET agent_id = ? WHERE agent_id = ?",
            default_agent(store, account_id).agent_id, agent_id,
        )  # fmt: skip
        store.execute("DELETE FROM agents WHERE agent_id = ?", agent_id)


def create_key(
    store: Store,
    account_id: str,
    name: str,
    agent_id: str | None = None,
    *,
    is_admin: bool = False,
    secret: str | None = None,
    session_id: str | None = None,
) -> tuple[Key, str]:
    """Create a key and return it with its secret, random unless given, which is not stored.

    Sessions created with the key belong to ``agent_id``, by default the account's default agent.
    With ``is_admin`` it may change the data that all accounts share; with ``session_id`` it may use
    that session and nothing else.
    """
    with store.transaction():
        if secret is None:
            secret = _key_prefix(store) + secrets.token_urlsafe(_KEY_BYTES)
        get_account(store, account_id)
        if agent_id is None:
            agent_id = default_agent(store, account_id).agent_id
        else:
            get_agent(store, account_id, agent_id)
        key = Key(
            _new_id("key"),
            account_id,
            agent_id,
            name,
            hash_key(secret),
            now(),
            None,
            is_admin,
            session_id,
        )
        store.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, epoch_ms(?::BIGINT), NULL, ?, ?)",
            key.key_id, account_id, agent_id, name, key.hash, key.created_at, is_admin, session_id,
        )  # fmt: skip
    return key, secret


def server_name(store: Store) -> str:
    """Return the name of the server of this home, which its keys carry; empty if it has none."""
    rows = store.rows("SELECT name FROM server_name")
    return rows[0][0] if rows else ""


def name_server(store: Store, name: str) -> None:
    """Name the server of this home; keys that exist stay as they are.

    Raises ``InvalidParameter`` if it has another name, which its keys and sessions carry for good.
    """
    with store.transaction():
        known = server_name(store)
        if known and known != name:
            raise InvalidParameter(
                "server_name",
                f"is {name}, but the server of this home is named {known}, by which proxies know its"
                f" keys and sessions: leave the name out, or use another home for {name}",
            )
        if not known:
            store.execute("INSERT INTO server_name VALUES (?)", name)


def _key_prefix(store: Store) -> str:
    name = server_name(store)
    return f"{KEY_PREFIX}{name}_" if name else KEY_PREFIX


def list_keys(store: Store, account_id: str | None = None) -> list[Key]:
    """Return the keys of an account, or of all, oldest first, including revoked ones."""
    return [
        Key(*row)
        for row in store.rows(
            f"{_KEY} WHERE account_id = coalesce(?, account_id) ORDER BY created_at, key_id",
            account_id,
        )
    ]


def revoke_key(store: Store, key_id: str) -> Key:
    """Revoke the key and return it; raises ``KeyNotFound``."""
    with store.transaction():
        store.execute(
            "UPDATE keys SET revoked_at = epoch_ms(?::BIGINT)"
            " WHERE key_id = ? AND revoked_at IS NULL",
            now(), key_id,
        )  # fmt: skip
        rows = store.rows(f"{_KEY} WHERE key_id = ?", key_id)
    if not rows:
        raise KeyNotFound(
            f"there is no key {key_id!r}; `candlestep keys list` shows them", key_id=key_id
        )
    return Key(*rows[0])


def hash_key(secret: str) -> str:
    """Return the hash of a key's secret. With 256 random bits, SHA-256 needs no salt."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def signing_key(store: Store) -> bytes:
    """Return the key that tokens are signed with; create it if the store does not have one.

    With it, tokens of any account can be made. ``Store.export`` leaves it out.
    """
    with store.transaction():
        rows = store.rows("SELECT secret FROM signing_keys")
        if rows:
            return bytes.fromhex(rows[0][0])
        secret = secrets.token_bytes(_SIGNING_KEY_BYTES)
        store.execute(
            "INSERT INTO signing_keys VALUES (?, epoch_ms(?::BIGINT))", secret.hex(), now()
        )
        return secret


def replace_signing_key(store: Store) -> None:
    """Sign tokens with another key from now on, so that all earlier ones are refused."""
    with store.transaction():
        store.execute("DELETE FROM signing_keys")
        signing_key(store)


def _insert_agent(
    store: Store, account_id: str, name: str, risk_profile: Mapping[str, Any], *, is_default: bool
) -> Agent:
    agent = Agent(str(uuid.uuid4()), account_id, name, dict(risk_profile), is_default, now())
    store.execute(
        "INSERT INTO agents VALUES (?, ?, ?, ?, ?, epoch_ms(?::BIGINT))",
        agent.agent_id, account_id, name, to_json(risk_profile), is_default, agent.created_at,
    )  # fmt: skip
    return agent


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4()}"
