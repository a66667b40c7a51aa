"""Bots of an exchange: candles after a step, and a bot in lockstep against the same without."""

import asyncio
import http.client
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from operator import truediv
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.types import Receive, Scope, Send

from candlestep.api.dialects.binance.klines import MOST_ROWS, latest_rows
from candlestep.sandbox import Market, Session, SessionConfig
from candlestep.sandbox.clock import MINUTE
from tests.benchmarks.market import START, synthetic_year
from tests.benchmarks.table import Row
from tests.support.api_client import Api, sample_home
from tests.support.server_process import COMMAND, running

STEPS = 500
POLLS = 500
ROUNDS = 5
_MOST_MILLISECONDS = 1.0
_LEAST_RATIO = 0.6
_PATHS = (
    "/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=50",
    "/api/v3/ticker/24hr?symbol=BTCUSDT",
    "/api/v3/depth?symbol=BTCUSDT&limit=5",
)
"""Asked for by the bot before each sleep."""
_BOT = f"""
import os, sys, time
import httpx
base = os.environ.get("CANDLESTEP_BASE_URL") or sys.argv[1]
client = httpx.Client(trust_env=False)
if len(sys.argv) > 1:
    time.sleep = lambda seconds: None
def poll():
    for path in {_PATHS}:
        client.get(base + path).raise_for_status().json()
    time.sleep(60)
poll()
began = time.monotonic()
for _ in range({POLLS}):
    poll()
print({POLLS} / (time.monotonic() - began), flush=True)
"""


def rows() -> list[Row]:
    """Return the rows of dialects."""
    return [_klines(), _lockstep()]


def _klines() -> Row:
    market = Market([synthetic_year("BTCUSDT")])
    start = START + 30 * 1440 * MINUTE
    session = Session(SessionConfig(start_time=start, end_time=start + STEPS * MINUTE), market)
    taken = []
    for _ in range(STEPS):
        session.step()
        began = time.perf_counter()
        latest_rows(market, "BTCUSDT", MINUTE, session.time, MOST_ROWS)
        taken.append((time.perf_counter() - began) * 1000)
    milliseconds = statistics.median(taken)
    return Row(
        f"`klines` of {MOST_ROWS} candles after a step",
        f"{milliseconds:.3f} ms",
        "–",
        "–",
        f"≤ {_MOST_MILLISECONDS:.0f} ms",
        milliseconds <= _MOST_MILLISECONDS,
    )


def _lockstep() -> Row:
    driven, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        bot = Path(folder) / "bot.py"
        bot.write_text(_BOT)
        with (
            running(sample_home(Path(folder) / "home"), command=COMMAND) as server,
            server.client() as client,
        ):
            command = [sys.executable, "-m", "candlestep.api", "drive", "--url", server.url]
            with _Bare(_answers(client)) as bare:
                for _ in range(ROUNDS):
                    session_id = Api(client).create("01-05", "02-25")
                    driven.append(_rate([*command, session_id, "--", sys.executable, str(bot)]))
                    alone.append(_rate([sys.executable, str(bot), bare.url]))
    ratio = statistics.median(map(truediv, driven, alone))
    return Row(
        "polls a second of a bot in lockstep",
        f"{statistics.median(driven):,.0f}",
        f"{statistics.median(alone):,.0f}, the bot against an app with the same bytes",
        f"{ratio:.2f} x",
        f"≥ {_LEAST_RATIO} x",
        ratio >= _LEAST_RATIO,
    )


def _answers(client: httpx.Client) -> dict[str, httpx.Response]:
    """Return what a session answers to each request of the bot, by path."""
    session_id = Api(client).started("01-05", "02-25")
    opened = client.post(f"/api/v1/backtest/{session_id}/dialect").raise_for_status().json()
    base = urlsplit(opened["base_url"]).path
    answers = [client.get(base + path).raise_for_status() for path in _PATHS]
    return {answer.url.path: answer for answer in answers}


def _rate(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[0])


class _Bare:
    """A uvicorn app that answers with the same bytes, at the same paths."""

    def __init__(self, answers: Mapping[str, httpx.Response]) -> None:
        # uvicorn writes the date itself.
        whole = {
            path: (
                [header for header in answer.headers.raw if header[0] != b"date"],
                answer.content,
            )
            for path, answer in answers.items()
        }

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers, body = whole.get(scope["path"], ([(b"content-length", b"0")], b""))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        # With the protocol named, asyncio sends small answers at once (TCP_NODELAY).
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        prefix = next(iter(answers)).partition("/api/")[0]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{prefix}"
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", server_header=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve(sockets=[self._listener])), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        connection.request("GET", "/")
        connection.getresponse().read()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
