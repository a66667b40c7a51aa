"""Three threads that buy at their own rhythm, and a main thread that waits for them."""

import threading
import time

from tests.api.dialects.driver.bots.exchange import buy, call


def trade(quantity: str, seconds: float) -> None:
    while True:
        call("POST", "order", buy(quantity))
        time.sleep(seconds)


threads = [
    threading.Thread(target=trade, args=(f"0.00{number}", 300.0 * number), daemon=True)
    for number in (1, 2, 3)
]
for thread in threads:
    thread.start()
    time.sleep(1)
for thread in threads:
    thread.join()
