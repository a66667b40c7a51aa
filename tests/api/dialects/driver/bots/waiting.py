"""A thread that buys until it is told to stop, a timer, and a main thread that waits for neither."""

import threading
import time

from tests.api.dialects.driver.bots.exchange import buy, call

stopped, never = threading.Event(), threading.Event()


def trade() -> None:
    while not stopped.wait(300):
        call("POST", "order", buy("0.001"))


worker = threading.Thread(target=trade, daemon=True)
worker.start()
threading.Timer(1000, lambda: call("POST", "order", buy("0.003"))).start()
time.sleep(3600)
stopped.set()
worker.join()
while not never.wait(900):
    call("POST", "order", buy("0.002"))
