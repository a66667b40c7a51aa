"""An agent that reads the market: it holds what is above its average of a day.

`candlestep evaluate follows.toml` runs it on each session of the table.
"""

import os

import httpx

AMOUNT = 3_000
HOURS = 4


def main() -> None:
    session = os.environ["CANDLESTEP_SESSION"]
    headers = {"X-API-Key": os.environ["CANDLESTEP_KEY"]} if os.environ["CANDLESTEP_KEY"] else {}
    base_url = f"{os.environ['CANDLESTEP_URL']}/api/v1/backtest/{session}"
    with httpx.Client(base_url=base_url, headers=headers, timeout=60) as http:
        [symbol] = http.get("/status").raise_for_status().json()["pairs"]
        held, is_complete = "0", False
        while not is_complete:
            path = f"/market/candles/{symbol}?interval=1h&limit=24"
            candles = http.get(path).raise_for_status().json()["candles"]
            closes = [float(candle["close"]) for candle in candles]
            rises = closes[-1] > sum(closes) / len(closes)
            if rises != (held != "0"):
                quantity = f"{AMOUNT / closes[-1]:.6f}" if rises else held
                order = {"symbol": symbol, "side": "buy" if rises else "sell", "quantity": quantity}
                http.post("/trade/order", json=order).raise_for_status()
                held = quantity if rises else "0"
            step = http.post("/step/batch", json={"steps": HOURS}).raise_for_status().json()
            is_complete = step["is_complete"]


main()
