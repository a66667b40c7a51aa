"""A server on the sample market, shared by the tests of backtests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlestep.sandbox import (
    Market,
)
from tests.support.api_client import Api, sample_home, sample_market_of
from tests.support.backtests import (
    CROSS,
    MONTH,
    create,
    execute,
    keep,
)
from tests.support.server_process import RunningServer, running


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_home(tmp_path_factory.mktemp("backtests") / "home")


@pytest.fixture(scope="package")
def market(home: Path) -> Market:
    return sample_market_of(home, "BTCUSDT", MONTH)


@pytest.fixture(scope="package")
def server(home: Path, market: Market) -> Iterator[RunningServer]:
    with running(home) as server:
        yield server


@pytest.fixture(scope="package")
def api(server: RunningServer) -> Iterator[Api]:
    with server.client() as client:
        yield Api(client)


@pytest.fixture(scope="package")
def cross(api: Api) -> str:
    return keep(api, CROSS)


@pytest.fixture(scope="package")
def completed(api: Api, cross: str) -> Any:
    """Return a backtest that was executed; no test changes it."""
    return execute(api, create(api, cross))
