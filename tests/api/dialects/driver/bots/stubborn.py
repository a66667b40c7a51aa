"""Starts a process that sleeps for real, trades once, and does not end when it is asked to."""

import os
import signal
import subprocess
import sys
import time

from tests.api.dialects.driver.bots.exchange import buy, call

signal.signal(signal.SIGTERM, signal.SIG_IGN)
script = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); first = time.time();"
    " began = time.monotonic(); time.sleep(0.05);"
    " print(first, time.time() - first, time.monotonic() - began >= 0.05, flush=True);"
    " time.sleep(600)"
)
time.sleep(3600)
child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
assert child.stdout is not None
with open(sys.argv[1], "w") as file:
    file.write(f"{child.pid} {os.getpid()} {time.time()} {child.stdout.readline()}")
call("POST", "order", buy())
while True:
    time.sleep(60)
