"""Trading in the dialect: what is placed, refused, cancelled and listed, and who may."""

import json
from typing import Any

import httpx
import pytest

from tests.support.api_client import BACKTEST, Api
from tests.support.binance import Binance, checked

SYMBOLS = {"pairs": ["BTCUSDT", "ETHUSDT"]}


@pytest.fixture(scope="module")
def binance(api: Api) -> Binance:
    """Return the dialect of a session whose price is 88,480.02, which every test leaves with cash."""
    return Binance(api, api.started("01-20", "01-25", **SYMBOLS))


def test_a_market_order_answers_with_its_fill(binance: Binance) -> None:
    order = binance.order(newOrderRespType="FULL", newClientOrderId="first")
    assert order["status"] == "FILLED"
    assert order["clientOrderId"] == "first"
    fill = order["fills"][0]
    assert fill["commissionAsset"] == "USDT"
    assert order["executedQty"] == fill["qty"] == "0.01000000"
    assert order["fills"] == [
        {
            "price": trade["price"], "qty": trade["qty"], "commission": trade["commission"],
            "commissionAsset": trade["commissionAsset"], "tradeId": trade["id"],
        }
        for trade in binance.signed(
            "GET", "api/v3/myTrades", symbol="BTCUSDT", orderId=order["orderId"]
        )
    ]  # fmt: skip
    assert binance.signed("GET", "api/v3/order", symbol="BTCUSDT", origClientOrderId="first") == {
        name: value for name, value in order.items() if name not in ("transactTime", "fills")
    }


def test_balances_name_every_asset_of_the_session(binance: Binance) -> None:
    account = binance.signed("GET", "api/v3/account")
    names = {balance["asset"] for balance in account["balances"]}
    assert names == {"USDT", "BTC", "ETH"}
    assert (account["makerCommission"], account["commissionRates"]["taker"]) == (10, "0.00100000")
    held = binance.signed("GET", "api/v3/account", omitZeroBalances="true")["balances"]
    assert "ETH" not in {balance["asset"] for balance in held}


def test_a_limit_rests_until_it_is_cancelled(binance: Binance) -> None:
    limit: dict[str, Any] = {"type": "LIMIT", "timeInForce": "GTC", "price": "80000.00"}
    order = binance.order(**limit)
    assert (order["status"], order["fills"], order["isWorking"]) == ("NEW", [], True)
    by_id = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    assert [o["orderId"] for o in binance.signed("GET", "api/v3/openOrders")] == [order["orderId"]]
    cancelled = binance.signed("DELETE", "api/v3/order", **by_id)
    assert cancelled["status"] == "CANCELED"
    assert cancelled["origClientOrderId"] == f"cs-{order['orderId']}"
    assert binance.signed("DELETE", "api/v3/order", 400, **by_id) == (-2011, "Unknown order sent.")
    assert binance.signed("GET", "api/v3/order", **by_id)["status"] == "CANCELED"
    binance.order(**limit)
    binance.order(**limit | {"symbol": "ETHUSDT", "price": "3000.00"})
    assert len(binance.signed("DELETE", "api/v3/openOrders", symbol="BTCUSDT")) == 1
    assert len(binance.signed("DELETE", "api/v3/openOrders", symbol="ETHUSDT")) == 1
    assert len(binance.signed("GET", "api/v3/allOrders", symbol="ETHUSDT")) == 1


def test_money_buys_and_sells_what_it_comes_to_and_no_more(binance: Binance) -> None:
    bought = binance.order(quantity=None, quoteOrderQty="500")
    fill = bought["fills"][0]
    paid = float(bought["cummulativeQuoteQty"]) + float(fill["commission"])
    assert 499 < paid <= 500
    sold = binance.order(quantity=None, side="SELL", quoteOrderQty="300")
    assert 298 < float(sold["cummulativeQuoteQty"]) <= 300


