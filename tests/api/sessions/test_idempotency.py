"""Repeated requests: a request with an Idempotency-Key is carried out once, whatever happens."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api_client import BACKTEST, Api, check_error, sample_home
from tests.support.server_process import RunningServer, running

DAY = {"start_time": "2025-01-15T00:00:00Z", "end_time": "2025-01-16T00:00:00Z"}
BUY = {"symbol": "BTCUSDT", "side": "buy", "type": "market", "quantity": "0.01"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(sample_home(tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


def send(api: Api, path: str, key: str, body: Any = None) -> httpx.Response:
    """Post a body under an idempotency key."""
    return api.client.post(f"{BACKTEST}/{path}", json=body, headers={"Idempotency-Key": key})


def same(first: httpx.Response, second: httpx.Response) -> bool:
    return (first.status_code, first.content) == (second.status_code, second.content)


def test_each_command_with_a_key_is_carried_out_once(api: Api) -> None:
    created = send(api, "create", "c1", DAY)
    assert same(send(api, "create", "c1", DAY), created)
    session_id = created.json()["session_id"]
    assert api.get(f"{BACKTEST}/list", strategy_label="")["total"] >= 1
    commands: list[tuple[str, Any]] = [
        ("start", None),
        ("step", None),
        ("step/batch", {"steps": 5}),
        ("step/batch/fast", {"steps": 7}),
        ("trade/order", BUY),
        ("trade/order", BUY | {"type": "limit", "price": "1000", "client_order_id": "a"}),
        ("fork", {"count": 2}),
        ("trade/order", BUY | {"type": "limit", "price": "1000", "client_order_id": "a"}),
    ]
    firsts = [
        send(api, f"{session_id}/{command}", f"k{number}", body)
        for number, (command, body) in enumerate(commands)
    ]
    assert [first.status_code for first in firsts] == [200, 200, 200, 200, 201, 201, 201, 200]
    for _ in range(2):
        for number, (command, body) in enumerate(commands):
            assert same(send(api, f"{session_id}/{command}", f"k{number}", body), firsts[number])
    assert api.read(session_id, "status")["current_step"] == 13
    assert api.read(session_id, "trade/orders")["total"] == 2
    cancelled = send(api, f"{session_id}/cancel", "end")
    assert cancelled.json()["status"] == "cancelled"
    assert same(send(api, f"{session_id}/cancel", "end"), cancelled)
    assert api.post(f"{BACKTEST}/{session_id}/cancel", expect=409)["code"] == "INVALID_STATE"


def test_a_key_is_good_across_a_restart(tmp_path: Path) -> None:
    """This includes the key of the command that ended the session, and that of a refusal."""
    home = sample_home(tmp_path)
    server = RunningServer(home)
    with server.client() as client:
        api = Api(client)
        created = send(api, "create", "c", DAY)
        session_id = created.json()["session_id"]
        commands: list[tuple[str, Any]] = [
            ("start", None),
            ("trade/order", BUY),
            ("trade/order", BUY | {"quantity": 1000}),
            ("step/batch/fast", {"steps": 70}),
            ("fork", {"strategy_label": "forked"}),
            ("step/batch", {"steps": 10_000}),
        ]
        firsts = [
            send(api, f"{session_id}/{command}", f"k{number}", body)
            for number, (command, body) in enumerate(commands)
        ]
        assert [first.status_code for first in firsts] == [200, 201, 422, 200, 201, 200]
        server.kill()
    with running(home) as server, server.client() as client:
        api = Api(client)
        assert same(send(api, "create", "c", DAY), created)
        for number, (command, body) in enumerate(commands):
            again = send(api, f"{session_id}/{command}", f"k{number}", body)
            assert again.status_code == firsts[number].status_code
            if again.is_success:
                assert again.content == firsts[number].content
            else:
                refusals = [
                    (error["code"], error["message"], error["details"])
                    for error in map(check_error, (again, firsts[number]))
                ]
                assert refusals[0] == refusals[1]
        assert api.get(f"{BACKTEST}/list", strategy_label="forked")["total"] == 1
        assert api.read(session_id, "trade/orders")["total"] == 1


def test_a_refusal_stays_one(api: Api) -> None:
    """A command that was refused under its key stays refused after it has become possible."""
    session_id = api.started()
    sell = BUY | {"side": "sell"}
    assert send(api, f"{session_id}/trade/order", "s", sell).status_code == 422
    api.order(session_id)
    assert send(api, f"{session_id}/trade/order", "s", sell).status_code == 422
    assert send(api, f"{session_id}/trade/order", "t", sell).status_code == 201


def test_a_key_is_for_one_request(api: Api) -> None:
    session_id = api.started()
    path = f"{session_id}/step/batch"
    send(api, path, "k", {"steps": 5})
    for command, body in (
        ("step/batch", {"steps": 6}),
        ("step", None),
        ("step/batch/fast", {"steps": 5}),
        ("cancel", None),
    ):
        error = check_error(send(api, f"{session_id}/{command}", "k", body))
        assert (error["code"], error["details"]["field"]) == (
            "INVALID_PARAMETER",
            "Idempotency-Key",
        )
    assert api.read(session_id, "status")["current_step"] == 5
    assert send(api, f"{session_id}/step", "bare").json()["step"] == 6
    error = check_error(send(api, f"{session_id}/cancel", "bare"))
    assert error["details"]["field"] == "Idempotency-Key", "although neither has a body"
    assert api.read(session_id, "status")["status"] == "running"
    other = api.started()
    assert send(api, f"{other}/step", "k").json()["step"] == 1, "a key belongs to one session"
    first = send(api, "create", "c2", DAY)
    error = check_error(send(api, "create", "c2", DAY | {"strategy_label": "x"}))
    assert error["details"]["field"] == "Idempotency-Key"
    assert first.is_success


@pytest.mark.parametrize("key", ["a b", "x" * 256, "ä"])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = api.client.post(f"{BACKTEST}/create", json=DAY, headers=headers)  # type: ignore[arg-type]
    assert check_error(answer)["details"]["field"] == "Idempotency-Key"
    assert answer.status_code == 422


def test_an_empty_key_counts_as_absent(api: Api) -> None:
    ids = {send(api, "create", "", DAY).json()["session_id"] for _ in range(2)}
    assert len(ids) == 2


def test_many_at_once_are_one(api: Api) -> None:
    session_id = api.started()
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda _: send(api, "create", "once", DAY).content, range(16)))
        stepped = list(
            threads.map(lambda _: send(api, f"{session_id}/step", "k").content, range(32))
        )
    assert len(set(created)) == len(set(stepped)) == 1
    assert api.read(session_id, "status")["current_step"] == 1


def test_the_last_256_keys_are_kept(api: Api) -> None:
    session_id = api.started()
    path = f"{session_id}/step"
    firsts = [send(api, path, f"k{number}").json()["step"] for number in range(258)]
    assert firsts == list(range(1, 259))
    assert [send(api, path, f"k{n}").json()["step"] for n in (2, 257)] == [3, 258]
    assert send(api, path, "k0").json()["step"] == 259


def test_from_step_refuses_what_was_done_already(api: Api) -> None:
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}"
    for number, command in enumerate(("step", "step/batch", "step/batch/fast")):
        body = {"from_step": number} | ({} if command == "step" else {"steps": 1})
        assert api.post(f"{path}/{command}", body)["step"] == number + 1
        error = api.post(f"{path}/{command}", body, expect=409)
        assert error["code"] == "INVALID_STATE"
        assert error["details"]["current_step"] == number + 1
    for wrong in (-1, "1", 1.5, 10**16):
        error = api.post(f"{path}/step", {"from_step": wrong}, expect=422)
        assert error["code"] == "INVALID_PARAMETER"
    assert api.read(session_id, "status")["current_step"] == 3
