"""Reads never wait for writers: every GET is answered while one writer has the store for itself."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import httpx

from candlestep.api import threads
from candlestep.api.http.auth import Authenticator
from candlestep.api.routes import APIS, ROUTES
from candlestep.api.server.app import App
from candlestep.api.services import Services
from candlestep.api.settings import Settings
from candlestep.data.store.database import Store
from tests.support.api_client import BACKTEST, DAY, Api, sample_home
from tests.support.patience import PATIENCE
from tests.support.route_cases import SAMPLES, UNKNOWN_ID
from tests.support.server_process import running
from tests.support.two_accounts import create_owned
from tests.support.watched_store import WatchedStore

WRITERS = 3 * threads.WRITING_THREADS
GETS = [route for route in ROUTES if route.method == "GET"]


class Writer:
    """A thread that has the store for itself, in a transaction, until it may finish."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began, self._may_finish = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._began.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self._may_finish.set()
        self._thread.join()

    def _write(self) -> None:
        with self._store.transaction():
            self._began.set()
            assert self._may_finish.wait(PATIENCE)


def in_process(
    home: Path, test: Callable[[httpx.AsyncClient, WatchedStore], Awaitable[None]]
) -> None:
    """Run a test with a client of an app in this process, and the app's store."""

    async def run() -> None:
        with closing(WatchedStore.open(home)) as store:
            settings = Settings(home=home, workers=1)
            services = Services(settings, store, Authenticator(store), 1024)
            await services.recover()
            transport = httpx.ASGITransport(App(APIS, services))
            try:
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost", timeout=PATIENCE
                ) as client:
                    await test(client, store)
            finally:
                await services.close()

    asyncio.run(run())


def test_every_get_is_answered_while_a_writer_has_the_store_and_others_wait(
    tmp_path: Path,
) -> None:
    with running(sample_home(tmp_path)) as server, server.client() as client:
        owned = create_owned(Api(client))

    async def test(client: httpx.AsyncClient, store: WatchedStore) -> None:
        with Writer(store):
            store.asked_for = threading.Semaphore(0)
            creations = [
                asyncio.create_task(client.post(f"{BACKTEST}/create", json=DAY))
                for _ in range(WRITERS)
            ]
            for _ in range(threads.WRITING_THREADS):
                assert await asyncio.to_thread(store.asked_for.acquire, timeout=PATIENCE)
            for session_id in owned.sessions.values():
                for route in GETS:
                    parameters = dict.fromkeys(route.parameters, UNKNOWN_ID) | SAMPLES
                    parameters |= {"session_id": session_id, "agent_id": owned.agent_id}
                    path = route.path.format(**parameters)
                    async with asyncio.timeout(PATIENCE):
                        answer = await client.get(path)
                    assert answer.status_code < 500, (path, answer.text)
            assert not any(creation.done() for creation in creations)
        created = await asyncio.gather(*creations)
        assert len({answer.json()["session_id"] for answer in created}) == WRITERS

    in_process(tmp_path, test)