def test_a_replacement_cancels_and_places_in_one_record(api: Api) -> None:
    session_id = api.started("01-20", "01-21")
    binance = Binance(api, session_id)
    limit: dict[str, Any] = {"type": "LIMIT", "timeInForce": "GTC", "price": "80000"}
    old = binance.order(**limit)
    new = limit | {
        "symbol": "BTCUSDT", "side": "BUY", "quantity": "0.02", "cancelOrderId": old["orderId"],
        "cancelReplaceMode": "STOP_ON_FAILURE",
    }  # fmt: skip
    replaced = binance.signed("POST", "api/v3/order/cancelReplace", **new)
    assert replaced["cancelResponse"]["status"] == "CANCELED"
    assert replaced["newOrderResponse"]["origQty"] == "0.02000000"
    assert [record["do"] for record in commands(api, session_id)] == ["order", "turn"]
    again = binance.client.post(
        f"{binance.path}/api/v3/order/cancelReplace",
        content=binance.signed_text(new), headers=binance.headers,
    ).json()  # fmt: skip
    assert (again["code"], again["data"]["newOrderResult"]) == (-2022, "NOT_ATTEMPTED")
    assert len(commands(api, session_id)) == 2
    allowed = new | {"cancelReplaceMode": "ALLOW_FAILURE"}
    code, _ = binance.signed("POST", "api/v3/order/cancelReplace", 409, **allowed)
    assert code == -2021
    too_much = new | {"cancelOrderId": 2, "quantity": "1"}
    assert binance.signed("POST", "api/v3/order/cancelReplace", 409, **too_much)[0] == -2021
    statuses = [o["status"] for o in binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT")]
    assert statuses == ["CANCELED", "CANCELED", "NEW"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"quantity": "100"}, -2010, "Account has insufficient balance for requested action."),
    ({"side": "SELL", "quantity": "5"}, -2010,
     "Account has insufficient balance for requested action."),
    ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
    ({"quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
    ({"type": "LIMIT", "timeInForce": "GTC", "price": "80000.001"}, -1013,
     "Filter failure: PRICE_FILTER"),
    ({"type": "STOP_LOSS", "side": "SELL", "stopPrice": "99000"}, -2010,
     "Stop price would trigger immediately."),
    ({"type": "TAKE_PROFIT", "side": "SELL", "stopPrice": "80000"}, -2010,
     "Stop price would trigger immediately."),
    ({"type": "LIMIT", "price": "80000"}, -1102,
     "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."),
    ({"symbol": "DOGEUSDT"}, -1121, "Invalid symbol."),
    ({"side": "HOLD"}, -1117, "Invalid side."),
    ({"type": "ICEBERG"}, -1116, "Invalid orderType."),
    ({"quantity": "0.0123456789"}, -1111, "Parameter 'quantity' has too much precision."),
    ({"quantity": "-1"}, -1100, "Illegal characters found in parameter 'quantity'."),
    ({"pirce": "1"}, -1104,
     "Not all sent parameters were read; read '6' parameter(s) but was sent '7'. Unknown: pirce."),
    ({"newClientOrderId": "first"}, -2010, "Duplicate order sent."),
]  # fmt: skip


@pytest.mark.parametrize(("order", "code", "text"), REFUSED)
def test_a_refusal_has_the_text_that_clients_know(
    binance: Binance, order: dict[str, Any], code: int, text: str
) -> None:
    if order.get("newClientOrderId"):
        binance.order(newClientOrderId="once")
        order = {"newClientOrderId": "once"}
    before = binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT")
    assert binance.order(400, **order) == (code, text)
    assert binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT") == before


def test_what_is_tested_is_not_placed(binance: Binance) -> None:
    before = binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT")
    order: dict[str, Any] = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}
    assert binance.signed("POST", "api/v3/order/test", quantity="0.01", **order) == {}
    refused = binance.signed("POST", "api/v3/order/test", 400, quantity="100", **order)
    assert refused[0] == -2010
    assert binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT") == before


def test_a_stop_works_once_it_triggers(binance: Binance) -> None:
    stop = binance.order(
        type="STOP_LOSS", side="SELL", stopPrice="50000", newOrderRespType="RESULT"
    )
    assert (stop["isWorking"], stop["stopPrice"], stop["price"]) == (
        False, "50000.00000000", "0.00000000",
    )  # fmt: skip
    binance.signed("DELETE", "api/v3/order", symbol="BTCUSDT", orderId=stop["orderId"])


def test_only_the_key_of_the_session_and_its_signature_are_accepted(
    api: Api, binance: Binance
) -> None:
    path, headers = f"{binance.path}/api/v3/account", binance.headers
    signature = binance.sign("timestamp=1")

    def ask(query: str, headers: dict[str, str], expect: int) -> Any:
        return checked(binance.client.get(f"{path}?{query}", headers=headers), expect)

    signed = f"timestamp=1&signature={signature}"
    assert ask(signed, headers, 200)["canTrade"]
    assert ask(signed, {}, 401)[0] == -2014
    assert ask(signed, {"X-MBX-APIKEY": "csUnknown"}, 401)[0] == -2015
    assert ask(signed + "0", headers, 400)[0] == -1022
    assert ask("timestamp=1", headers, 400)[0] == -1102
    unstamped = binance.sign("")
    assert ask(f"signature={unstamped}", headers, 400) == (
        -1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.",
    )  # fmt: skip
    other = Binance(api, api.started("01-20", "01-21"))
    assert ask(signed, other.headers, 401)[0] == -2015


