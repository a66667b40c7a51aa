"""Requests beside thousands of connections that send a byte at a time."""

import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from tests.benchmarks.table import Row
from tests.support.api_client import Api, sample_home
from tests.support.server_process import COMMAND, running

_CONNECTIONS = 2000
_PAUSE = 3.0
"""The seconds between two bytes; the server gives a head ten, and then a new connection follows."""
_ROUNDS = 5
_REQUESTS = 2000
_BAR = 1.25


def rows() -> list[Row]:
    """Return the row of the speed table about slow connections."""
    ratios, alone, beside = [], [], []
    with (
        tempfile.TemporaryDirectory() as directory,
        running(sample_home(Path(directory) / "home"), command=COMMAND) as server,
        server.client() as client,
    ):
        for _ in range(_ROUNDS):
            alone.append(_p99(client))
            with _slow_connections(server.url):
                beside.append(_p99(client))
            ratios.append(beside[-1] / alone[-1])
    ratio = statistics.median(ratios)
    return [
        Row(
            f"a step over HTTP beside {_CONNECTIONS:,} slow connections: p99 of {_REQUESTS:,}",
            f"{statistics.median(beside) * 1e3:.2f} ms",
            f"{statistics.median(alone) * 1e3:.2f} ms alone",
            f"{ratio:.2f} ×",
            f"≤ {_BAR} ×",
            ratio <= _BAR,
        )
    ]


def _p99(client: httpx.Client) -> float:
    """Return the seconds that 99 of 100 steps of a new session take at most."""
    api = Api(client)
    session_id = api.started("01-15", "01-18")
    seconds = []
    for _ in range(_REQUESTS):
        began = time.perf_counter()
        api.step(session_id)
        seconds.append(time.perf_counter() - began)
    return float(np.percentile(seconds, 99))


@contextmanager
def _slow_connections(url: str) -> Iterator[None]:
    """Keep slow connections to a server, made by another process, for the length of a block."""
    context = get_context("spawn")
    are_open = context.Event()
    process = context.Process(target=_keep_open, args=(url, are_open))
    process.start()
    try:
        assert are_open.wait(60)
        yield
    finally:
        process.kill()
        process.join()


def _keep_open(url: str, are_open: Event) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * _CONNECTIONS + 100), most))
    asyncio.run(_send_slowly(url, are_open))


async def _send_slowly(url: str, are_open: Event) -> None:
    address = urlsplit(url)
    opened = 0

    async def one() -> None:
        nonlocal opened
        is_first = True
        while True:
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            opened += is_first
            is_first = False
            if opened == _CONNECTIONS:
                are_open.set()
            for byte in b"GET /health":
                writer.write(bytes([byte]))
                await asyncio.sleep(_PAUSE)
                if writer.is_closing():
                    break
            writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(one())
