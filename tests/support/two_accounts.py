"""A server with two accounts: ann owns sessions, and bob must not see them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.support.api_client import BACKTEST, Api, check_error, make_key, sample_home
from tests.support.server_process import RunningServer, running


class TwoAccounts(NamedTuple):
    """A server with clients of two accounts, and a revoked key of the first."""

    server: RunningServer
    ann: Api
    bob: Api
    revoked_key: str


@contextmanager
def serve_two_accounts(home: Path) -> Iterator[TwoAccounts]:
    """Run a server over the sample market for the accounts of ann and bob."""
    sample_home(home)
    ann_key, bob_key = make_key(home, "ann"), make_key(home, "bob")
    revoked_key = make_key(home, "ann", revoked=True)
    with (
        running(home) as server,
        server.client(ann_key) as ann,
        server.client(bob_key) as bob,
    ):
        yield TwoAccounts(server, Api(ann), Api(bob), revoked_key)


class Owned(NamedTuple):
    """An agent of an account, and a session in each state by the state's name."""

    agent_id: str
    sessions: dict[str, str]


def create_owned(api: Api) -> Owned:
    """Create an agent and its sessions, which have traded."""
    agent_id = api.post("/api/v1/agents", {"name": "hers"}, expect=201)["agent_id"]
    sessions = {"created": api.create("01-15", "01-16", agent_id=agent_id)}
    for state in ("running", "completed", "cancelled"):
        session_id = api.started(strategy_label="hers", agent_id=agent_id)
        api.order(session_id)
        api.order(session_id, type="limit", price=1000)
        api.step(session_id, 10_000 if state == "completed" else 100)
        if state == "cancelled":
            api.post(f"{BACKTEST}/{session_id}/cancel")
        sessions[state] = session_id
    return Owned(agent_id, sessions)


def everything(api: Api, owned: Owned) -> dict[str, Any]:
    """Return all that an account can read of its agent and sessions."""
    answers = {"agent": api.get(f"/api/v1/agents/{owned.agent_id}")}
    for state, session_id in owned.sessions.items():
        answers[f"{state} status"] = api.read(session_id, "status")
        if state != "created":
            for path in ("account/portfolio", "trade/orders", "trade/history", "market/prices"):
                answers[f"{state} {path}"] = api.read(session_id, path)
    return answers


def error_about(answer: httpx.Response, identifier: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the error of an answer.

    The identifier that the request named and the fields that differ from one request to the next
    are left out, so errors about different identifiers can be compared.
    """
    error = check_error(answer)
    del error["timestamp"], error["request_id"]
    without_id: dict[str, Any] = json.loads(json.dumps(error).replace(identifier, "…"))
    return answer.status_code, without_id
