"""One line a rule: what a trader would expect, with the numbers worked out by hand.

Each line gives the candles ``open high low close`` (one minute each; the first is complete when
the session starts and sets the price), the orders placed at the start, the outcome of each, and
the account at the end. Starting balance 10,000, no costs unless the line says so.
"""

from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from candlestep.sandbox import Candles, Market, Order, SandboxError, Session, SessionConfig

MINUTE = 60_000


class Case(NamedTuple):
    rule: str
    candles: str
    orders: str
    outcome: str
    cash: str
    equity: str
    costs: str = ""


CASES = [
    # Fill prices: market and limit orders.
    Case("a market buy fills at the price, at once",
         "100 100 100 100, 120 130 110 125",
         "buy market 2",
         "filled 100 at 0", "9800", "10050"),
    Case("a market order pays fee on its notional",
         "100 100 100 100, 100 100 100 100",
         "buy market 2; sell market 2",
         "filled 100 at 0; filled 100 at 0", "9999.6", "9999.6", "fee 0.001"),
    Case("slippage makes both sides worse",
         "100 100 100 100, 100 100 100 100",
         "buy market 1; sell market 1",
         "filled 100.05 at 0; filled 99.95 at 0", "9999.9", "9999.9", "bps 5"),
    Case("a marketable limit fills at once, with slippage",
         "100 100 100 100, 100 100 100 100",
         "buy limit 1 at 101",
         "filled 100.05 at 0", "9899.95", "9999.95", "bps 5"),
    Case("a marketable limit never fills worse than its limit",
         "100 100 100 100, 100 100 100 100",
         "buy limit 1 at 100.02",
         "filled 100.02 at 0", "9899.98", "9999.98", "bps 5"),
    Case("the slippage of a capped fill is that of its price",
         "10.4 10.4 10.4 10.4, 10.4 10.4 10.4 10.4",
         "buy market 1; sell limit 1 at 10.3",
         "filled 10.92 at 0 slipped 0.05; filled 10.3 at 0 slipped 0.0096153846153846",
         "9999.38", "9999.38", "bps 500"),
    Case("a resting limit fills at its limit, without slippage",
         "100 100 100 100, 100 101 94 99",
         "buy limit 1 at 95",
         "filled 95 at 1", "9905", "10004", "bps 5"),
    Case("a resting limit fills when the low touches it exactly",
         "100 100 100 100, 100 101 95 99",
         "buy limit 1 at 95",
         "filled 95 at 1", "9905", "10004"),
    Case("a resting limit does not fill one cent above the low",
         "100 100 100 100, 100 101 95 99",
         "buy limit 1 at 94.99",
         "cancelled session_end", "10000", "10000"),
    Case("a candle that opens below a buy limit fills it at the open: better",
         "100 100 100 100, 90 92 89 91",
         "buy limit 1 at 95",
         "filled 90 at 1", "9910", "10001"),
    Case("a candle that opens above a sell limit fills it at the open: better",
         "100 100 100 100, 120 121 118 119",
         "buy market 1; sell limit 1 at 110",
         "filled 100 at 0; filled 120 at 1", "10020", "10020"),
    # Stops and targets.
    Case("a stop_loss fills at its trigger",
         "100 100 100 100, 100 101 94 96",
         "buy market 1; sell stop_loss 1 at 95",
         "filled 100 at 0; filled 95 at 1", "9995", "9995"),
    Case("a gap through a stop fills it at the open: worse",
         "100 100 100 100, 90 92 88 91",
         "buy market 1; sell stop_loss 1 at 95",
         "filled 100 at 0; filled 90 at 1", "9990", "9990"),
    Case("a stop_loss pays slippage on its trigger",
         "100 100 100 100, 100 101 94 96",
         "buy market 1; sell stop_loss 1 at 95",
         "filled 100.05 at 0; filled 94.9525 at 1", "9994.9025", "9994.9025", "bps 5"),
    Case("a take_profit sell fills on a rise",
         "100 100 100 100, 101 111 100 105",
         "buy market 1; sell take_profit 1 at 110",
         "filled 100 at 0; filled 110 at 1", "10010", "10010"),
    Case("a stop_loss buy enters on a rise",
         "100 100 100 100, 101 106 100 104",
         "buy stop_loss 1 at 105",
         "filled 105 at 1", "9895", "9999"),
    Case("a take_profit buy enters on a fall",
         "100 100 100 100, 99 100 89 95",
         "buy take_profit 1 at 90",
         "filled 90 at 1", "9910", "10005"),
    Case("a stop already beyond its trigger when placed waits for the next candle",
         "100 100 100 100, 98 99 97 98, 96 97 95 96",
         "buy market 1; sell stop_loss 1 at 105",
         "filled 100 at 0; filled 98 at 1", "9998", "9998"),
    Case("a protective price given as `price` is the trigger",
         "100 100 100 100, 100 101 94 96",
         "buy market 1; sell stop_loss 1 price 95",
         "filled 100 at 0; filled 95 at 1", "9995", "9995"),
    # The path inside a candle.
    Case("stop and target in one candle: the low is nearer, the stop comes first",
         "100 100 100 100, 100 120 95 110",
         "buy market 1; sell stop_loss 1 at 96; sell take_profit 1 at 118",
         "filled 100 at 0; filled 96 at 1; cancelled position_closed", "9996", "9996"),
    Case("stop and target in one candle: the high is nearer, the target comes first",
         "100 100 100 100, 100 105 80 90",
         "buy market 1; sell stop_loss 1 at 85; sell take_profit 1 at 104",
         "filled 100 at 0; cancelled position_closed; filled 104 at 1", "10004", "10004"),
    Case("high and low equally near: the low first",
         "100 100 100 100, 100 110 90 100",
         "buy market 1; sell take_profit 1 at 105; sell stop_loss 1 at 95",
         "filled 100 at 0; cancelled position_closed; filled 95 at 1", "9995", "9995"),
    Case("on one leg the nearer trigger comes first, whatever its age",
         "100 100 100 100, 100 101 90 95",
         "buy limit 60 at 92; buy limit 40 at 98",
         "filled 92 at 1; filled 98 at 1", "560", "10060"),
    Case("at one price the older comes first, and the position is sold once",
         "100 100 100 100, 100 101 94 96",
         "buy market 1; sell stop_loss 1 at 95; sell stop_loss 1 at 95",
         "filled 100 at 0; filled 95 at 1; cancelled position_closed", "9995", "9995"),
    Case("an entry and its guard cannot meet: a guard needs a position when placed",
         "100 100 100 100, 100 101 94 96",
         "sell stop_loss 1 at 95",
         "INSUFFICIENT_BALANCE", "10000", "10000"),
    # Locks.
    Case("an all-in stop entry locks its fee and slippage, and fills",
         "100 100 100 100, 101 106 100 104",
         "buy stop_loss 95.09 at 105",
         "filled 105.0525 at 1", "0.56833277", "9889.92833277", "fee 0.001, bps 5"),
    Case("an all-in stop entry that gaps beyond its cash is rejected, and unlocks",
         "100 100 100 100, 120 121 119 120",
         "buy stop_loss 95 at 105",
         "rejected insufficient_balance", "10000", "10000"),
    Case("two buys cannot lock the same cash",
         "100 100 100 100, 100 100 100 100",
         "buy limit 60 at 99; buy limit 60 at 98",
         "cancelled session_end; INSUFFICIENT_BALANCE", "10000", "10000"),
    Case("a limit sell locks its quantity",
         "100 100 100 100, 100 100 100 100",
         "buy market 1; sell limit 1 at 110; sell market 1",
         "filled 100 at 0; cancelled session_end; INSUFFICIENT_BALANCE", "9900", "10000"),
    Case("a protective sell sells what is free of the position",
         "100 100 100 100, 100 101 94 96",
         "buy market 3; sell limit 2 at 110; sell stop_loss 3 at 95",
         "filled 100 at 0; cancelled session_end; filled 95 at 1 for 1", "9795", "9987"),
    Case("a protective sell with nothing free is rejected",
         "100 100 100 100, 100 101 94 96",
         "buy market 2; sell limit 2 at 110; sell stop_loss 2 at 95",
         "filled 100 at 0; cancelled session_end; rejected nothing_to_sell", "9800", "9992"),
    # One cancels the other.
    Case("one cancels the other",
         "100 100 100 100, 100 106 99 105",
         "buy stop_loss 1 at 105 oco g; buy limit 1 at 95 oco g",
         "filled 105 at 1; cancelled oco", "9895", "10000"),
    Case("limit sells of a group share one lock",
         "100 100 100 100, 100 112 99 111",
         "buy market 1; sell limit 1 at 110 oco g; sell limit 1 at 120 oco g",
         "filled 100 at 0; filled 110 at 1; cancelled oco", "10010", "10010"),
    Case("a stop may sell what the limit of its group locks",
         "100 100 100 100, 100 101 94 96",
         "buy market 1; sell limit 1 at 110 oco g; sell stop_loss 1 at 95 oco g",
         "filled 100 at 0; cancelled oco; filled 95 at 1", "9995", "9995"),
    # Expiry and time.
    Case("a candle that completes at the expiry still fills",
         "100 100 100 100, 100 101 94 99, 99 99 99 99",
         "buy limit 1 at 95 expires 1",
         "filled 95 at 1", "9905", "10004"),
    Case("after its expiry an order is gone",
         "100 100 100 100, 100 101 98 99, 99 99 90 99",
         "buy limit 1 at 95 expires 1",
         "expired", "10000", "10000"),
    # Digits.
    Case("a price of 0.0000012345 fills as it is",
         "0.0000012345 0.0000012345 0.0000012345 0.0000012345,"
         " 0.0000012345 0.000002 0.000001 0.0000015",
         "buy market 1000000",
         "filled 0.0000012345 at 0", "9998.7655", "10000.2655"),
    Case("half a unit of the eighth place is rounded up",
         "0.5 0.5 0.5 0.5, 0.5 0.5 0.5 0.5",
         "buy market 0.00000003",
         "filled 0.5 at 0", "9999.99999998", "10000"),
    Case("an amount that rounds to zero is refused",
         "0.1 0.1 0.1 0.1, 0.1 0.1 0.1 0.1",
         "buy market 0.00000004",
         "INVALID_PARAMETER", "10000", "10000"),
    Case("a partial sale takes its share of the cost, rounded; the last takes the rest",
         "100 100 100 100, 100 100 100 100",
         "buy market 3; sell market 1; sell market 2",
         "filled 100 at 0; filled 100 at 0; filled 100 at 0", "9999.4", "9999.4", "fee 0.001"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.rule for case in CASES])
