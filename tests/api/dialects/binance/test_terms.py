"""Orders with terms of their own, and pairs of orders, in the dialect."""

from typing import Any

import pytest

from tests.support.api_client import BACKTEST, Api
from tests.support.binance import Binance

PAIR: dict[str, Any] = {
    "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER",
    "abovePrice": "95000", "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": "80000",
    "belowPrice": "79900", "belowTimeInForce": "GTC",
}  # fmt: skip
OLDER: dict[str, Any] = {
    "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "price": "95000",
    "stopPrice": "80000", "stopLimitPrice": "79900", "stopLimitTimeInForce": "GTC",
}  # fmt: skip


@pytest.fixture
def binance(api: Api) -> Binance:
    """Return the dialect of a new session that holds 0.01 BTC, at a price of 88,480.02."""
    binance = Binance(api, api.started("01-20", "01-25"))
    binance.order()
    return binance


def test_a_limit_that_must_not_rest_fills_at_once_or_expires(binance: Binance) -> None:
    for terms in ("IOC", "FOK"):
        limit: dict[str, Any] = {"type": "LIMIT", "timeInForce": terms}
        filled = binance.order(**limit, price="89000")
        assert (filled["status"], filled["timeInForce"]) == ("FILLED", terms)
        expired = binance.order(**limit, price="80000")
        assert (expired["status"], expired["executedQty"]) == ("EXPIRED", "0.00000000")
    assert binance.signed("GET", "api/v3/openOrders") == []


def test_a_maker_rests_or_is_refused(binance: Binance) -> None:
    maker: dict[str, Any] = {"type": "LIMIT_MAKER", "newOrderRespType": "RESULT"}
    resting = binance.order(**maker, price="80000")
    assert (resting["type"], resting["status"]) == ("LIMIT_MAKER", "NEW")
    assert binance.order(400, **maker, price="90000") == (
        -2010, "Order would immediately match and take.",
    )  # fmt: skip


def test_a_stop_with_a_limit_shows_both_prices(binance: Binance) -> None:
    stop: dict[str, Any] = {
        "type": "STOP_LOSS_LIMIT", "side": "SELL", "timeInForce": "GTC",
        "newOrderRespType": "RESULT", "price": "79900",
    }  # fmt: skip
    order = binance.order(**stop, stopPrice="80000")
    assert (order["price"], order["stopPrice"], order["isWorking"]) == (
        "79900.00000000", "80000.00000000", False,
    )  # fmt: skip
    assert (
        binance.order(400, **stop, stopPrice="89000")[1] == "Stop price would trigger immediately."
    )
    assert binance.order(400, **stop)[0] == -1102


@pytest.mark.parametrize(("path", "pair"), [("orderList/oco", PAIR), ("order/oco", OLDER)])
def test_a_pair_is_placed_and_cancelled_together(
    binance: Binance, path: str, pair: dict[str, Any]
) -> None:
    placed = binance.signed("POST", f"api/v3/{path}", **pair, listClientOrderId="mine")
    assert (placed["orderListId"], placed["listOrderStatus"]) == (2, "EXECUTING")
    limit, stop = placed["orderReports"]
    assert (limit["type"], stop["type"]) == ("LIMIT_MAKER", "STOP_LOSS_LIMIT")
    assert limit["orderListId"] == stop["orderListId"] == 2
    assert binance.signed("GET", "api/v3/orderList", origClientOrderId="mine")["orderListId"] == 2
    assert len(binance.signed("GET", "api/v3/openOrderList")) == 1
    again = binance.signed("POST", f"api/v3/{path}", 400, **pair, listClientOrderId="mine")
    assert again == (-2010, "Duplicate order sent.")
    binance.signed("DELETE", "api/v3/order", symbol="BTCUSDT", orderId=stop["orderId"])
    assert binance.signed("GET", "api/v3/openOrders") == []
    (ended,) = binance.signed("GET", "api/v3/allOrderList")
    assert ended["listOrderStatus"] == "ALL_DONE"
    unknown = binance.signed("DELETE", "api/v3/orderList", 400, symbol="BTCUSDT", orderListId=2)
    assert unknown == (-2011, "Unknown order sent.")


def test_of_a_pair_that_is_refused_nothing_is_placed(binance: Binance) -> None:
    orders = binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT")
    for change, code in (
        ({"quantity": "1"}, -2010),
        ({"abovePrice": "80500"}, -2010),
        ({"belowStopPrice": "90000"}, -2010),
        ({"belowType": "LIMIT_MAKER"}, -1128),
        ({"belowPrice": "79900.001"}, -1013),
    ):
        refused = binance.signed("POST", "api/v3/orderList/oco", 400, **PAIR | change)
        assert refused[0] == code, (change, refused)
    assert binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT") == orders


def test_a_pair_that_was_placed_natively_is_one_here(api: Api, binance: Binance) -> None:
    legs = [
        {"symbol": "BTCUSDT", "side": "sell", "quantity": "0.01", "type": "limit", "price": 95000},
        {"symbol": "BTCUSDT", "side": "sell", "quantity": "0.01", "type": "stop_loss",
         "trigger_price": 80000},
    ]  # fmt: skip
    session_id = binance.path.rpartition("/")[2]
    api.post(f"{BACKTEST}/{session_id}/trade/oco", {"orders": legs}, expect=201)
    (pair,) = binance.signed("GET", "api/v3/openOrderList")
    assert (pair["orderListId"], pair["listClientOrderId"]) == (2, "cs-list-2")
    assert len(pair["orders"]) == 2


def test_when_one_of_a_pair_fills_the_other_has_expired(api: Api, binance: Binance) -> None:
    near = PAIR | {"abovePrice": "88600.00"}
    limit, stop = binance.signed("POST", "api/v3/orderList/oco", **near)["orderReports"]
    binance.signed("POST", "control/step", n=1440)
    statuses = {
        order["orderId"]: order["status"]
        for order in binance.signed("GET", "api/v3/allOrders", symbol="BTCUSDT")
    }
    assert (statuses[limit["orderId"]], statuses[stop["orderId"]]) == ("FILLED", "EXPIRED")
    trade = binance.signed("GET", "api/v3/myTrades", symbol="BTCUSDT")[-1]
    assert (trade["isMaker"], trade["price"]) == (True, "88600.00000000")
