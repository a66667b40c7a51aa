"""Threads that put signals into a queue at their own rhythm, and two that trade what they take."""

import queue
import threading
import time

from tests.api.dialects.driver.bots.exchange import buy, call

signals: "queue.Queue[str]" = queue.Queue()


def watch(quantity: str, seconds: float) -> None:
    while True:
        time.sleep(seconds)
        signals.put(quantity)


def trade() -> None:
    while True:
        call("POST", "order", buy(signals.get()))
        time.sleep(30)


threads = [
    threading.Thread(target=watch, args=("0.001", 300), daemon=True),
    threading.Thread(target=watch, args=("0.002", 700), daemon=True),
    threading.Thread(target=trade, daemon=True),
]
for thread in threads:
    thread.start()
    time.sleep(1)
while True:
    try:
        quantity = signals.get(timeout=450)
    except queue.Empty:
        quantity = "0.003"
    call("POST", "order", buy(quantity))
    time.sleep(200)
