"""Fixtures: one server of the sample market, shared by all tests without a server of their own."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.api_client import Api, sample_home
from tests.support.server_process import RunningServer, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = sample_home(tmp_path_factory.mktemp("server") / "home")
    with running(home) as server:
        yield server
    log = (home / "server.log").read_text()
    assert "request_failed" not in log, "an input of the tests was a fault of the server"
    assert "Traceback" not in log


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def api(client: httpx.Client) -> Api:
    return Api(client)


@pytest.fixture(scope="session")
def session_id(api: Api) -> str:
    """Return a session at step 0 with one order, which refused calls leave as it is."""
    session_id = api.started()
    api.order(session_id)
    return session_id
