"""A client of Binance in a few lines, as a bot of any library would use it."""

import hmac
import json
import os
import random
import time
import urllib.request
from typing import Any
from urllib.parse import urlencode

BASE = os.environ["CANDLESTEP_BASE_URL"]
HEADERS = {"X-MBX-APIKEY": os.environ["CANDLESTEP_API_KEY"]}
SECRET = os.environ["CANDLESTEP_API_SECRET"].encode()


def signed(parameters: dict[str, Any]) -> str:
    """Return parameters with the time and the signature."""
    text = urlencode(parameters | {"timestamp": int(time.time() * 1000)})
    return f"{text}&signature={hmac.new(SECRET, text.encode(), 'sha256').hexdigest()}"


def buy(quantity: str = "0.001") -> str:
    """Return the body of a market buy with a name drawn at random."""
    return signed(
        {
            "symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": quantity,
            "newClientOrderId": f"bot-{random.getrandbits(64):x}",
        }
    )  # fmt: skip


def call(method: str, path: str, text: str = "") -> Any:
    """Send a request and wait for its answer."""
    request = urllib.request.Request(
        f"{BASE}/api/v3/{path}", method=method, headers=HEADERS, data=text.encode() or None
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