def test_another_key_leaves_the_first_one_valid(api: Api) -> None:
    session_id = api.started("01-20", "01-21")
    first, second = Binance(api, session_id), Binance(api, session_id, strict_time=True)
    assert first.opened["api_key"] != second.opened["api_key"]
    assert first.signed("GET", "api/v3/account", 400) == second.signed("GET", "api/v3/account", 400)
    assert first.signed("GET", "api/v3/account", 400)[0] == -1021
    now = second.get("api/v3/time")["serverTime"]
    text = f"timestamp={now}"
    answer = second.client.get(
        f"{second.path}/api/v3/account?{text}&signature={second.sign(text)}",
        headers=second.headers,
    )
    assert answer.status_code == 200


def test_rates_are_limited_where_a_test_wants_that(api: Api) -> None:
    binance = Binance(api, api.started("01-20", "01-21"), rate_limits=True)
    asked = 0
    while asked <= 700:
        asked += 1
        answer = binance.client.get(f"{binance.path}/api/v3/exchangeInfo")
        if answer.status_code != 200:
            assert checked(answer, 429)[0] == -1003
            break
    # A weight of 20 each; the minute may have begun anew on the way, once.
    assert 301 <= asked <= 601


def test_what_is_not_of_the_dialect_says_so(api: Api, binance: Binance) -> None:
    code, text = binance.get("api/v3/nothing", 404)
    assert (code, text) == (-1000, "GET /api/v3/nothing is not of this dialect")
    answer = api.client.get("/binance/bt_unknown/api/v3/ping")
    assert checked(answer, 404)[0] == -1000


def test_filters_can_be_replaced_and_a_wrong_one_is_refused(api: Api) -> None:
    session_id = api.started("01-20", "01-21")
    binance = Binance(api, session_id, symbols={"BTCUSDT": {"tick_size": "0.5"}})
    limit: dict[str, Any] = {"type": "LIMIT", "timeInForce": "GTC", "newOrderRespType": "ACK"}
    assert set(binance.order(**limit, price="80000.5")) == {
        "symbol", "orderId", "orderListId", "clientOrderId", "transactTime",
    }  # fmt: skip
    assert binance.order(400, **limit, price="80000.1")[1] == "Filter failure: PRICE_FILTER"
    path = f"{BACKTEST}/{session_id}/dialect"
    wrong: list[dict[str, Any]] = [
        {"BTCUSDT": {"tick_size": "-1"}},
        {"XUSDT": {}},
        {"BTCUSDT": {"tick": 1}},
    ]
    for symbols in wrong:
        api.post(path, {"symbols": symbols}, expect=422)


def test_a_session_that_has_ended_is_a_closed_market(api: Api) -> None:
    session_id = api.started("01-20", "01-21")
    binance = Binance(api, session_id)
    api.post(f"{BACKTEST}/{session_id}/cancel")
    assert binance.order(400) == (-1013, "Market is closed.")
    assert binance.signed("GET", "api/v3/account")["canTrade"] is False


def test_a_run_in_the_dialect_is_the_run_of_the_same_native_commands(api: Api) -> None:
    """The recordings are equal, digests included."""
    spoken, native = (api.started("01-20", "01-21", **SYMBOLS) for _ in range(2))
    binance = Binance(api, spoken)
    binance.order(quantity="0.02")
    api.order(native, quantity="0.02")
    binance.order(type="LIMIT", timeInForce="GTC", price="80000", newClientOrderId="mine")
    api.order(native, type="limit", price="80000", client_order_id="mine")
    binance.order(type="STOP_LOSS", side="SELL", stopPrice="88000", quantity="0.01")
    api.order(native, type="stop_loss", side="sell", trigger_price="88000", quantity="0.01")
    for session_id in (spoken, native):
        api.step(session_id, 300)
    binance.signed("DELETE", "api/v3/order", symbol="BTCUSDT", orderId=2)
    answer = api.client.delete(f"{BACKTEST}/{native}/trade/order/2")
    assert answer.status_code == 200
    assert len(commands(api, spoken)) == 5
    assert commands(api, spoken) == commands(api, native)


def commands(api: Api, session_id: str) -> list[dict[str, Any]]:
    """Return the records of a session's commands, with their answers and digests."""
    answer: httpx.Response = api.client.get(f"{BACKTEST}/{session_id}/recording")
    records = [json.loads(line) for line in answer.text.splitlines()]
    return [
        {name: value for name, value in record.items() if name != "crc"} for record in records[1:]
    ]
