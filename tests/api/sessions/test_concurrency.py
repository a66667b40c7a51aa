"""Concurrent commands and clients that disconnect: a command takes effect once, whole, or never."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.api_client import BACKTEST, ORDER, Api
from tests.support.patience import PATIENCE
from tests.support.raw_http import request_bytes
from tests.support.server_process import RunningServer


def post_at_once(
    server: RunningServer, path: str, body: dict[str, Any] | None = None
) -> list[httpx.Response]:
    """Post the same body from eight clients at the same time."""
    barrier = threading.Barrier(8)

    def post(client: httpx.Client) -> httpx.Response:
        barrier.wait(PATIENCE)
        return client.post(path, json=body)

    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(8)]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        return list(pool.map(post, clients))


def test_commands_on_one_session_are_served_one_after_the_other(
    server: RunningServer, api: Api
) -> None:
    session_id = api.started("01-15", "01-20")
    path = f"{BACKTEST}/{session_id}"
    limit = ORDER | {"type": "limit", "price": "1000", "quantity": "0.001"}
    clients = [server.client() for _ in range(16)]

    def send_commands(client: httpx.Client, number: int) -> list[httpx.Response]:
        answers = []
        for turn in range(6):
            if (number + turn) % 3 == 0:
                answers.append(client.post(f"{path}/step/batch", json={"steps": 7}))
            elif (number + turn) % 3 == 1:
                answers.append(client.post(f"{path}/trade/order", json=limit))
            else:
                answers.append(client.post(f"{path}/step"))
        return answers

    with ThreadPoolExecutor(len(clients)) as pool:
        by_client = list(pool.map(send_commands, clients, range(16)))
    for client in clients:
        client.close()
    answers = [answer for answers in by_client for answer in answers]
    assert {answer.status_code for answer in answers} == {200, 201}
    steps = [answer.json()["step"] for answer in answers if answer.status_code == 200]
    orders = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(steps) == len(set(steps)) == 64
    assert max(steps) == 32 * 7 + 32 == api.read(session_id, "status")["current_step"]
    assert sorted(order["order_id"] for order in orders) == list(range(1, 33))
    times = {order["order_id"]: order["created_at"] for order in orders}
    assert [times[order_id] for order_id in sorted(times)] == sorted(times.values())


def test_one_of_many_commands_makes_the_last_step(server: RunningServer, api: Api) -> None:
    session_id = api.started()
    answers = post_at_once(server, f"{BACKTEST}/{session_id}/step/batch", {"steps": 5000})
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert api.read(session_id, "results")["status"] == "completed"


def test_started_many_times_at_once_it_starts_once(server: RunningServer, api: Api) -> None:
    session_id = api.create("01-15", "01-16")
    answers = post_at_once(server, f"{BACKTEST}/{session_id}/start")
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


def test_one_client_order_id_at_once_places_one_order(server: RunningServer, api: Api) -> None:
    session_id = api.started()
    order = ORDER | {"client_order_id": "same"}
    answers = post_at_once(server, f"{BACKTEST}/{session_id}/trade/order", order)
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert api.read(session_id, "trade/orders")["total"] == 1


def test_a_command_during_the_start_is_not_told_that_the_session_has_failed(
    client: httpx.Client, api: Api
) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            session_id = api.create("01-15", "01-16")
            path = f"{BACKTEST}/{session_id}"
            pending = [threads.submit(client.post, f"{path}/start")]
            pending += [threads.submit(client.post, f"{path}/step") for _ in range(7)]
            for answer in [future.result() for future in pending]:
                assert (
                    answer.status_code == 200
                    or "not started" in answer.text
                    or ("at step" in answer.text)
                ), answer.text


def test_a_client_that_leaves_leaves_a_whole_state(server: RunningServer, api: Api) -> None:
    """A command that arrived in part has no effect; one that arrived whole takes full effect."""
    session_id = api.started()
    path = f"{BACKTEST}/{session_id}/trade/order"
    address = urlsplit(server.url)
    whole = request_bytes("POST", path, json.dumps(ORDER).encode())
    cuts = [10, len(whole) // 2, len(whole) - 1, len(whole)]
    for cut in cuts * 5:
        connection = socket.create_connection((address.hostname, address.port), PATIENCE)
        connection.sendall(whole[:cut])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    api.post(f"{BACKTEST}/{session_id}/cancel")  # Orders that have not arrived are now too late.
    orders = api.read(session_id, "trade/orders")["orders"]
    assert len(orders) <= 5, "a reset may overtake what was sent"
    assert [order["id"] for order in orders] == list(range(1, len(orders) + 1))
    portfolio = api.read(session_id, "account/portfolio")
    paid = sum(
        round(Decimal(order["executed_price"]) * Decimal("0.01"), 8) + Decimal(order["fee"])
        for order in orders
    )
    assert Decimal(portfolio["available_cash"]) == 10000 - paid
    held = sum(Decimal(position["quantity"]) for position in portfolio["positions"])
    assert held == Decimal("0.01") * len(orders)


def test_a_client_that_leaves_at_the_end_finds_it_saved_or_not_come(
    server: RunningServer, api: Api
) -> None:
    address = urlsplit(server.url)
    for _ in range(5):
        session_id = api.started()
        request = request_bytes("POST", f"{BACKTEST}/{session_id}/step/batch", b'{"steps": 2000}')
        with closing(
            socket.create_connection((address.hostname, address.port), PATIENCE)
        ) as connection:
            connection.sendall(request)
        again = api.client.post(f"{BACKTEST}/{session_id}/step/batch", json={"steps": 2000})
        assert again.status_code in (200, 409)
        assert api.read(session_id, "results")["status"] == "completed"
