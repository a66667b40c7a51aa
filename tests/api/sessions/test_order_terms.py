"""The terms of orders in requests, answers, journals and files, and none of them where none is given."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from candlestep.api.replay.order_file import read_orders
from candlestep.api.schemas.decoding import decode_body
from candlestep.api.schemas.orders import OrderRequest, OrderResponse
from candlestep.api.sessions.idempotency import IdempotencyKey
from candlestep.api.sessions.player import (
    CommandPlayer,
    read_changes,
    recorded_changes,
    recorded_order,
)
from candlestep.api.views.session_view import session_view
from candlestep.data.errors import UnreadableFile
from candlestep.data.journal.recording import encoded, records_of
from candlestep.data.journal.records import (
    CommandRecord,
    OcoRecord,
    OrderRecord,
    ReplaceOrderRecord,
    StepRecord,
)
from candlestep.data.journal.session_commands import session_commands
from candlestep.sandbox import (
    InsufficientBalance,
    InvalidParameter,
    Market,
    OrderNotFound,
    OrderWouldMatch,
    SandboxError,
    Session,
    SessionConfig,
)
from candlestep.sandbox.clock import MINUTE
from tests.support.candles import minutes

BUY = {"symbol": "BTCUSDT", "side": "buy"}
LIMIT = {**BUY, "type": "limit", "quantity": "1", "price": "90"}
TERMS: list[dict[str, Any]] = [
    {**LIMIT, "time_in_force": "ioc"},
    {**LIMIT, "time_in_force": "fok"},
    {**LIMIT, "post_only": True},
    {**BUY, "quote_amount": "50"},
    {**BUY, "side": "sell", "quote_amount": 20},
    {**BUY, "type": "stop_limit", "quantity": 1, "trigger_price": 105, "price": "106"},
    {**BUY, "type": "trailing_stop", "quantity": 1, "trail_percent": 5, "activation_price": 92},
    {**BUY, "side": "sell", "type": "trailing_stop", "quantity": "0.5", "trail_amount": "30"},
    {**BUY, "quantity": 1, "stop_loss": 60, "take_profit": "115"},
]
"""Orders, each with one term beyond those that every order has."""


def player() -> CommandPlayer:
    market = Market([minutes("BTCUSDT", 100, 100, 110, 90, 120, 120)])
    return CommandPlayer(Session(SessionConfig(start_time=0, end_time=6 * MINUTE), market))


def request_of(fields: dict[str, Any]) -> OrderRequest:
    request: OrderRequest = decode_body(OrderRequest, json.dumps(fields).encode())
    return request


def answers_of(played: CommandPlayer, orders: list[dict[str, Any]]) -> list[Any]:
    played.order(request_of({**BUY, "quantity": 1}))
    return [json.loads(played.order(request_of(order)).body) for order in orders]


def test_an_answer_has_the_terms_that_were_given_and_no_others() -> None:
    played = player()
    answers = answers_of(played, TERMS)
    usual = set(OrderResponse.__struct_fields__[: len(answers[0]) - 1])
    assert [answer.keys() - usual for answer in answers] == [
        {"time_in_force"},
        {"time_in_force"},
        {"post_only"},
        {"quote_amount"},
        {"quote_amount"},
        set(),
        {"trail_percent", "activation_price"},
        {"trail_amount"},
        {"stop_loss", "take_profit"},
    ]
    assert [answer["status"] for answer in answers] == [
        "expired", "expired", "pending", "filled", "filled", "pending", "pending", "pending",
        "filled",
    ]  # fmt: skip
    legs = [
        json.loads(msgspec.json.encode(OrderResponse.of(leg))) for leg in played.session.orders[-2:]
    ]
    assert [leg["type"] for leg in legs] == ["stop_loss", "take_profit"]
    assert [(leg["list_id"], leg["parent_id"]) for leg in legs] == [(11, 10), (11, 10)]
    assert answers[3]["quote_amount"] == "50.00"
    assert answers[3]["quantity"] == answers[3]["executed_qty"]
    with pytest.raises(OrderWouldMatch):
        player().order(request_of({**LIMIT, "price": "200", "post_only": True}))


def test_recorded_and_played_again_it_is_the_same() -> None:
    played, again, told = player(), player(), player()
    answers_of(played, TERMS)
    played.step(3)
    orders = [request_of({**BUY, "quantity": 1}), *map(request_of, TERMS)]
    for order in orders:
        line = encoded(OrderRecord(order=recorded_order(order)))
        [read] = records_of(line, needs_crc=True)
        assert isinstance(read.record, OrderRecord)
        again.play(read.record)
    again.step(3)
    assert again.digest == played.digest
    for record in session_commands(played.session).records:
        assert isinstance(record, CommandRecord)
        told.play(record)
    assert told.digest == played.digest


def test_pairs_and_replacements_are_recorded_and_play_again() -> None:
    """A pair takes its place or none; a replacement keeps what it does not change."""
    played, again, told = player(), player(), player()
    stop = {
        **BUY,
        "type": "stop_loss",
        "quantity": 1,
        "trigger_price": "105",
        "client_order_id": "s",
    }
    pair = [request_of({**LIMIT, "price": "95"}), request_of(stop)]
    changes = read_changes({"price": "94.5"})
    commands: list[tuple[CommandRecord, int]] = [
        (OrderRecord(order=recorded_order(request_of({**BUY, "quantity": 1}))), 201),
        (OcoRecord(orders=[recorded_order(order) for order in pair]), 201),
        (ReplaceOrderRecord(order_id=2, changes=recorded_changes(changes)), 200),
        (ReplaceOrderRecord(order_id=3, changes={"trigger_price": "111", "quantity": "2"}), 200),
        (OrderRecord(order=recorded_order(request_of(LIMIT))), 201),
        (ReplaceOrderRecord(order_id=6, changes={"quantity": "0.5"}), 200),
        (StepRecord(steps=4), 200),
    ]
    for command, status in commands:
        assert played.play(command).status == status
        [read] = records_of(encoded(command), needs_crc=True)
        assert isinstance(read.record, CommandRecord)
        again.play(read.record)
    assert again.digest == played.digest
    orders = played.session.orders
    assert [order.status for order in orders] == [
        "filled", "cancelled", "cancelled", "filled", "cancelled", "cancelled", "filled",
    ]  # fmt: skip
    assert [order.reason for order in orders[1:]] == [
        "replaced", "replaced", None, "oco", "replaced", None,
    ]  # fmt: skip
    assert (orders[4].client_order_id, orders[4].quantity, orders[4].list_id) == ("s", 2, 2)
    repeated = json.loads(
        played.order(request_of(stop | {"trigger_price": 111, "quantity": 2})).body
    )
    assert repeated["order_id"] == 5
    for record in session_commands(played.session).records:
        assert isinstance(record, CommandRecord)
        told.play(record)
    assert told.digest == played.digest


def test_a_refused_pair_or_replacement_leaves_everything_as_it_was() -> None:
    played = player()
    played.order(request_of(LIMIT))
    before = (played.digest, played.session.orders, played.session.portfolio())
    dear = request_of({**LIMIT, "quantity": "1000"})
    refusals: list[tuple[Any, type[SandboxError]]] = [
        (lambda: played.oco([request_of(LIMIT), dear]), InsufficientBalance),
        (lambda: played.oco([request_of(LIMIT), request_of({**BUY, "quantity": 1})]), InvalidParameter),
        (lambda: played.oco([request_of(LIMIT)]), InvalidParameter),
        (lambda: played.replace_order(1, read_changes({"quantity": 1000})), InsufficientBalance),
        (lambda: played.replace_order(1, read_changes({})), InvalidParameter),
        (lambda: played.replace_order(2, read_changes({"price": 1})), OrderNotFound),
    ]  # fmt: skip
    for command, kind in refusals:
        with pytest.raises(SandboxError) as refusal:
            command()
        assert type(refusal.value) is kind
    assert (played.digest, played.session.orders, played.session.portfolio()) == before
    with pytest.raises(InvalidParameter, match="did you mean `trigger_price`"):
        read_changes({"stop_price": 5})


def test_an_order_without_terms_is_recorded_and_digested_as_ever() -> None:
    """Digests of requests and lines of journals, as they were before there were such terms."""
    plain = request_of({**BUY, "quantity": "0.1"})
    stop = request_of(
        {
            **BUY,
            "side": "sell",
            "type": "stop_loss",
            "quantity": 1,
            "stop_price": 90,
            "oco_group": "g",
        }
    )
    digests = [IdempotencyKey.of("k", "trade/order", order).digest for order in (plain, stop)]
    assert digests == ["3f48f53bf0978204", "d45f7d24ec739c57"]
    assert recorded_order(plain) == {**BUY, "type": "market", "quantity": "0.1"}
    assert list(recorded_order(stop)) == [
        "symbol", "side", "type", "quantity", "trigger_price", "oco_group",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (BUY, "quantity"),
        ({**BUY, "quantity": 1, "quote_amount": 5}, "quote_amount"),
        ({**LIMIT, "time_in_force": "day"}, "time_in_force"),
        ({**LIMIT, "post_only": "yes"}, "post_only"),
        ({**LIMIT, "amount": 1}, "amount"),
        ({**LIMIT, "trail_percent": 5}, "trail_percent"),
        ({**BUY, "type": "trailing_stop", "quantity": 1}, "trail_percent"),
        ({**BUY, "type": "stop_limit", "quantity": 1, "trigger_price": 105}, "price"),
        ({**BUY, "quantity": 1, "stop_loss": 200, "take_profit": 150}, "stop_loss"),
        ({**LIMIT, "timeInForce": "GTC"}, "timeInForce"),
    ],
)
def test_a_term_that_cannot_be_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    played = player()
    with pytest.raises(InvalidParameter) as refusal:
        played.order(request_of(fields))
    assert refusal.value.details["field"] == field
    assert played.session.order_count == 0


def test_a_wrong_name_is_told_the_right_one() -> None:
    for name, meant in (("amount", "`quantity`"), ("timeInForce", "`time_in_force`")):
        with pytest.raises(InvalidParameter, match=f"did you mean {meant}"):
            request_of({**LIMIT, name: 1})


def test_files_of_orders_have_them_as_columns(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "time,symbol,side,type,quantity,price,time_in_force,post_only,quote_amount\n"
        "1970-01-01T00:01:00Z,BTCUSDT,buy,limit,1,90,IOC,false,\n"
        "1970-01-01T00:01:00Z,BTCUSDT,buy,limit,1,90,,TRUE,\n"
        "1970-01-01T00:02:00Z,BTCUSDT,buy,market,,,,,25\n"
    )
    orders = [row.order for row in read_orders(file, {})]
    assert [order.get("time_in_force") for order in orders] == ["ioc", None, None]
    assert [order.get("post_only") for order in orders] == [False, True, None]
    assert [order.get("quote_amount") for order in orders] == [None, None, "25"]
    file.write_text(file.read_text().replace("TRUE", "maybe"))
    with pytest.raises(UnreadableFile, match="line 3: post_only: must be true or false"):
        read_orders(file, {})


def test_the_page_of_a_session_shows_them_only_where_there_are_any() -> None:
    played = player()
    played.order(request_of({**BUY, "quantity": 1}))
    assert "Terms" not in orders_table(played)[0]
    for order in TERMS:
        played.order(request_of(order))
    columns, *rows = orders_table(played)
    assert [row[columns.index("Terms")] for row in rows] == [
        "", "ioc", "fok", "post only", "for 50.00", "for 20.00", "", "trails 5.00 %, from 92.00",
        "trails 30.00", "stop 60.00, target 115.00", "guards #10, pair #11", "guards #10, pair #11",
    ]  # fmt: skip


def orders_table(played: CommandPlayer) -> list[list[str]]:
    """Return the table of orders on the page of a session, with the names of its columns first."""
    session = played.session
    view = session_view(session, session.record(), None, {})
    table = next(table for table in view.tables if table.key == "orders")
    return [[column.name for column in table.columns], *map(list, table.rows)]
