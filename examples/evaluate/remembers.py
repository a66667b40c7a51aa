"""An agent that remembers the market, as a language model that has read about it does.

It has the closes of the sample market by heart, and holds what will be higher tomorrow. Where it
does not recognise the symbol or the day, it does what always worked: it buys and holds.
"""

import json
import os
from pathlib import Path

import httpx

MEMORY: dict[str, dict[str, float]] = json.loads(
    Path(__file__).with_name("memory.json").read_text()
)
"""By symbol and day, the close."""
AMOUNT = 3_000
HOURS = 24


def rises(symbol: str, day: str, next_day: str) -> bool:
    """Return whether a symbol will be higher at the end of a day, by heart or by habit."""
    closes = MEMORY.get(symbol, {})
    if day not in closes or next_day not in closes:
        return True
    return closes[next_day] > closes[day]


def main() -> None:
    session = os.environ["CANDLESTEP_SESSION"]
    headers = {"X-API-Key": os.environ["CANDLESTEP_KEY"]} if os.environ["CANDLESTEP_KEY"] else {}
    base_url = f"{os.environ['CANDLESTEP_URL']}/api/v1/backtest/{session}"
    with httpx.Client(base_url=base_url, headers=headers, timeout=60) as http:
        status = http.get("/status").raise_for_status().json()
        [symbol] = status["pairs"]
        held, is_complete = "0", False
        while not is_complete:
            now = http.get("/market/prices").raise_for_status().json()
            day = now["virtual_time"][:10]
            days = sorted(MEMORY.get(symbol, {}))
            later = [known for known in days if known > day]
            wants = rises(symbol, day, later[0] if later else "")
            if wants != (held != "0"):
                quantity = f"{AMOUNT / float(now['prices'][symbol]):.6f}" if wants else held
                order = {"symbol": symbol, "side": "buy" if wants else "sell", "quantity": quantity}
                http.post("/trade/order", json=order).raise_for_status()
                held = quantity if wants else "0"
            step = http.post("/step/batch", json={"steps": HOURS}).raise_for_status().json()
            is_complete = step["is_complete"]


main()
