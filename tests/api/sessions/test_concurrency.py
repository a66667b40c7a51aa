"""Calls at once, and clients that leave: each command is done once and whole, or not at all."""

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from urllib.parse import urlsplit

import httpx

from tests.support.api_client import (
    BACKTEST,
    ORDER,
    Api,
)
from tests.support.raw_http import request_bytes
from tests.support.server_process import RunningServer


def at_once(calls: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Make all calls at the same time."""
    barrier = threading.Barrier(len(calls))

    def make(call: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


def test_calls_on_one_session_are_served_one_after_the_other(
    server: RunningServer, api: Api
) -> None:
    session_id = api.started("01-15", "01-20")
    path = f"{BACKTEST}/{session_id}"
    limit = ORDER | {"type": "limit", "price": "1000", "quantity": "0.001"}
    clients = [server.client() for _ in range(16)]

    def calls(client: httpx.Client, number: int) -> list[httpx.Response]:
        made = []
        for turn in range(6):
            if (number + turn) % 3 == 0:
                made.append(client.post(f"{path}/step/batch", json={"steps": 7}))
            elif (number + turn) % 3 == 1:
                made.append(client.post(f"{path}/trade/order", json=limit))
            else:
                made.append(client.post(f"{path}/step"))
        return made

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = [each for made in pool.map(calls, clients, range(16)) for each in made]
    for client in clients:
        client.close()
    assert {answer.status_code for answer in answers} == {200, 201}
    steps = [answer.json()["step"] for answer in answers if answer.status_code == 200]
    orders = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(steps) == len(set(steps)) == 64
    assert max(steps) == 32 * 7 + 32 == api.read(session_id, "status")["current_step"]
    assert sorted(order["order_id"] for order in orders) == list(range(1, 33))
    times = {order["order_id"]: order["created_at"] for order in orders}
    assert [times[each] for each in sorted(times)] == sorted(times.values())


def test_one_of_many_calls_makes_the_last_step(server: RunningServer, api: Api) -> None:
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/step/batch"
    clients = [server.client() for _ in range(8)]
    answers = at_once(
        [lambda each=each: each.post(path, json={"steps": 5000}) for each in clients]  # type: ignore[misc]
    )
    for client in clients:
        client.close()
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert api.read(session_id, "results")["status"] == "completed"


def test_started_many_times_at_once_it_starts_once(server: RunningServer, api: Api) -> None:
    session_id = api.create("01-15", "01-16")
    clients = [server.client() for _ in range(8)]
    answers = at_once(
        [lambda each=each: each.post(f"{BACKTEST}/{session_id}/start") for each in clients]  # type: ignore[misc]
    )
    for client in clients:
        client.close()
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


def test_one_client_order_id_at_once_places_one_order(server: RunningServer, api: Api) -> None:
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/trade/order"
    body = ORDER | {"client_order_id": "same"}
    clients = [server.client() for _ in range(8)]
    answers = at_once([lambda each=each: each.post(path, json=body) for each in clients])  # type: ignore[misc]
    for client in clients:
        client.close()
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert api.read(session_id, "trade/orders")["total"] == 1


def test_a_call_during_the_start_is_not_told_that_the_session_has_failed(
    client: httpx.Client, api: Api
) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            session_id = api.create("01-15", "01-16")
            path = f"{BACKTEST}/{session_id}"
            calls = [threads.submit(client.post, f"{path}/start")]
            calls += [threads.submit(client.post, f"{path}/step") for _ in range(7)]
            for answer in [call.result() for call in calls]:
                assert (
                    answer.status_code == 200
                    or "not started" in answer.text
                    or ("at step" in answer.text)
                ), answer.text


def test_a_client_that_leaves_leaves_a_whole_state(server: RunningServer, api: Api) -> None:
    """Of a command that was sent in part nothing is done; of one sent whole, all."""
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/trade/order"
    address = urlsplit(server.url)
    whole = request_bytes("POST", path, json.dumps(ORDER).encode())
    cuts = [10, len(whole) // 2, len(whole) - 1, len(whole)]
    for cut in cuts * 5:
        connection = socket.create_connection((address.hostname, address.port), 10)
        connection.sendall(whole[:cut])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    api.post(f"{BACKTEST}/{session_id}/cancel")  # What has not come by now comes too late.
    orders = api.read(session_id, "trade/orders")["orders"]
    assert len(orders) <= 5, "a reset may overtake what was sent"
    assert [order["id"] for order in orders] == list(range(1, len(orders) + 1))
    portfolio = api.read(session_id, "account/portfolio")
    paid = sum(
        round(Decimal(order["executed_price"]) * Decimal("0.01"), 8) + Decimal(order["fee"])
        for order in orders
    )
    assert Decimal(portfolio["available_cash"]) == 10000 - paid
    held = sum(Decimal(each["quantity"]) for each in portfolio["positions"])
    assert held == Decimal("0.01") * len(orders)


def test_a_client_that_leaves_at_the_end_finds_it_saved_or_not_come(
    server: RunningServer, api: Api
) -> None:
    address = urlsplit(server.url)
    for _ in range(5):
        session_id = api.started()
        data = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", b'{"steps": 2000}')
        with closing(socket.create_connection((address.hostname, address.port), 10)) as connection:
            connection.sendall(data)
        again = api.client.post(f"{BACKTEST}/{session_id}/step/batch", json={"steps": 2000})
        assert again.status_code in (200, 409)
        assert api.read(session_id, "results")["status"] == "completed"
