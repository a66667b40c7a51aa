"""Homes without and with a running server; no settings from the environment."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.archive_server import Archive
from tests.support.server_process import running


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CANDLESTEP_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["alone", "served"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Yield a home, once without a server and once with a server that runs on it."""
    with ExitStack() as stack:
        if request.param == "served":
            stack.enter_context(running(tmp_path / "home"))
        yield tmp_path / "home"


@pytest.fixture
def archive_server(tmp_path: Path) -> Iterator[Archive]:
    server = Archive(tmp_path / "archive")
    yield server
    server.close()
