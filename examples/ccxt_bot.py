"""A bot for Binance, with ccxt, that trades in a session: it buys dips and takes small profits.

    pip install ccxt time-machine
    candlestep drive SESSION -- python examples/ccxt_bot.py

Nothing in its loop knows of Candlestep. Without ``candlestep drive``, give it the values of
``candlestep dialect SESSION`` in the three variables below, and step the session yourself.
"""

import os
import time
from typing import Any
from urllib.parse import urlsplit

import ccxt

BASE = os.environ["CANDLESTEP_BASE_URL"]
PAIR = "BTC/USDT"
AMOUNT = 0.02


def moved(urls: Any) -> Any:
    """Return the addresses of the exchange with that of the session in their place."""
    if isinstance(urls, dict):
        return {name: moved(url) for name, url in urls.items()}
    return BASE + urlsplit(urls).path


exchange = ccxt.binance(
    {
        "apiKey": os.environ["CANDLESTEP_API_KEY"],
        "secret": os.environ["CANDLESTEP_API_SECRET"],
        "enableRateLimit": False,
    }
)
exchange.urls["api"] = moved(exchange.urls["api"])

while True:
    closes = [row[4] for row in exchange.fetch_ohlcv(PAIR, "15m", limit=21)]
    average = sum(closes[:-1]) / 20
    price = exchange.fetch_ticker(PAIR)["last"]
    held = exchange.fetch_balance()["BTC"]["free"]
    if held < AMOUNT and price < average * 0.995:
        order = exchange.create_order(PAIR, "market", "buy", AMOUNT)
        print(f"{exchange.iso8601(exchange.milliseconds())}  bought at {order['average']:.2f}")
    elif held >= AMOUNT and price > average * 1.005:
        order = exchange.create_order(PAIR, "market", "sell", AMOUNT)
        print(f"{exchange.iso8601(exchange.milliseconds())}  sold at {order['average']:.2f}")
    time.sleep(15 * 60)
