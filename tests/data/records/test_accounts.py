"""Accounts, agents and keys, which other accounts cannot see."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from candlestep.data.errors import AccountNotFound, AgentNotFound, KeyNotFound
from candlestep.data.records import accounts
from candlestep.data.store.database import FILE_NAME, Store
from candlestep.sandbox import InvalidState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "home")
    yield store
    store.close()


@pytest.fixture
def ann(store: Store) -> str:
    return accounts.ensure_account(store, "ann").account_id


@pytest.fixture
def bob(store: Store) -> str:
    return accounts.ensure_account(store, "bob").account_id


def opened_by(store: Store, secret: str) -> accounts.Key | None:
    """Return the key that a secret opens an account with, if there is one."""
    hashed = accounts.hash_key(secret)
    keys = [key for key in accounts.list_keys(store) if key.revoked_at is None]
    return next((key for key in keys if key.hash == hashed), None)


def test_an_account_is_made_once_with_a_default_agent(store: Store, ann: str) -> None:
    assert accounts.ensure_account(store, "ann").account_id == ann
    assert [account.name for account in accounts.list_accounts(store)] == ["ann"]
    (agent,) = accounts.list_agents(store, ann)
    assert (agent.is_default, agent.risk_profile) == (True, {})
    assert accounts.default_agent(store, ann) == agent
    with pytest.raises(AccountNotFound):
        accounts.get_account(store, "acc_none")
    with pytest.raises(AccountNotFound):
        accounts.create_agent(store, "acc_none", "x", {})


def test_agents_keep_their_risk_profile_as_it_was_given(store: Store, ann: str) -> None:
    profile = {"max_order_size_pct": "12.5", "daily_loss_limit_pct": None}
    agent = accounts.create_agent(store, ann, "careful", profile)
    assert agent.risk_profile == profile
    assert accounts.get_agent(store, ann, agent.agent_id) == agent
    renamed = accounts.update_agent(store, ann, agent.agent_id, name="bold")
    assert (renamed.name, renamed.risk_profile) == ("bold", profile)
    changed = accounts.update_agent(
        store, ann, agent.agent_id, risk_profile={"max_order_size_pct": None}
    )
    assert (changed.name, changed.risk_profile) == (
        "bold",
        {"max_order_size_pct": None, "daily_loss_limit_pct": None},
    )
    assert [a.name for a in accounts.list_agents(store, ann)] == ["default", "bold"]


def test_agents_of_others_do_not_exist(store: Store, ann: str, bob: str) -> None:
    agent_id = accounts.create_agent(store, ann, "mine", {}).agent_id
    with pytest.raises(AgentNotFound):
        accounts.get_agent(store, bob, agent_id)
    with pytest.raises(AgentNotFound):
        accounts.update_agent(store, bob, agent_id, name="stolen")
    with pytest.raises(AgentNotFound):
        accounts.delete_agent(store, bob, agent_id)
    with pytest.raises(AgentNotFound):
        accounts.create_key(store, bob, "key", agent_id)
    assert [agent.name for agent in accounts.list_agents(store, bob)] == ["default"]
    assert accounts.get_agent(store, ann, agent_id).name == "mine"


def test_deleting_an_agent_leaves_its_keys_to_the_default_one(store: Store, ann: str) -> None:
    agent_id = accounts.create_agent(store, ann, "mine", {}).agent_id
    _, secret = accounts.create_key(store, ann, "key", agent_id)
    accounts.delete_agent(store, ann, agent_id)
    key = opened_by(store, secret)
    assert key is not None
    default = accounts.default_agent(store, ann).agent_id
    assert key.agent_id == default
    with pytest.raises(InvalidState, match="default agent"):
        accounts.delete_agent(store, ann, default)
    with pytest.raises(AgentNotFound):
        accounts.delete_agent(store, ann, agent_id)


def test_a_key_is_random_shown_once_and_stored_hashed(store: Store, ann: str) -> None:
    key, secret = accounts.create_key(store, ann, "laptop")
    assert re.fullmatch(r"ak_[A-Za-z0-9_-]{43}", secret)
    assert secret != accounts.create_key(store, ann, "laptop")[1]
    assert key.agent_id == accounts.default_agent(store, ann).agent_id
    assert opened_by(store, secret) == key
    store.close()
    assert secret.encode() not in (store.path.parent / FILE_NAME).read_bytes()


def test_unknown_and_revoked_keys_open_nothing(store: Store, ann: str, bob: str) -> None:
    key, secret = accounts.create_key(store, ann, "laptop")
    theirs, their_secret = accounts.create_key(store, bob, "phone")
    for wrong in ("", "ak_", secret[:-1], secret.lower(), key.hash, "\udcff"):
        assert opened_by(store, wrong) is None
    revoked = accounts.revoke_key(store, key.key_id)
    assert revoked.revoked_at is not None
    assert opened_by(store, secret) is None
    assert opened_by(store, their_secret) == theirs
    assert accounts.revoke_key(store, key.key_id) == revoked
    with pytest.raises(KeyNotFound):
        accounts.revoke_key(store, "key_none")
    assert accounts.list_keys(store) == [revoked, theirs]
    assert accounts.list_keys(store, bob) == [theirs]
