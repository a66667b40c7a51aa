"""Tokens: the exchange of a key, and access no wider and no longer than that of the key."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
import time_machine

from candlestep.api.errors import Unauthorized
from candlestep.api.http.auth import Authenticator
from candlestep.api.http.tokens import TOKEN_SECONDS
from candlestep.data.records.accounts import list_keys, signing_key
from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, Api, check_error, make_key, sample_home
from tests.support.binance import Binance
from tests.support.command_line import candlestep
from tests.support.server_process import RunningServer, running

TOKEN = "/api/v1/auth/token"
AGENTS = "/api/v1/agents"


class KeyedServer(NamedTuple):
    """A server with a valid key and a revoked one."""

    server: RunningServer
    key: str
    key_id: str
    revoked: str
    revoked_id: str
    secret: bytes


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedServer]:
    home = sample_home(tmp_path_factory.mktemp("tokens") / "home")
    key, revoked = make_key(home, "ann"), make_key(home, "bob", revoked=True)
    store = Store.open(home)
    ids = {record.revoked_at is None: record.key_id for record in list_keys(store)}
    secret = signing_key(store)
    store.close()
    with running(home) as server:
        yield KeyedServer(server, key, ids[True], revoked, ids[False], secret)


def exchange(keyed: KeyedServer) -> Any:
    """Exchange the key for a token; return the answer."""
    with keyed.server.client(keyed.key) as client:
        return Api(client).post(TOKEN)


def status(server: RunningServer, token: str, path: str = AGENTS) -> int:
    """Return the status of a request with a token."""
    with server.client() as client:
        answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code >= 400:
            assert check_error(answer)["code"] == "UNAUTHORIZED"
        return answer.status_code


def forge(keyed: KeyedServer, *, secret: bytes | None = None, **changes: Any) -> str:
    """Return a token like those of the server, except for the claims that are changed."""
    now = int(time.time())
    claims = {
        "iss": "candlestep",
        "sub": "acc",
        "key": keyed.key_id,
        "iat": now,
        "exp": now + 60,
    } | changes
    present = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(present, secret or keyed.secret, algorithm="HS256")


def test_a_key_is_exchanged_for_a_token(keyed: KeyedServer) -> None:
    answer = exchange(keyed)
    assert set(answer) == {"access_token", "token_type", "expires_in", "tier"}
    assert (answer["token_type"], answer["expires_in"], answer["tier"]) == ("Bearer", 3600, "free")
    claims = jwt.decode(answer["access_token"], keyed.secret, algorithms=["HS256"])
    assert claims["key"] == keyed.key_id
    assert claims["exp"] - claims["iat"] == 3600
    assert keyed.key not in json.dumps(claims)
    # Like everywhere, the key may be sent as a bearer.
    with keyed.server.client() as client:
        bearer = client.post(TOKEN, headers={"Authorization": f"Bearer {keyed.key}"})
        assert bearer.status_code == 200


def test_a_token_opens_what_the_key_does(keyed: KeyedServer) -> None:
    token = exchange(keyed)["access_token"]
    with keyed.server.client(keyed.key) as client:
        by_key = Api(client)
        session_id = by_key.started()
        agents = by_key.get(AGENTS)
    with keyed.server.client() as client:
        client.headers["Authorization"] = f"Bearer {token}"
        by_token = Api(client)
        assert by_token.get(AGENTS) == agents
        assert by_token.step(session_id)["step"] == 1
        assert by_token.get(f"{BACKTEST}/list")["total"] == 1


def test_a_token_makes_no_token(keyed: KeyedServer) -> None:
    token = exchange(keyed)["access_token"]
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"X-API-Key": token},
        {"X-API-Key": "ak_wrong"},
        {"X-API-Key": keyed.revoked},
        {},
    ):
        with keyed.server.client() as client:
            answer = client.post(TOKEN, headers=headers)
            assert answer.status_code == 401
            assert check_error(answer)["code"] == "invalid_apikey"


def test_what_is_forged_expired_or_of_a_revoked_key_opens_nothing(keyed: KeyedServer) -> None:
    now = int(time.time())
    assert status(keyed.server, forge(keyed)) == 200
    for token in (
        forge(keyed, secret=bytes(32)),
        forge(keyed, exp=now - 1),
        forge(keyed, exp=...),
        forge(keyed, exp=now + 4000),
        forge(keyed, exp=2**53),
        forge(keyed, exp="soon"),
        forge(keyed, key=keyed.revoked_id),
        forge(keyed, key="key_unknown"),
        forge(keyed, key=...),
        forge(keyed, key=5),
        forge(keyed, key=None),
        forge(keyed, iss="elsewhere"),
        jwt.encode({"key": keyed.key_id, "exp": now + 60}, "", algorithm="none"),
        forge(keyed).rpartition(".")[0] + ".",
        forge(keyed) + "x",
        "a.b.c",
        "..",
    ):
        assert status(keyed.server, token) == 401, token


def test_a_token_expires_even_if_it_was_used_before(tmp_path: Path) -> None:
    make_key(tmp_path, "ann")
    with (
        closing(Store.open(tmp_path)) as store,
        time_machine.travel("2026-01-01T00:00:00Z", tick=False) as clock,
    ):
        authenticator = Authenticator(store)
        (key,) = list_keys(store)
        token = authenticator.token(key.account_id, key.key_id)
        headers = {b"authorization": f"Bearer {token}".encode()}
        for seconds in (0, TOKEN_SECONDS - 1):
            clock.shift(seconds)
            assert authenticator.caller("account", headers).api_key_id == key.key_id
        clock.shift(1)
        with pytest.raises(Unauthorized, match="has expired"):
            authenticator.caller("account", headers)


def test_a_token_ends_with_its_key_and_lives_through_a_restart(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    with running(home) as server, server.client(key) as client:
        token = Api(client).post(TOKEN)["access_token"]
        assert status(server, token) == 200
    with running(home) as server:
        assert status(server, token) == 200
        (listed,) = json.loads(candlestep("keys", "list", "--json", "--home", home).out)
        assert candlestep("keys", "revoke", listed["key_id"], "--home", home).code == 0
        assert status(server, token) == 401


def test_a_rotated_secret_ends_all_tokens_and_keys_of_dialects_and_no_other(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    key = make_key(home, "ann")
    with running(home) as server, server.client(key) as client:
        api = Api(client)
        session_id = api.started()
        bot = Binance(api, session_id)
        bot.signed("GET", "api/v3/account")
        token = api.post(TOKEN)["access_token"]
        assert status(server, token) == 200
        rotated = candlestep("keys", "rotate-secret", "--home", home)
        assert (rotated.code, "All tokens have ended" in rotated.out) == (0, True)
        assert status(server, token) == 401
        assert bot.signed("GET", "api/v3/account", 401)[0] == -2015
        Binance(api, session_id).signed("GET", "api/v3/account")
        again = Api(client).post(TOKEN)["access_token"]
        assert status(server, again) == 200
    assert candlestep("keys", "rotate-secret", "--home", home).code == 0
    with running(home) as server:
        assert status(server, again) == 401


def test_without_keys_there_are_tokens_too_and_they_open_nothing_later(tmp_path: Path) -> None:
    home = sample_home(tmp_path / "home")
    with running(home) as server:
        for headers in ({}, {"X-API-Key": "ak_any"}):
            with server.client() as client:
                answer = client.post(TOKEN, headers=headers)
                assert answer.status_code == 200
                token = answer.json()["access_token"]
        assert status(server, token) == 200
        assert candlestep("keys", "create", "one", "--home", home).code == 0
        assert status(server, token) == 401


def test_a_copy_of_the_store_has_not_what_tokens_are_signed_with(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    secret = signing_key(store)
    assert signing_key(store) == secret
    store.export(tmp_path / "copy.duckdb")
    store.close()
    assert secret.hex().encode() in (tmp_path / "candlestep.duckdb").read_bytes()
    assert secret.hex().encode() not in (tmp_path / "copy.duckdb").read_bytes()
    assert not list(tmp_path.glob("*.wal"))
