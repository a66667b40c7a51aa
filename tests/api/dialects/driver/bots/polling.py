"""Polls every 90 seconds, buys every ten minutes, and checks that its clock is the exchange's."""

import sys
import time

from tests.api.dialects.driver.bots.exchange import buy, call

polls = 0
while True:
    polls += 1
    now = call("GET", "time")["serverTime"]
    if now != int(time.time() * 1000):
        sys.exit(f"the exchange is at {now}, the bot at {time.time()}")
    if time.time() % 600 < 90:
        call("POST", "order", buy())
    if len(sys.argv) > 1 and polls > int(sys.argv[1]):
        raise RuntimeError("this bot crashes")
    time.sleep(90.25)