def test_rule(case: Case) -> None:
    session = start(case)
    placed: list[int | str] = []
    for order in case.orders.split(";"):
        try:
            placed.append(session.place_order(**instruction(order, session)).id)
        except SandboxError as error:
            placed.append(error.code)
    step = session.step(session.total_steps)
    outcome = [
        p if isinstance(p, str) else described(session.order(p), session, case) for p in placed
    ]
    assert "; ".join(outcome) == case.outcome
    assert step.portfolio.available_cash == Decimal(case.cash)
    assert step.portfolio.locked_cash == 0
    assert step.portfolio.total_equity == Decimal(case.equity)


def test_a_partial_sale_realizes_its_share_of_the_cost_and_the_last_sale_the_rest() -> None:
    case = Case("", "100 100 100 100, 100 100 100 100", "", "", "", "", "fee 0.0003333333333333")
    session = start(case)
    for side, quantity in (("buy", 3), ("sell", 1), ("sell", 2)):
        session.place_order(symbol="BTCUSDT", side=side, type="market", quantity=quantity)
    # Bought for 300.1. A third of it is 100.03333333, which leaves 200.06666667.
    realized = [fill.realized_pnl for fill in session.fills]
    assert realized == [None, Decimal("-0.06666666"), Decimal("-0.13333334")]


