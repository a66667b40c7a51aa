"""What a bot does with python-binance. ``bot_client`` has the lines of ``candlestep dialect``."""

from importlib.metadata import version
from typing import Any

from binance.exceptions import BinanceAPIException
from bot_client import client

SYMBOL = "BTCUSDT"

client.ping()
assert client.get_server_time()["serverTime"] == 1_737_331_200_000
info = client.get_exchange_info()
assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT", "ETHUSDT"]
assert client.get_symbol_info(SYMBOL)["baseAsset"] == "BTC"
last = float(client.get_symbol_ticker(symbol=SYMBOL)["price"])
assert len(client.get_symbol_ticker()) == 2
assert float(client.get_ticker(symbol=SYMBOL)["lastPrice"]) == last
best = client.get_orderbook_ticker(symbol=SYMBOL)
assert float(best["bidPrice"]) < last < float(best["askPrice"])
assert len(client.get_order_book(symbol=SYMBOL, limit=5)["asks"]) == 5
assert client.get_avg_price(symbol=SYMBOL)["mins"] == 5
assert len(client.get_klines(symbol=SYMBOL, interval="1h", limit=3)) == 3
history = client.get_historical_klines(SYMBOL, "1h", "1737320000000", limit=3)
assert history[0][0] >= 1_737_320_000_000
assert client.get_asset_balance(asset="BTC")["free"] == "0.00000000"
assert client.get_account()["canTrade"]

assert client.order_market_buy(symbol=SYMBOL, quantity=0.02)["status"] == "FILLED"
assert client.order_market_buy(symbol=SYMBOL, quoteOrderQty=300)["status"] == "FILLED"
limit = client.order_limit_buy(symbol=SYMBOL, quantity=0.01, price=f"{last * 0.98:.2f}")
stop = client.create_order(
    symbol=SYMBOL, side="SELL", type="STOP_LOSS_LIMIT", timeInForce="GTC", quantity=0.005,
    price=f"{last * 0.94:.2f}", stopPrice=f"{last * 0.95:.2f}",
)  # fmt: skip
pair = client.create_oco_order(
    symbol=SYMBOL, side="SELL", quantity=0.01, aboveType="LIMIT_MAKER", abovePrice="120000.00",
    belowType="STOP_LOSS_LIMIT", belowStopPrice="80000.00", belowPrice="79900.00",
    belowTimeInForce="GTC",
)  # fmt: skip
assert len(pair["orderReports"]) == 2
assert client.create_test_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01) == {}
assert len(client.get_open_orders(symbol=SYMBOL)) == 4
assert len(client.get_all_orders(symbol=SYMBOL)) == 6
assert client.get_order(symbol=SYMBOL, orderId=limit["orderId"])["status"] == "NEW"
assert len(client.get_my_trades(symbol=SYMBOL)) == 2
assert client.cancel_order(symbol=SYMBOL, orderId=stop["orderId"])["status"] == "CANCELED"
assert client.get_trade_fee(symbol=SYMBOL)[0]["takerCommission"] == "0.001"
assert client.stream_get_listen_key()
REFUSED: list[tuple[int, dict[str, Any]]] = [
    (-2010, {"side": "BUY", "type": "MARKET", "quantity": 100}),
    (-1013, {"side": "BUY", "type": "MARKET", "quantity": "0.0000001"}),
    (-1121, {"side": "BUY", "type": "MARKET", "quantity": 1, "symbol": "NOPEUSDT"}),
]
for code, order in REFUSED:
    refused = 0
    try:
        client.create_order(**{"symbol": SYMBOL, **order})
    except BinanceAPIException as error:
        refused = error.code
    assert refused == code, (order, refused)
print(version("python-binance"))
