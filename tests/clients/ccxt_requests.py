"""What a bot does with ccxt. ``bot_client`` has the lines of ``candlestep dialect``."""

import ccxt
from bot_client import exchange

exchange.enableRateLimit = False
PAIR = "BTC/USDT"

markets = exchange.load_markets()
assert set(markets) == {"BTC/USDT", "ETH/USDT"}
assert markets[PAIR]["precision"]["price"] == 0.01
assert markets[PAIR]["precision"]["amount"] == 0.00001
now = exchange.fetch_time()
ticker = exchange.fetch_ticker(PAIR)
last = ticker["last"]
assert last > 0
assert ticker["timestamp"] == now
assert set(exchange.fetch_tickers([PAIR, "ETH/USDT"])) == {PAIR, "ETH/USDT"}
best = exchange.fetch_bids_asks([PAIR])[PAIR]
book = exchange.fetch_order_book(PAIR, 5)
assert book["bids"][0][0] == best["bid"] < last < best["ask"] == book["asks"][0][0]
hours = exchange.fetch_ohlcv(PAIR, "1h", limit=3)
assert len(hours) == 3
assert hours[-1][0] <= now < hours[-1][0] + 3_600_000
minutes = exchange.fetch_ohlcv(PAIR, "1m", since=now - 600_000, limit=5)
assert [row[0] for row in minutes] == [now - 600_000 + 60_000 * n for n in range(5)]
assert exchange.fetch_balance()["USDT"]["free"] == 10_000

bought = exchange.create_order(PAIR, "market", "buy", 0.02)
assert bought["status"] == "closed"
assert bought["filled"] == 0.02
assert bought["fee"]["currency"] == "USDT"
assert exchange.create_market_buy_order_with_cost(PAIR, 500)["cost"] < 500
limit = exchange.create_order(PAIR, "limit", "buy", 0.01, round(last * 0.98, 2))
maker = exchange.create_order(PAIR, "limit", "buy", 0.01, round(last * 0.97, 2), {"postOnly": True})
assert limit["status"] == maker["status"] == "open"
stop_limit = exchange.create_order(
    PAIR, "limit", "sell", 0.01, round(last * 0.94, 2), {"stopPrice": round(last * 0.95, 2)}
)
assert stop_limit["type"] == "limit"
assert stop_limit["triggerPrice"] == round(last * 0.95, 2)
stop = exchange.create_order(
    PAIR, "market", "sell", 0.005, None, {"stopPrice": round(last * 0.9, 2)}
)
assert stop["status"] == "open"
exchange.cancel_order(stop_limit["id"], PAIR)
exchange.cancel_order(stop["id"], PAIR)
pair = exchange.private_post_orderlist_oco(
    {
        "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER",
        "abovePrice": "120000.00", "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": "80000.00",
        "belowPrice": "79900.00", "belowTimeInForce": "GTC", "listClientOrderId": "pair-1",
        "aboveClientOrderId": "above-1", "belowClientOrderId": "below-1",
    }
)  # fmt: skip
assert [order["clientOrderId"] for order in pair["orders"]] == ["above-1", "below-1"]
older = exchange.private_post_order_oco(
    {
        "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.005", "price": "125000.00",
        "stopPrice": "80000.00", "stopLimitPrice": "79900.00", "stopLimitTimeInForce": "GTC",
        "listClientOrderId": "pair-2", "limitClientOrderId": "limit-2",
        "stopClientOrderId": "stop-2",
    }
)  # fmt: skip
assert older["listOrderStatus"] == "EXECUTING"
assert len(exchange.fetch_open_orders(PAIR)) == 6
assert exchange.fetch_order(limit["id"], PAIR)["price"] == round(last * 0.98, 2)
assert exchange.fetch_orders(PAIR)
assert len(exchange.fetch_my_trades(PAIR)) == 2
assert len(exchange.fetch_my_trades(PAIR, params={"orderId": bought["id"]})) == 1
assert exchange.cancel_order(limit["id"], PAIR)["status"] == "canceled"
edited = exchange.edit_order(maker["id"], PAIR, "limit", "buy", 0.01, round(last * 0.96, 2))
assert edited["status"] == "open"
assert len(exchange.cancel_all_orders(PAIR)) == 5
assert exchange.fetch_trading_fees()[PAIR]["taker"] == 0.001
assert exchange.fetch_trading_fee(PAIR)["maker"] == 0.001
assert exchange.fetch_trades(PAIR, limit=5) == []
assert exchange.fetch_status()["status"] == "ok"

REFUSED = [
    (ccxt.InsufficientFunds, "market", "buy", 100, None, {}),
    (ccxt.OrderImmediatelyFillable, "limit", "buy", 0.01, last * 1.1, {"postOnly": True}),
    (ccxt.OrderImmediatelyFillable, "market", "sell", 0.01, None, {"stopPrice": last * 1.1}),
]
for error, kind, side, amount, price, params in REFUSED:
    try:
        exchange.create_order(PAIR, kind, side, amount, price, params)
    except error:
        continue
    raise AssertionError(f"{kind} {side} {amount} was not refused as {error.__name__}")
for call in (exchange.cancel_order, exchange.fetch_order):
    try:
        call("999", PAIR)
    except ccxt.OrderNotFound:
        continue
    raise AssertionError(f"{call} of an unknown order succeeded")
print(ccxt.__version__)
