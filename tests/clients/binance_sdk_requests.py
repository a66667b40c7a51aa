"""What a bot does with binance-sdk-spot. ``bot_client`` has the lines of ``candlestep dialect``."""

from importlib.metadata import version

from bot_client import client

api = client.rest_api
SYMBOL = "BTCUSDT"

api.ping()
assert api.time().data().server_time == 1_737_331_200_000
assert api.exchange_info(symbol=SYMBOL).data().symbols[0].base_asset == "BTC"
assert len(api.klines(symbol=SYMBOL, interval="1h", limit=2).data()) == 2
api.ticker_price(symbol=SYMBOL)
assert api.get_account().data().account_type == "SPOT"
bought = api.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01).data()
assert bought.status == "FILLED"
limit = api.new_order(
    symbol=SYMBOL, side="BUY", type="LIMIT", time_in_force="GTC", quantity=0.01, price=80000.0
).data()
assert limit.status == "NEW"
pair = api.order_list_oco(
    symbol=SYMBOL, side="SELL", quantity=0.005, above_type="LIMIT_MAKER",
    below_type="STOP_LOSS_LIMIT", above_price=120000.0, below_price=79900.0,
    below_stop_price=80000.0, below_time_in_force="GTC",
).data()  # fmt: skip
assert len(pair.orders) == 2
assert len(api.get_open_orders(symbol=SYMBOL).data()) == 3
assert len(api.my_trades(symbol=SYMBOL).data()) == 1
print(version("binance-sdk-spot"))
