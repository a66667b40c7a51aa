"""Sessions that have traded, and all that the server answers about them."""

from pathlib import Path
from typing import Any

from candlestep.data.journal.journal import DIRECTORY
from tests.support.api_client import BACKTEST, Api

READS = (
    "status", "trade/orders", "trade/orders/open", "trade/history", "account/portfolio",
    "account/positions", "account/balance", "market/prices", "market/ticker/BTCUSDT",
    "market/candles/ETHUSDT?interval=4h", "recording",
)  # fmt: skip


def everything(api: Api, session_id: str) -> dict[str, bytes]:
    """Return all that can be read of a running session, by path."""
    answers = {path: api.client.get(f"{BACKTEST}/{session_id}/{path}") for path in READS}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: answer.content for path, answer in answers.items()}


def traded(api: Api, **config: Any) -> str:
    """Return the id of a session at step 1002 that has orders of several types."""
    session_id = api.started("01-15", "01-17", **config)
    price = float(api.read(session_id, "market/price/BTCUSDT")["price"])
    api.order(session_id, quantity="0.03")
    api.order(session_id, type="limit", price=f"{price * 0.99:.2f}")
    api.order(session_id, side="sell", type="stop_loss", price=1, oco_group="g")
    api.order(session_id, side="sell", type="take_profit", price=f"{price * 2:.2f}", oco_group="g")
    api.step(session_id, 1000)
    api.order(session_id, type="limit", price=1000)
    api.call("DELETE", f"{BACKTEST}/{session_id}/trade/order/3")
    for _ in range(2):
        api.post(f"{BACKTEST}/{session_id}/step")
    return session_id


def journal(home: Path, session_id: str) -> Path:
    """Return the path of a session's journal."""
    return home / DIRECTORY / f"{session_id}.jsonl"
