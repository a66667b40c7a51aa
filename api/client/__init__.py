"""A client of the server, with the sessions, orders, steps and results of the library.

    from candlestep.api.client import Client

    with Client("http://127.0.0.1:8000", key) as client:
        session = client.create_session(pairs=["BTCUSDT"], start_time="2025-01-05", end_time="2025-01-06")
        session.place_order(symbol="BTCUSDT", side="buy", quantity="0.1")
        while not (step := session.step(60)).is_complete:
            print(step.time, step.portfolio.total_equity)

``Session`` has the methods of ``candlestep.sandbox.Session`` and returns its values, so that an
agent runs on either. No command is applied twice: after a lost connection, one that was carried out
is not sent again.
"""

from candlestep.api.client.client import Client
from candlestep.api.client.connection import ConnectionLost
from candlestep.api.client.session import Session
from candlestep.sandbox import Order, Results, Step, Turn

__all__ = ["Client", "ConnectionLost", "Order", "Results", "Session", "Step", "Turn"]