def start(case: Case) -> Session:
    rows = [[float(x) for x in row.split()] for row in case.candles.split(",")]
    opened, high, low, close = zip(*rows, strict=True)
    candles = Candles(
        symbol="BTCUSDT",
        interval="1m",
        open_time=[minute * MINUTE for minute in range(len(rows))],
        open=opened,
        high=high,
        low=low,
        close=close,
    )
    costs = dict(part.split() for part in case.costs.split(",") if part)
    config = SessionConfig(
        start_time=MINUTE,
        end_time=len(rows) * MINUTE,
        starting_balance=10_000,
        fee_rate=costs.get("fee", "0"),
        slippage={"model": "fixed_bps", "bps": costs["bps"]}
        if "bps" in costs
        else {"model": "none"},
    )
    return Session(config, Market([candles]))


def instruction(text: str, session: Session) -> dict[str, Any]:
    """Parse ``buy limit 1 at 95 oco g expires 2`` to the arguments of ``place_order``."""
    side, kind, quantity, *rest = text.split()
    words = dict(zip(rest[::2], rest[1::2], strict=True))
    order = {"symbol": "BTCUSDT", "side": side, "type": kind, "quantity": quantity}
    if "at" in words:
        order["price" if kind == "limit" else "trigger_price"] = words["at"]
    if "price" in words:
        order["price"] = words["price"]
    if "oco" in words:
        order["oco_group"] = words["oco"]
    if "expires" in words:
        minute = int(words["expires"]) + 1
        order["expires_at"] = f"1970-01-01T00:{minute:02d}:00Z"
    return order


def described(order: Order, session: Session, case: Case) -> str:
    if order.fill is None:
        return f"{order.status} {order.reason or ''}".strip()
    minute = (order.fill.time - session.config.start_time) // MINUTE
    text = f"{order.status} {order.fill.price.normalize():f} at {minute}"
    partial = order.fill.quantity != order.quantity
    if " slipped " in case.outcome:
        text += f" slipped {order.fill.slippage.normalize():f}"
    return text + (f" for {order.fill.quantity.normalize():f}" if partial else "")
